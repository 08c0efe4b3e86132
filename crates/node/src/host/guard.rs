//! What stands before every handler: the token, and the version of the protocol.

use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::Response;

use super::Host;
use super::answer::refusal;
use crate::wire::{PROTOCOL_HEADER, PROTOCOLS, TERM_HEADER};

/// The digest of the token, against which others are held in constant time.
#[derive(Debug)]
pub(super) struct Token([u8; 32]);

impl Token {
    pub(super) fn new(token: &str) -> Token {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, token.trim().as_bytes()).as_ref());
        Token(bytes)
    }

    fn is_of(&self, headers: &HeaderMap) -> bool {
        let given = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let given = given.and_then(|given| given.strip_prefix("Bearer "));
        given.is_some_and(|given| verify_slices_are_equal(&Token::new(given).0, &self.0).is_ok())
    }
}

pub(super) async fn token(State(host): State<Arc<Host>>, request: Request, next: Next) -> Response {
    if host.token.is_of(request.headers()) {
        return next.run(request).await;
    }
    let message =
        "this needs the node's token, as `Authorization: Bearer …`; the node printed it at its start";
    let mut response = refusal(StatusCode::UNAUTHORIZED, "unauthorized", message);
    response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

/// Chooses the latest version that both speak; somebody who names none, as with curl, gets ours.
pub(super) async fn protocol(request: Request, next: Next) -> Response {
    let asked = request.headers().get(PROTOCOL_HEADER).and_then(|value| value.to_str().ok());
    let ours = || PROTOCOLS.iter().copied();
    let chosen = match asked {
        Some(asked) => asked
            .split(',')
            .filter_map(|one| one.trim().parse().ok())
            .filter(|one| PROTOCOLS.contains(one))
            .max(),
        None => ours().max(),
    };
    let mut response = if chosen.is_some() {
        next.run(request).await
    } else {
        let message = format!(
            "this node speaks versions {} of the protocol, and was asked in {}",
            versions(PROTOCOLS),
            asked.unwrap_or("none")
        );
        refusal(StatusCode::UPGRADE_REQUIRED, "protocol_unsupported", &message)
    };
    let said = chosen.map_or_else(|| versions(PROTOCOLS), |chosen| chosen.to_string());
    if let Ok(said) = HeaderValue::try_from(said) {
        response.headers_mut().insert(PROTOCOL_HEADER, said);
    }
    response
}

/// With commas between, as in the header.
pub(crate) fn versions(versions: &[u32]) -> String {
    versions.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// The term in which a request was decided.
pub(super) fn term(headers: &HeaderMap) -> Option<u64> {
    headers.get(TERM_HEADER)?.to_str().ok()?.parse().ok()
}
