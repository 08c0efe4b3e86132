-- Times are microseconds since 1970, UTC. Columns that hold JSON say so.

-- server_id: who made this state. key_id: the key that the secrets are encrypted with, once there was one.
CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

INSERT INTO meta (name, value) VALUES ('server_id', lower(hex(randomblob(6))));

CREATE TABLE fleets (
    name       TEXT PRIMARY KEY,
    labels     TEXT NOT NULL, -- JSON
    version    INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    deleting   INTEGER NOT NULL,
    cleanup    INTEGER NOT NULL DEFAULT FALSE -- the deletion takes all data along
) STRICT, WITHOUT ROWID;

CREATE TABLE agents (
    fleet      TEXT NOT NULL REFERENCES fleets (name),
    name       TEXT NOT NULL,
    revision   INTEGER NOT NULL,
    version    INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    deleting   INTEGER NOT NULL,
    cleanup    INTEGER NOT NULL DEFAULT FALSE, -- the deletion takes all data along
    PRIMARY KEY (fleet, name)
) STRICT, WITHOUT ROWID;

-- Fleet a with agent b-c and fleet a-b with agent c would give their containers the same names.
CREATE UNIQUE INDEX agents_container_name ON agents (fleet || '-' || name);

CREATE TABLE revisions (
    fleet       TEXT NOT NULL,
    agent       TEXT NOT NULL,
    revision    INTEGER NOT NULL,
    spec        TEXT NOT NULL, -- JSON
    deployed_at INTEGER NOT NULL,
    PRIMARY KEY (fleet, agent, revision),
    FOREIGN KEY (fleet, agent) REFERENCES agents (fleet, name) ON DELETE CASCADE
) STRICT;

CREATE TABLE instances (
    fleet         TEXT NOT NULL,
    agent         TEXT NOT NULL,
    number        INTEGER NOT NULL,
    wanted        TEXT NOT NULL CHECK (wanted IN ('running', 'stopped', 'absent', 'cleanup')),
    started_after INTEGER,
    memory        TEXT NOT NULL, -- JSON
    version       INTEGER NOT NULL,
    created_at    INTEGER NOT NULL,
    PRIMARY KEY (fleet, agent, number),
    FOREIGN KEY (fleet, agent) REFERENCES agents (fleet, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE secrets (
    fleet      TEXT NOT NULL REFERENCES fleets (name) ON DELETE CASCADE,
    name       TEXT NOT NULL,
    version    INTEGER NOT NULL,
    key_id     TEXT NOT NULL,
    nonce      BLOB NOT NULL,
    ciphertext BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (fleet, name)
) STRICT;

CREATE TABLE events (
    id     INTEGER PRIMARY KEY AUTOINCREMENT,
    time   INTEGER NOT NULL,
    fleet  TEXT NOT NULL,
    agent  TEXT,
    number INTEGER,
    kind   TEXT NOT NULL -- JSON
) STRICT;

CREATE INDEX events_subject ON events (fleet, agent, number, id);
