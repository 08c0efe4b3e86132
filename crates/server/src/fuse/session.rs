//! `/login` and `/logout`: a browser's session, in a cookie.

use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use chassis_api::fuse::Login;

use super::body::{Body, TINY};
use crate::api::SharedState;
use crate::api::failure::Result;
use crate::auth::{Peer, SESSION_COOKIE, SESSION_SECONDS};
use crate::shared::Shared;

type Cookie = [(HeaderName, HeaderValue); 1];

pub(super) async fn open(
    State(shared): SharedState,
    ConnectInfo(peer): ConnectInfo<Peer>,
    headers: HeaderMap,
    Body(login): Body<Login, TINY>,
) -> Result<(StatusCode, Cookie)> {
    let session = shared.auth.session_open(peer, &headers, &login.token)?;
    Ok((StatusCode::NO_CONTENT, cookie(&shared, &session, SESSION_SECONDS)))
}

pub(super) async fn close(State(shared): SharedState, headers: HeaderMap) -> (StatusCode, Cookie) {
    shared.auth.session_close(&headers);
    (StatusCode::NO_CONTENT, cookie(&shared, "", 0))
}

fn cookie(shared: &Shared, value: &str, seconds: i64) -> Cookie {
    let is_secure = shared.environments.secure_cookies || shared.doors.certificates().is_some();
    let secure = if is_secure { "; Secure" } else { "" };
    let text = format!("{SESSION_COOKIE}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}");
    [(header::SET_COOKIE, HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("")))]
}
