//! The encryption key: where it comes from, where it is kept, how it is exchanged for another.
//!
//! Several servers of one database change the key only within a transaction that excludes the others'.
//!
//! The database knows the key's id, never the key. A key file is replaced in three steps, each durable before the next:
//! the new key is written beside the old one (`<key>.new`), the secrets and the key id change in one transaction, the
//! new file takes the old one's name. Whoever opens the store looks at the key id to see which of the two files counts,
//! so that a crash between any two steps loses nothing.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::digest::{Context, SHA256};
use aws_lc_rs::hmac::{self, HMAC_SHA256};
use zeroize::Zeroizing;

use super::connection::{Connection, Outcome, params};
use crate::error::{Error, Result};
use crate::file::{self, remove_if_there, suffixed, sync_directory_of};

/// Where the key that encrypts secrets comes from.
pub enum KeySource {
    /// The value of `TOKEN_ENCRYPTION_KEY`: 64 hexadecimal digits.
    Environment(Zeroizing<String>),
    /// A file of mode 0600, made when the first secret is written.
    File(PathBuf),
}

/// The key in use, and where it is from.
pub(crate) struct Keys {
    /// The key file, if the key is kept in one.
    pub file: Option<PathBuf>,
    key: SharedKey,
}

/// The key that the writer has, for those who only read; none as long as there is no key file.
#[derive(Clone, Default)]
pub(crate) struct SharedKey(Arc<RwLock<Option<Arc<Key>>>>);

/// What is kept of a secret.
pub(crate) struct Sealed {
    /// What the ciphertext is bound to.
    pub context: String,
    pub key_id: String,
    pub nonce: Vec<u8>,
    pub ciphertext: Vec<u8>,
}

/// A key that is ready for use.
pub(crate) struct Key {
    cipher: LessSafeKey,
    marker: hmac::Key,
    /// Tells keys apart without giving anything away.
    pub id: String,
}

/// The digits of a key.
type Digits = Zeroizing<String>;

const ENVIRONMENT: &str = "TOKEN_ENCRYPTION_KEY";

// === impl KeySource ===

impl std::fmt::Debug for KeySource {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            KeySource::Environment(_) => formatter.write_str("Environment"),
            KeySource::File(path) => formatter.debug_tuple("File").field(path).finish(),
        }
    }
}

// === impl Keys ===

impl Keys {
    /// Finds the key that the database's secrets were encrypted with, and ends a rotation that was cut off.
    pub(crate) fn open(source: KeySource, connection: &dyn Connection) -> Result<Self> {
        let expected = known_id(connection)?;
        let (origin, key, file) = match source {
            KeySource::Environment(digits) => {
                (ENVIRONMENT.to_owned(), Some(Key::parse(&digits, ENVIRONMENT)?), None)
            }
            KeySource::File(path) => {
                settle(&path, expected.as_deref())?;
                let origin = format!("the key file {}", path.display());
                let key = read(&path)?.map(|digits| Key::parse(&digits, &origin)).transpose()?;
                (origin, key, Some(path))
            }
        };
        match (&key, expected, &file) {
            (Some(key), Some(expected), _) if key.id != expected => {
                Err(Error::KeyMismatch { origin, expected, found: key.id.clone() })
            }
            (None, Some(_), Some(path)) => Err(Error::KeyMissing(path.clone())),
            _ => Ok(Keys { file, key: SharedKey(Arc::new(RwLock::new(key.map(Arc::new)))) }),
        }
    }

    /// Takes the key that another server of this database changed to.
    pub(crate) fn refresh(&mut self, connection: &dyn Connection) -> Result<()> {
        let Some(known) = known_id(connection)? else { return Ok(()) };
        match (self.key.get(), &self.file) {
            (Some(key), _) if key.id == known => {}
            (_, Some(path)) => {
                let opened = Keys::open(KeySource::File(path.clone()), connection)?;
                self.key.set(opened.key.get());
            }
            (Some(key), None) => {
                let (origin, found) = (ENVIRONMENT.to_owned(), key.id.clone());
                return Err(Error::KeyMismatch { origin, expected: known, found });
            }
            (None, None) => {}
        }
        Ok(())
    }

