//! One connection to Postgres, as the tables see it.
//!
//! The client is asynchronous; here it is driven by the thread that owns it. A statement whose answer nobody needs travels
//! with the next one that is waited for, which saves a round trip. No answer is waited for longer than [`ANSWER`]: a
//! database that is stopped, or a network that swallows, looks like one that is gone.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::error::Error as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::runtime::{self, Runtime};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Client, Statement};

use super::options::PostgresOptions;
use crate::sql::connection::{
    Column, Columns, Connection, Fault, FaultKind, Mismatch, Outcome, Row, ToColumn,
};

/// How long a connection and each answer may take. Longer than `statement_timeout`, so that the database itself says
/// what took so long if it can.
const ANSWER: Duration = Duration::from_secs(15);

/// Statements that may be under way without an answer.
const UNANSWERED: usize = 256;

/// Statements that are kept prepared. There are fewer, but for lists with many conditions.
const STATEMENTS: usize = 128;

/// Settings of every session. A server that stops in the middle of a transaction holds up the others for two seconds.
pub(super) const SETTINGS: &str = "SET statement_timeout = '10s';
    SET lock_timeout = '5s';
    SET idle_in_transaction_session_timeout = '2s';
    SET client_min_messages = 'warning'";

pub(crate) struct Link {
    /// Under way, in this order.
    unanswered: RefCell<Vec<Sent>>,
    // Before the runtime, which it needs to say good-bye.
    client: Arc<Client>,
    runtime: Runtime,
    statements: RefCell<HashMap<String, Statement>>,
    broken: Cell<bool>,
}

type Answer<T> = Result<T, tokio_postgres::Error>;

/// A statement whose answer has not been read.
type Sent = Pin<Box<dyn Future<Output = Answer<()>> + Send>>;

#[derive(Debug)]
struct Parameter<'a>(Column<'a>);

/// A value in the form in which it came.
struct Raw<'a>(Column<'a>);

impl Link {
    pub(crate) fn open(options: &PostgresOptions) -> Outcome<Self> {
        let failed = |error: std::io::Error| Fault::new(FaultKind::Failed, Arc::new(error));
        let runtime = runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let connect = async {
            let (client, connection) = options.config.connect(options.connector.clone()).await?;
            // What ends a connection is in the next answer.
            tokio::spawn(async { drop(connection.await) });
            client.batch_execute(SETTINGS).await?;
            Ok(client)
        };
        let client = match runtime.block_on(async { tokio::time::timeout(ANSWER, connect).await }) {
            Ok(Ok(client)) => client,
            Ok(Err(error)) => {
                let error: tokio_postgres::Error = error;
                return Err(Fault::new(FaultKind::Unavailable, Arc::new(error)));
            }
            Err(_) => return Err(late()),
        };
        Ok(Link {
            unanswered: RefCell::default(),
            client: Arc::new(client),
            runtime,
            statements: RefCell::default(),
            broken: Cell::new(false),
        })
    }

    /// The first connection of a process, whose failure says what to do about it.
    pub(crate) fn first(options: &PostgresOptions) -> crate::Result<Self> {
        Link::open(options).map_err(|fault| {
            let hint = match fault.cause.downcast_ref::<tokio_postgres::Error>() {
                Some(error) => hint(error),
                None => "it does not answer; check the address, and that it runs",
            };
            crate::Error::DatabaseConnect { place: options.place(), hint, source: fault.cause }
        })
    }

    /// Of no more use: everything fails from now on.
    pub(super) fn is_broken(&self) -> bool {
        self.broken.get()
    }

    /// Waits for this answer and all that came before it, the first of which that is a failure is told.
    fn wait<T>(&self, future: impl Future<Output = Answer<T>>) -> Outcome<T> {
        let (before, answer) = self.wait_for_all(future)?;
        before.and(answer).map_err(|error| self.fault(error))
    }

