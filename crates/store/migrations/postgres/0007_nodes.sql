-- As migrations/0007_nodes.sql.

CREATE TABLE nodes (
    name          TEXT COLLATE "C" PRIMARY KEY,
    url           TEXT COLLATE "C" UNIQUE,
    identity      TEXT COLLATE "C" UNIQUE,
    fingerprint   TEXT,
    spec          TEXT NOT NULL, -- JSON
    duty          TEXT NOT NULL, -- JSON
    is_down       BOOLEAN NOT NULL,
    version       BIGINT NOT NULL,
    registered_at BIGINT NOT NULL,
    updated_at    BIGINT NOT NULL,
    token_version BIGINT NOT NULL,
    token_key_id  TEXT,
    token_nonce   BYTEA,
    token         BYTEA
);

ALTER TABLE instances ADD COLUMN node TEXT COLLATE "C";
ALTER TABLE instances ADD COLUMN epoch BIGINT NOT NULL DEFAULT 0;
ALTER TABLE instances ADD COLUMN ending TEXT; -- JSON

CREATE TABLE homes (
    fleet  TEXT COLLATE "C" NOT NULL,
    agent  TEXT COLLATE "C" NOT NULL,
    number BIGINT NOT NULL,
    node   TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (fleet, agent, number)
);
