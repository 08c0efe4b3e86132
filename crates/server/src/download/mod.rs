//! Programs of agents, fetched for environments: from the internet only, each known by its checksum.
//!
//! Whoever makes environments says from where. So that this cannot be turned against the network that the server is in:
//! - only https, from public addresses (`core::address_is_public`); it is the address connected to that is looked at, since it
//!   is resolved once. The operator may allow more;
//! - each redirect is looked at in the same way, and there are few; proxies of the environment are not asked;
//! - what comes is bounded in bytes and time, and is used only if it has the checksum that was named beforehand.
//!
//! What was fetched is kept by its checksum, in a directory bounded in size. Anything in it may be gone at any time, and is
//! then fetched again; what is read from it is checked again.

mod fetch;
mod kept;
mod target;

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chassis_core::Cidr;
use tokio::sync::{Mutex as AsyncMutex, Semaphore};
use zeroize::Zeroizing;

use crate::shared::lock;
use kept::Kept;
use target::Target;

/// Of one download, unless the operator says otherwise; init takes no more.
pub const DOWNLOAD_MOST: u64 = 64 << 20;
/// For one download, from the name to the last byte, unless the operator says otherwise.
pub const DOWNLOAD_TIME: Duration = Duration::from_secs(30);
/// Downloads at a time.
const AT_A_TIME: usize = 8;

/// What may be fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DownloadOptions {
    /// Where it may come from besides public addresses.
    pub allowed: Vec<DownloadSource>,
    /// It may come in the clear.
    pub allow_http: bool,
    /// Bytes of one, at most.
    pub most: u64,
    /// How long one may take.
    pub time: Duration,
    /// What is fetched for an agent that wants its program put somewhere and does not say from where.
    pub usual: Option<UsualDownload>,
}

/// A host or a block of addresses that downloads may come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DownloadSource {
    Host(String),
    Block(Cidr),
}

/// The server's own download.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsualDownload {
    pub url: String,
    /// In hex.
    pub sha256: String,
}

/// Why something was not fetched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DownloadError {
    #[error("{0} is no address that can be fetched; write https://HOST/PATH")]
    Malformed(String),
    #[error("{0} is not https; whoever runs the server can allow that with --agent-download-http")]
    InTheClear(String),
    #[error("{0} has no public address; whoever runs the server can allow it with --agent-download-allow")]
    NotPublic(String),
    #[error("{0} redirects more than {MOST} times", MOST = fetch::REDIRECTS_MOST)]
    Redirects(String),
    #[error("{url} answered {status}")]
    Answered { url: String, status: u16 },
    #[error("{url} has more than {most} bytes")]
    TooLarge { url: String, most: u64 },
    #[error("what {0} has is not what `downloadSha256` says")]
    Mismatch(String),
    #[error("{url} cannot be fetched just now: {why}")]
    Unreachable { url: String, why: String },
    #[error("{url} did not come within {seconds} s")]
    TooSlow { url: String, seconds: u64 },
    #[error("cannot keep what was downloaded")]
    Disk(#[source] io::Error),
}

impl DownloadError {
    /// True if trying again may help, and nothing that was asked is wrong.
    pub(crate) fn is_passing(&self) -> bool {
        matches!(
            self,
            DownloadError::Unreachable { .. } | DownloadError::TooSlow { .. } | DownloadError::Disk(_)
        )
    }
}

/// Fetches, and keeps.
#[derive(Debug)]
pub(crate) struct Downloads {
    options: DownloadOptions,
    kept: Kept,
    /// Those under way, by checksum: each is fetched once, however many want it.
    under_way: Mutex<HashMap<String, Arc<AsyncMutex<()>>>>,
    slots: Semaphore,
}

impl Downloads {
    pub(crate) fn new(options: DownloadOptions, directory: PathBuf) -> Downloads {
        Downloads {
            options,
            kept: Kept::new(directory),
            under_way: Mutex::default(),
            slots: Semaphore::new(AT_A_TIME),
        }
    }

    pub(crate) fn usual(&self) -> Option<&UsualDownload> {
        self.options.usual.as_ref()
    }

    /// The bytes at `url`, which have the checksum `sha256`, in hex.
    pub(crate) async fn get(&self, url: &str, sha256: &str) -> Result<Zeroizing<Vec<u8>>, DownloadError> {
        let sha256 = sha256.to_ascii_lowercase();
        let target = Target::parse(url)?;
        // Also of what is kept: a rule that is stricter than it was holds for it too.
        fetch::check(&target, &self.options)?;
        let one = Arc::clone(lock(&self.under_way).entry(sha256.clone()).or_default());
        let got = {
            let _one = one.lock().await;
            self.get_alone(target, &sha256).await
        };
        let mut under_way = lock(&self.under_way);
        // This one and the map's: nobody else waits for it.
        if Arc::strong_count(&one) == 2 {
            under_way.remove(&sha256);
        }
        got
    }

    async fn get_alone(&self, target: Target, sha256: &str) -> Result<Zeroizing<Vec<u8>>, DownloadError> {
        if let Some(bytes) = self.kept.read(sha256).await {
            return Ok(bytes);
        }
        let _slot = self.slots.acquire().await.map_err(|_| DownloadError::Unreachable {
            url: target.shown(),
            why: "the server is ending".to_owned(),
        })?;
        let url = target.shown();
        let seconds = self.options.time.as_secs();
        let fetched = tokio::time::timeout(self.options.time, fetch::fetch(target, &self.options)).await;
        let bytes = fetched.map_err(|_| DownloadError::TooSlow { url: url.clone(), seconds })??;
        if kept::sha256(&bytes) != sha256 {
            return Err(DownloadError::Mismatch(url));
        }
        let bytes = self.kept.write(sha256, bytes).await.map_err(DownloadError::Disk)?;
        tracing::info!(url, sha256, bytes = bytes.len(), "fetched an agent");
        Ok(bytes)
    }
}

impl Default for DownloadOptions {
    fn default() -> Self {
        DownloadOptions {
            allowed: Vec::new(),
            allow_http: false,
            most: DOWNLOAD_MOST,
            time: DOWNLOAD_TIME,
            usual: None,
        }
    }
}

impl std::str::FromStr for DownloadSource {
    type Err = String;

    /// An address or a block of them, or else the name of a host.
    fn from_str(text: &str) -> Result<Self, String> {
        let is_host = !text.is_empty()
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
            && text.bytes().any(|byte| byte.is_ascii_alphabetic());
        match text.parse::<Cidr>() {
            Ok(block) => Ok(DownloadSource::Block(block)),
            Err(_) if is_host => Ok(DownloadSource::Host(text.to_ascii_lowercase())),
            Err(error) => Err(format!("{error}, or the name of a host")),
        }
    }
}
