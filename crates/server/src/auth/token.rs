//! Tokens: random, and compared by their digests.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use crate::error::{Error, Result};

/// What keys of the API begin with, so that people and scanners know one when they see it.
pub(super) const KEY_MARK: &str = "chs_";
/// What those begin with that programs of Fuse's know.
pub(super) const FUSE_KEY_MARK: &str = "fuse_sk_";
/// So many characters of a key are shown in lists, after its mark: 48 of its 256 bits.
const KEY_SHOWN: usize = 8;
/// Fewer characters than this can be guessed.
const SHORTEST: usize = 32;

/// The SHA-256 of a token: all that is kept of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Digest([u8; 32]);

impl Digest {
    pub(super) fn of(token: &str) -> Digest {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        Digest(bytes)
    }
}

impl Digest {
    /// None if they are not 32.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Digest> {
        bytes.try_into().ok().map(Digest)
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl PartialEq for Digest {
    /// Takes the same time wherever they differ; and where digests differ says nothing of where tokens do.
    fn eq(&self, other: &Digest) -> bool {
        verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

impl Eq for Digest {}

/// A new key of the API, and how it begins.
pub(super) fn generate_key(mark: &str) -> Result<(Zeroizing<String>, String)> {
    let key = Zeroizing::new(format!("{mark}{}", *generate()?));
    let shown = key[..mark.len() + KEY_SHOWN].to_owned();
    Ok((key, shown))
}

/// 256 random bits in letters, digits, `-` and `_`.
pub(crate) fn generate() -> Result<Zeroizing<String>> {
    let mut bytes = Zeroizing::new([0; 32]);
    rand::fill(&mut bytes[..]).map_err(|_| Error::NoRandomness)?;
    Ok(Zeroizing::new(BASE64_URL_SAFE_NO_PAD.encode(&bytes[..])))
}

/// 128 random bits in hexadecimal digits, for what nobody else may have the name of.
pub(crate) fn random_id() -> Result<String> {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).map_err(|_| Error::NoRandomness)?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}

/// The master token's digest: of the one that is given, or that the file has, or, where one is `needed`, of a new one that
/// is written there for its owner to read.
pub(super) fn master(given: Option<&Zeroizing<String>>, file: &Path, needed: bool) -> Result<Option<Digest>> {
    let unusable = |source| Error::MasterToken { path: file.to_owned(), source };
    let token = match given {
        Some(token) => token.clone(),
        None => match read(file).map_err(unusable)? {
            Some(token) => token,
            None if !needed => return Ok(None),
            None => {
                let token = generate()?;
                write(file, &token).map_err(unusable)?;
                token
            }
        },
    };
    let token = token.trim();
    if token.len() < SHORTEST {
        return Err(Error::MasterTokenWeak { length: token.len(), least: SHORTEST });
    }
    Ok(Some(Digest::of(token)))
}

/// The token that a node is known by: the one in the file, or a new one, which is written there.
pub(crate) fn of_node(file: &Path) -> Result<Zeroizing<String>> {
    let unusable = |source| Error::NodeToken { path: file.to_owned(), source };
    match read(file).map_err(unusable)? {
        Some(token) if token.trim().len() >= SHORTEST => Ok(Zeroizing::new(token.trim().to_owned())),
        Some(_) => {
            let what = format!("it has less than {SHORTEST} characters");
            Err(unusable(io::Error::new(io::ErrorKind::InvalidData, what)))
        }
        None => {
            let token = generate()?;
            write(file, &token).map_err(unusable)?;
            Ok(token)
        }
    }
}

fn read(file: &Path) -> io::Result<Option<Zeroizing<String>>> {
    match fs::read_to_string(file) {
        Ok(token) => Ok(Some(Zeroizing::new(token))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// For its owner only, and in one piece.
fn write(file: &Path, token: &str) -> io::Result<()> {
    let new = file.with_extension("new");
    let mut opened = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    writeln!(opened, "{token}")?;
    opened.sync_all()?;
    fs::rename(&new, file)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// That the comparison takes constant time cannot be measured on a busy machine; that it is one of digests can be shown.
    #[test]
    fn tokens_are_compared_by_digest() {
        let known = Digest::of("abc");
        let expected = [
            0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea, 0x41, 0x41, 0x40, 0xde, 0x5d, 0xae, 0x22, 0x23,
            0xb0, 0x03, 0x61, 0xa3, 0x96, 0x17, 0x7a, 0x9c, 0xb4, 0x10, 0xff, 0x61, 0xf2, 0x00, 0x15, 0xad,
        ];
        assert_eq!(known.0, expected);
        assert!(known == Digest(expected));
        assert!(known != Digest::of("abd") && known != Digest::of("") && known != Digest::of("abcc"));
    }

    #[test]
    fn a_generated_token_is_kept_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("master-token");
        assert!(master(None, &file, false).unwrap().is_none());
        let made = master(None, &file, true).unwrap().unwrap();
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(master(None, &file, false).unwrap().unwrap() == made);
        assert_eq!(fs::read_to_string(&file).unwrap().trim().len(), 43);
        let weak = Zeroizing::new("hunter2".to_owned());
        assert!(matches!(master(Some(&weak), &file, true), Err(Error::MasterTokenWeak { length: 7, .. })));
    }
}
