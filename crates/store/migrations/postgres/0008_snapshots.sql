-- As migrations/0008_snapshots.sql.
CREATE TABLE snapshots (
    id              TEXT COLLATE "C" PRIMARY KEY,
    environment     TEXT COLLATE "C" NOT NULL,
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
    size_bytes      BIGINT,
    retention_until BIGINT,
    removals        BIGINT NOT NULL,
    retry_at        BIGINT,
    error           TEXT,
    created_at      BIGINT NOT NULL,
    updated_at      BIGINT NOT NULL
);

CREATE INDEX snapshots_by_environment ON snapshots (environment);
CREATE INDEX snapshots_by_parent ON snapshots (parent);
CREATE INDEX snapshots_by_state ON snapshots (state);
CREATE INDEX snapshots_by_time ON snapshots (created_at, id);
CREATE INDEX snapshots_by_retention ON snapshots (retention_until) WHERE retention_until IS NOT NULL;
