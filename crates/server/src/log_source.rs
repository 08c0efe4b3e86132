//! Where the output that somebody wants to see of an instance is: in its container, in what was kept of earlier ones, in
//! the record of an exit.

use std::sync::Arc;

use chassis_api::LogQuery;
use chassis_core::{ExitRecord, InstanceKey, Run};
use chassis_runtime::{LogChunk, LogOptions, LogStream};
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, future};
use jiff::Timestamp;

use crate::kept_logs::Kept;
use crate::last_words::boundary;
use crate::shared::Shared;

pub(crate) type Chunks = BoxStream<'static, chassis_runtime::Result<LogChunk>>;

/// One place, and the part of it that is wanted.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    place: Place,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
}

#[derive(Debug, Clone)]
enum Place {
    /// The runtime's id.
    Container(Box<str>),
    File(Kept),
    /// The last lines of a run of which nothing else is left.
    Exit(Box<ExitRecord>),
}

/// An instance's container, and the run that it is in.
pub(crate) fn container(shared: &Arc<Shared>, key: &InstanceKey) -> Option<Run> {
    let agent = shared.agent(&key.agent_key())?;
    let state = agent.state();
    let observed = state.slots.get(&key.number)?.instance.observed.as_ref()?;
    Some(Run { id: observed.id.clone(), started_at: observed.state.started_at()? })
}

/// The places to read one after the other: none if there is nothing to be seen.
pub(crate) async fn sources(
    shared: &Arc<Shared>,
    key: &InstanceKey,
    query: &LogQuery,
) -> chassis_store::Result<Vec<Source>> {
    let present = container(shared, key);
    if query.previous {
        let exits = shared.store.instance_exits(key).await?;
        let found = previous(shared, key, present.as_ref(), &exits).map(|source| Source {
            since: source.since.into_iter().chain(query.since).max(),
            until: source.until.into_iter().chain(query.until).min(),
            ..source
        });
        return Ok(found.into_iter().collect());
    }
    let mut kept = shared.kept_logs.of_instance(key);
    kept.retain(|kept| present.as_ref().is_none_or(|run| !kept.is_of(&run.id)));
    if !query.all {
        // What there is of the last container is all that can be said of an instance that has none.
        let last = if present.is_none() { kept.pop() } else { None };
        kept = last.into_iter().collect();
    }
    let present = present.map(|run| Place::Container(run.id));
    let places = kept.into_iter().map(Place::File).chain(present);
    Ok(places.map(|place| Source { place, since: query.since, until: query.until }).collect())
}

/// What is kept of containers that were removed after a time, but of the present one.
pub(crate) fn kept_after(
    shared: &Arc<Shared>,
    key: &InstanceKey,
    query: &LogQuery,
    removed_after: Timestamp,
) -> Vec<Source> {
    let present = container(shared, key);
    let mut kept = shared.kept_logs.of_instance_since(key, removed_after);
    kept.retain(|kept| present.as_ref().is_none_or(|run| !kept.is_of(&run.id)));
    let places = kept.into_iter().map(Place::File);
    places.map(|place| Source { place, since: query.since, until: query.until }).collect()
}

/// The same, and the container.
pub(crate) fn sources_after(
    shared: &Arc<Shared>,
    key: &InstanceKey,
    query: &LogQuery,
    removed_after: Timestamp,
) -> Vec<Source> {
    let mut sources = kept_after(shared, key, query, removed_after);
    if let Some(run) = container(shared, key) {
        sources.push(Source { place: Place::Container(run.id), since: query.since, until: query.until });
    }
    sources
}

/// The run before the present one, or before the last one of an instance that does not run.
fn previous(
    shared: &Arc<Shared>,
    key: &InstanceKey,
    present: Option<&Run>,
    exits: &[ExitRecord],
) -> Option<Source> {
    let is = |exit: &ExitRecord, run: &Run| exit.container == *run.id && exit.started_at == run.started_at;
    let last = |exit: &&ExitRecord| present.is_none_or(|run| !is(exit, run));
    let Some(exit) = exits.iter().find(last) else {
        // Its history began anew with the instance, and did not with its number.
        let mut kept = shared.kept_logs.of_instance(key);
        kept.retain(|kept| present.is_none_or(|run| !kept.is_of(&run.id)));
        return Some(Source { place: Place::File(kept.pop()?), since: None, until: None });
    };
    let same = |other: &&ExitRecord| other.container == exit.container;
    let before = exits.iter().filter(same).find(|other| other.finished_at < exit.finished_at);
    let after = exits.iter().filter(same).rfind(|other| other.finished_at > exit.finished_at);
    let next = after
        .map(|next| next.started_at)
        .or_else(|| present.filter(|run| *run.id == *exit.container).map(|run| run.started_at));
    let place = if present.is_some_and(|run| *run.id == *exit.container) {
        Place::Container(exit.container.as_str().into())
    } else if let Some(kept) = shared.kept_logs.of_container(key, &exit.container) {
        Place::File(kept)
    } else if exit.log.is_empty() {
        return None;
    } else {
        Place::Exit(Box::new(exit.clone()))
    };
    Some(Source {
        place,
        since: before.map(|before| boundary(before.finished_at, exit.started_at)),
        until: next.map(|next| boundary(exit.finished_at, next)),
    })
}

impl Source {
    /// Without what was written before a time.
    pub(crate) fn since(self, time: Option<Timestamp>) -> Source {
        Source { since: self.since.max(time), ..self }
    }

    /// Whether nothing will ever be added to it.
    pub(crate) fn is_over(&self) -> bool {
        !matches!(self.place, Place::Container(_))
    }

    /// The container, if it is all of it that is wanted, so that the runtime itself can find its last lines.
    pub(crate) fn has_own_tail(&self) -> bool {
        matches!(self.place, Place::Container(_)) && self.until.is_none()
    }

    /// Its lines, the oldest first; only the last so many where [`Source::has_own_tail`].
    pub(crate) async fn open(
        self,
        shared: &Shared,
        key: &InstanceKey,
        tail: Option<u32>,
    ) -> chassis_runtime::Result<Chunks> {
        let Source { place, since, until } = self;
        let chunks = match place {
            Place::Container(id) => {
                let options = LogOptions { follow: false, since, tail };
                shared.runtime_of(key).logs(&id, &options).await?
            }
            Place::File(kept) => kept.read(),
            Place::Exit(exit) => stream::iter(exit.log.into_iter().map(|line| {
                let stream = if line.stream == "stderr" { LogStream::Stderr } else { LogStream::Stdout };
                Ok(LogChunk { time: line.time, stream, bytes: (line.text + "\n").into() })
            }))
            .boxed(),
        };
        if since.is_none() && until.is_none() {
            return Ok(chunks);
        }
        let wanted = move |time: Timestamp| {
            since.is_none_or(|since| time >= since) && until.is_none_or(|until| time <= until)
        };
        Ok(chunks
            .filter(move |chunk| future::ready(chunk.as_ref().map_or(true, |chunk| wanted(chunk.time))))
            .boxed())
    }
}
