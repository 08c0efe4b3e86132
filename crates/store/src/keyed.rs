//! Requests that must not be carried out twice.
//!
//! A write that is made within [`KeyedRequest::scope`] keeps the request in the transaction of its change: either both are on
//! disk, or neither. So a key that is kept says for certain that its change was made, and one that is not, that none was.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;

tokio::task_local! {
    static CURRENT: Option<Arc<KeyedRequest>>;
}

/// What a caller asks under a key of its own.
#[derive(Debug)]
pub struct KeyedRequest {
    pub caller: String,
    pub key: String,
    /// What was asked, as a hash: another request under the same key is a mistake.
    pub fingerprint: String,
    /// A request may write more than once; the first write keeps it.
    kept: AtomicBool,
}

/// What is kept of a request whose change was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptRequest {
    pub fingerprint: String,
    /// None while it is being answered, and if the server ended before it was.
    pub answer: Option<KeptAnswer>,
    pub created_at: Timestamp,
}

/// An answer that can be given again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptAnswer {
    pub status: u16,
    /// None if it was too large to be kept, or holds a secret.
    pub body: Option<String>,
}

impl KeyedRequest {
    pub fn new(caller: String, key: String, fingerprint: String) -> Arc<Self> {
        Arc::new(KeyedRequest { caller, key, fingerprint, kept: AtomicBool::new(false) })
    }

    /// Does work whose writes keep this request.
    pub async fn scope<F: Future>(self: &Arc<Self>, work: F) -> F::Output {
        CURRENT.scope(Some(Arc::clone(self)), work).await
    }

    /// True once a write has kept it. It is on disk when that write is answered.
    pub fn is_kept(&self) -> bool {
        self.kept.load(Ordering::Acquire)
    }

    pub(crate) fn note_kept(&self) {
        self.kept.store(true, Ordering::Release);
    }

    pub(crate) fn current() -> Option<Arc<Self>> {
        CURRENT.try_with(Clone::clone).ok().flatten()
    }
}

/// For work that goes on in a task of its own: its writes keep the request that it was begun for.
pub fn inherit_keyed<F: Future>(work: F) -> impl Future<Output = F::Output> {
    CURRENT.scope(KeyedRequest::current(), work)
}
