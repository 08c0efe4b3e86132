//! Slow work: a change is noted at once, and what it asks for comes about in its own time.
//!
//! Without `wait` the answer is 202 with the place that tells how far it is. With `wait=30s` the answer is held until all is
//! as wanted (200), or until then or until it is stuck (202, and that place says at what). The change is made in any case.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use chassis_api::{ProgressState, Scope, WaitQuery};
use chassis_spec::{AgentName, FleetName};

use super::extract::Query;
use super::failure::Failure;
use super::progress::progress;
use crate::auth::Caller;
use crate::shared::Shared;

const LONGEST: Duration = Duration::from_mins(5);
/// Some answers change only with time.
const RECHECK: Duration = Duration::from_millis(500);
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// A list of agents in `Location` is no longer; what has more is asked about as a whole.
const LONGEST_PLACE: usize = 4 << 10;

/// What a handler's change is about: put into its answer, where the change takes time. All are of one fleet.
#[derive(Debug, Clone)]
pub(crate) struct Awaited {
    fleet: FleetName,
    scopes: Vec<Scope>,
}

impl Awaited {
    pub(crate) fn of(scope: Scope) -> Awaited {
        Awaited { fleet: scope.fleet.clone(), scopes: vec![scope] }
    }

    /// Agents of a fleet, and nothing else of it.
    pub(crate) fn agents(fleet: &FleetName, agents: impl Iterator<Item = AgentName>) -> Awaited {
        let scope = |agent| Scope { fleet: fleet.clone(), agent: Some(agent), number: None };
        Awaited { fleet: fleet.clone(), scopes: agents.map(scope).collect() }
    }
}

/// The layer around handlers.
pub(crate) async fn until_done(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let asked = match Query::<WaitQuery>::from_request_parts(&mut parts, &()).await {
        Ok(Query(asked)) => asked.wait,
        Err(failure) => return failure.into_response(),
    };
    let wait = match asked.as_deref().map(duration).transpose() {
        Ok(wait) => wait,
        Err(failure) => return failure.into_response(),
    };
    let caller = parts.extensions.get::<Caller>().cloned();
    let mut response = next.run(Request::from_parts(parts, body)).await;
    let (Some(awaited), Some(caller)) = (response.extensions_mut().remove::<Awaited>(), caller) else {
        return response;
    };
    let is_done = match wait {
        Some(wait) => come_about(&shared, &caller, &awaited.scopes, wait).await,
        None => false,
    };
    if let Some(asked) = asked
        && let Ok(applied) = HeaderValue::try_from(format!("wait={asked}"))
    {
        response.headers_mut().insert(PREFERENCE_APPLIED, applied);
    }
    *response.status_mut() = if is_done { StatusCode::OK } else { StatusCode::ACCEPTED };
    if let Ok(place) = HeaderValue::try_from(place_of(&awaited)) {
        response.headers_mut().insert(header::LOCATION, place);
    }
    response
}

/// True once all is as wanted; false when that cannot be, or not in time.
async fn come_about(shared: &Arc<Shared>, caller: &Caller, scopes: &[Scope], wait: Duration) -> bool {
    let mut changed = shared.changed.subscribe();
    let settled = async {
        loop {
            changed.mark_unchanged();
            match progress(shared, caller, scopes).state {
                ProgressState::Done => return true,
                ProgressState::Stuck => return false,
                ProgressState::Working => {}
            }
            let _ = tokio::time::timeout(RECHECK, changed.changed()).await;
        }
    };
    // A server that ends says how far it is.
    let settled = async {
        tokio::select! { done = settled => done, () = shared.closing.begun() => false }
    };
    tokio::time::timeout(wait, settled).await.unwrap_or(false)
}

/// How long a request is to be held, by its query; no time if it does not say, or says it wrongly.
pub(super) fn asked(uri: &Uri) -> Duration {
    let query = axum::extract::Query::<WaitQuery>::try_from_uri(uri).ok();
    query.and_then(|query| duration(query.0.wait.as_deref()?).ok()).unwrap_or_default()
}

/// `30s`, `2m`, `500ms`, or seconds alone.
fn duration(text: &str) -> Result<Duration, Failure> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "ms" => Some(1),
        "" | "s" => Some(1000),
        "m" => Some(60_000),
        _ => None,
    };
    let milliseconds = unit.zip(digits.parse::<u64>().ok()).and_then(|(unit, count)| count.checked_mul(unit));
    let wait = milliseconds.map(Duration::from_millis).filter(|wait| *wait <= LONGEST);
    wait.ok_or_else(|| {
        let detail = format!("`wait` is at most {} s, written as 30s, 2m or 500ms", LONGEST.as_secs());
        Failure::new(StatusCode::BAD_REQUEST, "invalid_query", detail)
    })
}

fn place_of(awaited: &Awaited) -> String {
    let fleet = &awaited.fleet;
    let agents: Vec<&str> =
        awaited.scopes.iter().filter_map(|scope| scope.agent.as_ref()).map(AgentName::as_str).collect();
    let agents = agents.join(",");
    let agents = match agents.len() {
        1..=LONGEST_PLACE => format!("&agent={agents}"),
        _ => String::new(),
    };
    let number = awaited.scopes.iter().find_map(|scope| scope.number);
    let number = number.map(|number| format!("&number={number}")).unwrap_or_default();
    format!("/api/v1/progress?fleet={fleet}{agents}{number}")
}
