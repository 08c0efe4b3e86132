//! How values stand in columns: names as text, structures as JSON, times as microseconds.

use std::borrow::Cow;
use std::str::FromStr;
use std::sync::Arc;

use chassis_core::Wanted;
use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::connection::{Column, Fault, FaultKind, FromColumn, Mismatch, Outcome, ToColumn};

/// A checked string of `chassis_spec`.
pub(crate) struct Name<T>(pub T);

pub(crate) struct Json<T>(pub T);

/// A time, which loses what is finer than a microsecond; see [`now`].
pub(crate) struct Time(pub Timestamp);

/// A time as exact as the runtime tells it.
pub(crate) struct Exact(pub Timestamp);

pub(crate) struct WantedColumn(pub Wanted);

/// Numbers with commas between them, in order.
pub(crate) struct Numbers(pub Vec<u64>);

/// The present time as a column can hold it, so that what is answered is what is read later.
pub(crate) fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
}

fn mismatch<T>(wanted: &'static str) -> Outcome<T> {
    Err(Fault::damaged(Mismatch(wanted)))
}

// === what columns hold ===

impl FromColumn for String {
    fn from_column(column: Column<'_>) -> Outcome<Self> {
        match column {
            Column::Text(text) => Ok(text.into_owned()),
            _ => mismatch("text"),
        }
    }
}

impl FromColumn for Vec<u8> {
    fn from_column(column: Column<'_>) -> Outcome<Self> {
        match column {
            Column::Bytes(bytes) => Ok(bytes.into_owned()),
            _ => mismatch("row of bytes"),
        }
    }
}

impl FromColumn for i64 {
    fn from_column(column: Column<'_>) -> Outcome<Self> {
        match column {
            Column::Integer(number) => Ok(number),
            _ => mismatch("number"),
        }
    }
}

impl FromColumn for bool {
    fn from_column(column: Column<'_>) -> Outcome<Self> {
        match column {
            Column::Boolean(truth) => Ok(truth),
            Column::Integer(number) => Ok(number != 0),
            _ => mismatch("truth value"),
        }
    }
}

impl<T: FromColumn> FromColumn for Option<T> {
    fn from_column(column: Column<'_>) -> Outcome<Self> {
        match column {
            Column::Null => Ok(None),
            column => T::from_column(column).map(Some),
        }
    }
}

impl ToColumn for str {
    fn to_column(&self) -> Outcome<Column<'_>> {
        Ok(Column::Text(self.into()))
    }
}

impl ToColumn for String {
    fn to_column(&self) -> Outcome<Column<'_>> {
        Ok(Column::Text(self.into()))
    }
}

impl ToColumn for [u8] {
    fn to_column(&self) -> Outcome<Column<'_>> {
        Ok(Column::Bytes(self.into()))
    }
}

impl ToColumn for bool {
    fn to_column(&self) -> Outcome<Column<'_>> {
        Ok(Column::Boolean(*self))
    }
}

impl<T: ToColumn> ToColumn for Option<T> {
    fn to_column(&self) -> Outcome<Column<'_>> {
        self.as_ref().map_or(Ok(Column::Null), T::to_column)
    }
}

impl<T: ToColumn + ?Sized> ToColumn for &T {
    fn to_column(&self) -> Outcome<Column<'_>> {
        T::to_column(self)
    }
}

impl ToColumn for i64 {
    fn to_column(&self) -> Outcome<Column<'_>> {
        Ok(Column::Integer(*self))
    }
}

/// Numbers that columns keep as `i64`.
macro_rules! numbers {
    ($($number:ty)*) => {$(
        impl FromColumn for $number {
            fn from_column(column: Column<'_>) -> Outcome<Self> {
                <$number>::try_from(i64::from_column(column)?).map_err(Fault::damaged)
            }
        }

        impl ToColumn for $number {
            fn to_column(&self) -> Outcome<Column<'_>> {
                match i64::try_from(*self) {
                    Ok(number) => Ok(Column::Integer(number)),
                    Err(error) => Err(Fault::new(FaultKind::Unexpected, Arc::new(error))),
                }
            }
        }
    )*};
}
numbers!(i32 u32 u64);

// === impl Name ===

impl<T: FromStr<Err: std::error::Error + Send + Sync + 'static>> FromColumn for Name<T> {
    fn from_column(column: Column<'_>) -> Outcome<Self> {
        match column {
            Column::Text(text) => text.parse().map(Name).map_err(Fault::damaged),
            _ => mismatch("name"),
        }
    }
}

// === impl Json ===

impl<T: DeserializeOwned> FromColumn for Json<T> {
    fn from_column(column: Column<'_>) -> Outcome<Self> {
        match column {
            Column::Text(text) => serde_json::from_str(&text).map(Json).map_err(Fault::damaged),
            _ => mismatch("JSON"),
        }
    }
}

impl<T: Serialize> ToColumn for Json<T> {
    fn to_column(&self) -> Outcome<Column<'_>> {
        match serde_json::to_string(&self.0) {
            Ok(text) => Ok(Column::Text(text.into())),
            Err(error) => Err(Fault::new(FaultKind::Unexpected, Arc::new(error))),
        }
    }
}

// === impl Time ===

impl FromColumn for Time {
    fn from_column(column: Column<'_>) -> Outcome<Self> {
        Timestamp::from_microsecond(i64::from_column(column)?).map(Time).map_err(Fault::damaged)
    }
}

impl ToColumn for Time {
    fn to_column(&self) -> Outcome<Column<'_>> {
        Ok(Column::Integer(self.0.as_microsecond()))
    }
}

// === impl Exact ===

impl FromColumn for Exact {
    fn from_column(column: Column<'_>) -> Outcome<Self> {
        Timestamp::from_nanosecond(i64::from_column(column)?.into()).map(Exact).map_err(Fault::damaged)
    }
}

impl ToColumn for Exact {
    fn to_column(&self) -> Outcome<Column<'_>> {
        // Only a clock that is off by centuries does not fit.
        Ok(Column::Integer(i64::try_from(self.0.as_nanosecond()).unwrap_or_default()))
    }
}

// === impl Numbers ===

impl FromColumn for Numbers {
    fn from_column(column: Column<'_>) -> Outcome<Self> {
        let Column::Text(text) = column else { return mismatch("list of numbers") };
        let numbers: std::result::Result<Vec<u64>, _> = text.split(',').map(str::parse).collect();
        let mut numbers = numbers.map_err(Fault::damaged)?;
        numbers.sort_unstable();
        Ok(Numbers(numbers))
    }
}

// === impl WantedColumn ===

impl FromColumn for WantedColumn {
    fn from_column(column: Column<'_>) -> Outcome<Self> {
        let Column::Text(text) = column else { return mismatch("wanted state") };
        Ok(WantedColumn(match &*text {
            "running" => Wanted::Running,
            "stopped" => Wanted::Stopped,
            "absent" => Wanted::Absent { cleanup: false },
            "cleanup" => Wanted::Absent { cleanup: true },
            _ => return mismatch("wanted state"),
        }))
    }
}

impl ToColumn for WantedColumn {
    fn to_column(&self) -> Outcome<Column<'_>> {
        Ok(Column::Text(Cow::Borrowed(match self.0 {
            Wanted::Running => "running",
            Wanted::Stopped => "stopped",
            Wanted::Absent { cleanup: false } => "absent",
            Wanted::Absent { cleanup: true } => "cleanup",
        })))
    }
}
