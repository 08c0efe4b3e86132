//! Whether a server is there: when one was heard last whose orders the node takes.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

#[derive(Debug)]
pub(super) struct Contact {
    heard: watch::Sender<Instant>,
    patience: Duration,
}

impl Contact {
    /// A process that was just started waits too: a server comes back within seconds if there is one.
    pub(super) fn new(patience: Duration) -> Contact {
        Contact { heard: watch::Sender::new(Instant::now()), patience }
    }

    pub(super) fn heard(&self) {
        self.heard.send_replace(Instant::now());
    }

    pub(super) fn is_alone(&self) -> bool {
        self.heard.borrow().elapsed() >= self.patience
    }

    /// Waits until no server has been heard for as long as that takes.
    pub(super) async fn alone(&self) {
        while !self.is_alone() {
            let until = *self.heard.borrow() + self.patience;
            sleep_until(until).await;
        }
    }

    /// Waits until one is heard.
    pub(super) async fn next(&self) {
        // The sender is here.
        let _ = self.heard.subscribe().changed().await;
    }
}
