//! Streams into instances: a command's, and a port's. What travels over them is described in `chassis_api::hands`.

pub(super) mod exec;
pub(super) mod port;

use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::http::StatusCode;
use chassis_api::hands::LONGEST_MESSAGE;
use chassis_core::{InstanceKey, Phase, RunState};
use chassis_runtime::Error;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio::time::timeout;

use super::failure::{Failure, Result};
use crate::error::chain;
use crate::shared::Shared;

/// For each stream; messages may be larger.
const BUFFER: usize = 16 << 10;
/// Between signs of life to a client: one that is gone is noticed by them also where nothing is read from it.
const PING: Duration = Duration::from_secs(5);

/// How long a client may take to hear why its stream is ended.
const FAREWELL: Duration = Duration::from_secs(2);

type Sender = SplitSink<WebSocket, Message>;
type Receiver = SplitStream<WebSocket>;

/// Ends a stream that has not come to its end, and says why.
async fn say_why(mut sender: Sender, mut receiver: Receiver, why: CloseFrame) {
    let said = async {
        if sender.send(Message::Close(Some(why))).await.is_ok() {
            goodbye(&mut receiver, FAREWELL).await;
        }
    };
    // Who reads nothing hears nothing.
    let _ = timeout(FAREWELL, said).await;
}

/// Reads until the client has closed: a connection that is closed while input is still coming is reset, and the answer may
/// be lost with it.
async fn goodbye(receiver: &mut Receiver, patience: Duration) {
    let _ = timeout(patience, async { while let Some(Ok(_)) = receiver.next().await {} }).await;
}

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
    if let Some(message) = shared.node_of(key).down_message() {
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
