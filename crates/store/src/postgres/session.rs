//! A thread's connection to Postgres, which is opened again when it broke, and how its transactions begin and end.
//!
//! What holds: a write is never repeated by itself. If the connection breaks before `COMMIT`, nothing was changed and the
//! caller is told so. If it breaks within `COMMIT`, the database is asked what became of the transaction as soon as it
//! answers again; only if that takes longer than [`PATIENCE`] is the caller told that nobody knows.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::link::{Link, gone};
use super::options::PostgresOptions;
use super::shared::Shared;
use crate::sql::connection::{Connection, Fault, FaultKind, Outcome, Row, ToColumn, params};
use crate::sql::worker::{News, Session};
use crate::types::Term;

/// The lock that every transaction that writes holds: writes of all servers come one after the other, and events
/// become visible in the order of their ids. `chas`, `sis`.
pub(crate) const WRITE_LOCK: &str = "SELECT pg_advisory_xact_lock(1667785075, 7563635)";

/// How long to ask what became of a transaction.
const PATIENCE: Duration = Duration::from_secs(3);

/// Between two tries to connect, at first and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// The longest payload of a notice is 8,000 bytes.
const NOTICE: usize = 7_500;

pub(super) struct PostgresSession {
    options: PostgresOptions,
    shared: Arc<Shared>,
    link: Option<Link>,
    begin: String,
    open: bool,
    /// When to try to connect again, and how long to wait after that.
    retry: Option<(Instant, Duration)>,
}

/// Stands for a connection that there is not.
struct Unconnected;

// === impl PostgresSession ===

impl PostgresSession {
    /// Connects when it is needed.
    pub(super) fn reading(options: PostgresOptions, shared: Arc<Shared>) -> Self {
        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY".to_owned();
        PostgresSession { options, shared, link: None, begin, open: false, retry: None }
    }

    pub(super) fn writing(options: PostgresOptions, shared: Arc<Shared>) -> Self {
        let begin = format!("BEGIN; {WRITE_LOCK}");
        PostgresSession { options, shared, link: None, begin, open: false, retry: None }
    }

    fn connect(&mut self) -> Outcome<&Link> {
        if self.link.as_ref().is_some_and(Link::is_broken) {
            self.link = None;
        }
        if self.link.is_none() {
            if self.retry.is_some_and(|(at, _)| Instant::now() < at) {
                return Err(gone());
            }
            match Link::open(&self.options) {
                Ok(link) => {
                    self.retry = None;
                    self.link = Some(link);
                }
                Err(fault) => {
                    let wait = self.retry.map_or(BACKOFF.0, |(_, wait)| (wait * 2).min(BACKOFF.1));
                    self.retry = Some((Instant::now() + wait, wait));
                    self.shared.lost(&fault);
                    return Err(fault);
                }
            }
        }
        self.link.as_ref().ok_or_else(gone)
    }

    /// What became of a transaction whose `COMMIT` was not answered.
    fn find_out(&mut self, transaction: &str, lost: Fault) -> Outcome<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let asked = self.connect().and_then(|link| {
                let database: &dyn Connection = link;
                let sql = "SELECT pg_xact_status(CAST(CAST(?1 AS TEXT) AS xid8))";
                database.value::<Option<String>>(sql, params![transaction])
            });
            match asked.as_ref().map(Option::as_deref) {
                Ok(Some("committed")) => return Ok(()),
                Ok(Some("aborted")) => return Err(lost),
                _ if Instant::now() >= deadline => {
                    return Err(Fault::new(FaultKind::Uncertain, lost.cause));
                }
                _ => pause(BACKOFF.0),
            }
        }
    }
}

impl Session for PostgresSession {
    fn connection(&self) -> &dyn Connection {
        self.link.as_ref().map_or(&Unconnected as &dyn Connection, |link| link)
    }

    fn begin(&mut self) -> Outcome<()> {
        let sql = self.begin.clone();
        for again in [true, false] {
            let link = self.connect()?;
            let begun = link.batch(&sql);
            let broken = link.is_broken();
            match begun {
                Ok(()) => {
                    self.open = true;
                    self.shared.found();
                    return Ok(());
                }
                // It broke while nobody used it. Nothing was begun, so that another may serve.
                Err(_) if broken && again => {}
                Err(fault) => {
                    self.open = !broken;
                    self.rollback();
                    self.shared.lost(&fault);
                    return Err(fault);
                }
            }
        }
        Err(gone())
    }

    fn in_transaction(&self) -> bool {
        self.open && self.link.as_ref().is_some_and(|link| !link.is_broken())
    }

    fn commit(&mut self, news: &News) -> Outcome<()> {
        let database = self.connection();
        let mut sql = "SELECT CAST(pg_current_xact_id_if_assigned() AS TEXT)".to_owned();
        // As a statement of its own it fails in a transaction that cannot be committed, which `COMMIT` does not.
        let transaction: Option<String> = match self.shared.notice(news, NOTICE) {
            Some(notice) => {
                sql.push_str(", CAST(pg_notify('chassis', ?1) AS TEXT)");
                database.value(&sql, params![notice])?
            }
            None => database.value(&sql, params![])?,
        };
        let committed = database.batch("COMMIT");
        if !self.in_transaction()
            && let (Err(lost), Some(transaction)) = (&committed, transaction)
        {
            self.open = false;
            return self.find_out(&transaction, lost.clone());
        }
        self.open = committed.is_err();
        committed
    }

    fn rollback(&mut self) {
        if self.in_transaction()
            && let Err(error) = self.connection().undo("ROLLBACK")
        {
            tracing::debug!(error = %error.cause, "a transaction was not rolled back but lost");
            self.link = None;
        }
        self.open = false;
    }

    fn may_act(&self, term: Term) -> Outcome<bool> {
        // Who has resigned has, whatever the row says.
        if self.shared.term() != Some(term) {
            return Ok(false);
        }
        let sql = "SELECT count(*) FROM lease WHERE epoch = ?1 AND expires_at > clock_timestamp()";
        Ok(self.connection().value::<u64>(sql, params![term.epoch()])? == 1)
    }

    fn scrub(&mut self) -> Outcome<()> {
        self.connect()?.batch("VACUUM secrets, environments, nodes")
    }
}

#[expect(clippy::disallowed_methods, reason = "the store's threads are its own")]
fn pause(time: Duration) {
    thread::sleep(time);
}

impl Connection for Unconnected {
    fn execute(&self, _: &str, _: &[&dyn ToColumn]) -> Outcome<u64> {
        Err(gone())
    }

    fn each(&self, _: &str, _: &[&dyn ToColumn], _: &mut dyn FnMut(&Row<'_>) -> Outcome<()>) -> Outcome<()> {
        Err(gone())
    }

    fn batch(&self, _: &str) -> Outcome<()> {
        Err(gone())
    }

    fn unindexed(&self, table: &str) -> String {
        table.to_owned()
    }
}
