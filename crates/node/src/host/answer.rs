//! How a node answers: at once with a refusal, or as soon as something has ended, and with blanks until then.

use std::convert::Infallible;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream::unfold;
use serde::Serialize;
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::timeout;

use crate::socket::PING;
use crate::wire::{Answer, Failed};

pub(super) fn refusal(status: StatusCode, code: &str, message: &str) -> Response {
    let failed = Failed { code: code.to_owned(), message: message.to_owned(), cause: None };
    (status, Json(failed)).into_response()
}

/// Ends what nobody waits for any more.
#[derive(Debug)]
pub(super) struct Abort(AbortHandle);

impl Abort {
    pub(super) fn of<T>(task: &JoinHandle<T>) -> Abort {
        Abort(task.abort_handle())
    }
}

impl Drop for Abort {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Says every few seconds that it is still being done, and then how it ended. It goes on when nobody listens any more, unless
/// there is an `abort`.
pub(super) fn slowly<T>(task: JoinHandle<Result<T, Failed>>, abort: Option<Abort>) -> Response
where
    T: Serialize + Send + 'static,
{
    let bytes = unfold(Some((task, abort)), async |state| {
        let (mut task, abort) = state?;
        let Ok(ended) = timeout(PING, &mut task).await else {
            return Some((Ok::<_, Infallible>(Bytes::from_static(b" ")), Some((task, abort))));
        };
        let answer = match ended {
            Ok(Ok(value)) => Answer::Ok(value),
            Ok(Err(failed)) => Answer::Error(failed),
            Err(error) => Answer::Error(broken(&error.to_string())),
        };
        let json = serde_json::to_vec(&answer)
            .or_else(|error| serde_json::to_vec(&Answer::<()>::Error(broken(&error.to_string()))));
        Some((Ok(json.unwrap_or_default().into()), None))
    });
    ([(CONTENT_TYPE, "application/json")], Body::from_stream(bytes)).into_response()
}

fn broken(cause: &str) -> Failed {
    let message = "the node failed while it did that; its log says why".to_owned();
    Failed { code: "runtime-unavailable".to_owned(), message, cause: Some(cause.to_owned()) }
}

/// How long a body may take is the connection's business; how large it may be is not.
pub(super) const LONGEST_BODY: usize = 64 << 20;

/// Before a look is given up whose asker waits no longer.
pub(super) const LOOK_LIMIT: Duration = Duration::from_secs(15);
