-- For SQLite and PostgreSQL alike: BIGINT and TEXT only. Times are milliseconds since 1970, ticks
-- seconds. A row written twice, because the answer to a commit never came, is one row.
CREATE TABLE snapring_rotation (
    ended_at BIGINT NOT NULL,
    server_id BIGINT NOT NULL,
    server TEXT NOT NULL,
    tick BIGINT NOT NULL,
    outcome TEXT NOT NULL,
    created TEXT,
    deleted TEXT NOT NULL,
    api_calls BIGINT NOT NULL,
    duration_ms BIGINT NOT NULL,
    steps TEXT NOT NULL,
    reason TEXT,
    cause TEXT,
    PRIMARY KEY (ended_at, server_id, tick, outcome)
);

CREATE INDEX snapring_rotation_by_server ON snapring_rotation (server_id, ended_at);

-- A schedule that is in the configuration: it was not at loaded_after, and was at loaded_by.
CREATE TABLE snapring_schedule (
    server_id BIGINT NOT NULL,
    schedule TEXT NOT NULL,
    timezone TEXT NOT NULL,
    loaded_after BIGINT NOT NULL,
    loaded_by BIGINT NOT NULL,
    PRIMARY KEY (server_id, schedule, timezone)
);

-- Until when the daemon could write: of what came after, these tables know nothing.
CREATE TABLE snapring_heard (
    one BIGINT PRIMARY KEY CHECK (one = 1),
    at BIGINT NOT NULL
);
