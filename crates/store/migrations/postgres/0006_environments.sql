-- As migrations/0006_environments.sql.

CREATE TABLE environments (
    id              TEXT COLLATE "C" PRIMARY KEY,
    task_id         TEXT COLLATE "C" NOT NULL,
    agent           TEXT COLLATE "C" NOT NULL UNIQUE,
    node            TEXT NOT NULL,
    state           TEXT NOT NULL CHECK (state IN ('provisioning', 'running', 'draining', 'destroying')),
    request         TEXT NOT NULL, -- JSON
    created_at      BIGINT NOT NULL,
    updated_at      BIGINT NOT NULL,
    running_at      BIGINT,
    error           TEXT,
    private_version BIGINT NOT NULL,
    private_key_id  TEXT NOT NULL,
    private_nonce   BYTEA NOT NULL,
    private         BYTEA NOT NULL
);

CREATE INDEX environments_by_task ON environments (task_id);

CREATE TABLE dead_letters (
    kind          TEXT COLLATE "C" NOT NULL,
    entity        TEXT COLLATE "C" NOT NULL,
    task_id       TEXT NOT NULL,
    reason        TEXT NOT NULL,
    retry_count   BIGINT NOT NULL,
    payload       TEXT NOT NULL, -- JSON
    first_seen_at BIGINT NOT NULL,
    last_seen_at  BIGINT NOT NULL,
    PRIMARY KEY (kind, entity)
);

ALTER TABLE api_keys ADD COLUMN label TEXT;
ALTER TABLE api_keys ADD COLUMN revoked_at BIGINT;
