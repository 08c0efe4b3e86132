-- How the last runs of each instance ended. log: JSON, the last lines of a run that ended unasked; empty of older ones.
CREATE TABLE exits (
    fleet         TEXT NOT NULL,
    agent         TEXT NOT NULL,
    number        INTEGER NOT NULL,
    container     TEXT NOT NULL,
    started_at    INTEGER NOT NULL, -- of the run, in nanoseconds, as the runtime tells it
    finished_at   INTEGER NOT NULL,
    revision      INTEGER,
    code          INTEGER,
    out_of_memory INTEGER NOT NULL,
    reason        TEXT NOT NULL, -- JSON
    log           TEXT NOT NULL, -- JSON
    -- A run is noted once, however often its end is seen.
    PRIMARY KEY (fleet, agent, number, finished_at, container, started_at),
    FOREIGN KEY (fleet, agent, number) REFERENCES instances (fleet, agent, number) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
