//! `Idempotency-Key`: a request that is repeated is answered again, and not carried out again.
//!
//! What holds: the key is kept in the transaction of the change that it stands for, so that a crash leaves both or neither.
//! - Neither: the repeated request is carried out, as if it were the first.
//! - Both, with the answer: that answer is given again, with `Idempotency-Replayed: true`.
//! - Both, but the server died before it had kept the answer: `idempotency_unknown`, which says that the change was made.
//!
//! A request that changed nothing keeps no key. A key is its caller's own, and is forgotten after [`KEPT_FOR`]. No secret is
//! kept: where the answer holds one, the repeated request is told that it was shown once; of a request that holds one, what is
//! compared is made with the secrets' key.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chassis_api::PROBLEM_JSON;
use chassis_api::route::{Keyed, route_find};
use chassis_store::{KeptAnswer, KeptRequest, KeyedRequest};
use jiff::{SignedDuration, Timestamp};
use tracing::Instrument as _;
use zeroize::Zeroizing;

use super::BODY_LIMIT;
use super::failure::{Failure, Result};
use crate::auth::Caller;
use crate::shared::{Shared, lock};

const KEY: HeaderName = HeaderName::from_static("idempotency-key");
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
const LONGEST_KEY: usize = 255;
/// A larger answer is not kept: whoever repeats the request is told that it was carried out.
const LARGEST_ANSWER: usize = 256 << 10;
const KEPT_FOR: SignedDuration = SignedDuration::from_hours(24);
/// Above this the oldest are forgotten sooner.
const MOST_KEPT: u32 = 20_000;
const SWEEP: Duration = Duration::from_mins(1);
/// Another server may still be about to answer.
const ANSWERED_WITHIN: SignedDuration = SignedDuration::from_secs(10);

/// Requests with a key that this server is carrying out.
#[derive(Debug, Default)]
pub(crate) struct InFlight(Mutex<HashSet<(String, String)>>);

/// One of them, until it is dropped.
struct Flight {
    shared: Arc<Shared>,
    name: (String, String),
}

impl Flight {
    /// None if it is being carried out already.
    fn begin(shared: &Arc<Shared>, request: &KeyedRequest) -> Option<Flight> {
        let name = (request.caller.clone(), request.key.clone());
        let is_new = lock(&shared.in_flight.0).insert(name.clone());
        is_new.then(|| Flight { shared: Arc::clone(shared), name })
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        lock(&self.shared.in_flight.0).remove(&self.name);
    }
}

/// The layer around handlers.
pub(crate) async fn once(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let keyed = route_of(&request);
    if keyed == Keyed::No || !request.headers().contains_key(&KEY) {
        return next.run(request).await;
    }
    answer(shared, keyed, request, next).await.unwrap_or_else(IntoResponse::into_response)
}

fn route_of(request: &Request) -> Keyed {
    let matched = request.extensions().get::<MatchedPath>();
    let route = matched.and_then(|path| route_find(request.method().as_str(), path.as_str()));
    route.map_or(Keyed::No, |route| Keyed::of(route.operation))
}

async fn answer(shared: Arc<Shared>, keyed: Keyed, request: Request, next: Next) -> Result<Response> {
    let (request, body) = {
        let (parts, body) = request.into_parts();
        let body = to_bytes(body, BODY_LIMIT).await.map_err(|error| {
            let detail = format!("the body cannot be read, or has more than {BODY_LIMIT} bytes: {error}");
            Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail)
        })?;
        (parts, body)
    };
    let caller =
        request.extensions.get::<Caller>().map(|caller| caller.name().to_owned()).unwrap_or_default();
    let target = request.uri.path_and_query().map_or("", |target| target.as_str());
    let fingerprint = fingerprint(&shared, keyed, request.method.as_str(), target, &body).await?;
    let keyed_request = KeyedRequest::new(caller, key_of(&request.headers)?, fingerprint);
    let flight = Flight::begin(&shared, &keyed_request).ok_or_else(in_flight)?;
    if let Some(kept) = shared.store.keyed_find(&keyed_request.caller, &keyed_request.key).await? {
        return again(&keyed_request, kept);
    }
    let request = Request::from_parts(request, Body::from(body));
    // Whoever goes away meanwhile asks again, and is to get this answer.
    let work = async move {
        let _until_answered = flight;
        let response = keyed_request.scope(next.run(request)).await;
        keep(&shared, keyed, &keyed_request, response).await
    };
    tokio::spawn(work.in_current_span()).await.unwrap_or_else(|error| {
        tracing::error!(%error, "a change broke off");
        let detail = "the change broke off; look at what is there, and please report this";
        Err(Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "broke_off", detail))
    })
}

