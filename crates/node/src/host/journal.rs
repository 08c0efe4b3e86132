//! What happened while no server listened, on disk until one has stored it.
//!
//! A line for each entry. What cannot be kept any more is the oldest; how much that was is told too.

use std::collections::VecDeque;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chassis_core::{Entry, Happened};
use chassis_runtime::{Error, Owned};
use jiff::Timestamp;
use tokio::task::spawn_blocking;

use super::file;

/// A hundred instances that crash every five minutes fill it in four hours; some 4 MB.
const KEPT: usize = 10_000;
/// The file is written anew only when so many are to be dropped.
const DROPPED: usize = KEPT / 10;
/// In one answer.
const TOLD: usize = 500;

#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    pages: Mutex<Pages>,
}

#[derive(Debug, Default)]
struct Pages {
    entries: VecDeque<Entry>,
    last: u64,
    dropped: u64,
    /// The file may end in half a line.
    is_torn: bool,
}

impl Journal {
    /// Reads what the last process of this node wrote; a line that it was killed in is no line.
    pub(super) fn open(path: PathBuf) -> io::Result<Arc<Journal>> {
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            read => read?,
        };
        let entries: VecDeque<Entry> =
            text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let last = entries.back().map_or(0, |entry| entry.number);
        if !text.is_empty() && !text.ends_with('\n') {
            write(&path, &entries)?;
        }
        Ok(Arc::new(Journal { path, pages: Mutex::new(Pages { entries, last, ..Pages::default() }) }))
    }

    /// On disk when this returns.
    pub(super) async fn add(self: &Arc<Self>, owned: &Owned, what: Happened) -> Result<(), Error> {
        let (journal, owned) = (Arc::clone(self), owned.clone());
        let added = spawn_blocking(move || journal.pages().add(&journal.path, &owned, what));
        let added = added.await.map_err(io::Error::other).and_then(|added| added);
        added.map_err(|error| {
            let message = "the node cannot write down what happened; look at its data directory and its disk";
            Error::storage(message).caused_by(error)
        })
    }

    /// The oldest entries that no server has stored yet, and how many older ones are lost.
    pub(super) fn tell(&self) -> (Vec<Entry>, u64) {
        let pages = self.pages();
        (pages.entries.iter().take(TOLD).cloned().collect(), pages.dropped)
    }

    /// A server has stored all up to this one.
    pub(super) async fn told(self: &Arc<Self>, number: u64) {
        if self.pages().entries.front().is_none_or(|oldest| oldest.number > number) {
            return;
        }
        let journal = Arc::clone(self);
        let forgotten = spawn_blocking(move || {
            let mut pages = journal.pages();
            pages.entries.retain(|entry| entry.number > number);
            pages.dropped = 0;
            write(&journal.path, &pages.entries)
        });
        // They are told again after a restart, and the server knows them.
        if let Err(error) = forgotten.await.map_err(io::Error::other).and_then(|forgotten| forgotten) {
            tracing::warn!(%error, "cannot shorten the journal");
        }
    }

    /// Those of a container, oldest first.
    pub(super) fn of(&self, container: &str) -> Vec<Entry> {
        self.pages().entries.iter().filter(|entry| *entry.container == *container).cloned().collect()
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pages {
    fn add(&mut self, path: &Path, owned: &Owned, what: Happened) -> io::Result<()> {
        let now = u64::try_from(Timestamp::now().as_microsecond()).unwrap_or_default();
        let entry = Entry {
            number: now.max(self.last.saturating_add(1)),
            instance: owned.key.clone(),
            epoch: owned.epoch,
            container: owned.observed.id.clone(),
            revision: owned.observed.revision,
            what,
        };
        self.last = entry.number;
        let line = line(&entry)?;
        self.entries.push_back(entry);
        if self.entries.len() > KEPT {
            self.entries.drain(..DROPPED);
            self.dropped = self.dropped.saturating_add(DROPPED as u64);
            self.is_torn = true;
        }
        if std::mem::replace(&mut self.is_torn, true) {
            write(path, &self.entries)?;
            self.is_torn = false;
            return Ok(());
        }
        let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        file.write_all(line.as_bytes())?;
        file.sync_data()?;
        self.is_torn = false;
        Ok(())
    }
}

fn write(path: &Path, entries: &VecDeque<Entry>) -> io::Result<()> {
    let lines: io::Result<String> = entries.iter().map(line).collect();
    file::write(path, lines?.as_bytes())
}

fn line(entry: &Entry) -> io::Result<String> {
    Ok(serde_json::to_string(entry)? + "\n")
}
