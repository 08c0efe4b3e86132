-- What environments were at a moment. `data` is the runtime's own name of what it keeps: the row's id, or another's for one
-- that stands for the seed of a fork and keeps nothing itself.
CREATE TABLE snapshots (
    id              TEXT PRIMARY KEY,
    environment     TEXT NOT NULL,
    task_id         TEXT NOT NULL,
    tenant          TEXT NOT NULL,
    node            TEXT NOT NULL,
    data            TEXT NOT NULL,
    parent          TEXT,
    mode            TEXT NOT NULL,
    state           TEXT NOT NULL CHECK (state IN ('creating', 'ready', 'restoring', 'deleting', 'error')),
    name            TEXT NOT NULL,
    layer_key       TEXT NOT NULL,
    arch            TEXT NOT NULL,
    details         TEXT NOT NULL, -- JSON
    digest          TEXT,
    size_bytes      INTEGER,
    retention_until INTEGER,
    removals        INTEGER NOT NULL,
    retry_at        INTEGER,
    error           TEXT,
    created_at      INTEGER NOT NULL,
    updated_at      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX snapshots_by_environment ON snapshots (environment);
CREATE INDEX snapshots_by_parent ON snapshots (parent);
CREATE INDEX snapshots_by_state ON snapshots (state);
CREATE INDEX snapshots_by_time ON snapshots (created_at, id);
CREATE INDEX snapshots_by_retention ON snapshots (retention_until) WHERE retention_until IS NOT NULL;
