-- The account of each server, which its number alone does not tell. '' is the account of [api]. Neither database
-- changes a primary key in place in the same words, so each table is made again.
CREATE TABLE snapring_rotation_5 (
    ended_at BIGINT NOT NULL,
    account TEXT NOT NULL DEFAULT '',
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
    PRIMARY KEY (ended_at, account, server_id, tick, outcome)
);
INSERT INTO snapring_rotation_5
  (ended_at, server_id, server, tick, outcome, created, deleted, api_calls, duration_ms, steps, reason, cause)
  SELECT ended_at, server_id, server, tick, outcome, created, deleted, api_calls, duration_ms, steps, reason, cause
  FROM snapring_rotation;
DROP TABLE snapring_rotation;
ALTER TABLE snapring_rotation_5 RENAME TO snapring_rotation;
CREATE INDEX snapring_rotation_by_server ON snapring_rotation (account, server_id, ended_at);

CREATE TABLE snapring_schedule_5 (
    account TEXT NOT NULL DEFAULT '',
    server_id BIGINT NOT NULL,
    schedule TEXT NOT NULL,
    timezone TEXT NOT NULL,
    loaded_after BIGINT NOT NULL,
    loaded_by BIGINT NOT NULL,
    PRIMARY KEY (account, server_id, schedule, timezone)
);
INSERT INTO snapring_schedule_5 (server_id, schedule, timezone, loaded_after, loaded_by)
  SELECT server_id, schedule, timezone, loaded_after, loaded_by FROM snapring_schedule;
DROP TABLE snapring_schedule;
ALTER TABLE snapring_schedule_5 RENAME TO snapring_schedule;

CREATE TABLE snapring_memory_5 (
    account TEXT NOT NULL DEFAULT '',
    server_id BIGINT NOT NULL,
    written_at BIGINT NOT NULL,
    memory TEXT NOT NULL,
    PRIMARY KEY (account, server_id)
);
INSERT INTO snapring_memory_5 (server_id, written_at, memory)
  SELECT server_id, written_at, memory FROM snapring_memory;
DROP TABLE snapring_memory;
ALTER TABLE snapring_memory_5 RENAME TO snapring_memory;

CREATE TABLE snapring_told_5 (
    target TEXT NOT NULL,
    account TEXT NOT NULL DEFAULT '',
    subject BIGINT NOT NULL,
    told_at BIGINT NOT NULL,
    PRIMARY KEY (target, account, subject)
);
INSERT INTO snapring_told_5 (target, subject, told_at) SELECT target, subject, told_at FROM snapring_told;
DROP TABLE snapring_told;
ALTER TABLE snapring_told_5 RENAME TO snapring_told;

CREATE TABLE snapring_manual_5 (
    started_at BIGINT NOT NULL,
    ended_at BIGINT NOT NULL,
    account TEXT NOT NULL DEFAULT '',
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
    PRIMARY KEY (started_at, account, server_id, action, pid)
);
INSERT INTO snapring_manual_5
  (started_at, ended_at, server_id, server, action, outcome, snapshot_id, snapshot, safety_id, safety, uid, user_name,
   sudo_user, reason, pid)
  SELECT started_at, ended_at, server_id, server, action, outcome, snapshot_id, snapshot, safety_id, safety, uid,
    user_name, sudo_user, reason, pid
  FROM snapring_manual;
DROP TABLE snapring_manual;
ALTER TABLE snapring_manual_5 RENAME TO snapring_manual;
CREATE INDEX snapring_manual_by_end ON snapring_manual (ended_at);