/// One line of visible characters.
fn key_of(headers: &HeaderMap) -> Result<String> {
    let key = headers.get(&KEY).and_then(|key| key.to_str().ok()).unwrap_or_default();
    if (1..=LONGEST_KEY).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(key.to_owned());
    }
    let detail =
        format!("an Idempotency-Key has 1 to {LONGEST_KEY} visible ASCII characters; a UUID will do");
    Err(Failure::new(StatusCode::BAD_REQUEST, "invalid_header", detail))
}

async fn fingerprint(
    shared: &Shared,
    keyed: Keyed,
    method: &str,
    target: &str,
    body: &[u8],
) -> Result<String> {
    let asked = [method.as_bytes(), b"\0", target.as_bytes(), b"\0", body].concat();
    let asked = Zeroizing::new(asked);
    if keyed == Keyed::OfSecret {
        // From a plain hash in the database a secret that is a mere word could be guessed.
        return Ok(URL_SAFE_NO_PAD.encode(shared.store.secret_mark(asked).await?));
    }
    Ok(URL_SAFE_NO_PAD.encode(digest(&SHA256, &asked)))
}

fn in_flight() -> Failure {
    let detail = "the first request with this Idempotency-Key is still being carried out";
    Failure::new(StatusCode::CONFLICT, "idempotency_in_flight", detail)
}

/// The answer to a request whose change was made before.
fn again(request: &KeyedRequest, kept: KeptRequest) -> Result<Response> {
    if kept.fingerprint != request.fingerprint {
        let detail = "this Idempotency-Key was used for another request within the last 24 hours";
        return Err(Failure::invalid("idempotency_mismatch", detail));
    }
    let Some(answer) = kept.answer else {
        if Timestamp::now().duration_since(kept.created_at) < ANSWERED_WITHIN {
            return Err(in_flight());
        }
        let detail =
            "the change of this request was made, but the server ended before it had kept the answer";
        return Err(Failure::new(StatusCode::CONFLICT, "idempotency_unknown", detail));
    };
    let Some(body) = answer.body else {
        let detail =
            "this request was carried out; its answer held a secret or was too large, and is given only once";
        return Err(Failure::new(StatusCode::CONFLICT, "idempotency_not_kept", detail));
    };
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK);
    let replayed = [(REPLAYED, HeaderValue::from_static("true"))];
    if body.is_empty() {
        return Ok((status, replayed).into_response());
    }
    let kind = if status.is_success() { "application/json" } else { PROBLEM_JSON };
    Ok((status, replayed, [(header::CONTENT_TYPE, kind)], body).into_response())
}

/// Keeps the answer, if a change was made.
async fn keep(shared: &Shared, keyed: Keyed, request: &KeyedRequest, response: Response) -> Result<Response> {
    if !request.is_kept() {
        return Ok(response);
    }
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap_or_else(|_| Bytes::new());
    let may_keep = keyed != Keyed::WithoutAnswer && body.len() <= LARGEST_ANSWER;
    let text = may_keep.then(|| String::from_utf8_lossy(&body).into_owned());
    let answer = KeptAnswer { status: parts.status.as_u16(), body: text };
    if let Err(error) = shared.store.keyed_answer(&request.caller, &request.key, answer).await {
        tracing::warn!(error = crate::error::chain(&error), "an answer was not kept for its Idempotency-Key");
    }
    Ok(Response::from_parts(parts, Body::from(body)))
}

/// Forgets keys that are old.
pub(crate) async fn sweep_on(shared: Arc<Shared>) {
    loop {
        let before = Timestamp::now() - KEPT_FOR;
        if shared.store.is_acting()
            && let Err(error) = shared.store.keyed_sweep(before, MOST_KEPT).await
        {
            tracing::debug!(error = crate::error::chain(&error), "old Idempotency-Keys are still kept");
        }
        tokio::time::sleep(SWEEP).await;
    }
}
