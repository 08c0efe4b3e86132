-- As migrations/0009_agents.sql.

CREATE TABLE agent_profiles (
    name       TEXT COLLATE "C" PRIMARY KEY,
    version    BIGINT NOT NULL,
    key_id     TEXT NOT NULL,
    nonce      BYTEA NOT NULL,
    ciphertext BYTEA NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);

ALTER TABLE dead_letters ADD COLUMN redriven_at BIGINT;
ALTER TABLE dead_letters ADD COLUMN private_key_id TEXT;
ALTER TABLE dead_letters ADD COLUMN private_nonce BYTEA;
ALTER TABLE dead_letters ADD COLUMN private BYTEA;
