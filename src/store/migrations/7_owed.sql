-- 1: the failure was to be sent at told_at, and was not delivered.
ALTER TABLE snapring_told ADD COLUMN owed BIGINT NOT NULL DEFAULT 0;
