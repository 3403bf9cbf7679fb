-- Who ran a rotation by hand: of the one that ended then, of this server.
CREATE TABLE snapring_by (
    ended_at BIGINT NOT NULL,
    server TEXT NOT NULL,
    uid BIGINT NOT NULL,
    user_name TEXT,
    sudo_user TEXT,
    PRIMARY KEY (ended_at, server)
);
