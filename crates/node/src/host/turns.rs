//! One thing at a time about each container: an order, or a step of the keeper's.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::OwnedMutexGuard;

#[derive(Debug, Default)]
pub(super) struct Turns(Mutex<HashMap<Box<str>, Weak<tokio::sync::Mutex<()>>>>);

impl Turns {
    pub(super) async fn take(&self, container: &str) -> OwnedMutexGuard<()> {
        let own = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            all.retain(|_, own| own.strong_count() > 0);
            let known = all.get(container).and_then(Weak::upgrade);
            known.unwrap_or_else(|| {
                let own = Arc::default();
                all.insert(container.into(), Arc::downgrade(&own));
                own
            })
        };
        own.lock_owned().await
    }
}
