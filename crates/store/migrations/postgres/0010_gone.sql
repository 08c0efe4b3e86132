-- As migrations/0010_gone.sql.

ALTER TABLE nodes ADD COLUMN is_suspect BOOLEAN NOT NULL DEFAULT FALSE;

CREATE TABLE owed (
    node   TEXT COLLATE "C" NOT NULL,
    fleet  TEXT COLLATE "C" NOT NULL,
    agent  TEXT COLLATE "C" NOT NULL,
    number BIGINT NOT NULL,
    PRIMARY KEY (node, fleet, agent, number)
);
