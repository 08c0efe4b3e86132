//! SQLite as the tables see it.

use std::sync::Arc;

use rusqlite::types::{ToSqlOutput, Value, ValueRef};
use rusqlite::{Connection as Database, ErrorCode, params_from_iter};

use crate::error::Error;
use crate::sql::connection::{Column, Columns, Connection, Fault, FaultKind, Outcome, Row, ToColumn};
use crate::sql::worker::{News, Session};
use crate::types::Term;

/// A connection, and how its transactions begin.
pub(super) struct SqliteSession {
    database: Database,
    begin: &'static str,
}

struct Parameter<'a>(Column<'a>);

// === impl Connection ===

impl Connection for Database {
    fn execute(&self, sql: &str, parameters: &[&dyn ToColumn]) -> Outcome<u64> {
        let changed = self.prepare_cached(sql)?.execute(params_from_iter(columns(parameters)?))?;
        Ok(changed as u64)
    }

    fn each(
        &self,
        sql: &str,
        parameters: &[&dyn ToColumn],
        show: &mut dyn FnMut(&Row<'_>) -> Outcome<()>,
    ) -> Outcome<()> {
        let mut statement = self.prepare_cached(sql)?;
        let mut rows = statement.query(params_from_iter(columns(parameters)?))?;
        while let Some(row) = rows.next()? {
            show(&Row(row))?;
        }
        Ok(())
    }

    fn batch(&self, sql: &str) -> Outcome<()> {
        // Each is kept prepared: they frame every operation.
        Ok(sql.split("; ").try_for_each(|statement| self.prepare_cached(statement)?.execute([]).map(drop))?)
    }

    fn unindexed(&self, table: &str) -> String {
        format!("{table} NOT INDEXED")
    }
}

fn columns<'a>(parameters: &'a [&dyn ToColumn]) -> Outcome<Vec<Parameter<'a>>> {
    parameters.iter().map(|value| value.to_column().map(Parameter)).collect()
}

impl Columns for rusqlite::Row<'_> {
    fn column(&self, index: usize) -> Outcome<Column<'_>> {
        Ok(match self.get_ref(index)? {
            ValueRef::Null => Column::Null,
            ValueRef::Integer(number) => Column::Integer(number),
            ValueRef::Text(text) => Column::Text(std::str::from_utf8(text).map_err(Fault::damaged)?.into()),
            ValueRef::Blob(bytes) => Column::Bytes(bytes.into()),
            ValueRef::Real(_) => return Err(Fault::damaged(rusqlite::Error::InvalidQuery)),
        })
    }
}

impl rusqlite::ToSql for Parameter<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match &self.0 {
            Column::Null => ToSqlOutput::Owned(Value::Null),
            Column::Boolean(truth) => ToSqlOutput::Owned(Value::Integer((*truth).into())),
            Column::Integer(number) => ToSqlOutput::Owned(Value::Integer(*number)),
            Column::Text(text) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
            Column::Bytes(bytes) => ToSqlOutput::Borrowed(ValueRef::Blob(bytes)),
        })
    }
}

// === impl SqliteSession ===

impl SqliteSession {
    pub(super) fn reading(database: Database) -> Self {
        SqliteSession { database, begin: "BEGIN DEFERRED" }
    }

    pub(super) fn writing(database: Database) -> Self {
        SqliteSession { database, begin: "BEGIN IMMEDIATE" }
    }
}

impl Session for SqliteSession {
    fn connection(&self) -> &dyn Connection {
        &self.database
    }

    fn begin(&mut self) -> Outcome<()> {
        self.database.batch(self.begin)
    }

    fn in_transaction(&self) -> bool {
        !self.database.is_autocommit()
    }

    fn commit(&mut self, _: &News) -> Outcome<()> {
        self.database.batch("COMMIT")
    }

    fn rollback(&mut self) {
        if self.in_transaction()
            && let Err(error) =
                self.database.prepare_cached("ROLLBACK").and_then(|mut rollback| rollback.execute([]))
        {
            tracing::error!(%error, "a failed transaction could not be rolled back");
        }
    }

    fn may_act(&self, _: Term) -> Outcome<bool> {
        Ok(true)
    }

    fn scrub(&mut self) -> Outcome<()> {
        Ok(self.database.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?)
    }
}

// === impl Fault ===

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        let kind = match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => FaultKind::Full,
            Some(
                ErrorCode::SystemIoFailure
                | ErrorCode::CannotOpen
                | ErrorCode::ReadOnly
                | ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::OutOfMemory,
            ) => FaultKind::Failed,
            Some(ErrorCode::OperationAborted) => FaultKind::Undone,
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => FaultKind::Damaged,
            _ => FaultKind::Unexpected,
        };
        Fault::new(kind, Arc::new(error))
    }
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        Fault::from(error).into()
    }
}
