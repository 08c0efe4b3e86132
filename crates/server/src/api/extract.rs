//! What handlers take out of a request. Where it does not fit, the answer is a problem, as everywhere.

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use super::failure::Failure;

/// A body in JSON.
pub(crate) struct Body<T>(pub(crate) T);

/// A body as it comes.
pub(crate) struct Raw(pub(crate) Bytes);

/// The parameters of the path.
pub(crate) struct Path<T>(pub(crate) T);

/// The parameters after the question mark.
pub(crate) struct Query<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        let taken = axum::Json::<T>::from_request(request, state).await;
        taken
            .map(|axum::Json(body)| Body(body))
            .map_err(|rejection| refused(rejection.status(), "invalid_body", rejection.body_text()))
    }
}

impl<S: Send + Sync> FromRequest<S> for Raw {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        let taken = Bytes::from_request(request, state).await;
        taken.map(Raw).map_err(|rejection| refused(rejection.status(), "invalid_body", rejection.body_text()))
    }
}

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let taken = axum::extract::Path::<T>::from_request_parts(parts, state).await;
        taken
            .map(|axum::extract::Path(path)| Path(path))
            .map_err(|rejection| refused(rejection.status(), "invalid_path", rejection.body_text()))
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let taken = axum::extract::Query::<T>::from_request_parts(parts, state).await;
        taken
            .map(|axum::extract::Query(query)| Query(query))
            .map_err(|rejection| refused(rejection.status(), "invalid_query", rejection.body_text()))
    }
}

fn refused(status: StatusCode, code: &str, detail: String) -> Failure {
    let code = match status {
        StatusCode::PAYLOAD_TOO_LARGE => "body_too_large",
        StatusCode::UNSUPPORTED_MEDIA_TYPE => "not_json",
        _ => code,
    };
    Failure::new(status, code, detail)
}
