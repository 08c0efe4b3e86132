//! The layer that every request passes: who calls, and whether they may.
//!
//! What holds: a request reaches a handler only if [`ROUTES`] has its method and path, and its caller is allowed what that
//! row needs. A route that somebody forgot to write there is refused for everybody. What changes something is in the audit
//! log before its handler is asked.

use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::connect_info::ConnectInfo;
use axum::extract::{FromRequestParts, MatchedPath, RawPathParams, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use chassis_api::route::{Dialect, ROUTES, Route, route_find};
use chassis_core::access::allows;
use chassis_core::cidr::{client_address, household};
use chassis_core::{AuditEntry, AuditStep, Need, environment};
use chassis_spec::FleetName;
use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use tracing::Instrument as _;

use super::caller::{Caller, Identity, forbidden};
use super::keys::Key;
use super::refusal::{too_many, unauthenticated};
use super::{Auth, Peer, Whose, session};
use crate::api::failure::{self, Failure};
use crate::request_id::RequestId;
use crate::shared::Shared;

/// As much of a path is kept in the audit log.
const PATH_KEPT: usize = 256;

/// What Fuse's clients are told who say nothing of who they are.
const NO_CREDENTIALS: &str = "missing or malformed credentials";

/// Where a request goes.
#[derive(Clone, Copy)]
enum Destination {
    Route(&'static Route),
    /// To the answer that there is nothing there.
    Nowhere,
    /// Something is there, but takes other methods.
    OtherMethod,
}

pub(crate) async fn guard(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let (destination, caller) = match admit(&shared, &mut parts).await {
        Ok(admitted) => admitted,
        Err(response) => return response,
    };
    let route = match destination {
        Destination::OtherMethod => return failure::no_method(parts.uri).await.into_response(),
        Destination::Nowhere => return failure::no_route(parts.method, parts.uri).await.into_response(),
        Destination::Route(route) => route,
    };
    let Some(caller) = caller else { return next.run(Request::from_parts(parts, body)).await };
    let key = caller.key().cloned();
    let response = if route.is_recorded() {
        let intent = entry(&parts, route.operation, caller.name(), caller.address(), AuditStep::Intent);
        recorded(shared, intent, caller, Request::from_parts(parts, body), next).await
    } else {
        next.run(Request::from_parts(parts, body)).await
    };
    match key {
        Some(key) => response.map(|body| until_ended(body, &key)),
        None => response,
    }
}

/// Writes down what is to be done, does it, and writes down how it ended; to the end, also when whoever asked has gone.
async fn recorded(
    shared: Arc<Shared>,
    intent: AuditEntry,
    caller: Caller,
    request: Request,
    next: Next,
) -> Response {
    let work = async move {
        let of = match shared.auth.trail.append(intent.clone()).await {
            Ok(id) => id,
            Err(failure) => return failure.into_response(),
        };
        let response =
            tokio::spawn(next.run(request).in_current_span()).await.unwrap_or_else(|_| broke_off());
        let status = response.status().as_u16();
        let detail = caller.told().map(str::to_owned);
        let result = AuditEntry { step: AuditStep::Result { of, status }, detail, ..intent };
        // Without it the intent stands alone; what was done is done, and is answered.
        let _ = shared.auth.trail.append(result).await;
        response
    };
    tokio::spawn(work.in_current_span()).await.unwrap_or_else(|_| broke_off())
}

fn broke_off() -> Response {
    let detail = "the server failed at this request; look at what is there before you repeat it";
    Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "panicked", detail).into_response()
}

async fn admit(shared: &Shared, parts: &mut Parts) -> Result<(Destination, Option<Caller>), Response> {
    let auth = &shared.auth;
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
    let dialect = Dialect::of(parts.uri.path());
    if dialect == Dialect::Fuse && !matches!(destination, Destination::Route(_)) {
        // What there is of this dialect is known to everybody.
        return Ok((destination, None));
    }
    let (need, operation) = match destination {
        Destination::Route(route) if route.need == Need::Nothing => return Ok((destination, None)),
        Destination::Route(route) => (Some(route.need), route.operation),
        // Who is not known does not learn what is not there.
        Destination::Nowhere | Destination::OtherMethod => (None, "nothing"),
    };
    let now = Timestamp::now();
    let identity = identify(shared, peer, address, parts, operation, now).await?;
    if let Some((key, rates)) = identity.key.as_ref().zip(auth.rates.as_ref()) {
        rates
            .take(&key.record.name, now)
            .map_err(|wait| too_many(wait, &format!("{} makes too many requests", identity.name)))?;
    }
    let Some(need) = need else { return Ok((destination, None)) };
    let fleet = match dialect {
        Dialect::Native => fleet_named(parts).await,
        Dialect::Fuse => Some(environment::fleet()),
    };
    if !allows(&identity.grant, need, fleet.as_ref()) {
        denied(auth, parts, operation, &identity.name, address, StatusCode::FORBIDDEN, now);
        return Err(forbidden(&identity, need, fleet.as_ref()).into_response());
    }
    let caller = Caller::new(identity, address, need);
    parts.extensions.insert(caller.clone());
    Ok((destination, Some(caller)))
}

pub(super) fn real_address(auth: &Auth, peer: Peer, headers: &HeaderMap) -> Option<IpAddr> {
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
async fn identify(
    shared: &Shared,
    peer: Peer,
    address: Option<IpAddr>,
    parts: &Parts,
    operation: &str,
    now: Timestamp,
) -> Result<Identity, Response> {
    let auth = &shared.auth;
    let dialect = Dialect::of(parts.uri.path());
    if let Some(credentials) = parts.headers.get(header::AUTHORIZATION) {
        let household = address.map(household);
        if let Some(wait) = household.and_then(|household| auth.failures.wait(&household, now)) {
            return Err(too_many(wait, "too many wrong tokens came from this address"));
        }
        let token = credentials.to_str().ok().and_then(bearer);
        let whose = match token {
            Some(token) => auth.identify(&*shared.store, token, now).await,
            None => Whose::Nobody,
        };
        if let Whose::Caller(identity) = whose {
            return Ok(identity);
        }
        // Whoever comes with a key that has ended does not guess, and takes nothing from others at their address.
        if let (false, Some(household)) = (matches!(whose, Whose::Former), household) {
            let _ = auth.failures.take(&household, now);
        }
        if let Whose::Perhaps(failure) = whose {
            return Err(failure.into_response());
        }
        denied(auth, parts, operation, "somebody unknown", address, StatusCode::UNAUTHORIZED, now);
        return Err(unauthenticated(match whose {
            _ if dialect == Dialect::Fuse && token.is_none() => NO_CREDENTIALS,
            _ if dialect == Dialect::Fuse => "invalid token",
            Whose::Former => "this API key was revoked or has expired; ask an admin for a new one",
            _ => "the token is not one of this server's, or no longer; ask an admin for a new one",
        }));
    }
    if dialect == Dialect::Fuse && session::word(&parts.headers).is_some() {
        return auth.session_identify(&parts.headers, now).ok_or_else(|| {
            denied(auth, parts, operation, "somebody unknown", address, StatusCode::UNAUTHORIZED, now);
            unauthenticated("invalid token")
        });
    }
    match peer {
        Peer::Unix { uid: Some(uid), .. } if uid == 0 || uid == auth.own_uid => Ok(Identity::local(uid)),
        Peer::Unix { uid: Some(uid), member: Some(role) } => Ok(Identity::member(uid, role)),
        Peer::Unix { uid, .. } => {
            let who = uid.map_or_else(|| "somebody unknown".to_owned(), |uid| format!("uid {uid}"));
            denied(auth, parts, operation, &who, address, StatusCode::FORBIDDEN, now);
            let detail = format!(
                "this socket is for the server's own user (uid {}) and root; others need a token, or the socket of a \
                 group (`chassis serve --socket-group`)",
                auth.own_uid
            );
            Err(Failure::new(StatusCode::FORBIDDEN, "peer_refused", detail).into_response())
        }
        Peer::Tcp { .. } if dialect == Dialect::Fuse => Err(unauthenticated(NO_CREDENTIALS)),
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

/// Notes in the audit log that somebody was not let in.
fn denied(
    auth: &Auth,
    parts: &Parts,
    operation: &str,
    who: &str,
    address: Option<IpAddr>,
    status: StatusCode,
    now: Timestamp,
) {
    let step = AuditStep::Denied { status: status.as_u16(), count: 1 };
    let entry = entry(parts, operation, who, address, step);
    // Who is not known is the same whatever they ask for.
    let sort = match status {
        StatusCode::UNAUTHORIZED => format!("{who} {}", entry.from),
        _ => format!("{who} {} {operation}", entry.from),
    };
    auth.trail.denied(sort, entry, now);
}

fn entry(parts: &Parts, operation: &str, who: &str, address: Option<IpAddr>, step: AuditStep) -> AuditEntry {
    let path = parts.uri.path();
    AuditEntry {
        who: who.to_owned(),
        from: address.map_or_else(|| "this machine".to_owned(), |address| address.to_string()),
        operation: operation.to_owned(),
        on: path.chars().take(PATH_KEPT).collect(),
        detail: None,
        request_id: parts.extensions.get::<RequestId>().map_or_else(String::new, |id| id.as_str().to_owned()),
        step,
    }
}

/// Cuts an answer that goes on when its caller's key ends: a break, and not an end that could be taken for the whole.
fn until_ended(body: Body, key: &Arc<Key>) -> Body {
    use axum::body::HttpBody;
    if body.size_hint().exact().is_some() {
        return body;
    }
    let ended = Box::pin(key.ended.clone().cancelled_owned());
    let pieces = stream::unfold(Some((body.into_data_stream(), ended)), |open| async {
        let (mut pieces, mut ended) = open?;
        tokio::select! {
            biased;
            () = &mut ended => {
                let broken = std::io::Error::new(std::io::ErrorKind::PermissionDenied, "the key has ended");
                Some((Err(broken), None))
            }
            piece = pieces.next() => {
                let piece = piece?;
                let more = piece.is_ok().then_some((pieces, ended));
                Some((piece.map_err(std::io::Error::other), more))
            }
        }
    });
    Body::from_stream(pieces)
}
