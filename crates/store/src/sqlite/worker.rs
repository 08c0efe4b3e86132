//! The two threads that own the connections: one writes, one reads.
//!
//! SQLite has one writer at a time and blocks while it waits for the disk, so each connection lives on a thread of its
//! own and is asked through a channel. The writer takes all that is waiting and commits it as one transaction, each
//! operation in a savepoint of its own: many callers share one wait for the disk, and one that fails takes nothing else
//! with it. Nobody is answered before the commit. The reader is a second connection, because a read would otherwise
//! wait for the disk behind every write; what was answered to a writer is committed, hence seen by every later read.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};

use jiff::Timestamp;
use rusqlite::{Connection, ffi};
use tokio::sync::{oneshot, watch};

use super::column;
use super::event;
use super::key::Keys;
use crate::error::{Error, Result};

/// Bounds how long the first of a batch waits for the last.
const BATCH: usize = 256;

/// A write under way.
pub(super) struct Change<'a> {
    pub connection: &'a Connection,
    pub keys: &'a mut Keys,
    pub now: Timestamp,
}

/// What the writing thread owns.
pub(super) struct WriterState {
    pub connection: Connection,
    pub keys: Keys,
    /// The id of the newest committed event, for followers.
    pub newest: watch::Sender<u64>,
    /// Transactions committed since the database was opened.
    pub commits: Arc<AtomicU64>,
}

pub(super) struct Writer(Worker<Job>);

pub(super) struct Reader(Worker<Query>);

enum Job {
    /// May share its transaction with others.
    Together(Box<dyn Operation>),
    /// Has to know that its transaction was committed before it goes on.
    Alone(Box<dyn FnOnce(&mut WriterState) + Send>),
}

type Query = Box<dyn FnOnce(&Connection) + Send>;

trait Operation: Send {
    /// Returns whether it succeeded: else what it did is undone.
    fn run(&mut self, change: &mut Change<'_>) -> bool;
    fn answer(self: Box<Self>, committed: Result<()>);
}

struct Request<T, F> {
    operation: Option<F>,
    outcome: Option<Result<T>>,
    answer: oneshot::Sender<Result<T>>,
}

/// A thread that works off a channel, and ends with it.
struct Worker<J> {
    jobs: Option<Sender<J>>,
    thread: Option<JoinHandle<()>>,
}

// === impl Writer ===

impl Writer {
    pub(super) fn spawn(mut state: WriterState) -> std::io::Result<Self> {
        let work = move |jobs: Receiver<Job>| {
            while let Ok(job) = jobs.recv() {
                let mut next = Some(job);
                while let Some(job) = next.take() {
                    match job {
                        Job::Alone(work) => work(&mut state),
                        Job::Together(first) => next = state.commit_together(first, &jobs),
                    }
                }
            }
        };
        Worker::spawn("store-writer", work).map(Writer)
    }

    /// Runs an operation in a transaction, and answers when that is on disk.
    pub(super) async fn write<T, F>(&self, operation: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Change<'_>) -> Result<T> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        self.0.send(Job::Together(Box::new(Request {
            operation: Some(operation),
            outcome: None,
            answer,
        })))?;
        answered.await.map_err(|_| Error::Closed)?
    }

    /// Runs something that makes its own transactions.
    pub(super) async fn alone<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut WriterState) -> Result<T> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        // Whoever gave up waiting does not want the answer.
        self.0.send(Job::Alone(Box::new(move |state| drop(answer.send(work(state))))))?;
        answered.await.map_err(|_| Error::Closed)?
    }
}

// === impl Reader ===

impl Reader {
    pub(super) fn spawn(connection: Connection) -> std::io::Result<Self> {
        let work = move |queries: Receiver<Query>| {
            while let Ok(query) = queries.recv() {
                query(&connection);
            }
        };
        Worker::spawn("store-reader", work).map(Reader)
    }

    /// Runs queries that all see the same state.
    pub(super) async fn read<T, F>(&self, query: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let snapshot = move |connection: &Connection| query(&*connection.unchecked_transaction()?);
        self.0.send(Box::new(move |connection| drop(answer.send(snapshot(connection)))))?;
        answered.await.map_err(|_| Error::Closed)?
    }
}

