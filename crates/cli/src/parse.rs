//! Values on the command line that are more than a string.

use jiff::{SignedDuration, Timestamp};

/// `5m`, `1h30m`, or a number of seconds.
pub(crate) fn duration(text: &str) -> Result<SignedDuration, String> {
    let parsed = match text.parse::<u32>() {
        Ok(seconds) => Some(SignedDuration::from_secs(seconds.into())),
        Err(_) => text.parse::<SignedDuration>().ok(),
    };
    parsed.filter(|duration| !duration.is_negative()).ok_or_else(|| "write 30s, 5m or 1h30m".to_owned())
}

/// A time, or how long ago it was.
pub(crate) fn since(text: &str) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    let ago = duration(text).map_err(|_| "write 10m, 1h30m or 2026-11-22T12:00:00Z".to_owned())?;
    Timestamp::now().checked_sub(ago).map_err(|_| "that is before all time".to_owned())
}

/// `key=value`.
pub(crate) fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write key=value".to_owned()),
    }
}
