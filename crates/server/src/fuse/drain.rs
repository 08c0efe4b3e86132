//! Drains an environment: its agent is asked to finish, then ends, and nothing new is begun in it.
//!
//! It is its instance that stops, as with `chassis stop`: first its agent's drain command, then the signal, then the end of
//! its grace. It is answered when that is through; its data, its logs and the environment itself stay until somebody
//! destroys it. If the drain command fails, its agent goes on, and the answer says why. Asked again, it goes on from where
//! it is, or tries anew.

use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use chassis_api::fuse::Environment;
use chassis_core::environment::NUMBER;
use chassis_core::{Phase, Wanted};

use super::view;
use crate::api::failure::{Failure, Result};
use crate::api::to_end;
use crate::controller::{AgentController, agents_changed};
use crate::failpoint::failpoint;
use crate::shared::Shared;

const PATIENCE: Duration = Duration::from_secs(55);

pub(super) async fn drain(shared: Arc<Shared>, id: String) -> Result<Environment> {
    to_end(async move {
        failpoint("environment_drain:before");
        let draining = shared.store.environment_drain(&id).await?;
        failpoint("environment_drain:stored");
        agents_changed(&shared, vec![draining.key.clone()]).await;
        if let Some(agent) = shared.agent(&draining.key) {
            let mut changed = shared.changed.subscribe();
            let stopped = async {
                while !has_stopped(&agent) && !has_failed(&agent) {
                    if changed.changed().await.is_err() {
                        return;
                    }
                }
            };
            let in_time = tokio::time::timeout(PATIENCE, stopped).await.is_ok();
            if has_failed(&agent) {
                let found = shared.store.environment_get(&id).await?;
                let why = found.error.unwrap_or_else(|| "the drain command failed".to_owned());
                let message = format!("{id} drains, and has not ended: {why}; ask again to repeat it");
                return Err(Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message));
            }
            if !in_time {
                let message = format!("{id} drains, and has not ended yet; ask again to wait for it");
                return Err(Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message));
            }
        }
        let found = shared.store.environment_get(&id).await?;
        Ok(view::environment(&shared, found))
    })
    .await
}

/// It goes on, since its drain command failed.
fn has_failed(agent: &AgentController) -> bool {
    let state = agent.state();
    let slot = state.slots.get(&NUMBER).filter(|_| !state.gone);
    slot.is_some_and(|slot| slot.instance.desired.wanted == Wanted::Running)
}

/// True also of one that is gone.
fn has_stopped(agent: &AgentController) -> bool {
    let state = agent.state();
    state.gone
        || state.slots.get(&NUMBER).is_none_or(|slot| {
            !slot.instance.busy && matches!(slot.phase(&state.spec), Phase::Stopped | Phase::Removing)
        })
}
