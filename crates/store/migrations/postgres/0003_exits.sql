-- As migrations/0003_exits.sql.
CREATE TABLE exits (
    fleet         TEXT COLLATE "C" NOT NULL,
    agent         TEXT COLLATE "C" NOT NULL,
    number        BIGINT NOT NULL,
    container     TEXT COLLATE "C" NOT NULL,
    started_at    BIGINT NOT NULL,
    finished_at   BIGINT NOT NULL,
    revision      BIGINT,
    code          BIGINT,
    out_of_memory BOOLEAN NOT NULL,
    reason        TEXT NOT NULL,
    log           TEXT NOT NULL,
    PRIMARY KEY (fleet, agent, number, finished_at, container, started_at),
    FOREIGN KEY (fleet, agent, number) REFERENCES instances (fleet, agent, number) ON DELETE CASCADE
);
