//! Streams into instances: a command's, and a port's. What travels over them is described in `chassis_api::hands`.

pub(super) mod exec;
pub(super) mod port;

use std::time::Duration;

use axum::extract::ws::WebSocketUpgrade;
use axum::http::StatusCode;
use chassis_api::hands::LONGEST_MESSAGE;
use chassis_core::{InstanceKey, Phase, RunState};
use chassis_runtime::Error;

use super::failure::{Failure, Result};
use super::instances::down_message;
use crate::error::chain;
use crate::shared::Shared;

/// For each stream; messages may be larger.
const BUFFER: usize = 16 << 10;
/// Between signs of life to a client: one that is gone is noticed by them also where nothing is read from it.
const PING: Duration = Duration::from_secs(5);

/// The upgrade of a request, with bounded buffers.
fn bounded(upgrade: WebSocketUpgrade) -> WebSocketUpgrade {
    upgrade
        .read_buffer_size(BUFFER)
        .write_buffer_size(0)
        .max_write_buffer_size(2 * LONGEST_MESSAGE)
        .max_message_size(LONGEST_MESSAGE)
        .max_frame_size(LONGEST_MESSAGE)
}

/// The container of an instance that runs, or what to do about one that does not.
fn running(shared: &Shared, key: &InstanceKey) -> Result<Box<str>> {
    if let Some(message) = down_message(shared) {
        return Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, "runtime_unavailable", message));
    }
    let missing = || {
        let detail = format!("there is no instance `{key}`; `chassis ps` shows what there is");
        Failure::not_found("instance_not_found", detail)
    };
    let agent = shared.agent(&key.agent_key()).ok_or_else(missing)?;
    let state = agent.state();
    let slot = state.slots.get(&key.number).ok_or_else(missing)?;
    if let Some(observed) = &slot.instance.observed
        && matches!(observed.state, RunState::Running { .. })
    {
        return Ok(observed.id.clone());
    }
    let name = key.short_name();
    let phase = slot.phase(&state.spec);
    let next = match phase {
        Phase::Stopped | Phase::Completed | Phase::Failed => format!("start it with `chassis start {name}`"),
        Phase::Pending | Phase::Starting => format!("wait for it with `chassis start {name}`"),
        Phase::Backoff => {
            format!("it is started again soon; `chassis describe {name}` shows when, and why it ended")
        }
        _ => format!("`chassis describe {name}` shows why"),
    };
    Err(Failure::new(StatusCode::CONFLICT, "not_running", format!("{name} does not run ({phase:?}); {next}")))
}

/// What a runtime's refusal means to whoever asked.
fn refused(error: &Error) -> Failure {
    let status = match error {
        Error::Rejected { .. } => StatusCode::CONFLICT,
        Error::Unsupported { .. } => StatusCode::NOT_IMPLEMENTED,
        Error::Unavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::BAD_GATEWAY,
    };
    Failure::new(status, error.code(), chain(error))
}
