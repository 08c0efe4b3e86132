-- As migrations/0004_access.sql.

CREATE TABLE api_keys (
    name         TEXT COLLATE "C" PRIMARY KEY,
    prefix       TEXT NOT NULL,
    hash         BYTEA NOT NULL UNIQUE,
    role         TEXT NOT NULL CHECK (role IN ('viewer', 'operator', 'admin')),
    fleets       TEXT, -- JSON
    created_at   BIGINT NOT NULL,
    created_by   TEXT NOT NULL,
    expires_at   BIGINT,
    last_used_at BIGINT
);

CREATE TABLE audit_log (
    id    BIGINT PRIMARY KEY,
    time  BIGINT NOT NULL,
    entry TEXT NOT NULL, -- JSON
    hash  BYTEA NOT NULL
);
