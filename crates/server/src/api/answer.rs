//! What every answer has, whichever part of the server gives it: a request id, and a problem where it is an error.
//!
//! This is the outermost layer. It gives the request its [`RequestId`], so that what is inside can log and audit it; it
//! catches a handler that panics; and it turns into a problem what libraries say in plain text.

use std::panic::AssertUnwindSafe;

use axum::body::{Body, to_bytes};
use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use chassis_api::route::{Dialect, ROUTES};
use chassis_api::{PROBLEM_JSON, Problem};
use futures_util::FutureExt;

use super::condition::unless_same;
use super::failure::Failure;
use crate::fuse::answer as fuse;
use crate::listen::is_head_large;
use crate::request_id::RequestId;

pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// What a library says of an error is a sentence; more of it is not taken.
const LONGEST_SENTENCE: usize = 4 << 10;
/// Seconds after which to ask again, where the part that refused does not know better.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

pub(crate) async fn complete(mut request: Request, next: Next) -> Response {
    let dialect = Dialect::of(request.uri().path());
    let id = request_id(request.headers(), dialect);
    request.extensions_mut().insert(id.clone());
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let asked = request.headers().clone();
    let is_read = request.method() == Method::GET;
    let matched = request.extensions().get::<MatchedPath>().cloned();
    let answered = if is_head_large(&request) {
        let detail = "the headers and the address of the request are too large together; 32 KiB is the limit";
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        Ok(Failure::new(status, "head_too_large", detail).into_response())
    } else {
        AssertUnwindSafe(next.run(request)).catch_unwind().await
    };
    let response = answered.unwrap_or_else(|_| {
        let detail = "the server failed at this request; look at what is there before you repeat it";
        Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "panicked", detail).into_response()
    });
    // What was changed is never left out of an answer.
    let mut response = if is_read { unless_same(&asked, response) } else { response };
    let status = response.status();
    let is_error = status.is_client_error() || status.is_server_error();
    if is_error && !is_own_answer(response.headers()) {
        response = match dialect {
            Dialect::Native => explained(response, &id).await,
            Dialect::Fuse => enveloped(response).await,
        };
    }
    if dialect == Dialect::Fuse {
        response.headers_mut().insert(header::SERVER, fuse::server_header());
    }
    if status == StatusCode::METHOD_NOT_ALLOWED
        && let Some(allowed) = matched.and_then(|matched| methods_of(matched.as_str()))
    {
        response.headers_mut().insert(header::ALLOW, allowed);
    }
    if status.is_server_error() {
        tracing::warn!(%method, path, status = status.as_u16(), request_id = id.as_str(), "a request failed");
    }
    if let Ok(value) = HeaderValue::from_str(id.as_str()) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}

/// What a path takes, for the header that must go with a refused method.
fn methods_of(path: &str) -> Option<HeaderValue> {
    let methods = ROUTES.iter().filter(|route| route.path == path).map(|route| route.method);
    HeaderValue::try_from(methods.collect::<Vec<_>>().join(", ")).ok()
}

/// The caller's own id, if it is one that may stand in logs; else a new one.
fn request_id(headers: &HeaderMap, dialect: Dialect) -> RequestId {
    let given = headers.get(&REQUEST_ID).and_then(|value| value.to_str().ok());
    match dialect {
        Dialect::Native => given.and_then(RequestId::parse).unwrap_or_else(RequestId::new),
        Dialect::Fuse => given.and_then(RequestId::parse_fuse).unwrap_or_else(RequestId::new_fuse),
    }
}

/// A route that says in a form of its own that something is not so: `/ready`.
fn is_own_answer(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind == "application/json")
}

/// The same answer in Fuse's dialect. A method that a path does not take has no body there.
async fn enveloped(response: Response) -> Response {
    let (mut parts, body) = response.into_parts();
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.remove(header::CONTENT_TYPE);
    if parts.status == StatusCode::METHOD_NOT_ALLOWED {
        return Response::from_parts(parts, Body::empty());
    }
    let problem = match parts.extensions.remove::<Problem>() {
        Some(problem) => problem,
        None => problem_of(parts.status, &parts.headers, body).await,
    };
    let (status, envelope) = fuse::envelope(&problem);
    parts.status = status;
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
        parts.headers.entry(header::RETRY_AFTER).or_insert(RETRY_AFTER);
    }
    Response::from_parts(parts, Body::from(serde_json::to_vec(&envelope).unwrap_or_default()))
}

/// The same answer as a problem that says to which request it belongs.
async fn explained(response: Response, id: &RequestId) -> Response {
    let (mut parts, body) = response.into_parts();
    let problem = match parts.extensions.remove::<Problem>() {
        Some(problem) => problem,
        None => problem_of(parts.status, &parts.headers, body).await,
    };
    let problem = problem.with_request_id(id.as_str());
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
    let asks_again = [StatusCode::SERVICE_UNAVAILABLE, StatusCode::TOO_MANY_REQUESTS];
    if asks_again.contains(&parts.status) || problem.code == "idempotency_in_flight" {
        parts.headers.entry(header::RETRY_AFTER).or_insert(RETRY_AFTER);
    }
    Response::from_parts(parts, Body::from(serde_json::to_vec(&problem).unwrap_or_default()))
}

/// What an error means that is no [`Failure`]: a library's, in words of its own.
async fn problem_of(status: StatusCode, headers: &HeaderMap, body: Body) -> Problem {
    let said = to_bytes(body, LONGEST_SENTENCE).await.unwrap_or_default();
    let is_problem = headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind == PROBLEM_JSON);
    if is_problem && let Ok(problem) = serde_json::from_slice(&said) {
        return problem;
    }
    let title = status.canonical_reason().unwrap_or("Error");
    let said = String::from_utf8_lossy(&said);
    let detail = if said.trim().is_empty() { title } else { said.trim() };
    Problem::new(status.as_u16(), title, code_of(status), detail)
}

fn code_of(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => "unauthenticated",
        StatusCode::FORBIDDEN => "forbidden",
        StatusCode::NOT_FOUND => "no_route",
        StatusCode::METHOD_NOT_ALLOWED => "no_method",
        StatusCode::REQUEST_TIMEOUT => "request_timeout",
        StatusCode::PAYLOAD_TOO_LARGE => "body_too_large",
        StatusCode::UPGRADE_REQUIRED => "upgrade_required",
        StatusCode::TOO_MANY_REQUESTS => "too_many_requests",
        StatusCode::SERVICE_UNAVAILABLE => "unavailable",
        status if status.is_server_error() => "internal",
        _ => "bad_request",
    }
}
