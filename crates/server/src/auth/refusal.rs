//! What those hear who are not let in: enough to mend it, and nothing of what is there.

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::SignedDuration;

use crate::api::failure::Failure;

pub(super) fn unauthenticated(detail: &str) -> Response {
    let failure = Failure::new(StatusCode::UNAUTHORIZED, "unauthenticated", detail);
    with_header(failure, header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"chassis\""))
}

/// Too often: `wait` until the next is taken.
pub(super) fn too_many(wait: SignedDuration, what: &str) -> Response {
    let seconds = wait.as_secs().saturating_add(1).max(1);
    let detail = format!("{what}; wait {seconds} s and try again");
    let failure = Failure::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", detail);
    with_header(failure, header::RETRY_AFTER, seconds.into())
}

fn with_header(failure: Failure, name: HeaderName, value: HeaderValue) -> Response {
    let mut response = failure.into_response();
    response.headers_mut().insert(name, value);
    response
}
