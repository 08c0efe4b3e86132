//! The certificate that callers see: from files that somebody looks after, or the server's own. It is looked at again
//! when its files change, and shown from the next handshake on.

mod own;
mod validity;

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use aws_lc_rs::digest;
use chassis_api::{Certificate, Fingerprint};
use jiff::Timestamp;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval};

use crate::error::{Error, Result, chain};

/// Between looks at the files.
const LOOK: Duration = Duration::from_secs(2);
/// Only this server, and what it cannot do without, read its key.
const NOT_FOR_OTHERS: u32 = 0o007;

#[derive(Debug)]
pub(crate) struct Certificates {
    source: Source,
    current: RwLock<Shown>,
    /// Look at the files now.
    pub(crate) look: Notify,
}

#[derive(Debug, Clone)]
enum Source {
    /// One file with the certificate and its key, in a directory of the server's; made anew before it ends.
    Own {
        directory: PathBuf,
        names: Vec<String>,
    },
    Given {
        certificate: PathBuf,
        key: PathBuf,
    },
}

#[derive(Debug, Clone)]
struct Shown {
    key: Arc<CertifiedKey>,
    fingerprint: Fingerprint,
    expires_at: Timestamp,
    /// What the files looked like, for a change to be seen.
    files: Vec<FileState>,
}

type FileState = Option<(u64, u64, i64, i64)>;

impl Certificates {
    /// The server's own, kept in `directory`; made if there is none, or it ends soon.
    pub(crate) fn own(directory: &Path, addresses: &[SocketAddr]) -> Result<Certificates> {
        Certificates::new(Source::Own { directory: directory.to_owned(), names: own::names(addresses) })
    }

    /// Those in the files: the chain, the server's own certificate first, and its key.
    pub(crate) fn given(certificate: &Path, key: &Path) -> Result<Certificates> {
        Certificates::new(Source::Given { certificate: certificate.to_owned(), key: key.to_owned() })
    }

    fn new(source: Source) -> Result<Certificates> {
        let shown = source.load()?;
        Ok(Certificates { source, current: RwLock::new(shown), look: Notify::new() })
    }

    pub(crate) fn describe(&self) -> Certificate {
        let shown = self.shown();
        Certificate {
            fingerprint: shown.fingerprint,
            generated: matches!(self.source, Source::Own { .. }),
            expires_at: shown.expires_at,
        }
    }

    /// For all connections; what it shows is asked for at each handshake.
    pub(super) fn server_config(self: &Arc<Self>) -> Result<Arc<ServerConfig>> {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(Error::Tls)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(self) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// Keeps what is shown up to date for as long as the server runs.
    pub(crate) async fn keep_current(self: Arc<Self>) {
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut refused: Option<Vec<FileState>> = None;
        loop {
            let asked = tokio::select! {
                _ = look.tick() => false,
                () = self.look.notified() => true,
            };
            let (files, due) = (self.source.files(), self.shown().is_due(&self.source));
            let changed = files != self.shown().files;
            // What was refused is tried again when it has changed, or somebody asks.
            if !(asked || due || changed && refused.as_ref() != Some(&files)) {
                continue;
            }
            let source = self.source.clone();
            match tokio::task::spawn_blocking(move || source.load()).await {
                Ok(Ok(shown)) => {
                    refused = None;
                    if shown.fingerprint != self.shown().fingerprint {
                        tracing::info!(fingerprint = %shown.fingerprint, "showing a new certificate");
                    }
                    *self.current.write().unwrap_or_else(PoisonError::into_inner) = shown;
                }
                Ok(Err(error)) => {
                    tracing::error!(error = chain(&error), "keeping the certificate that was shown before");
                    refused = Some(files);
                }
                Err(error) => tracing::error!(%error, "the certificate was not looked at"),
            }
        }
    }

    fn shown(&self) -> Shown {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.shown().key)
    }
}

impl Shown {
    /// Whether the server should make another, whatever the files look like.
    fn is_due(&self, source: &Source) -> bool {
        matches!(source, Source::Own { .. }) && own::ends_soon(self.expires_at)
    }
}

impl Source {
    fn paths(&self) -> (PathBuf, PathBuf) {
        match self {
            Source::Own { directory, .. } => (own::file(directory), own::file(directory)),
            Source::Given { certificate, key } => (certificate.clone(), key.clone()),
        }
    }

    fn files(&self) -> Vec<FileState> {
        let (certificate, key) = self.paths();
        [certificate, key]
            .iter()
            .map(|path| {
                let found = std::fs::metadata(path).ok()?;
                Some((found.ino(), found.len(), found.mtime(), found.mtime_nsec()))
            })
            .collect()
    }

    fn load(&self) -> Result<Shown> {
        let Source::Own { directory, names } = self else { return self.read() };
        match self.read() {
            Ok(shown) if !shown.is_due(self) => return Ok(shown),
            Ok(_) => tracing::info!("the server's certificate ends soon: making another"),
            Err(Error::Certificate { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(error = chain(&error), "making another certificate"),
        }
        own::make(directory, names)?;
        self.read()
    }

    fn read(&self) -> Result<Shown> {
        // Before they are read: what changes meanwhile is looked at again.
        let files = self.files();
        let (certificate_path, key_path) = self.paths();
        let unusable = |path: &Path, source: io::Error| Error::Certificate { path: path.to_owned(), source };
        let invalid =
            |path: &Path, what: String| unusable(path, io::Error::new(io::ErrorKind::InvalidData, what));
        let read = |path: &Path| std::fs::read(path).map_err(|source| unusable(path, source));
        let chain = CertificateDer::pem_slice_iter(&read(&certificate_path)?)
            .collect::<std::result::Result<Vec<_>, _>>()
            .map_err(|error| invalid(&certificate_path, error.to_string()))?;
        let Some(first) = chain.first() else {
            return Err(invalid(&certificate_path, "it holds no certificate in PEM".to_owned()));
        };
        let fingerprint = fingerprint(first);
        let expires_at = validity::not_after(first).ok_or_else(|| {
            invalid(&certificate_path, "its first certificate does not say how long it is valid".to_owned())
        })?;
        if std::fs::metadata(&key_path).is_ok_and(|found| found.mode() & NOT_FOR_OTHERS != 0) {
            tracing::warn!("everybody on this machine may read {}; `chmod o-rwx` it", key_path.display());
        }
        let key = zeroize::Zeroizing::new(read(&key_path)?);
        let key = PrivateKeyDer::from_pem_slice(&key)
            .map_err(|error| invalid(&key_path, format!("no private key in PEM: {error}")))?;
        let key = CertifiedKey::from_der(chain, key, &provider())
            .map_err(|error| invalid(&key_path, format!("it does not fit the certificate: {error}")))?;
        if expires_at < Timestamp::now() {
            tracing::warn!(%expires_at, "the certificate is no longer valid: clients refuse it");
        }
        Ok(Shown { key: Arc::new(key), fingerprint, expires_at, files })
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn fingerprint(certificate: &CertificateDer<'_>) -> Fingerprint {
    let mut sha256 = [0; 32];
    sha256.copy_from_slice(digest::digest(&digest::SHA256, certificate).as_ref());
    Fingerprint::new(sha256)
}
