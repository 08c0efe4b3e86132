//! What agents print: read from where it is, merged over instances, followed across restarts and replacements.
//!
//! Memory is bounded for each request, however fast agents write: what is on its way to a slow reader is
//! [`IN_FLIGHT`] blocks, and beyond that nothing is read any further.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use chassis_api::{LogQuery, Scope};
use chassis_core::InstanceKey;
use chassis_runtime::LogChunk;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use tokio::sync::mpsc;

use super::SharedState;
use super::extract::Query;
use super::failure::{Failure, Result};
use super::instances::agents_in;
use super::log_follow::Follower;
use crate::auth::Caller;
use crate::error::chain;
use crate::log_filter::{self, Filter, Rules, Tail};
use crate::log_line;
use crate::log_source::{Chunks, Source, sources};
use crate::shared::Shared;

/// Blocks of lines on their way to a slow reader.
const IN_FLIGHT: usize = 8;
/// Lines that are there already are sent together, up to so many bytes.
pub(super) const BLOCK: usize = 32 << 10;
/// What is held of last lines for one request, in bytes, where the runtime cannot find them by itself.
const TAIL: usize = 32 << 20;

pub(crate) async fn read(
    State(shared): SharedState,
    caller: Caller,
    Query(query): Query<LogQuery>,
) -> Result<Response> {
    caller.require(&query.fleet)?;
    let rules = rules_of(&query)?;
    let scope = Scope { fleet: query.fleet.clone(), agent: query.agent.clone(), number: query.number };
    let present = instances_in(&shared, &scope);
    if query.follow && (query.previous || query.until.is_some()) {
        return Err(Failure::invalid("follow_past", "what is over cannot be followed"));
    }
    let (lines, reader) = mpsc::channel(IN_FLIGHT);
    if query.follow && !present.is_empty() {
        tokio::spawn(follow_all(shared, scope, query, rules, lines));
    } else {
        let wanted = sources_of(&shared, &scope, present, &query).await?;
        tokio::spawn(read_all(shared, wanted, rules, query.tail, lines));
    }
    let body = stream::unfold(reader, |mut reader| async {
        Some((Ok::<_, std::convert::Infallible>(reader.recv().await?), reader))
    });
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(body)).into_response())
}

fn rules_of(query: &LogQuery) -> Result<Rules> {
    let grep = query.grep.as_deref().map(|text| log_filter::pattern(text, query.ignore_case)).transpose();
    let grep = grep.map_err(|error| Failure::invalid("bad_pattern", error))?;
    Ok(Rules { grep, level: query.level, whole: query.whole })
}

/// What is to be read of each instance. An instance that is no more counts if nothing that the scope names is there.
async fn sources_of(
    shared: &Arc<Shared>,
    scope: &Scope,
    present: Vec<InstanceKey>,
    query: &LogQuery,
) -> Result<Vec<(InstanceKey, Vec<Source>)>> {
    let mut instances = present;
    if instances.is_empty() || query.all {
        let mut kept = shared.kept_logs.instances_of(&scope.fleet);
        kept.retain(|key| {
            scope.agent.as_ref().is_none_or(|agent| key.agent == *agent)
                && scope.number.is_none_or(|number| key.number == number)
        });
        instances.append(&mut kept);
        instances.sort();
        instances.dedup();
    }
    if instances.is_empty() && scope.number.is_some() {
        return Err(Failure::not_found(
            "instance_not_found",
            "there is no such instance, and no output of it was kept; `chassis ps` shows all",
        ));
    }
    let mut wanted = Vec::new();
    for key in instances {
        let sources = sources(shared, &key, query).await?;
        if sources.is_empty() && query.previous && scope.number.is_some() {
            let detail = format!("{key} has had no run before the present one, or nothing is left of it");
            return Err(Failure::not_found("no_previous_run", detail));
        }
        wanted.push((key, sources));
    }
    Ok(wanted)
}

fn instances_in(shared: &Arc<Shared>, scope: &Scope) -> Vec<InstanceKey> {
    let mut instances = Vec::new();
    for agent in agents_in(shared, scope) {
        let state = agent.state();
        let numbers =
            state.slots.keys().filter(|number| scope.number.is_none_or(|wanted| wanted == **number));
        instances.extend(numbers.map(|number| state.instance_key(*number)));
    }
    instances
}

