//! The key of somebody who keeps secrets in files and has no database: a node, for what it starts again by itself.

use std::path::Path;

use aws_lc_rs::aead::NONCE_LEN;
use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::file;
use crate::sql::key::{Key, generate, read, settle, write_new};

/// A key that is in a file of mode 0600, like the one that encrypts a server's secrets.
pub struct KeyFile(Key);

impl KeyFile {
    /// Reads the key, or makes one if there is none.
    pub fn open(path: &Path) -> Result<KeyFile> {
        settle(path, None)?;
        if let Some(digits) = read(path)? {
            return Ok(KeyFile(Key::parse(&digits, &format!("the key file {}", path.display()))?));
        }
        let digits = generate()?;
        let key = Key::parse(&digits, "a fresh key")?;
        write_new(path, &digits)?;
        file::install_new(path).map_err(|source| Error::KeyFile { path: path.to_owned(), source })?;
        Ok(KeyFile(key))
    }

    /// Encrypts; `context` must be the same when it is opened.
    pub fn seal(&self, context: &str, value: Zeroizing<Vec<u8>>) -> Result<Vec<u8>> {
        let (nonce, ciphertext) = self.0.seal(context, value)?;
        Ok([&nonce[..], &ciphertext].concat())
    }

    /// `None` if this is not what was sealed with this key and context.
    pub fn unseal(&self, context: &str, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, ciphertext) = sealed.split_at_checked(NONCE_LEN)?;
        self.0.unseal(context, nonce, ciphertext.to_vec())
    }
}

impl std::fmt::Debug for KeyFile {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("KeyFile").field(&self.0.id).finish()
    }
}
