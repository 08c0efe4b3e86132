//! Lists in parts, in this dialect: `limit` and `cursor` in the query, `next_cursor` in the answer.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::body::invalid;
use crate::api::failure::Result;

const LIMIT: u32 = 50;
const MOST: u32 = 200;

/// Where a list goes on; nothing that clients look into.
#[derive(Debug, Serialize, Deserialize)]
struct Cursor {
    after: String,
}

/// So many are given at once: what is no number, or none, is as if nothing had been asked for.
pub(super) fn limit(asked: Option<&str>) -> u32 {
    match asked.map(str::parse::<i64>) {
        Some(Ok(limit)) if limit > 0 => u32::try_from(limit).unwrap_or(MOST).min(MOST),
        _ => LIMIT,
    }
}

pub(super) fn write(after: &str) -> String {
    let json = serde_json::to_vec(&Cursor { after: after.to_owned() }).unwrap_or_default();
    URL_SAFE_NO_PAD.encode(json)
}

/// The place of the last item that was given.
pub(super) fn read(cursor: Option<&str>) -> Result<Option<String>> {
    let Some(cursor) = cursor.filter(|cursor| !cursor.is_empty()) else { return Ok(None) };
    let bytes = URL_SAFE_NO_PAD.decode(cursor).ok();
    let cursor = bytes.and_then(|bytes| serde_json::from_slice::<Cursor>(&bytes).ok());
    cursor.map(|cursor| Some(cursor.after)).ok_or_else(|| invalid("invalid cursor"))
}
