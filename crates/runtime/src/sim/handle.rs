//! What happens to a simulated node from outside: the hand of a test.

use std::sync::Arc;

use chassis_core::InstanceKey;
use jiff::Timestamp;

use super::state::State;
use super::{Feed, Node, SimOperation};
use crate::RuntimeEvent;

/// Breaks a [`super::SimRuntime`] and repairs it. What names an instance that is not there does nothing.
#[derive(Debug, Clone)]
pub struct SimHandle(pub(super) Arc<Node>);

impl SimHandle {
    /// The agent ends by itself.
    pub fn crash(&self, key: &InstanceKey, code: i32) {
        self.instance(key, |state, id| state.exit(id, code, Timestamp::now()));
    }

    /// Somebody removes the container.
    pub fn remove(&self, key: &InstanceKey) {
        let event = {
            let mut state = self.0.state();
            let Some(id) = state.find(key) else { return };
            let event = state.event(id);
            state.remove(id);
            event
        };
        self.0.tell(event);
    }

    /// Somebody renames the container.
    pub fn rename(&self, key: &InstanceKey, name: &str) {
        self.instance(key, |state, id| state.rename(id, Some(name)).unwrap_or(false));
    }

    /// The runtime stops answering. What runs keeps running.
    pub fn daemon_stop(&self) {
        self.0.state().is_down = true;
        self.0.feed.send(Feed::Down).ok();
    }

    pub fn daemon_start(&self) {
        self.0.state().is_down = false;
    }

    /// The next `count` operations of this kind are refused.
    pub fn fail_next(&self, operation: SimOperation, count: u32) {
        self.0.state().failing.insert(operation, count);
    }

    /// Somebody else's container takes this name.
    pub fn foreign_add(&self, name: &str) {
        self.0.state().foreign.insert(name.to_owned());
    }

    pub fn has_foreign(&self, name: &str) -> bool {
        self.0.state().foreign.contains(name)
    }

    pub fn foreign_remove(&self, name: &str) {
        self.0.state().foreign.remove(name);
        self.0.tell(Some(RuntimeEvent::Surroundings));
    }

    /// The image cannot be had any more. Every other can.
    pub fn image_remove(&self, name: &str) {
        self.0.state().missing_images.insert(name.to_owned());
    }

    pub fn image_add(&self, name: &str) {
        self.0.state().missing_images.remove(name);
        self.0.tell(Some(RuntimeEvent::Surroundings));
    }

    /// Whether the instance has tier 1 data.
    pub fn has_data(&self, key: &InstanceKey) -> bool {
        self.0.state().data.contains(key)
    }

    fn instance(&self, key: &InstanceKey, change: impl FnOnce(&mut State, u64) -> bool) {
        let event = {
            let mut state = self.0.state();
            let Some(id) = state.find(key) else { return };
            if change(&mut state, id) { state.event(id) } else { None }
        };
        self.0.tell(event);
    }
}
