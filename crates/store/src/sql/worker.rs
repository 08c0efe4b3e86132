//! The threads that own the connections: one writes, others read.
//!
//! A database blocks while it waits for its disk, so each connection lives on a thread of its own and is asked through a
//! channel. The writer takes all that is waiting and commits it as one transaction, each operation in a savepoint of its
//! own: many callers share one wait for the disk, and one that fails takes nothing else with it. Nobody is answered
//! before the commit. Readers have connections of their own, because a read would otherwise wait for the disk behind
//! every write; what was answered to a writer is committed, hence seen by every later read.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use chassis_core::AgentKey;
use chassis_spec::{AgentName, FleetName};
use jiff::Timestamp;
use tokio::sync::{oneshot, watch};
use tracing::Instrument;

use super::column;
use super::connection::{Connection, Fault, FaultKind, Mismatch, Outcome, params};
use super::event;
use super::key::Keys;
use super::keyed;
use crate::error::{Error, Result};
use crate::keyed::KeyedRequest;
use crate::types::{Commit, CommitObserver, Term};

/// Bounds how long the first of a batch waits for the last.
const BATCH: usize = 256;

/// A connection, and how its transactions begin and end.
pub(crate) trait Session {
    fn connection(&self) -> &dyn Connection;
    fn begin(&mut self) -> Outcome<()>;
    /// False once the database has ended a transaction by itself.
    fn in_transaction(&self) -> bool;
    fn commit(&mut self, news: &News) -> Outcome<()>;
    /// Undoes the transaction, if there still is one.
    fn rollback(&mut self);
    /// Whether this is the present term, which it then stays until the transaction ends.
    fn may_act(&self, term: Term) -> Outcome<bool>;
    /// Overwrites what was deleted, also where the database keeps it for a while.
    fn scrub(&mut self) -> Outcome<()>;
}

/// What a transaction tells other servers.
#[derive(Debug)]
pub(crate) struct News {
    /// The id of the newest event, if there are new ones.
    pub newest: Option<u64>,
    /// Agents that changed. Perhaps more than did: what was undone is among them.
    pub agents: BTreeSet<AgentKey>,
    /// The nodes changed.
    pub nodes: bool,
}

/// A write under way.
pub(crate) struct Change<'a> {
    pub connection: &'a dyn Connection,
    pub keys: &'a mut Keys,
    pub now: Timestamp,
    session: &'a dyn Session,
    /// Whether there are new events.
    told: Cell<bool>,
    /// The id of the newest event, once it is known.
    newest: Cell<Option<u64>>,
    touched: RefCell<BTreeSet<AgentKey>>,
    nodes_touched: Cell<bool>,
    may_act: Cell<Option<(Term, bool)>>,
}

/// What the writing thread owns.
pub(crate) struct WriterState {
    pub session: Box<dyn Session>,
    pub keys: Keys,
    /// The id of the newest committed event, for followers.
    pub newest: watch::Sender<u64>,
    /// Transactions committed since the database was opened.
    pub commits: Arc<AtomicU64>,
}

pub(crate) struct Writer(Worker<Job>);

pub(crate) struct Reader(Worker<Query>);

enum Job {
    /// May share its transaction with others.
    Together(Box<dyn Operation>),
    /// Has to know that its transaction was committed before it goes on.
    Alone(Box<dyn FnOnce(&mut WriterState) + Send>),
    /// From now on, somebody is told of each commit.
    Observe(CommitObserver),
}

type Query = Box<dyn FnOnce(&mut dyn Session) + Send>;

trait Operation: Send {
    /// Returns whether it succeeded: else what it did is undone.
    fn run(&mut self, change: &mut Change<'_>) -> bool;
    /// It did not succeed after all: something that it sent was refused.
    fn fail(&mut self, fault: Fault);
    fn answer(self: Box<Self>, committed: Result<()>);
}

struct Request<T, F> {
    operation: Option<F>,
    outcome: Option<Result<T>>,
    answer: oneshot::Sender<Result<T>>,
}

/// Threads that work off a channel, and end with it.
struct Worker<J> {
    jobs: Option<Sender<J>>,
    threads: Vec<JoinHandle<()>>,
}

// === impl Change ===

impl Change<'_> {
    /// Refuses what was decided in another term than the present one. Nobody takes over before the transaction ends.
    fn fence(&self, term: Term) -> Result<()> {
        let may_act = match self.may_act.get() {
            Some((known, may_act)) if known == term => may_act,
            _ => self.session.may_act(term)?,
        };
        self.may_act.set(Some((term, may_act)));
        if may_act { Ok(()) } else { Err(Error::NotActing) }
    }

