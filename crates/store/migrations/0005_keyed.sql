-- Requests that carried an Idempotency-Key, and changed something: each row is written in its change's transaction.
CREATE TABLE keyed_requests (
    caller      TEXT NOT NULL,
    key         TEXT NOT NULL,
    fingerprint TEXT NOT NULL, -- SHA-256 of what was asked, in base64
    status      INTEGER,       -- of the answer; NULL until there is one
    answer      TEXT,          -- its body; NULL if it is not kept: too large, or it holds a secret
    created_at  INTEGER NOT NULL,
    PRIMARY KEY (caller, key)
) STRICT, WITHOUT ROWID;

CREATE INDEX keyed_requests_by_age ON keyed_requests (created_at);
