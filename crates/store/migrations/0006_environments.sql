
-- Sandboxes that programs make through the API: each is the only instance of an agent of the fleet `environments`, and
-- goes with it. request: JSON without secrets. private_*: its token, secrets and files, encrypted.
CREATE TABLE environments (
    id              TEXT PRIMARY KEY,
    task_id         TEXT NOT NULL,
    agent           TEXT NOT NULL UNIQUE,
    node            TEXT NOT NULL,
    state           TEXT NOT NULL CHECK (state IN ('provisioning', 'running', 'draining', 'destroying')),
    request         TEXT NOT NULL, -- JSON
    created_at      INTEGER NOT NULL,
    updated_at      INTEGER NOT NULL,
    running_at      INTEGER,
    error           TEXT,
    private_version INTEGER NOT NULL,
    private_key_id  TEXT NOT NULL,
    private_nonce   BLOB NOT NULL,
    private         BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX environments_by_task ON environments (task_id);

-- What went wrong with an environment and is for an operator to look at.
CREATE TABLE dead_letters (
    kind          TEXT NOT NULL,
    entity        TEXT NOT NULL,
    task_id       TEXT NOT NULL,
    reason        TEXT NOT NULL,
    retry_count   INTEGER NOT NULL,
    payload       TEXT NOT NULL, -- JSON
    first_seen_at INTEGER NOT NULL,
    last_seen_at  INTEGER NOT NULL,
    PRIMARY KEY (kind, entity)
) STRICT, WITHOUT ROWID;

-- Keys that programs made through the API of environments keep a label, and stay listed when they are revoked.
ALTER TABLE api_keys ADD COLUMN label TEXT;
ALTER TABLE api_keys ADD COLUMN revoked_at INTEGER;