    /// The id for an event that is about to be written.
    pub(crate) fn event_id(&self) -> Outcome<u64> {
        let newest = match self.newest.get() {
            Some(known) => known,
            None => event::newest(self.connection)?,
        };
        self.told.set(true);
        self.newest.set(Some(newest + 1));
        Ok(newest + 1)
    }

    /// The id of the newest event, if there are new ones.
    fn news(&self) -> Outcome<Option<u64>> {
        match self.newest.get() {
            None if self.told.get() => event::newest(self.connection).map(Some),
            newest => Ok(newest),
        }
    }

    /// Undoes what was done since a savepoint.
    pub(crate) fn undo(&self, savepoint: &str) -> Outcome<()> {
        self.newest.set(None);
        self.connection.undo(&format!("ROLLBACK TO {savepoint}"))
    }

    /// Notes that an agent, or something of it, is not what it was.
    pub(crate) fn touch(&self, fleet: &FleetName, agent: &AgentName) {
        self.touched.borrow_mut().insert(AgentKey { fleet: fleet.clone(), agent: agent.clone() });
    }

    /// Notes that the nodes are not what they were.
    pub(crate) fn nodes_touch(&self) {
        self.nodes_touched.set(true);
    }
}

// === impl Writer ===

impl Writer {
    /// `open` runs on the thread.
    pub(crate) fn spawn(open: impl FnOnce() -> Result<WriterState> + Send + 'static) -> Result<Self> {
        let work = move |state: &mut WriterState, jobs: &Mutex<Receiver<Job>>| {
            let jobs = jobs.lock().unwrap_or_else(PoisonError::into_inner);
            let mut observer: Option<CommitObserver> = None;
            while let Ok(job) = jobs.recv() {
                let mut next = Some(job);
                while let Some(job) = next.take() {
                    match job {
                        Job::Alone(work) => work(state),
                        Job::Observe(given) => observer = Some(given),
                        Job::Together(first) => {
                            let began = Instant::now();
                            let (operations, left) = state.commit_together(first, &jobs);
                            next = left;
                            if let Some(observer) = &observer {
                                observer(Commit { operations, took: began.elapsed() });
                            }
                        }
                    }
                }
            }
        };
        Worker::spawn("store-writer", [open], work).map(Writer)
    }

    /// Runs an operation in a transaction, and answers when that is on disk.
    pub(crate) async fn write<T, F>(&self, operation: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Change<'_>) -> Result<T> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let keyed = KeyedRequest::current();
        let operation = move |change: &mut Change<'_>| {
            let value = operation(change)?;
            keyed.map_or(Ok(()), |request| keyed::keep(change, &request))?;
            Ok(value)
        };
        self.0.send(Job::Together(Box::new(Request {
            operation: Some(operation),
            outcome: None,
            answer,
        })))?;
        let span = tracing::info_span!(target: "chassis_trace", "store write");
        answered.instrument(span).await.map_err(|_| Error::Closed)?
    }

    /// The same for what only the server that acts may do, and decided in this term.
    pub(crate) async fn act<T, F>(&self, term: Term, operation: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Change<'_>) -> Result<T> + Send + 'static,
    {
        self.write(move |change| {
            change.fence(term)?;
            operation(change)
        })
        .await
    }

    pub(crate) fn observe(&self, observer: CommitObserver) {
        // A writer that has ended commits nothing.
        let _ = self.0.send(Job::Observe(observer));
    }

    /// Runs something that makes its own transactions.
    pub(crate) async fn alone<T, F>(&self, work: F) -> Result<T>
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
    /// As many threads as there are of `open`, each of which runs on its thread.
    pub(crate) fn spawn<S: Session>(
        open: impl IntoIterator<Item = impl FnOnce() -> Result<S> + Send + 'static>,
    ) -> Result<Self> {
        let work = |session: &mut S, queries: &Mutex<Receiver<Query>>| {
            let next = || queries.lock().unwrap_or_else(PoisonError::into_inner).recv();
            while let Ok(query) = next() {
                query(session);
            }
        };
        Worker::spawn("store-reader", open, work).map(Reader)
    }

    /// Runs queries that all see the same state.
    pub(crate) async fn read<T, F>(&self, query: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&dyn Connection) -> Result<T> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let snapshot = move |session: &mut dyn Session| -> Result<T> {
            session.begin()?;
            let found = query(session.connection());
            session.rollback();
            found
        };
        self.0.send(Box::new(move |session| drop(answer.send(snapshot(session)))))?;
        answered.await.map_err(|_| Error::Closed)?
    }
}

// === impl WriterState ===

