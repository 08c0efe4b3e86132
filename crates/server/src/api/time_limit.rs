//! How long a request may take until its answer begins.
//!
//! Most of what a handler waits for has a limit of its own: the database, the runtime. This one is for all that has none, and for
//! their sum, so that a client is told what holds, before it gives up by itself. What was asked for is not broken off: a
//! change runs in a task of its own (`auth::guard`, [`super::to_end`]) and is in the audit log with how it ended; what only
//! reads ends, and has nothing half done.

use std::time::Duration;

use axum::extract::Request;
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use chassis_api::route::Dialect;
use hyper::body::Body as _;

use super::failure::Failure;
use super::{BODY_LIMIT, wait};
use crate::failpoint::shortened;
use crate::listen::body_time;

/// Less than the minute after which clients go away.
const ANSWER: Duration = Duration::from_secs(50);

/// What programs of Fuse's ask for has limits of its own in its handlers: a command may take ten minutes.
const FUSE: Duration = Duration::from_mins(11);

/// The layer around everything that can wait.
pub(crate) async fn in_time(request: Request, next: Next) -> Response {
    let limit = limit(&request);
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => late(limit, is_read),
    }
}

/// The answer's own time, that of a large body which comes as slowly as it may, and what the caller wants to wait.
fn limit(request: &Request) -> Duration {
    // Of a body in chunks it is not known how large it is.
    let length = request.body().size_hint().upper().unwrap_or(u64::MAX);
    let body = body_time(length.min(BODY_LIMIT as u64));
    let answer = match Dialect::of(request.uri().path()) {
        Dialect::Native => shortened(ANSWER),
        Dialect::Fuse => FUSE,
    };
    answer + body + wait::asked(request.uri())
}

fn late(limit: Duration, is_read: bool) -> Response {
    let seconds = limit.as_secs();
    let detail = if is_read {
        format!("the server has no answer after {seconds} s; `GET /ready` says what is the matter with it")
    } else {
        format!(
            "the server has no answer after {seconds} s, and goes on with what was asked; look at what is there, or repeat the \
             request with the same Idempotency-Key; the audit log has how it ends"
        )
    };
    Failure::new(StatusCode::GATEWAY_TIMEOUT, "timed_out", detail).into_response()
}
