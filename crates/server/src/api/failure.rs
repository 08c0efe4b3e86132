//! From errors to problems on the wire, in one place.

use std::collections::BTreeMap;

use axum::Extension;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use chassis_api::route::Dialect;
use chassis_api::{PROBLEM_JSON, Problem};
use chassis_store::ErrorKind;

use super::answer::REQUEST_ID;
use crate::error::chain;

/// A request that was refused or failed.
#[derive(Debug, Clone)]
pub(crate) struct Failure(Box<Problem>);

pub(crate) type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    pub(crate) fn new(status: StatusCode, code: &str, detail: impl Into<String>) -> Self {
        let title = status.canonical_reason().unwrap_or("Error");
        Failure(Box::new(Problem::new(status.as_u16(), title, code, detail)))
    }

    pub(crate) fn code(&self) -> &str {
        &self.0.code
    }

    pub(crate) fn detail(&self) -> &str {
        &self.0.detail
    }

    /// The same in other words.
    pub(crate) fn map_detail(mut self, words: impl FnOnce(&str) -> String) -> Self {
        self.0.detail = words(&self.0.detail);
        self
    }

    /// With what each of several things lacked.
    pub(crate) fn with_details(mut self, details: BTreeMap<String, String>) -> Self {
        self.0.details = Some(details).filter(|details| !details.is_empty()).map(Box::new);
        self
    }

    pub(crate) fn invalid(code: &str, detail: impl Into<String>) -> Self {
        Failure::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail)
    }

    pub(crate) fn not_found(code: &str, detail: impl Into<String>) -> Self {
        Failure::new(StatusCode::NOT_FOUND, code, detail)
    }

    /// The same to a request that had an answer already, with the id that it had.
    pub(crate) fn in_place_of(self, answered: &HeaderMap) -> Response {
        let Some(id) = answered.get(REQUEST_ID) else { return self.into_response() };
        let problem = self.0.with_request_id(id.to_str().unwrap_or_default());
        let mut response = Failure(Box::new(problem)).into_response();
        response.headers_mut().insert(REQUEST_ID, id.clone());
        response
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Problem {
        *failure.0
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self.0).unwrap_or_default();
        // The outermost layer writes it anew, with the request's id.
        (status, [(header::CONTENT_TYPE, PROBLEM_JSON)], Extension(*self.0), body).into_response()
    }
}

impl From<chassis_store::Error> for Failure {
    fn from(error: chassis_store::Error) -> Self {
        if let chassis_store::Error::VersionConflict { .. } = error {
            return Failure::new(StatusCode::PRECONDITION_FAILED, "precondition_failed", chain(&error));
        }
        let status = match error.kind() {
            ErrorKind::NotFound => StatusCode::NOT_FOUND,
            ErrorKind::Conflict => StatusCode::CONFLICT,
            ErrorKind::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
            ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            ErrorKind::Internal => {
                tracing::error!(error = chain(&error), "the store failed");
                StatusCode::INTERNAL_SERVER_ERROR
            }
        };
        Failure::new(status, error.code(), chain(&error))
    }
}

impl From<chassis_runtime::Error> for Failure {
    fn from(error: chassis_runtime::Error) -> Self {
        Failure::new(StatusCode::BAD_GATEWAY, error.code(), chain(&error))
    }
}

pub(crate) async fn no_route(method: Method, uri: Uri) -> Failure {
    if Dialect::of(uri.path()) == Dialect::Fuse {
        return Failure::not_found("route_not_found", format!("no such route: {method} {}", uri.path()));
    }
    Failure::not_found("no_route", format!("there is nothing at {}", uri.path()))
}

pub(crate) async fn no_method(uri: Uri) -> Failure {
    let detail = format!("{} does not take this method", uri.path());
    Failure::new(StatusCode::METHOD_NOT_ALLOWED, "no_method", detail)
}
