-- What people did by hand. A row is written when an act begins, and again with its end: `pid` and the time tell
-- one act from another.
CREATE TABLE snapring_manual (
    started_at BIGINT NOT NULL,
    ended_at BIGINT NOT NULL,
    server_id BIGINT NOT NULL,
    server TEXT NOT NULL,
    action TEXT NOT NULL,
    outcome TEXT NOT NULL,
    snapshot_id BIGINT,
    snapshot TEXT,
    safety_id BIGINT,
    safety TEXT,
    uid BIGINT NOT NULL,
    user_name TEXT,
    sudo_user TEXT,
    reason TEXT,
    pid BIGINT NOT NULL,
    PRIMARY KEY (started_at, server_id, action, pid)
);

CREATE INDEX snapring_manual_by_end ON snapring_manual (ended_at);
