//! Versions of single objects: `ETag`, `If-None-Match` and `If-Match`.
//!
//! A tag is the object's version in the store, which grows with each change that somebody asks for, and a hash of all that
//! is shown of it, which also changes with what its instances do. `If-None-Match` compares the whole tag; `If-Match` the
//! version alone, because a change is to be refused only if somebody else asked for another one.

use std::hash::{DefaultHasher, Hasher};

use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::failure::Failure;

/// An object with its version.
pub(crate) struct Versioned<T>(pub(crate) u64, pub(crate) T);

impl<T: Serialize> IntoResponse for Versioned<T> {
    fn into_response(self) -> Response {
        let body = match serde_json::to_vec(&self.1) {
            Ok(body) => body,
            Err(error) => {
                let detail = format!("the answer cannot be written: {error}; please report this");
                return Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail).into_response();
            }
        };
        let mut hash = DefaultHasher::new();
        hash.write(&body);
        let mut response = ([(header::CONTENT_TYPE, "application/json")], body).into_response();
        if let Ok(tag) = HeaderValue::try_from(format!("\"{}-{:016x}\"", self.0, hash.finish())) {
            response.headers_mut().insert(header::ETAG, tag);
        }
        response
    }
}

/// The version that a change is meant for; none if any will do.
pub(crate) struct Expected(pub(crate) Option<u64>);

impl<S: Send + Sync> FromRequestParts<S> for Expected {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        let Some(tag) = parts.headers.get(header::IF_MATCH) else { return Ok(Expected(None)) };
        let tag = tag.to_str().unwrap_or_default().trim();
        if tag == "*" {
            return Ok(Expected(None));
        }
        let version = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')).and_then(|tag| {
            let version = tag.split_once('-').map_or(tag, |(version, _)| version);
            version.parse().ok()
        });
        version.map(|version| Expected(Some(version))).ok_or_else(|| {
            let detail = "`If-Match` takes one ETag, as the object's last answer had it";
            Failure::new(StatusCode::BAD_REQUEST, "invalid_header", detail)
        })
    }
}

/// What `If-None-Match` asks of an answer that has a tag: nothing but that it is still the same.
pub(crate) fn unless_same(asked: &HeaderMap, response: Response) -> Response {
    let Some(tag) = response.headers().get(header::ETAG).and_then(|tag| tag.to_str().ok()) else {
        return response;
    };
    let known = asked.get(header::IF_NONE_MATCH).and_then(|known| known.to_str().ok()).unwrap_or_default();
    // Compared weakly, as the standard asks.
    let is_known =
        known.split(',').map(str::trim).any(|one| one == "*" || one.trim_start_matches("W/") == tag);
    if response.status() != StatusCode::OK || !is_known {
        return response;
    }
    let (mut parts, _) = response.into_parts();
    parts.status = StatusCode::NOT_MODIFIED;
    parts.headers.remove(header::CONTENT_TYPE);
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, Body::empty())
}
