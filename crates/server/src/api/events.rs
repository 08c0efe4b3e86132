//! The history, as a list or as it happens.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use chassis_api::{Event, EventQuery};
use chassis_store::EventFilter;
use futures_util::stream::{self, Stream};

use super::SharedState;
use super::extract::Query;
use super::failure::{Failure, Result};
use super::page::Numbered;
use crate::auth::Caller;
use crate::shared::Shared;

/// How many events are listed unless the query says otherwise.
const LIMIT: u32 = 100;
/// How many are read at a time while following.
const PAGE: u32 = 500;
/// Tells a silent connection from a dead one.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// After which a client whose connection broke comes back.
const RETRY: Duration = Duration::from_secs(1);

pub(crate) async fn list(
    State(shared): SharedState,
    caller: Caller,
    headers: HeaderMap,
    uri: Uri,
    Query(query): Query<EventQuery>,
) -> Result<Response> {
    caller.require_named(query.fleet.as_ref())?;
    let last_id = headers.get("last-event-id").and_then(|id| id.to_str().ok()).and_then(|id| id.parse().ok());
    let limit = query.limit.unwrap_or(LIMIT);
    let filter = EventFilter {
        fleet: query.fleet,
        agent: query.agent,
        number: query.number,
        after: last_id.or(query.after),
        since: query.since,
        kinds: query.kinds.iter().flat_map(|kinds| kinds.split(',').map(str::to_owned)).collect(),
        limit,
        // Whoever names a place goes on from there; others want the newest.
        newest: query.after.is_none(),
    };
    if query.follow {
        check_kept(&shared, last_id).await?;
        let stream = follow(shared, caller, filter).await?;
        return Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response());
    }
    if filter.newest {
        return Ok(Json(reached(&shared, &caller, &filter).await?).into_response());
    }
    let filter = EventFilter { limit: limit.saturating_add(1), ..filter };
    let events = reached(&shared, &caller, &filter).await?;
    Ok(Numbered::after(&uri, events, limit, |event: &Event| event.id).into_response())
}

/// What the filter finds of what the caller reaches.
async fn reached(
    shared: &Shared,
    caller: &Caller,
    filter: &EventFilter,
) -> chassis_store::Result<Vec<Event>> {
    let Some(fleets) = caller.only_fleets().filter(|_| filter.fleet.is_none()) else {
        return shared.store.event_list(filter).await;
    };
    // As many of each fleet as are wanted of all: none of those that are wanted can be missing.
    let mut events = Vec::new();
    for fleet in fleets {
        let of_fleet = EventFilter { fleet: Some(fleet.clone()), ..filter.clone() };
        events.append(&mut shared.store.event_list(&of_fleet).await?);
    }
    events.sort_by_key(|event| event.id);
    let limit = filter.limit as usize;
    if filter.newest {
        events.drain(..events.len().saturating_sub(limit));
    } else {
        events.truncate(limit);
    }
    Ok(events)
}

/// Refuses to go on after an event of which the next are gone, or that this store never had.
async fn check_kept(shared: &Shared, after: Option<u64>) -> Result<()> {
    let Some(after) = after else { return Ok(()) };
    let oldest = EventFilter { limit: 1, ..EventFilter::default() };
    let oldest = shared.store.event_list(&oldest).await?.first().map_or(1, |event| event.id);
    let newest = *shared.store.event_watch().borrow();
    if (oldest.saturating_sub(1)..=newest).contains(&after) {
        return Ok(());
    }
    let detail = format!("what follows event {after} is not kept: the server has {oldest} to {newest}");
    Err(Failure::new(StatusCode::GONE, "events_gone", detail))
}

/// First what the filter finds, then everything after it.
async fn follow(
    shared: Arc<Shared>,
    caller: Caller,
    filter: EventFilter,
) -> Result<impl Stream<Item = std::result::Result<sse::Event, Infallible>>> {
    let watch = shared.store.event_watch();
    let newest = *watch.borrow();
    // With a place to go on from nothing may be left out; without one only the newest are wanted.
    let resumes = filter.after.is_some();
    let mut pending = if resumes { Vec::new() } else { reached(&shared, &caller, &filter).await? };
    pending.reverse();
    let after = filter.after.unwrap_or(newest).max(pending.first().map_or(0, |event| event.id));
    let state = ((shared, caller), watch, filter, pending, after);
    Ok(stream::unfold(state, |(to, mut watch, filter, mut pending, mut after)| async move {
        loop {
            if let Some(event) = pending.pop() {
                let sse = sse::Event::default()
                    .id(event.id.to_string())
                    .retry(RETRY)
                    .json_data(&event)
                    .unwrap_or_default();
                return Some((Ok(sse), (to, watch, filter, pending, after)));
            }
            watch.mark_unchanged();
            let page = EventFilter { after: Some(after), limit: PAGE, newest: false, ..filter.clone() };
            pending = reached(&to.0, &to.1, &page).await.ok()?;
            if let Some(last) = pending.last() {
                after = last.id;
                pending.reverse();
                continue;
            }
            watch.changed().await.ok()?;
        }
    }))
}
