//! How values stand in columns: names as text, structures as JSON, times as microseconds.

use std::str::FromStr;

use chassis_core::Wanted;
use jiff::Timestamp;
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A checked string of `chassis_spec`.
pub(super) struct Name<T>(pub T);

pub(super) struct Json<T>(pub T);

/// A time, which loses what is finer than a microsecond; see [`now`].
pub(super) struct Time(pub Timestamp);

pub(super) struct WantedColumn(pub Wanted);

/// The present time as a column can hold it, so that what is answered is what is read later.
pub(super) fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
}

// === impl Name ===

impl<T: FromStr<Err: std::error::Error + Send + Sync + 'static>> FromSql for Name<T> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        value.as_str()?.parse().map(Name).map_err(FromSqlError::other)
    }
}

// === impl Json ===

impl<T: DeserializeOwned> FromSql for Json<T> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        serde_json::from_str(value.as_str()?).map(Json).map_err(FromSqlError::other)
    }
}

impl<T: Serialize> ToSql for Json<T> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let text = serde_json::to_string(&self.0)
            .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
        Ok(text.into())
    }
}

// === impl Time ===

impl FromSql for Time {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        Timestamp::from_microsecond(value.as_i64()?).map(Time).map_err(FromSqlError::other)
    }
}

impl ToSql for Time {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.0.as_microsecond().into())
    }
}

// === impl WantedColumn ===

impl FromSql for WantedColumn {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        Ok(WantedColumn(match value.as_str()? {
            "running" => Wanted::Running,
            "stopped" => Wanted::Stopped,
            "absent" => Wanted::Absent { cleanup: false },
            "cleanup" => Wanted::Absent { cleanup: true },
            _ => return Err(FromSqlError::InvalidType),
        }))
    }
}

impl ToSql for WantedColumn {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self.0 {
            Wanted::Running => "running",
            Wanted::Stopped => "stopped",
            Wanted::Absent { cleanup: false } => "absent",
            Wanted::Absent { cleanup: true } => "cleanup",
        }
        .into())
    }
}
