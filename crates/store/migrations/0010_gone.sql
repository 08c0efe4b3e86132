-- A node that is silent, and is not down yet: that this is told once.
ALTER TABLE nodes ADD COLUMN is_suspect INTEGER NOT NULL DEFAULT 0;

-- Data that is to be removed from a node, which did not answer when it was.
CREATE TABLE owed (
    node   TEXT NOT NULL,
    fleet  TEXT NOT NULL,
    agent  TEXT NOT NULL,
    number INTEGER NOT NULL,
    PRIMARY KEY (node, fleet, agent, number)
) STRICT, WITHOUT ROWID;