    fn wait_for_all<T>(&self, future: impl Future<Output = Answer<T>>) -> Outcome<(Answer<()>, Answer<T>)> {
        if self.broken.get() {
            return Err(gone());
        }
        let sent = self.unanswered.take();
        let before = async {
            for answer in sent {
                answer.await?;
            }
            Ok(())
        };
        // Joined, because what is waited for is sent only then.
        let all = async { tokio::time::timeout(ANSWER, async { tokio::join!(before, future) }).await };
        self.runtime.block_on(all).map_err(|_| {
            self.broken.set(true);
            late()
        })
    }

    fn fault(&self, error: tokio_postgres::Error) -> Fault {
        let (kind, ends) = judge(&error);
        if ends || self.client.is_closed() {
            self.broken.set(true);
        }
        Fault::new(if self.broken.get() { FaultKind::Unavailable } else { kind }, Arc::new(error))
    }

    fn prepared(&self, sql: &str) -> Outcome<Statement> {
        if let Some(statement) = self.statements.borrow().get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.wait(self.client.prepare(&sql.replace('?', "$")))?;
        let mut statements = self.statements.borrow_mut();
        if statements.len() >= STATEMENTS {
            statements.clear();
        }
        statements.insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }
}

impl Connection for Link {
    fn execute(&self, sql: &str, parameters: &[&dyn ToColumn]) -> Outcome<u64> {
        let statement = self.prepared(sql)?;
        self.wait(self.client.execute_raw(&statement, columns(parameters)?))
    }

    fn each(
        &self,
        sql: &str,
        parameters: &[&dyn ToColumn],
        show: &mut dyn FnMut(&Row<'_>) -> Outcome<()>,
    ) -> Outcome<()> {
        let statement = self.prepared(sql)?;
        let columns = columns(parameters)?;
        let references: Vec<&(dyn ToSql + Sync)> = columns.iter().map(|one| one as _).collect();
        let rows = self.wait(self.client.query(&statement, &references))?;
        rows.iter().try_for_each(|row| show(&Row(row)))
    }

    fn send(&self, sql: &str, parameters: &[&dyn ToColumn]) -> Outcome<()> {
        let statement = self.prepared(sql)?;
        if self.unanswered.borrow().len() >= UNANSWERED {
            self.wait(async { Ok(()) })?;
        }
        let columns = parameters.iter().map(|value| Ok(Parameter(value.to_column()?.into_owned())));
        let columns = columns.collect::<Outcome<Vec<_>>>()?;
        let client = Arc::clone(&self.client);
        let mut sent: Sent = Box::pin(async move { client.execute_raw(&statement, columns).await.map(drop) });
        // Puts it into the queue to the database, so that it comes before whatever follows.
        match sent.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(answer) => answer.map_err(|error| self.fault(error)),
            Poll::Pending => {
                self.unanswered.borrow_mut().push(sent);
                Ok(())
            }
        }
    }

    fn batch(&self, sql: &str) -> Outcome<()> {
        self.wait(self.client.batch_execute(sql))
    }

    fn undo(&self, sql: &str) -> Outcome<()> {
        let (_, answer) = self.wait_for_all(self.client.batch_execute(sql))?;
        answer.map_err(|error| self.fault(error))
    }

    fn unindexed(&self, table: &str) -> String {
        table.to_owned()
    }
}

/// What to do about a connection that could not be made. Codes as in Postgres' appendix A.
fn hint(error: &tokio_postgres::Error) -> &'static str {
    let text = error.to_string();
    match error.code().map(SqlState::code) {
        Some("28P01" | "28000") => {
            "it does not know this user with this password; check the user in DATABASE_URL, and the password in the file \
             of DATABASE_PASSWORD_FILE"
        }
        Some("3D000") => "there is no such database; `createdb` makes one",
        Some("53300") => "it takes no more connections; raise its max_connections",
        Some(_) => "it refused the connection",
        None if text.contains("password missing") => {
            "it wants a password; put it into a file, and name that in DATABASE_PASSWORD_FILE"
        }
        None if text.contains("TLS") => {
            "a secure connection was not made; compare sslmode and sslrootcert in DATABASE_URL with what it offers"
        }
        None => "it does not answer; check the address, and that it runs",
    }
}

