-- Who may call over the network. Of a key only its SHA-256 is kept, and how it begins, for people.
CREATE TABLE api_keys (
    name         TEXT PRIMARY KEY,
    prefix       TEXT NOT NULL,
    hash         BLOB NOT NULL UNIQUE,
    role         TEXT NOT NULL CHECK (role IN ('viewer', 'operator', 'admin')),
    fleets       TEXT, -- JSON; NULL: all
    created_at   INTEGER NOT NULL,
    created_by   TEXT NOT NULL,
    expires_at   INTEGER,
    last_used_at INTEGER
) STRICT, WITHOUT ROWID;

-- Who did what. hash: SHA-256 over the hash of the row before, id, time and entry; meta has both ends of the chain,
-- audit_anchor (the last row that was taken away for its age) and audit_head (the newest row).
CREATE TABLE audit_log (
    id    INTEGER PRIMARY KEY,
    time  INTEGER NOT NULL,
    entry TEXT NOT NULL, -- JSON, to the letter as it was hashed
    hash  BLOB NOT NULL
) STRICT;
