//! What was really written, in the order of the commits: triggers of the test's own note every change of every row, with
//! the server whose connection it came over and the lease at that moment.

use std::collections::BTreeMap;

use chassis_testkit::Postgres;

/// The only database of the test.
const DATABASE: &str = "test1";

const INSTALL: &str = r"
CREATE TABLE history (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, server TEXT, holder TEXT, epoch BIGINT, what TEXT, kind TEXT,
    row JSONB, marked BOOLEAN
);
CREATE TABLE takeovers (epoch BIGINT, late DOUBLE PRECISION);
CREATE FUNCTION history_note() RETURNS trigger AS $$
DECLARE
    own RECORD;
    row JSONB := CASE TG_OP WHEN 'DELETE' THEN to_jsonb(OLD) ELSE to_jsonb(NEW) END;
BEGIN
    SELECT holder, epoch INTO own FROM lease;
    INSERT INTO history (server, holder, epoch, what, kind, row, marked) VALUES (
        substr(current_setting('application_name'), 9), own.holder, own.epoch, TG_TABLE_NAME || ' ' || TG_OP,
        CASE TG_TABLE_NAME WHEN 'events' THEN (row ->> 'kind')::jsonb ->> 'kind' END,
        row - 'ciphertext' - 'nonce',
        TG_OP = 'UPDATE' AND (to_jsonb(NEW) ->> 'deleting')::boolean AND NOT (to_jsonb(OLD) ->> 'deleting')::boolean
    );
    RETURN NULL;
END $$ LANGUAGE plpgsql;
CREATE FUNCTION takeover_note() RETURNS trigger AS $$
BEGIN
    INSERT INTO takeovers VALUES (NEW.epoch, extract(epoch FROM clock_timestamp() - OLD.expires_at));
    RETURN NULL;
END $$ LANGUAGE plpgsql;
CREATE TRIGGER takeover AFTER UPDATE ON lease FOR EACH ROW WHEN (OLD.epoch <> NEW.epoch)
    EXECUTE FUNCTION takeover_note();
DO $$
DECLARE name TEXT;
BEGIN
    FOREACH name IN ARRAY ARRAY['fleets', 'agents', 'revisions', 'instances', 'secrets', 'exits', 'events'] LOOP
        EXECUTE format(
            'CREATE TRIGGER history AFTER INSERT OR UPDATE OR DELETE ON %I FOR EACH ROW EXECUTE FUNCTION history_note()',
            name
        );
    END LOOP;
END $$;
";

/// What only the server that acts may write.
const FOREIGN: &str = "
SELECT what || coalesce(' ' || kind, '') || ' by ' || server || ' while ' || holder || ' acted in epoch ' || epoch
FROM history WHERE server <> holder AND (
    what IN ('exits INSERT', 'instances DELETE', 'agents DELETE', 'fleets DELETE')
    OR kind IN (
        'Started', 'Stopped', 'Exited', 'Lost', 'Healthy', 'Unhealthy', 'Condemned', 'Ready', 'NotReady', 'DrainFailed',
        'Blocked', 'Deleted', 'OutputLost', 'RolloutCompleted', 'RolloutFailed', 'RolledBack'
    )
)";

/// Writes whose epoch is lower than that of one before it.
const DISORDER: &str = "
SELECT what || ' in epoch ' || epoch || ' after one in epoch ' || before FROM (
    SELECT what, epoch, max(epoch) OVER (ORDER BY id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before FROM history
) AS ordered WHERE epoch < before";

#[derive(Debug, Default)]
pub(crate) struct History {
    pub(crate) violations: Vec<String>,
    /// How often a fleet was made, was marked for deletion, and was deleted.
    pub(crate) fleets: BTreeMap<String, [u32; 3]>,
    /// How often a secret (`fleet/name`) was written.
    pub(crate) secrets: BTreeMap<String, u32>,
    /// How often a definition with this token was stored.
    pub(crate) tokens: BTreeMap<String, u32>,
    /// How often an agent (`fleet/agent`) was marked for deletion.
    pub(crate) agents_deleted: BTreeMap<String, u32>,
    /// How long after the end of the lease it was taken, in seconds; not where it was given back.
    pub(crate) takeovers: Vec<f64>,
    pub(crate) epochs: u64,
}

pub(crate) fn install(postgres: &Postgres) {
    postgres.sql(DATABASE, INSTALL);
}

pub(crate) fn read(postgres: &Postgres) -> History {
    let rows = |statement: &str| -> Vec<Vec<String>> {
        let text = postgres.sql(DATABASE, statement);
        text.lines().map(|line| line.split('|').map(str::to_owned).collect()).collect()
    };
    let counts = |statement: &str| -> BTreeMap<String, u32> {
        let counted = rows(statement).into_iter();
        counted.map(|row| (row[0].clone(), row[1].parse().expect("a count"))).collect()
    };
    let mut history = History::default();
    for (what, statement) in [("not for it to write", FOREIGN), ("out of order", DISORDER)] {
        let found = rows(statement).into_iter().take(5);
        history.violations.extend(found.map(|row| format!("{what}: {}", row.join("|"))));
    }
    let fleets = "SELECT row ->> 'name', count(*) FILTER (WHERE what = 'fleets INSERT'),
            count(*) FILTER (WHERE marked),
            count(*) FILTER (WHERE what = 'fleets DELETE')
        FROM history WHERE what LIKE 'fleets %' GROUP BY 1";
    for row in rows(fleets) {
        let count = |index: usize| row[index].parse().expect("a count");
        history.fleets.insert(row[0].clone(), [count(1), count(2), count(3)]);
    }
    history.secrets = counts(
        "SELECT (row ->> 'fleet') || '/' || (row ->> 'name'), count(*) FROM history
         WHERE what IN ('secrets INSERT', 'secrets UPDATE') GROUP BY 1",
    );
    history.tokens = counts(
        "SELECT substring(row ->> 'spec' FROM 'token-[a-z0-9-]+'), count(*) FROM history
         WHERE what = 'revisions INSERT' GROUP BY 1",
    );
    history.agents_deleted = counts(
        "SELECT (row ->> 'fleet') || '/' || (row ->> 'name'), count(*) FROM history
         WHERE what = 'agents UPDATE' AND marked GROUP BY 1",
    );
    // One that was given back is due since 1970.
    let takeovers = rows("SELECT late FROM takeovers WHERE late < 1000000 ORDER BY epoch");
    history.takeovers = takeovers.iter().map(|row| row[0].parse().expect("seconds")).collect();
    history.epochs = rows("SELECT epoch FROM lease")[0][0].parse().expect("an epoch");
    history
}
