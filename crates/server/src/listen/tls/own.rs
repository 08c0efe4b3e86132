//! The certificate that a server makes for itself, signed by itself: clients know it by its fingerprint.
//!
//! It is valid for ten years, because with the next one every client has to be told a new fingerprint; and it stays the same
//! when the server listens elsewhere, because whoever knows the fingerprint does not look at names.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp, Zoned};
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, date_time_ymd};
use zeroize::Zeroizing;

use crate::error::{Error, Result};

const YEARS: i32 = 10;
/// Another is made so long before the end.
const BEFORE_END: SignedDuration = SignedDuration::from_hours(30 * 24);

pub(super) fn file(directory: &Path) -> PathBuf {
    directory.join("own.pem")
}

pub(super) fn ends_soon(expires_at: Timestamp) -> bool {
    expires_at < Timestamp::now() + BEFORE_END
}

/// What the server is called: by its addresses, and by its host's name.
pub(super) fn names(addresses: &[SocketAddr]) -> Vec<String> {
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    names.extend(rustix::system::uname().nodename().to_str().ok().map(str::to_owned));
    let addresses = addresses.iter().map(SocketAddr::ip).filter(|address| !address.is_unspecified());
    names.extend(addresses.map(|address| address.to_string()));
    names.retain(|name| !name.is_empty());
    names.sort();
    names.dedup();
    names
}

/// Makes a certificate and writes it, with its key, in one piece.
pub(super) fn make(directory: &Path, names: &[String]) -> Result<()> {
    let path = file(directory);
    let unwritable = |source| Error::Certificate { path: path.clone(), source };
    let pem = pem(names).map_err(|error| unwritable(io::Error::other(error)))?;
    write(directory, &path, &pem).map_err(unwritable)
}

fn pem(names: &[String]) -> std::result::Result<Zeroizing<String>, rcgen::Error> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, "chassis");
    // Of a machine whose clock is a little ahead it would not be valid yet.
    let begin = Zoned::now().yesterday().unwrap_or_else(|_| Zoned::now());
    let day = |year| date_time_ymd(year, begin.month().unsigned_abs(), begin.day().min(28).unsigned_abs());
    params.not_before = day(i32::from(begin.year()));
    params.not_after = day(i32::from(begin.year()) + YEARS);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    let key = Zeroizing::new(key.serialize_pem());
    Ok(Zeroizing::new(format!("{}{}", certificate.pem(), key.as_str())))
}

fn write(directory: &Path, path: &Path, pem: &str) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let new = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(pem.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)
}
