-- As migrations/0005_keyed.sql.
CREATE TABLE keyed_requests (
    caller      TEXT COLLATE "C" NOT NULL,
    key         TEXT COLLATE "C" NOT NULL,
    fingerprint TEXT NOT NULL,
    status      BIGINT,
    answer      TEXT,
    created_at  BIGINT NOT NULL,
    PRIMARY KEY (caller, key)
);

CREATE INDEX keyed_requests_by_age ON keyed_requests (created_at);
