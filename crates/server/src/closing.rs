//! The end of a server, as its callers see it.
//!
//! ```text
//!   Closing::begin ──▶ no new connections; idle ones are closed
//!                  ──▶ answers that go on: events end as if there were no more, output that is followed breaks off
//!                  ──▶ WebSockets: a Close frame, 1001, with the reason
//!                  ──▶ `?wait=`: answered with how far it is
//!                  ──▶ other requests: some seconds to end
//! ```
//! What is given to the end, and what was asked for as a whole, is never ended early as if it were whole: it gets the same
//! seconds as other requests, and is then cut off, so that its reader notices.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::ws::{CloseFrame, close_code};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Uri, header};
use axum::middleware::Next;
use axum::response::Response;
use futures_util::{StreamExt, stream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::Caller;
use crate::shared::Shared;

/// The route of what instances print.
const LOGS: &str = "/api/v1/logs";

#[derive(Debug, Default)]
pub(crate) struct Closing {
    begun: CancellationToken,
    /// WebSockets, which no connection's task has any more.
    sockets: TaskTracker,
}

/// An answer that goes on until somebody ends it.
#[derive(Debug, Clone, Copy)]
enum Follows {
    /// Whoever reads them comes back when they end.
    Events,
    /// An end means that there is no more, as events or as lines: it breaks off instead.
    Output,
}

impl Closing {
    pub(crate) fn begin(&self) {
        self.begun.cancel();
        self.sockets.close();
    }

    pub(crate) async fn begun(&self) {
        self.begun.cancelled().await;
    }

    /// Carries a WebSocket, which the end of the server waits for.
    pub(crate) async fn with_socket<T>(&self, carried: impl Future<Output = T>) -> T {
        self.sockets.track_future(carried).await
    }

    /// Until the last WebSocket has said goodbye, or `patience` is at its end.
    pub(crate) async fn sockets_end(&self, patience: Duration) {
        let _ = tokio::time::timeout(patience, self.sockets.wait()).await;
    }
}

/// Waits until a stream into an instance has to end, and says why to its client.
pub(crate) async fn stream_end(shared: &Shared, caller: &Caller) -> CloseFrame {
    tokio::select! {
        () = caller.ended() => CloseFrame {
            code: close_code::POLICY,
            reason: "the API key that opened it was revoked or has expired".into(),
        },
        () = shared.closing.begun() => CloseFrame {
            code: close_code::AWAY,
            reason: "the server ends; try again".into(),
        },
    }
}

/// The layer that ends answers which go on.
pub(crate) async fn end_streams(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let uri = request.uri().clone();
    let response = next.run(request).await;
    let Some(follows) = follows(&uri, response.headers()) else { return response };
    let begun = Box::pin(shared.closing.begun.clone().cancelled_owned());
    response.map(|body| {
        let open = Some((body.into_data_stream(), begun));
        Body::from_stream(stream::unfold(open, move |open| async move {
            let (mut pieces, mut begun) = open?;
            tokio::select! {
                biased;
                () = &mut begun => match follows {
                    Follows::Events => None,
                    Follows::Output => {
                        let broken = io::Error::new(io::ErrorKind::ConnectionAborted, "the server ends");
                        Some((Err(broken), None))
                    }
                },
                piece = pieces.next() => {
                    let piece = piece?;
                    let more = piece.is_ok().then_some((pieces, begun));
                    Some((piece.map_err(io::Error::other), more))
                }
            }
        }))
    })
}

fn follows(uri: &Uri, headers: &HeaderMap) -> Option<Follows> {
    let kind = headers.get(header::CONTENT_TYPE)?.as_bytes();
    if uri.path() == LOGS {
        let is_followed = uri.query().unwrap_or_default().split('&').any(|pair| pair == "follow=true");
        return is_followed.then_some(Follows::Output);
    }
    kind.starts_with(b"text/event-stream").then_some(Follows::Events)
}
