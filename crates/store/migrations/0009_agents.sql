-- Agents that environments can choose by name. They hold tokens and files: encrypted as a whole.
CREATE TABLE agent_profiles (
    name       TEXT PRIMARY KEY,
    version    INTEGER NOT NULL,
    key_id     TEXT NOT NULL,
    nonce      BLOB NOT NULL,
    ciphertext BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What it takes to make an environment again that was given up: its secrets and files, encrypted; and when that was done.
ALTER TABLE dead_letters ADD COLUMN redriven_at INTEGER;
ALTER TABLE dead_letters ADD COLUMN private_key_id TEXT;
ALTER TABLE dead_letters ADD COLUMN private_nonce BLOB;
ALTER TABLE dead_letters ADD COLUMN private BLOB;