fn columns<'a>(parameters: &'a [&dyn ToColumn]) -> Outcome<Vec<Parameter<'a>>> {
    parameters.iter().map(|value| value.to_column().map(Parameter)).collect()
}

impl Columns for tokio_postgres::Row {
    fn column(&self, index: usize) -> Outcome<Column<'_>> {
        let value: Option<Raw<'_>> = self.try_get(index).map_err(Fault::damaged)?;
        Ok(value.map_or(Column::Null, |raw| raw.0))
    }
}

// === values ===

type Anything = Box<dyn std::error::Error + Sync + Send>;

impl<'a> FromSql<'a> for Raw<'a> {
    fn from_sql(kind: &Type, bytes: &'a [u8]) -> Result<Self, Anything> {
        Ok(Raw(match *kind {
            Type::INT8 => Column::Integer(i64::from_sql(kind, bytes)?),
            Type::INT4 => Column::Integer(i32::from_sql(kind, bytes)?.into()),
            Type::BOOL => Column::Boolean(bool::from_sql(kind, bytes)?),
            Type::BYTEA => Column::Bytes(bytes.into()),
            _ => Column::Text(<&str>::from_sql(kind, bytes)?.into()),
        }))
    }

    fn accepts(kind: &Type) -> bool {
        matches!(*kind, Type::INT8 | Type::INT4 | Type::BOOL | Type::BYTEA)
            || <&str as FromSql>::accepts(kind)
    }
}

impl ToSql for Parameter<'_> {
    fn to_sql(&self, kind: &Type, out: &mut BytesMut) -> Result<IsNull, Anything> {
        match (&self.0, kind) {
            (Column::Null, _) => Ok(IsNull::Yes),
            (Column::Boolean(truth), _) => truth.to_sql_checked(kind, out),
            // SQLite has no truth values.
            (Column::Integer(number), &Type::BOOL) => (*number != 0).to_sql(kind, out),
            (Column::Integer(number), &Type::INT4) => i32::try_from(*number)?.to_sql(kind, out),
            (Column::Integer(number), _) => number.to_sql_checked(kind, out),
            // The one character that Postgres does not take.
            (Column::Text(text), _) => text.replace('\0', "\u{fffd}").to_sql_checked(kind, out),
            (Column::Bytes(bytes), _) => bytes.as_ref().to_sql_checked(kind, out),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

// === faults ===

/// What sort of failure it is, and whether the session is over.
fn judge(error: &tokio_postgres::Error) -> (FaultKind, bool) {
    let Some(code) = error.code() else {
        let lost =
            error.is_closed() || error.source().is_some_and(<dyn std::error::Error>::is::<std::io::Error>);
        return (if lost { FaultKind::Unavailable } else { FaultKind::Unexpected }, lost);
    };
    match code.code() {
        // A session that waited too long; a standby that was the primary.
        "25P03" | "25006" => (FaultKind::Unavailable, true),
        "53100" => (FaultKind::Full, false),
        "53300" | "55P03" | "57014" | "40001" | "40P01" => (FaultKind::Unavailable, false),
        "58030" => (FaultKind::Failed, false),
        code if code.starts_with("08") || code.starts_with("57P") => (FaultKind::Unavailable, true),
        code if code.starts_with("53") => (FaultKind::Failed, false),
        code if code.starts_with("XX") => (FaultKind::Damaged, false),
        _ => (FaultKind::Unexpected, false),
    }
}

fn late() -> Fault {
    let error = std::io::Error::new(std::io::ErrorKind::TimedOut, "the database does not answer");
    Fault::new(FaultKind::Unavailable, Arc::new(error))
}

pub(super) fn gone() -> Fault {
    Fault::new(FaultKind::Unavailable, Arc::new(Mismatch("connection to the database")))
}
