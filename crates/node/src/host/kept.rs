//! What a node needs to start its instances again by itself: what each container was made of, and what was handed to it at
//! its last start, sealed with a key of the node's own.
//!
//! ```text
//!   <directory>/kept/key                    0600
//!                    <container>.config     from create to remove
//!                    <container>.secrets    from an order to start to one to stop: it is wanted running
//! ```
//! A file is on disk before the order is answered that it is written for, and gone before what it is for is stopped: a node
//! that is killed never starts what somebody has stopped.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chassis_runtime::{Error, InstanceConfig, InstanceSecrets};
use chassis_store::KeyFile;
use tokio::task::spawn_blocking;
use zeroize::Zeroizing;

use super::file;
use crate::carried::{Config, Secrets};

const CONFIG: &str = "config";
const SECRETS: &str = "secrets";

#[derive(Debug)]
pub(super) struct Kept {
    directory: PathBuf,
    key: KeyFile,
    known: Mutex<BTreeMap<Box<str>, Known>>,
}

#[derive(Debug)]
struct Known {
    config: Arc<InstanceConfig>,
    is_wanted: bool,
}

impl Kept {
    /// Reads what the last process of this node kept.
    pub(super) fn open(directory: PathBuf) -> io::Result<Arc<Kept>> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
        let key = KeyFile::open(&directory.join("key")).map_err(io::Error::other)?;
        let kept = Kept { directory, key, known: Mutex::default() };
        let (mut configs, mut wanted) = (BTreeMap::new(), BTreeSet::new());
        for entry in fs::read_dir(&kept.directory)? {
            let path = entry?.path();
            let Some(id) = path.file_stem().and_then(|id| id.to_str()).map(Box::<str>::from) else {
                continue;
            };
            match path.extension().and_then(|extension| extension.to_str()) {
                Some(CONFIG) => match kept.read::<Config>(&id, CONFIG) {
                    Ok(config) => drop(configs.insert(id, config)),
                    Err(error) => {
                        tracing::warn!(container = %id, %error, "cannot read what was kept of an instance; it is not started without a server");
                    }
                },
                Some(SECRETS) => drop(wanted.insert(id)),
                _ => {}
            }
        }
        let known = configs.into_iter().map(|(id, config)| {
            let known = Known { config: Arc::new(config.into()), is_wanted: wanted.contains(&id) };
            (id, known)
        });
        kept.known().extend(known);
        Ok(Arc::new(kept))
    }

    /// A container was made.
    pub(super) async fn created(self: &Arc<Self>, id: &str, config: &InstanceConfig) -> Result<(), Error> {
        let text = Zeroizing::new(serde_json::to_vec(&Config::from(config)).map_err(unwritable)?);
        self.write(id, CONFIG, text).await?;
        let is_wanted = self.known().get(id).is_some_and(|known| known.is_wanted);
        self.known().insert(id.into(), Known { config: Arc::new(config.clone()), is_wanted });
        Ok(())
    }

    /// It is to be started with these, and to run from then on. Of one that was made before there was a keeper nothing is kept.
    pub(super) async fn wanted(self: &Arc<Self>, id: &str, secrets: &Secrets) -> Result<(), Error> {
        if self.config(id).is_none() {
            return Ok(());
        }
        // Large enough from the start, so that no copy is left behind by a buffer that grows.
        let mut text = Zeroizing::new(Vec::with_capacity(secrets.length_most()));
        serde_json::to_writer(&mut *text, secrets).map_err(unwritable)?;
        self.write(id, SECRETS, text).await?;
        self.known().entry(id.into()).and_modify(|known| known.is_wanted = true);
        Ok(())
    }

    /// It is not to run any more.
    pub(super) async fn unwanted(self: &Arc<Self>, id: &str) -> Result<(), Error> {
        self.known().entry(id.into()).and_modify(|known| known.is_wanted = false);
        self.remove(id, SECRETS).await
    }

    /// It is no more.
    pub(super) async fn removed(self: &Arc<Self>, id: &str) -> Result<(), Error> {
        self.known().remove(id);
        self.remove(id, SECRETS).await?;
        self.remove(id, CONFIG).await
    }

    /// What the container was made of, if that is known.
    pub(super) fn config(&self, id: &str) -> Option<Arc<InstanceConfig>> {
        self.known().get(id).map(|known| Arc::clone(&known.config))
    }

    /// The same of one that is to run.
    pub(super) fn running(&self, id: &str) -> Option<Arc<InstanceConfig>> {
        self.known().get(id).filter(|known| known.is_wanted).map(|known| Arc::clone(&known.config))
    }

    /// The containers of which something is kept.
    pub(super) fn ids(&self) -> Vec<Box<str>> {
        self.known().keys().cloned().collect()
    }

    /// What was handed over at its last start.
    pub(super) async fn secrets(self: &Arc<Self>, id: &str) -> Result<InstanceSecrets, Error> {
        let (kept, id) = (Arc::clone(self), id.to_owned());
        let read = spawn_blocking(move || kept.read::<Secrets>(&id, SECRETS)).await;
        let secrets = read.map_err(io::Error::other).and_then(|read| read).map_err(unreadable)?;
        secrets.open().map_err(unreadable)
    }

    async fn write(
        self: &Arc<Self>,
        id: &str,
        what: &'static str,
        text: Zeroizing<Vec<u8>>,
    ) -> Result<(), Error> {
        let (kept, id) = (Arc::clone(self), id.to_owned());
        let written = spawn_blocking(move || {
            let sealed = kept.key.seal(&context(&id, what), text).map_err(io::Error::other)?;
            file::write(&kept.path(&id, what)?, &sealed)
        });
        written.await.map_err(io::Error::other).and_then(|written| written).map_err(unwritable)
    }

    async fn remove(self: &Arc<Self>, id: &str, what: &'static str) -> Result<(), Error> {
        let (kept, id) = (Arc::clone(self), id.to_owned());
        let removed = spawn_blocking(move || file::remove(&kept.path(&id, what)?));
        removed.await.map_err(io::Error::other).and_then(|removed| removed).map_err(unwritable)
    }

    fn read<T: serde::de::DeserializeOwned>(&self, id: &str, what: &str) -> io::Result<T> {
        let sealed = fs::read(self.path(id, what)?)?;
        let text = self.key.unseal(&context(id, what), &sealed);
        let text = text.ok_or_else(|| io::Error::other("it was sealed with another key"))?;
        // What it was reading is not shown, it may be a secret.
        serde_json::from_slice(&text).map_err(|_| io::Error::other("another version wrote it"))
    }

    /// Ids are the runtime's, and come back over the network.
    fn path(&self, id: &str, what: &str) -> io::Result<PathBuf> {
        let is_name = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        let name = is_name.then(|| format!("{id}.{what}"));
        name.map(|name| Path::new(&self.directory).join(name))
            .ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<Box<str>, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn context(id: &str, what: &str) -> String {
    format!("{what} of container {id}")
}

fn unwritable(error: impl std::fmt::Display) -> Error {
    let message = "the node cannot write down what it needs to start the instance again; look at its data directory and its disk";
    Error::storage(message).caused_by(error.to_string())
}

fn unreadable(error: impl std::fmt::Display) -> Error {
    Error::storage("the node cannot read what it needs to start the instance again")
        .caused_by(error.to_string())
}
