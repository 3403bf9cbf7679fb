-- Of whose trouble a target of notices was told, and not yet of its end. The target is a digest of its
-- address; the subject is a server's number, or 0 for the account.
CREATE TABLE snapring_told (
    target TEXT NOT NULL,
    subject BIGINT NOT NULL,
    told_at BIGINT NOT NULL,
    PRIMARY KEY (target, subject)
);
