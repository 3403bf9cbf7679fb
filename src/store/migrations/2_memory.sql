-- What is remembered of a server from one rotation to the next, as JSON.
CREATE TABLE snapring_memory (
    server_id BIGINT NOT NULL PRIMARY KEY,
    written_at BIGINT NOT NULL,
    memory TEXT NOT NULL
);
