//! What agents print: read from where it is, merged over instances, followed across restarts and replacements.
//!
//! Memory is bounded for each request, however fast agents write: what is on its way to a slow reader is
//! [`IN_FLIGHT`] blocks, and beyond that nothing is read any further.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use chassis_api::{LogQuery, Scope};
use chassis_core::InstanceKey;
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::SharedState;
use super::extract::Query;
use super::failure::{Failure, Result};
use super::instances::agents_in;
use super::log_follow::Follower;
use super::log_merge::{Reading, read_all};
use super::log_resume::{Begin, check_kept, instances_gone};
use super::log_stream::{Block, Format, IN_FLIGHT, last_places, wants_events};
use super::select::Selection;
use crate::auth::Caller;
use crate::log_filter::{self, Rules};
use crate::log_place::Places;
use crate::log_source::{sources, sources_after};
use crate::shared::Shared;

/// Instances of one stream of events. Each has its place in each id, and a head takes ids of 500 and something more.
const INSTANCES: usize = 500;

/// Whose output is read, and from where on.
struct Wanted {
    scope: Scope,
    selection: Selection,
    query: LogQuery,
    rules: Rules,
    places: Places,
    /// An earlier reading was cut off.
    goes_on: bool,
}

pub(crate) async fn read(
    State(shared): SharedState,
    caller: Caller,
    headers: HeaderMap,
    Query(query): Query<LogQuery>,
) -> Result<Response> {
    caller.require(&query.fleet)?;
    if query.follow && (query.previous || query.until.is_some()) {
        return Err(Failure::invalid("follow_past", "what is over cannot be followed"));
    }
    let events = wants_events(&headers);
    let last = if events { last_places(&headers)? } else { None };
    let wanted = Wanted {
        rules: rules_of(&query)?,
        scope: Scope { fleet: query.fleet.clone(), agent: query.agent.clone(), number: query.number },
        selection: Selection::read(&shared, query.labels.as_deref()).await?,
        goes_on: last.is_some(),
        places: last.unwrap_or_else(|| Places::new(Timestamp::now())),
        query,
    };
    let present = wanted.present(&shared);
    if events && present.len() > INSTANCES {
        let detail = format!(
            "these are {} instances, and a stream of events has at most {INSTANCES}: name an agent, or choose by labels",
            present.len()
        );
        return Err(Failure::invalid("too_many_instances", detail));
    }
    let gone = if wanted.goes_on && !wanted.query.previous {
        check_kept(&shared, &wanted.scope, &wanted.query, &wanted.places).await?
    } else {
        Vec::new()
    };
    let format = if events { Format::events(wanted.places.clone(), gone) } else { Format::JsonLines };
    let (lines, reader) = mpsc::channel(IN_FLIGHT);
    if wanted.query.follow && !present.is_empty() {
        tokio::spawn(follow_all(shared, wanted, lines));
    } else {
        let readings = wanted.readings(&shared, present).await?;
        tokio::spawn(read_all(shared, readings, lines));
    }
    Ok(format.answer(reader))
}

fn rules_of(query: &LogQuery) -> Result<Rules> {
    let grep = query.grep.as_deref().map(|text| log_filter::pattern(text, query.ignore_case)).transpose();
    let grep = grep.map_err(|error| Failure::invalid("bad_pattern", error))?;
    Ok(Rules { grep, level: query.level, whole: query.whole })
}

impl Wanted {
    fn present(&self, shared: &Arc<Shared>) -> BTreeSet<InstanceKey> {
        let mut instances = BTreeSet::new();
        for agent in agents_in(shared, &self.scope) {
            let state = agent.state();
            if !self.selection.has_agent(&state.key.fleet, &state.spec.labels) {
                continue;
            }
            let keys = state.slots.keys().map(|number| state.instance_key(*number));
            instances.extend(keys.filter(|key| self.scope.has(key)));
        }
        instances
    }

    /// What is to be read of each instance. One that is no more counts if nothing that the scope names is there, or if
    /// an earlier reading was of it. Labels are those of agents that are there.
    async fn readings(&self, shared: &Arc<Shared>, present: BTreeSet<InstanceKey>) -> Result<Vec<Reading>> {
        let mut instances = present;
        if self.goes_on && self.query.labels.is_none() {
            instances.append(&mut instances_gone(shared, &self.scope, &self.places));
        } else if (instances.is_empty() || self.query.all) && self.query.labels.is_none() {
            let mut kept = shared.kept_logs.instances_of(&self.scope.fleet);
            kept.retain(|key| self.scope.has(key));
            instances.extend(kept);
        }
        if instances.is_empty() && self.scope.number.is_some() {
            return Err(Failure::not_found(
                "instance_not_found",
                "there is no such instance, and no output of it was kept; `chassis ps` shows all",
            ));
        }
        let mut readings = Vec::new();
        for key in instances {
            let begin = if self.goes_on { Begin::of(&self.places, &key) } else { Begin::Query };
            let sources = match begin {
                _ if self.query.previous => sources(shared, &key, &self.query).await?,
                Begin::Query => sources(shared, &key, &self.query).await?,
                Begin::Since(time) => sources_after(shared, &key, &self.query, time),
                Begin::After(place) => {
                    let since = place.since().unwrap_or(self.places.began);
                    let sources = sources_after(shared, &key, &self.query, since);
                    sources.into_iter().map(|source| source.since(place.since())).collect()
                }
            };
            if sources.is_empty() && self.query.previous && self.scope.number.is_some() {
                let detail = format!("{key} has had no run before the present one, or nothing is left of it");
                return Err(Failure::not_found("no_previous_run", detail));
            }
            readings.push(Reading::new(key, sources, &self.rules, &self.query, begin));
        }
        Ok(readings)
    }
}

/// One reader for each instance, also for those that come later.
async fn follow_all(shared: Arc<Shared>, wanted: Wanted, lines: mpsc::Sender<Block>) {
    let wanted = Arc::new(wanted);
    let mut changed = shared.changed.subscribe();
    let mut readers = JoinSet::new();
    let mut read = HashSet::new();
    // Where the readers of instances ended that have been there: they may come again.
    let mut places = wanted.places.clone();
    let mut is_first = true;
    loop {
        changed.mark_unchanged();
        let mut present = wanted.present(&shared);
        let is_over = present.is_empty() && wanted.scope.number.is_some();
        if is_first && wanted.goes_on && wanted.query.labels.is_none() {
            present.append(&mut instances_gone(&shared, &wanted.scope, &places));
        }
        for key in present {
            if read.insert(key.clone()) {
                let begin = if is_first && !wanted.goes_on { Begin::Query } else { Begin::of(&places, &key) };
                let follower = Follower::new(&shared, key, &wanted.rules, begin, places.began, lines.clone());
                readers.spawn(follower.run(wanted.query.clone()));
            }
        }
        is_first = false;
        if is_over && readers.is_empty() {
            return;
        }
        tokio::select! {
            _ = changed.changed() => {}
            Some(ended) = readers.join_next() => if let Ok((key, place)) = ended {
                read.remove(&*key);
                places.set(&key, place);
            },
            () = lines.closed() => return,
        }
    }
}