    /// The key for encrypting; makes the key file if there is none yet.
    pub(crate) fn for_writing(&mut self, connection: &dyn Connection) -> Result<Arc<Key>> {
        self.refresh(connection)?;
        let key = match (self.key.get(), &self.file) {
            (Some(key), _) => key,
            (None, Some(path)) => {
                let key = if let Some(digits) = read(path)? {
                    // Of a server that did not live to use it.
                    Key::parse(&digits, "the key file")?
                } else {
                    let digits = generate()?;
                    let key = Key::parse(&digits, "a fresh key")?;
                    write_new(path, &digits)?;
                    install_new(path, &key.id)?;
                    key
                };
                Arc::new(key)
            }
            (None, None) => return Err(Error::KeyNeeded),
        };
        set_known_id(connection, &key.id)?;
        self.key.set(Some(Arc::clone(&key)));
        Ok(key)
    }

    /// The key for decrypting; without one there is nothing that it could open.
    pub(crate) fn for_reading(&self) -> Option<Arc<Key>> {
        self.key.get()
    }

    /// The same for those who only read.
    pub(crate) fn in_use(&self) -> SharedKey {
        self.key.clone()
    }

    pub(crate) fn replace(&mut self, key: Key) {
        self.key.set(Some(Arc::new(key)));
    }

    /// Opens what is sealed, with the key that the database knows now. `None` if it is damaged.
    pub(crate) fn unseal(
        &mut self,
        connection: &dyn Connection,
        sealed: Sealed,
    ) -> Result<Option<Zeroizing<Vec<u8>>>> {
        self.refresh(connection)?;
        Ok(self.key.get().and_then(|key| key.unseal(&sealed.context, &sealed.nonce, sealed.ciphertext)))
    }
}

// === impl SharedKey ===

impl SharedKey {
    /// Opens what is sealed. `None` if that needs another key, or it is damaged: [`Keys::unseal`] says which.
    pub(crate) fn unseal(&self, sealed: Sealed) -> Option<Zeroizing<Vec<u8>>> {
        let key = self.get().filter(|key| key.id == sealed.key_id)?;
        key.unseal(&sealed.context, &sealed.nonce, sealed.ciphertext)
    }

    fn get(&self) -> Option<Arc<Key>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, key: Option<Arc<Key>>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = key;
    }
}

// === impl Key ===

impl Key {
    /// Errors name `origin`, never the digits.
    pub(crate) fn parse(digits: &str, origin: &str) -> Result<Self> {
        let malformed = || Error::KeyMalformed(origin.to_owned());
        let mut bytes = Zeroizing::new([0_u8; 32]);
        let digits = digits.trim_ascii().as_bytes();
        if digits.len() != 2 * bytes.len() {
            return Err(malformed());
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = digit(pair[0])
                .zip(digit(pair[1]))
                .map(|(high, low)| high << 4 | low)
                .ok_or_else(malformed)?;
        }
        let mut hash = Context::new(&SHA256);
        hash.update(b"chassis-key-id");
        hash.update(&bytes[..]);
        let id = hex(&hash.finish().as_ref()[..8]).to_string();
        let cipher = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &bytes[..]).map_err(|_| malformed())?);
        let mut hash = Context::new(&SHA256);
        hash.update(b"chassis-mark");
        hash.update(&bytes[..]);
        let marker = hmac::Key::new(HMAC_SHA256, hash.finish().as_ref());
        Ok(Key { cipher, marker, id })
    }

    /// Tells whether two texts are the same, and to nobody without the key what they are.
    pub(crate) fn mark(&self, text: &[u8]) -> Vec<u8> {
        hmac::sign(&self.marker, text).as_ref().to_vec()
    }

    /// Encrypts in place; `context` must be the same when it is opened.
    pub(crate) fn seal(
        &self,
        context: &str,
        mut value: Zeroizing<Vec<u8>>,
    ) -> Result<([u8; NONCE_LEN], Vec<u8>)> {
        let mut nonce = [0; NONCE_LEN];
        aws_lc_rs::rand::fill(&mut nonce).map_err(|_| Error::NoRandomness)?;
        let tag = self
            .cipher
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(context), &mut value)
            .map_err(|_| Error::NoRandomness)?;
        // From here on it is ciphertext.
        let mut ciphertext = std::mem::take(&mut *value);
        ciphertext.extend_from_slice(tag.as_ref());
        Ok((nonce, ciphertext))
    }

    /// `None` if this is not what was sealed with this key and context.
    pub(crate) fn unseal(
        &self,
        context: &str,
        nonce: &[u8],
        ciphertext: Vec<u8>,
    ) -> Option<Zeroizing<Vec<u8>>> {
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut value = Zeroizing::new(ciphertext);
        let length = self.cipher.open_in_place(nonce, Aad::from(context), &mut value).ok()?.len();
        value.truncate(length);
        Some(value)
    }
}

