//! Bodies of requests: JSON whatever the content type says, and bounded by what is read.

use std::error::Error as _;

use axum::body::to_bytes;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use http_body_util::LengthLimitError;
use serde::de::DeserializeOwned;

use crate::api::failure::{Failure, Result};

/// Of a request that makes an environment, or runs a command in one.
pub(super) const LARGE: usize = 1 << 20;

/// Of every other request.
pub(super) const SMALL: usize = 64 << 10;
/// Of `/login`.
pub(super) const TINY: usize = 4 << 10;

/// A body as it comes, of at most so many bytes.
pub(super) struct Bytes<const MOST: usize>(pub(super) bytes::Bytes);

/// A body in JSON, of at most so many bytes.
pub(super) struct Body<T, const MOST: usize>(pub(super) T);

impl<S: Send + Sync, const MOST: usize> FromRequest<S> for Bytes<MOST> {
    type Rejection = Failure;

    async fn from_request(request: Request, _: &S) -> Result<Self> {
        let bytes = to_bytes(request.into_body(), MOST).await.map_err(|error| {
            if error.source().is_some_and(<dyn std::error::Error>::is::<LengthLimitError>) {
                too_large(format!("the body has more than {MOST} bytes"))
            } else {
                invalid(format!("the body cannot be read: {error}"))
            }
        })?;
        Ok(Bytes(bytes))
    }
}

impl<S: Send + Sync, T: DeserializeOwned, const MOST: usize> FromRequest<S> for Body<T, MOST> {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Self> {
        let Bytes(bytes) = Bytes::<MOST>::from_request(request, state).await?;
        parse(&bytes).map(Body)
    }
}

pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| invalid(format!("invalid JSON: {error}")))
}

/// Of a body that may be left out.
pub(super) fn parse_or_default<T: DeserializeOwned + Default>(bytes: &[u8]) -> Result<T> {
    if bytes.is_empty() { Ok(T::default()) } else { parse(bytes) }
}

pub(super) fn invalid(message: impl Into<String>) -> Failure {
    Failure::new(StatusCode::BAD_REQUEST, "invalid_argument", message)
}

pub(super) fn too_large(message: impl Into<String>) -> Failure {
    Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large", message)
}
