//! Looks at a database and a key without a server, and without changing a byte of either.

use std::path::Path;

use super::database;
use crate::error::Result;
use crate::sql::key::{self, Key};

/// What a sound database says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    /// Tells the key of its secrets from others; none while it has no secret.
    pub key_id: Option<String>,
}

/// Reads the whole database for damage. For one that no server has open: there it would hold up the log's end.
pub fn inspect(path: &Path) -> Result<Inspection> {
    let connection = database::open_to_inspect(path)?;
    Ok(Inspection { key_id: key::known_id(&connection)? })
}

/// The name that databases know a key by. Fails with `Error::KeyMalformed`; `origin` says whose key it is.
pub fn key_id(digits: &str, origin: &str) -> Result<String> {
    Key::parse(digits, origin).map(|key| key.id)
}