impl WriterState {
    /// Commits `first` with what else is waiting; returns how many that were, and a job that cannot be part of it.
    fn commit_together(&mut self, first: Box<dyn Operation>, jobs: &Receiver<Job>) -> (usize, Option<Job>) {
        let mut batch = vec![first];
        let mut next = None;
        while batch.len() < BATCH && next.is_none() {
            match jobs.try_recv() {
                Ok(Job::Together(operation)) => batch.push(operation),
                Ok(alone) => next = Some(alone),
                Err(_) => break,
            }
        }
        let committed: Outcome<()> = self.transaction(|change| {
            if let [only] = &mut batch[..] {
                return if only.run(change) { Ok(()) } else { Err(undone()) };
            }
            change.connection.send("SAVEPOINT operation", params![])?;
            for operation in &mut batch {
                if operation.run(change) {
                    match change.connection.batch("RELEASE operation; SAVEPOINT operation") {
                        Ok(()) => continue,
                        Err(fault) => operation.fail(fault),
                    }
                }
                if !change.session.in_transaction() {
                    // A full disk or the like undid the whole transaction, with what others did in it.
                    return Err(undone());
                }
                change.undo("operation")?;
            }
            change.connection.batch("RELEASE operation")
        });
        let operations = batch.len();
        for operation in batch {
            operation.answer(committed.clone().map_err(Error::from));
        }
        (operations, next)
    }

    /// Commits what `work` does, or undoes all of it.
    pub(crate) fn transaction<T, E: From<Fault>>(
        &mut self,
        work: impl FnOnce(&mut Change<'_>) -> std::result::Result<T, E>,
    ) -> std::result::Result<T, E> {
        let outcome = self.attempt(work);
        if outcome.is_err() {
            self.session.rollback();
        }
        outcome
    }

    fn attempt<T, E: From<Fault>>(
        &mut self,
        work: impl FnOnce(&mut Change<'_>) -> std::result::Result<T, E>,
    ) -> std::result::Result<T, E> {
        self.session.begin()?;
        let mut change = Change {
            connection: self.session.connection(),
            keys: &mut self.keys,
            now: column::now(),
            session: &*self.session,
            told: Cell::new(false),
            newest: Cell::new(None),
            touched: RefCell::default(),
            nodes_touched: Cell::new(false),
            may_act: Cell::new(None),
        };
        let value = work(&mut change)?;
        let newest = change.news()?;
        let news = News { newest, agents: change.touched.into_inner(), nodes: change.nodes_touched.get() };
        self.session.commit(&news)?;
        self.commits.fetch_add(1, Ordering::Relaxed);
        if let Some(newest) = newest {
            // Another server's notice of a later one may have come first.
            self.newest.send_if_modified(|known| std::mem::replace(known, newest.max(*known)) < newest);
        }
        Ok(value)
    }
}

fn undone() -> Fault {
    Fault::new(FaultKind::Undone, Arc::new(Mismatch("transaction")))
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

    fn fail(&mut self, fault: Fault) {
        self.outcome = Some(Err(fault.into()));
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
    /// Ends with the error of the first that cannot be opened.
    fn spawn<S>(
        name: &str,
        open: impl IntoIterator<Item = impl FnOnce() -> Result<S> + Send + 'static>,
        work: impl Fn(&mut S, &Mutex<Receiver<J>>) + Send + Copy + 'static,
    ) -> Result<Self> {
        let (jobs, waiting) = mpsc::channel();
        let waiting = Arc::new(Mutex::new(waiting));
        let mut worker = Worker { jobs: Some(jobs), threads: Vec::new() };
        for open in open {
            let (opened, outcome) = mpsc::channel();
            let waiting = Arc::clone(&waiting);
            let run = move || match open() {
                Ok(mut state) => {
                    let _ = opened.send(Ok(()));
                    work(&mut state, &waiting);
                }
                Err(error) => drop(opened.send(Err(error))),
            };
            let thread = thread::Builder::new().name(name.to_owned()).spawn(run);
            worker.threads.push(thread.map_err(|error| Error::Storage(Arc::new(error)))?);
            outcome.recv().map_err(|_| Error::Closed)??;
        }
        Ok(worker)
    }

    fn send(&self, job: J) -> Result<()> {
        self.jobs.as_ref().and_then(|jobs| jobs.send(job).ok()).ok_or(Error::Closed)
    }
}

impl<J> Drop for Worker<J> {
    /// Works off what is waiting, then closes the connection: who drops a store may open it again at once.
    fn drop(&mut self) {
        self.jobs = None;
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the store panicked");
            }
        }
    }
}
