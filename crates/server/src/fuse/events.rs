//! The states of one environment, as they come.
//!
//! Unlike Fuse, the events are those of the store: none is lost when a client is slow, and one that comes back with
//! `Last-Event-ID` is sent what it missed.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::sse::{Event as SseEvent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use chassis_api::fuse::StateEvent;
use chassis_core::environment::Told;
use chassis_core::{AgentKey, Event, EventKind};
use chassis_store::EventFilter;
use futures_util::stream::{self, Stream};
use jiff::Timestamp;
use serde::Deserialize;

use super::view;
use crate::api::SharedState;
use crate::api::extract::{Path, Query};
use crate::api::failure::Result;
use crate::shared::Shared;

/// How the kind of these events begins.
const KIND: &str = "environment";
const PAGE: u32 = 100;
const KEEP_ALIVE: Duration = Duration::from_secs(15);
const UNBUFFERED: (HeaderName, HeaderValue) =
    (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct EventsQuery {
    last_event_id: Option<String>,
}

/// One that is followed.
struct Follower {
    shared: Arc<Shared>,
    id: String,
    key: AgentKey,
    /// The id of the last event that was read.
    after: u64,
    /// Read and not sent yet, the next one last.
    pending: Vec<StateEvent>,
    ended: bool,
}

pub(super) async fn follow(
    State(shared): SharedState,
    headers: HeaderMap,
    Path(id): Path<String>,
    Query(query): Query<EventsQuery>,
) -> Result<Response> {
    // Before it is looked at, so that nothing comes in between.
    let newest = *shared.store.event_watch().borrow();
    let found = shared.store.environment_get(&id).await?;
    let header = headers.get("last-event-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
    let last = header.or(query.last_event_id).and_then(|id| u64::from_str_radix(&id, 16).ok());
    let key = found.key.clone();
    let (after, pending) = match last.filter(|last| *last <= newest) {
        Some(last) => (last, Vec::new()),
        None => (newest, vec![present(&shared, newest, found)]),
    };
    let follower = Follower { shared, id, key, after, pending, ended: false };
    let sse = Sse::new(stream(follower)).keep_alive(KeepAlive::new().interval(KEEP_ALIVE).text("keepalive"));
    Ok(([UNBUFFERED], sse).into_response())
}

/// What it is like now, which is what everybody hears first.
fn present(shared: &Shared, newest: u64, found: chassis_store::Environment) -> StateEvent {
    let (state, error, updated_at) = (found.state.into(), found.error.clone(), found.updated_at);
    let url = view::environment(shared, found.clone()).url;
    event(newest, found.id, state, error, updated_at, url)
}

fn event(
    number: u64,
    vm_id: String,
    state: Told,
    error: Option<String>,
    updated_at: Timestamp,
    url: String,
) -> StateEvent {
    let id = format!("{number:032x}");
    // What is being destroyed is not there for long enough to be called.
    let url = if matches!(state, Told::Running | Told::Draining) { url } else { String::new() };
    StateEvent { id, event: "state".to_owned(), vm_id, state, url, error, updated_at }
}

fn stream(follower: Follower) -> impl Stream<Item = std::result::Result<SseEvent, Infallible>> {
    let watch = follower.shared.store.event_watch();
    stream::unfold((follower, watch), |(mut follower, mut watch)| async move {
        loop {
            if let Some(event) = follower.pending.pop() {
                follower.ended = event.state.is_last();
                let sse = SseEvent::default().id(event.id.clone()).json_data(&event).unwrap_or_default();
                return Some((Ok(sse), (follower, watch)));
            }
            if follower.ended {
                return None;
            }
            watch.mark_unchanged();
            if !follower.read().await? {
                watch.changed().await.ok()?;
            }
        }
    })
}

impl Follower {
    /// Reads what is new. None if the store does not answer: the client comes back.
    async fn read(&mut self) -> Option<bool> {
        let filter = EventFilter {
            fleet: Some(self.key.fleet.clone()),
            agent: Some(self.key.agent.clone()),
            after: Some(self.after),
            kinds: vec![KIND.to_owned()],
            limit: PAGE,
            ..EventFilter::default()
        };
        let found = self.shared.store.event_list(&filter).await.ok()?;
        let Some(last) = found.last() else { return Some(false) };
        self.after = last.id;
        let url = self.shared.store.environment_get(&self.id).await.ok();
        let url = url.map(|found| view::environment(&self.shared, found).url).unwrap_or_default();
        self.pending = found.into_iter().rev().filter_map(|event| self.wire(event, &url)).collect();
        Some(true)
    }

    fn wire(&self, found: Event, url: &str) -> Option<StateEvent> {
        let EventKind::Environment { id, state, error } = found.kind else { return None };
        (id == self.id).then(|| event(found.id, id, state, error, found.time, url.to_owned()))
    }
}
