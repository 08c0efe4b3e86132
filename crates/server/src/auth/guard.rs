//! The layer that every request passes: who calls, and whether they may.
//!
//! What holds: a request reaches a handler only if [`ROUTES`] has its method and path, and its caller is allowed what that
//! row needs. A route that somebody forgot to write there is refused for everybody.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::connect_info::ConnectInfo;
use axum::extract::{FromRequestParts, MatchedPath, RawPathParams, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use chassis_api::route::{ROUTES, Route, route_find};
use chassis_core::Need;
use chassis_core::access::allows;
use chassis_core::cidr::client_address;
use chassis_spec::FleetName;

use super::caller::{Caller, Identity, forbidden};
use super::{Auth, Peer};
use crate::api::failure::{self, Failure};
use crate::shared::Shared;

/// Where a request goes.
enum Destination {
    Route(&'static Route),
    /// To the answer that there is nothing there.
    Nowhere,
    /// Something is there, but takes other methods.
    OtherMethod,
}

pub(crate) async fn guard(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    match admit(&shared.auth, &mut parts).await {
        Ok(Destination::OtherMethod) => failure::no_method(parts.uri).await.into_response(),
        Ok(Destination::Nowhere) => failure::no_route(parts.uri).await.into_response(),
        Ok(Destination::Route(_)) => next.run(Request::from_parts(parts, body)).await,
        Err(response) => response,
    }
}

async fn admit(auth: &Auth, parts: &mut Parts) -> Result<Destination, Response> {
    let Some(ConnectInfo(peer)) = parts.extensions.get::<ConnectInfo<Peer>>().copied() else {
        let detail = "the server does not know where this comes from; please report this";
        return Err(Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "no_peer", detail).into_response());
    };
    let address = real_address(auth, peer, &parts.headers);
    if let Some(address) = address
        && !auth.allow_from.is_empty()
        && !auth.allow_from.iter().any(|block| block.contains(address))
    {
        let detail = format!("this server takes no requests from {address}; see its --allow-from");
        return Err(Failure::new(StatusCode::FORBIDDEN, "address_refused", detail).into_response());
    }
    let destination = destination(parts);
    let need = match destination {
        Destination::Route(route) if route.need == Need::Nothing => return Ok(destination),
        Destination::Route(route) => Some(route.need),
        // Who is not known does not learn what is not there.
        Destination::Nowhere | Destination::OtherMethod => None,
    };
    let identity = identify(auth, peer, &parts.headers)?;
    let Some(need) = need else { return Ok(destination) };
    let fleet = fleet_named(parts).await;
    if !allows(&identity.grant, need, fleet.as_ref()) {
        return Err(forbidden(&identity, need, fleet.as_ref()).into_response());
    }
    parts.extensions.insert(Caller::new(identity, address, need));
    Ok(destination)
}

fn real_address(auth: &Auth, peer: Peer, headers: &HeaderMap) -> Option<IpAddr> {
    let Peer::Tcp { address } = peer else { return None };
    // A line that is no text ends what is believed, as a hop that is no address does.
    let lines = headers.get_all("x-forwarded-for").iter();
    let lines: Vec<&str> = lines.map(|line| line.to_str().unwrap_or_default()).collect();
    Some(client_address(address.ip(), lines.into_iter(), &auth.trusted_proxies))
}

fn destination(parts: &Parts) -> Destination {
    let Some(matched) = parts.extensions.get::<MatchedPath>() else { return Destination::Nowhere };
    let method = if parts.method == Method::HEAD { &Method::GET } else { &parts.method };
    match route_find(method.as_str(), matched.as_str()) {
        Some(route) => Destination::Route(route),
        None if ROUTES.iter().any(|route| route.path == matched.as_str()) => Destination::OtherMethod,
        None => Destination::Nowhere,
    }
}

/// The fleet that the path names. A name that is none counts as no fleet, which only a role over all of them may ask about.
async fn fleet_named(parts: &mut Parts) -> Option<FleetName> {
    let parameters = RawPathParams::from_request_parts(parts, &()).await.ok()?;
    parameters.iter().find(|(name, _)| *name == "fleet").and_then(|(_, value)| value.parse().ok())
}

/// What the request says of who sends it comes before what the kernel says.
fn identify(auth: &Auth, peer: Peer, headers: &HeaderMap) -> Result<Identity, Response> {
    if let Some(credentials) = headers.get(header::AUTHORIZATION) {
        let token = credentials.to_str().ok().and_then(bearer);
        return token.and_then(|token| auth.identify(token)).ok_or_else(|| {
            unauthenticated("the token is not one of this server's, or no longer; ask an admin for a new one")
        });
    }
    match peer {
        Peer::Unix { uid: Some(uid) } if uid == 0 || uid == auth.own_uid => Ok(Identity::local(uid)),
        Peer::Unix { .. } => {
            let detail = format!(
                "this socket is for the server's own user (uid {}) and root; others need a token",
                auth.own_uid
            );
            Err(Failure::new(StatusCode::FORBIDDEN, "peer_refused", detail).into_response())
        }
        Peer::Tcp { .. } => Err(unauthenticated(
            "send `Authorization: Bearer` with an API key or the server's token; the command line takes it from \
             CHASSIS_TOKEN",
        )),
    }
}

/// The token of `Bearer <token>`.
fn bearer(credentials: &str) -> Option<&str> {
    let (scheme, token) = credentials.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn unauthenticated(detail: &str) -> Response {
    let mut response = Failure::new(StatusCode::UNAUTHORIZED, "unauthenticated", detail).into_response();
    let challenge = HeaderValue::from_static("Bearer realm=\"chassis\"");
    response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    response
}
