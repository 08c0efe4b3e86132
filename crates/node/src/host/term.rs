//! Whose orders a node takes: those of one term, which is on its disk before anything is done in it.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{RwLock, RwLockReadGuard};

use super::file;
use crate::wire::{Failed, TERM_STALE};

/// Orders hold it for reading until they are carried out, so that the next term begins when all of them have ended.
#[derive(Debug)]
pub(super) struct Terms {
    path: PathBuf,
    current: RwLock<u64>,
    /// The same, for those who only look.
    shown: AtomicU64,
}

/// The right to carry out one order.
pub(super) type Turn<'a> = RwLockReadGuard<'a, u64>;

impl Terms {
    pub(super) fn open(path: PathBuf) -> io::Result<Terms> {
        let term = match fs::read_to_string(&path) {
            Ok(text) => text.trim().parse().map_err(|_| {
                let what = format!("{} does not hold the number of a term", path.display());
                io::Error::new(io::ErrorKind::InvalidData, what)
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
        Ok(Terms { path, current: RwLock::new(term), shown: AtomicU64::new(term) })
    }

    pub(super) fn current(&self) -> u64 {
        self.shown.load(Ordering::Acquire)
    }

    /// Takes a later term over, once every order of earlier ones has been carried out. Its own again is no change.
    pub(super) async fn take(&self, term: u64) -> Result<(), Failed> {
        self.check_not_over(term)?;
        let mut current = self.current.write().await;
        self.check_not_over(term)?;
        if term > *current {
            let path = self.path.clone();
            let written =
                tokio::task::spawn_blocking(move || file::write(&path, format!("{term}\n").as_bytes())).await;
            let written = written.map_err(io::Error::other).and_then(|written| written);
            written.map_err(|error| Failed {
                code: "storage-unusable".to_owned(),
                message: "the node cannot write down its term; look at its data directory and its disk"
                    .to_owned(),
                cause: Some(error.to_string()),
            })?;
            *current = term;
            self.shown.store(term, Ordering::Release);
            tracing::info!(term, "takes orders of another term");
        }
        Ok(())
    }

    /// For an order that was decided in `term`.
    pub(super) async fn order(&self, term: Option<u64>) -> Result<Turn<'_>, Failed> {
        self.check(term)?;
        let turn = self.current.read().await;
        self.check(term)?;
        Ok(turn)
    }

    /// For what the node does by itself: the next term begins when that has ended too.
    pub(super) async fn own(&self) -> Turn<'_> {
        self.current.read().await
    }

    /// Fails unless `term` is the node's own.
    pub(super) fn check(&self, term: Option<u64>) -> Result<(), Failed> {
        let current = self.current();
        match term {
            _ if current == 0 => Err(stale("the node has not been taken over yet")),
            Some(term) if term == current => Ok(()),
            Some(term) => Err(stale(&format!("this was decided in {term}, and the node is in {current}"))),
            None => Err(stale("this names none")),
        }
    }

    fn check_not_over(&self, term: u64) -> Result<(), Failed> {
        let current = self.current();
        if term < current { Err(stale(&format!("{term} is over, the node is in {current}"))) } else { Ok(()) }
    }
}

fn stale(message: &str) -> Failed {
    Failed { code: TERM_STALE.to_owned(), message: message.to_owned(), cause: None }
}