/// What is there of all instances, merged by time. Only one line of each is held at a time.
async fn read_all(
    shared: Arc<Shared>,
    wanted: Vec<(InstanceKey, Vec<Source>)>,
    rules: Rules,
    tail: Option<u32>,
    lines: mpsc::Sender<Bytes>,
) {
    let bytes = TAIL / wanted.len().max(1);
    let mut readers = Vec::new();
    for (key, sources) in wanted {
        let mut shown = shown(&shared, &key, sources, rules.clone(), tail, bytes).await;
        if let Some(head) = shown.next().await {
            readers.push((head, key.short_name(), shown));
        }
    }
    let mut block = Vec::new();
    while let Some(oldest) = (0..readers.len()).min_by_key(|index| readers[*index].0.time) {
        let (head, name, shown) = &mut readers[oldest];
        log_line::write(&mut block, name, head);
        match shown.next().await {
            Some(next) => *head = next,
            None => drop(readers.swap_remove(oldest)),
        }
        if (block.len() >= BLOCK || readers.is_empty())
            && lines.send(std::mem::take(&mut block).into()).await.is_err()
        {
            return;
        }
    }
}

/// The lines of one instance that are wanted, the oldest first.
async fn shown(
    shared: &Arc<Shared>,
    key: &InstanceKey,
    mut sources: Vec<Source>,
    rules: Rules,
    tail: Option<u32>,
    bytes: usize,
) -> BoxStream<'static, LogChunk> {
    let easy = rules.let_all_through() && sources.len() == 1 && sources[0].has_own_tail();
    let (own_tail, tail) = if easy { (tail, None) } else { (None, tail) };
    sources.reverse();
    let reading = Reading {
        shared: Arc::clone(shared),
        key: key.clone(),
        sources,
        own_tail,
        chunks: None,
        filter: Filter::new(rules),
        last: VecDeque::new(),
    };
    let all = stream::unfold(reading, |mut reading| async { Some((reading.next().await?, reading)) }).boxed();
    match tail {
        None => all,
        Some(tail) => stream::iter(last_of(all, tail, bytes).await).boxed(),
    }
}

/// The last lines, and no more of them than fit.
async fn last_of(mut all: BoxStream<'static, LogChunk>, count: u32, bytes: usize) -> VecDeque<LogChunk> {
    let mut last = Tail::new(count, bytes);
    while let Some(chunk) = all.next().await {
        last.push(&chunk);
    }
    last.chunks
}

/// One source after the other.
struct Reading {
    shared: Arc<Shared>,
    key: InstanceKey,
    /// In the opposite order.
    sources: Vec<Source>,
    own_tail: Option<u32>,
    chunks: Option<Chunks>,
    filter: Filter,
    /// What comes when all sources are at their end.
    last: VecDeque<LogChunk>,
}

impl Reading {
    async fn next(&mut self) -> Option<LogChunk> {
        loop {
            if let Some(chunks) = &mut self.chunks {
                if let Some(chunk) = chunk_next(&self.key, chunks).await {
                    match self.filter.push(chunk) {
                        Some(chunk) => return Some(chunk),
                        None => continue,
                    }
                }
                self.chunks = None;
                self.last.extend(self.filter.finish());
            }
            if let Some(chunk) = self.last.pop_front() {
                return Some(chunk);
            }
            match self.sources.pop()?.open(&self.shared, self.own_tail).await {
                Ok(chunks) => self.chunks = Some(chunks),
                Err(error) => {
                    tracing::warn!(instance = %self.key, error = chain(&error), "cannot read its output");
                }
            }
        }
    }
}

pub(super) async fn chunk_next(
    key: &InstanceKey,
    chunks: &mut (impl stream::Stream<Item = chassis_runtime::Result<LogChunk>> + Unpin),
) -> Option<LogChunk> {
    match chunks.next().await? {
        Ok(chunk) => Some(chunk),
        Err(error) => {
            tracing::warn!(instance = %key, error = chain(&error), "cannot read its output any further");
            None
        }
    }
}

/// One reader for each instance, also for those that come later.
async fn follow_all(
    shared: Arc<Shared>,
    scope: Scope,
    query: LogQuery,
    rules: Rules,
    lines: mpsc::Sender<Bytes>,
) {
    let mut changed = shared.changed.subscribe();
    let mut known = HashSet::new();
    loop {
        changed.mark_unchanged();
        let present = instances_in(&shared, &scope);
        for key in &present {
            if known.insert(key.clone()) {
                let follower = Follower::new(&shared, key, &rules, lines.clone());
                tokio::spawn(follower.run(query.clone()));
            }
        }
        known.retain(|key| present.contains(key));
        if present.is_empty() && scope.number.is_some() {
            return;
        }
        tokio::select! {
            _ = changed.changed() => {}
            () = lines.closed() => return,
        }
    }
}
