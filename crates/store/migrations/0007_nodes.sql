-- Machines that run instances. Without any, the chassis is alone: its server's own node has every instance. From the first
-- that is registered on the own one is here too, without a url. identity: what its machine calls
-- itself for good, whatever its name and address. The token is encrypted.
CREATE TABLE nodes (
    name          TEXT PRIMARY KEY,
    url           TEXT UNIQUE,
    identity      TEXT UNIQUE,
    fingerprint   TEXT,
    spec          TEXT NOT NULL, -- JSON
    duty          TEXT NOT NULL, -- JSON
    is_down       INTEGER NOT NULL,
    version       INTEGER NOT NULL,
    registered_at INTEGER NOT NULL,
    updated_at    INTEGER NOT NULL,
    token_version INTEGER NOT NULL,
    token_key_id  TEXT,
    token_nonce   BLOB,
    token         BLOB
) STRICT, WITHOUT ROWID;

-- The place that an instance has. node: NULL while it waits for one, and for all in a chassis that is alone. ending: what
-- becomes of it once it has ended there, if it is to.
ALTER TABLE instances ADD COLUMN node TEXT;
ALTER TABLE instances ADD COLUMN epoch INTEGER NOT NULL DEFAULT 0;
ALTER TABLE instances ADD COLUMN ending TEXT; -- JSON

-- Which node has the data of an instance's volumes; kept for as long as the data is, also beyond the instance.
CREATE TABLE homes (
    fleet  TEXT NOT NULL,
    agent  TEXT NOT NULL,
    number INTEGER NOT NULL,
    node   TEXT NOT NULL,
    PRIMARY KEY (fleet, agent, number)
) STRICT, WITHOUT ROWID;
