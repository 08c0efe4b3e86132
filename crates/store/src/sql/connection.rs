//! What the tables need of a database: statements with parameters, and rows.
//!
//! The statements are of the dialect that SQLite and Postgres share (`RETURNING`, `ON CONFLICT`, `IS DISTINCT FROM`,
//! `string_agg`), with parameters as `?1`. The few places that must differ ask [`Connection::unindexed`] and the like.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Cause, Error};

/// How long to wait before a database that could not be reached is asked again.
pub(crate) const RETRY_AFTER: Duration = Duration::from_secs(2);

/// An open connection, most of the time within a transaction.
pub(crate) trait Connection {
    /// Runs a statement, and returns how many rows it changed.
    fn execute(&self, sql: &str, parameters: &[&dyn ToColumn]) -> Outcome<u64>;

    /// Runs a query, and shows its rows one by one.
    fn each(
        &self,
        sql: &str,
        parameters: &[&dyn ToColumn],
        show: &mut dyn FnMut(&Row<'_>) -> Outcome<()>,
    ) -> Outcome<()>;

    /// Runs a statement without waiting for its answer, where that costs anything: a later call waits for it, and fails
    /// if it failed. The last call of a transaction always does.
    fn send(&self, sql: &str, parameters: &[&dyn ToColumn]) -> Outcome<()> {
        self.execute(sql, parameters).map(drop)
    }

    /// Runs statements without parameters; between two there is `; `, and nowhere else.
    fn batch(&self, sql: &str) -> Outcome<()>;

    /// The same for a rollback: whether what was sent before succeeded does not matter any more.
    fn undo(&self, sql: &str) -> Outcome<()> {
        self.batch(sql)
    }

    /// The table in a `FROM`, to be walked in the order of its key whatever other index there is.
    fn unindexed(&self, table: &str) -> String;
}

impl dyn Connection + '_ {
    /// All rows.
    pub(crate) fn list<T>(
        &self,
        sql: &str,
        parameters: &[&dyn ToColumn],
        mut from_row: impl FnMut(&Row<'_>) -> Outcome<T>,
    ) -> Outcome<Vec<T>> {
        let mut list = Vec::new();
        self.each(sql, parameters, &mut |row| {
            list.push(from_row(row)?);
            Ok(())
        })?;
        Ok(list)
    }

    /// The one row, if there is one.
    pub(crate) fn find<T>(
        &self,
        sql: &str,
        parameters: &[&dyn ToColumn],
        from_row: impl FnMut(&Row<'_>) -> Outcome<T>,
    ) -> Outcome<Option<T>> {
        Ok(self.list(sql, parameters, from_row)?.pop())
    }

    /// The first column of the one row that there always is.
    pub(crate) fn value<T: FromColumn>(&self, sql: &str, parameters: &[&dyn ToColumn]) -> Outcome<T> {
        let found = self.find(sql, parameters, |row| row.get(0))?;
        found.ok_or_else(|| Fault::new(FaultKind::Unexpected, Arc::new(Mismatch("a row"))))
    }
}

/// Parameters of a statement, `?1` first.
macro_rules! params {
    ($($value:expr),* $(,)?) => {
        &[$(&$value as &dyn $crate::sql::connection::ToColumn),*]
    };
}
pub(crate) use params;

/// A row of either database.
pub(crate) struct Row<'a>(pub &'a dyn Columns);

pub(crate) trait Columns {
    fn column(&self, index: usize) -> Outcome<Column<'_>>;
}

/// A value as databases have it.
#[derive(Debug, Clone)]
pub(crate) enum Column<'a> {
    Null,
    Boolean(bool),
    Integer(i64),
    Text(Cow<'a, str>),
    Bytes(Cow<'a, [u8]>),
}

pub(crate) trait ToColumn {
    fn to_column(&self) -> Outcome<Column<'_>>;
}

pub(crate) trait FromColumn: Sized {
    fn from_column(column: Column<'_>) -> Outcome<Self>;
}

pub(crate) type Outcome<T> = std::result::Result<T, Fault>;

/// What went wrong in a database. Can be told to all whose operations were to be committed together.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    pub kind: FaultKind,
    pub cause: Cause,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FaultKind {
    /// The disk is.
    Full,
    Failed,
    /// By what another operation of the same transaction met with.
    Undone,
    /// A record is not what it should be.
    Damaged,
    Unexpected,
    /// The database cannot be reached; nothing was changed.
    Unavailable,
    /// It was lost while it committed.
    Uncertain,
}

/// A column or row that is something else than was asked for.
#[derive(Debug, thiserror::Error)]
#[error("there is no {0} where one should be")]
pub(crate) struct Mismatch(pub &'static str);

// === impl Row ===

impl Row<'_> {
    pub(crate) fn get<T: FromColumn>(&self, index: usize) -> Outcome<T> {
        T::from_column(self.0.column(index)?)
    }
}

// === impl Column ===

impl Column<'_> {
    pub(crate) fn into_owned(self) -> Column<'static> {
        match self {
            Column::Null => Column::Null,
            Column::Boolean(truth) => Column::Boolean(truth),
            Column::Integer(number) => Column::Integer(number),
            Column::Text(text) => Column::Text(text.into_owned().into()),
            Column::Bytes(bytes) => Column::Bytes(bytes.into_owned().into()),
        }
    }
}

impl ToColumn for Column<'_> {
    fn to_column(&self) -> Outcome<Column<'_>> {
        Ok(self.clone())
    }
}

// === impl Fault ===

impl Fault {
    pub(crate) fn new(kind: FaultKind, cause: Cause) -> Self {
        Fault { kind, cause }
    }

    pub(crate) fn damaged(cause: impl std::error::Error + Send + Sync + 'static) -> Self {
        Fault::new(FaultKind::Damaged, Arc::new(cause))
    }
}

impl From<Fault> for Error {
    fn from(Fault { kind, cause }: Fault) -> Self {
        match kind {
            FaultKind::Full => Error::StorageFull(cause),
            FaultKind::Failed => Error::Storage(cause),
            FaultKind::Undone => Error::Undone,
            FaultKind::Damaged => Error::Damaged(cause),
            FaultKind::Unexpected => Error::Unexpected(cause),
            FaultKind::Unavailable => Error::Unavailable { retry_after: RETRY_AFTER, source: cause },
            FaultKind::Uncertain => Error::Uncertain(cause),
        }
    }
}