pub(crate) fn known_id(connection: &dyn Connection) -> Outcome<Option<String>> {
    let sql = "SELECT value FROM meta WHERE name = 'key_id'";
    connection.find(sql, params![], |row| row.get(0))
}

pub(crate) fn set_known_id(connection: &dyn Connection, id: &str) -> Outcome<()> {
    let sql = "INSERT INTO meta (name, value) VALUES ('key_id', ?1)
               ON CONFLICT (name) DO UPDATE SET value = ?1 WHERE meta.value <> ?1";
    connection.execute(sql, params![id]).map(drop)
}

pub(crate) fn generate() -> Result<Digits> {
    let mut bytes = Zeroizing::new([0_u8; 32]);
    aws_lc_rs::rand::fill(&mut *bytes).map_err(|_| Error::NoRandomness)?;
    Ok(hex(&*bytes))
}

/// Writes `<key>.new`, durably.
pub(crate) fn write_new(path: &Path, digits: &Digits) -> Result<()> {
    let new = suffixed(path, ".new");
    let write = || -> io::Result<()> {
        remove_if_there(&new)?;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(digits.as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        sync_directory_of(path)
    };
    write().map_err(|source| Error::KeyFile { path: new.clone(), source })
}

/// Gives `<key>.new`, which holds the key `id`, the key file's name, durably. Another server that opened the database
/// meanwhile may have done so already.
pub(crate) fn install_new(path: &Path, id: &str) -> Result<()> {
    match file::install_new(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && holds(path, id)? => Ok(()),
        done => done.map_err(|source| Error::KeyFile { path: path.to_owned(), source }),
    }
}

fn holds(path: &Path, id: &str) -> Result<bool> {
    Ok(read(path)?.and_then(|digits| Key::parse(&digits, "").ok()).is_some_and(|key| key.id == id))
}

/// Ends a change of key files that was cut off: `<key>.new` counts if it is the key that the database knows.
pub(crate) fn settle(path: &Path, expected: Option<&str>) -> Result<()> {
    let new = suffixed(path, ".new");
    let Some(digits) = read(&new)? else {
        return Ok(());
    };
    // A file that was cut off while it was written is no key.
    let id = Key::parse(&digits, "").ok().map(|key| key.id);
    if let Some(id) = id.filter(|id| Some(id.as_str()) == expected) {
        tracing::info!("completing a key rotation that was cut off");
        return install_new(path, &id);
    }
    remove_if_there(&new).map_err(|source| Error::KeyFile { path: new, source })
}

/// The digits in a key file, if there is one.
pub(crate) fn read(path: &Path) -> Result<Option<Digits>> {
    let failed = |source| Error::KeyFile { path: path.to_owned(), source };
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    if file.metadata().map_err(failed)?.mode() & 0o077 != 0 {
        return Err(Error::KeyExposed(path.to_owned()));
    }
    // Room for more than a key, so that no copy of it is left behind by a string that grows.
    let mut bytes = Zeroizing::new([0_u8; 128]);
    let mut length = 0;
    while length < bytes.len() {
        match file.read(&mut bytes[length..]).map_err(failed)? {
            0 => break,
            more => length += more,
        }
    }
    let text = std::str::from_utf8(&bytes[..length]).unwrap_or_default();
    Ok(Some(Zeroizing::new(text.to_owned())))
}

fn digit(character: u8) -> Option<u8> {
    char::from(character).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

fn hex(bytes: &[u8]) -> Zeroizing<String> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = Zeroizing::new(String::with_capacity(2 * bytes.len()));
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}
