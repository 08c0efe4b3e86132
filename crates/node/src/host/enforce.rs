//! Ends what may move when the node's lease is over: from then on it may run elsewhere.
//!
//! Sandboxes with an init do it themselves ([`chassis_init::lease`]), whether or not this process lives; this is for runtimes
//! without one, and the second net for the others.

use std::sync::Arc;
use std::time::Duration;

use chassis_core::RunState;
use chassis_init::lease::GRACE;
use chassis_runtime::{Error, Owned, Runtime};
use futures_util::future::join_all;
use tokio::time::{sleep, timeout};

use super::Host;

/// Between looks at the clock: timers stop while a machine sleeps, the lease does not.
const LOOK: Duration = Duration::from_secs(1);
/// Between looks at what runs while the lease is over.
const LIST: Duration = Duration::from_secs(5);
/// For so long after the lease init is left to itself: it gives agents time, and knows how to say why they ended.
const INIT: Duration = GRACE.saturating_add(Duration::from_secs(2));
/// What an instance gets to stop then. With all of that this is less than what `chassis_core::Rules::ending` promises.
const STOP: Duration = Duration::from_secs(8);

impl Host {
    /// For as long as the node is served. What may not move is not touched.
    pub async fn leases_enforce(self: Arc<Self>) {
        loop {
            if self.clock.over() < INIT {
                sleep(LOOK).await;
                continue;
            }
            match self.runtime.instance_list().await {
                Ok(owned) => {
                    let over = owned.into_iter().filter(is_over).map(|owned| end(&*self.runtime, owned));
                    join_all(over).await;
                }
                Err(error) => tracing::warn!(%error, "cannot look for what the lease was for"),
            }
            sleep(LIST).await;
        }
    }

    /// Fails if the instance may move and the lease is over.
    pub(super) async fn lease_check(&self, id: &str) -> Result<(), Error> {
        let rest = || self.clock.rest();
        if !rest().is_zero() || !self.runtime.instance_inspect(id).await?.is_some_and(|owned| owned.leased) {
            return Ok(());
        }
        Err(Error::unavailable(
            "no server has answered for this node for a minute, so that what may move is not started here; it is as soon as \
             one answers",
        ))
    }
}

fn is_over(owned: &Owned) -> bool {
    owned.leased && matches!(owned.observed.state, RunState::Running { .. })
}

async fn end(runtime: &dyn Runtime, owned: Owned) {
    let (key, id) = (owned.key, owned.observed.id);
    tracing::warn!(instance = %key, epoch = owned.epoch, "no server can be reached, and it may run elsewhere: it is ended here");
    if let Ok(Ok(())) = timeout(STOP, runtime.instance_stop(&id)).await {
        return;
    }
    if let Err(error) = runtime.instance_remove(&id).await {
        tracing::error!(instance = %key, %error, "cannot end it; trying again");
    }
}
