-- As migrations/0001_begin.sql. Names are compared byte by byte, as SQLite does. JSON is kept as the text that it came as.

CREATE TABLE meta (
    name  TEXT COLLATE "C" PRIMARY KEY,
    value TEXT NOT NULL
);

-- The first twelve digits of a random UUID are all random.
INSERT INTO meta (name, value) VALUES ('server_id', substr(replace(gen_random_uuid()::text, '-', ''), 1, 12));

-- One row: which server acts. Times are of the database's clock; see postgres/lease.rs.
CREATE TABLE lease (
    id         BIGINT PRIMARY KEY CHECK (id = 1),
    owner      TEXT NOT NULL, -- random for each start of a server
    holder     TEXT NOT NULL, -- its name, for people
    epoch      BIGINT NOT NULL,
    expires_at TIMESTAMPTZ NOT NULL
);

INSERT INTO lease VALUES (1, '', '', 0, to_timestamp(0));

CREATE TABLE fleets (
    name       TEXT COLLATE "C" PRIMARY KEY,
    labels     TEXT NOT NULL,
    version    BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    deleting   BOOLEAN NOT NULL,
    cleanup    BOOLEAN NOT NULL DEFAULT FALSE
);

CREATE TABLE agents (
    fleet      TEXT COLLATE "C" NOT NULL REFERENCES fleets (name),
    name       TEXT COLLATE "C" NOT NULL,
    revision   BIGINT NOT NULL,
    version    BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    deleting   BOOLEAN NOT NULL,
    cleanup    BOOLEAN NOT NULL DEFAULT FALSE,
    PRIMARY KEY (fleet, name)
);

CREATE UNIQUE INDEX agents_container_name ON agents ((fleet || '-' || name));

CREATE TABLE revisions (
    fleet       TEXT COLLATE "C" NOT NULL,
    agent       TEXT COLLATE "C" NOT NULL,
    revision    BIGINT NOT NULL,
    spec        TEXT NOT NULL,
    deployed_at BIGINT NOT NULL,
    PRIMARY KEY (fleet, agent, revision),
    FOREIGN KEY (fleet, agent) REFERENCES agents (fleet, name) ON DELETE CASCADE
);

CREATE TABLE instances (
    fleet         TEXT COLLATE "C" NOT NULL,
    agent         TEXT COLLATE "C" NOT NULL,
    number        BIGINT NOT NULL,
    wanted        TEXT NOT NULL CHECK (wanted IN ('running', 'stopped', 'absent', 'cleanup')),
    started_after BIGINT,
    memory        TEXT NOT NULL,
    version       BIGINT NOT NULL,
    created_at    BIGINT NOT NULL,
    PRIMARY KEY (fleet, agent, number),
    FOREIGN KEY (fleet, agent) REFERENCES agents (fleet, name)
);

CREATE TABLE secrets (
    fleet      TEXT COLLATE "C" NOT NULL REFERENCES fleets (name) ON DELETE CASCADE,
    name       TEXT COLLATE "C" NOT NULL,
    version    BIGINT NOT NULL,
    key_id     TEXT NOT NULL,
    nonce      BYTEA NOT NULL,
    ciphertext BYTEA NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (fleet, name)
);

CREATE TABLE events (
    id     BIGINT PRIMARY KEY,
    time   BIGINT NOT NULL,
    fleet  TEXT COLLATE "C" NOT NULL,
    agent  TEXT COLLATE "C",
    number BIGINT,
    kind   TEXT NOT NULL
);

CREATE INDEX events_subject ON events (fleet, agent, number, id);