// === impl WriterState ===

impl WriterState {
    /// Commits `first` with what else is waiting; returns a job that cannot be part of it.
    fn commit_together(&mut self, first: Box<dyn Operation>, jobs: &Receiver<Job>) -> Option<Job> {
        let mut batch = vec![first];
        let mut next = None;
        while batch.len() < BATCH && next.is_none() {
            match jobs.try_recv() {
                Ok(Job::Together(operation)) => batch.push(operation),
                Ok(alone) => next = Some(alone),
                Err(_) => break,
            }
        }
        let committed = self.transaction(|change| {
            for operation in &mut batch {
                change.connection.execute_batch("SAVEPOINT operation")?;
                if !operation.run(change) {
                    if change.connection.is_autocommit() {
                        // A full disk or the like made SQLite undo the whole transaction, with what others did in it.
                        return Err(aborted());
                    }
                    change.connection.execute_batch("ROLLBACK TO operation")?;
                }
                change.connection.execute_batch("RELEASE operation")?;
            }
            Ok(())
        });
        let committed = committed.map_err(Arc::new);
        for operation in batch {
            operation.answer(committed.clone().map_err(Error::from));
        }
        next
    }

    /// Commits what `work` does, or undoes all of it.
    pub(super) fn transaction<T, E: From<rusqlite::Error>>(
        &mut self,
        work: impl FnOnce(&mut Change<'_>) -> std::result::Result<T, E>,
    ) -> std::result::Result<T, E> {
        let outcome = self.attempt(work);
        if outcome.is_err()
            && !self.connection.is_autocommit()
            && let Err(error) = self.connection.execute_batch("ROLLBACK")
        {
            tracing::error!(%error, "a failed transaction could not be rolled back");
        }
        outcome
    }

    fn attempt<T, E: From<rusqlite::Error>>(
        &mut self,
        work: impl FnOnce(&mut Change<'_>) -> std::result::Result<T, E>,
    ) -> std::result::Result<T, E> {
        let connection = &self.connection;
        connection.execute_batch("BEGIN IMMEDIATE")?;
        let value = work(&mut Change { connection, keys: &mut self.keys, now: column::now() })?;
        let newest = event::newest(connection)?;
        connection.execute_batch("COMMIT")?;
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.newest.send_if_modified(|known| std::mem::replace(known, newest) != newest);
        Ok(value)
    }
}

fn aborted() -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_ABORT_ROLLBACK), None)
}

// === impl Request ===

impl<T, F> Operation for Request<T, F>
where
    T: Send,
    F: FnOnce(&mut Change<'_>) -> Result<T> + Send,
{
    fn run(&mut self, change: &mut Change<'_>) -> bool {
        self.outcome = self.operation.take().map(|operation| operation(change));
        matches!(self.outcome, Some(Ok(_)))
    }

    fn answer(self: Box<Self>, committed: Result<()>) {
        let outcome = match (self.outcome, committed) {
            (Some(Err(own)), _) => Err(own),
            (_, Err(error)) => Err(error),
            (Some(Ok(value)), Ok(())) => Ok(value),
            (None, Ok(())) => Err(Error::Closed),
        };
        // Whoever gave up waiting does not want the answer.
        drop(self.answer.send(outcome));
    }
}

// === impl Worker ===

impl<J: Send + 'static> Worker<J> {
    fn spawn(name: &str, work: impl FnOnce(Receiver<J>) + Send + 'static) -> std::io::Result<Self> {
        let (jobs, waiting) = mpsc::channel();
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || work(waiting))?;
        Ok(Worker { jobs: Some(jobs), thread: Some(thread) })
    }

    fn send(&self, job: J) -> Result<()> {
        self.jobs.as_ref().and_then(|jobs| jobs.send(job).ok()).ok_or(Error::Closed)
    }
}

impl<J> Drop for Worker<J> {
    /// Works off what is waiting, then closes the connection: who drops a store may open it again at once.
    fn drop(&mut self) {
        self.jobs = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("a thread of the store panicked");
        }
    }
}
