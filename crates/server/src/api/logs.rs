//! What agents print: read from where it is, merged over instances, followed across restarts and replacements.
//!
//! Memory is bounded for each request, however fast agents write: what is on its way to a slow reader is
//! [`IN_FLIGHT`] blocks, and beyond that nothing is read any further.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use chassis_api::{LogQuery, Scope};
use chassis_core::{InstanceKey, Run, RunState};
use chassis_runtime::{LogChunk, LogOptions};
use futures_util::stream::{self, BoxStream, Fuse};
use futures_util::{FutureExt, StreamExt};
use jiff::Timestamp;
use tokio::sync::mpsc;

use super::SharedState;
use super::failure::{Failure, Result};
use super::instances::agents_in;
use crate::error::chain;
use crate::log_filter::{self, Filter, Rules};
use crate::log_line;
use crate::log_source::{Chunks, Source, container, sources};
use crate::shared::Shared;

/// Blocks of lines on their way to a slow reader.
const IN_FLIGHT: usize = 8;
/// Lines that are there already are sent together, up to so many bytes.
const BLOCK: usize = 32 << 10;
/// What is held of last lines for one request, in bytes, where the runtime cannot find them by itself.
const TAIL: usize = 32 << 20;
/// Before output that could not be read any further is read again.
const RETRY: Duration = Duration::from_secs(1);

pub(crate) async fn read(
    State(shared): SharedState,
    query: std::result::Result<Query<LogQuery>, QueryRejection>,
) -> Result<Response> {
    let Query(query) = query?;
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
        Some(tail) => stream::iter(last_of(all, tail as usize, bytes).await).boxed(),
    }
}

/// The last lines, and no more of them than fit.
async fn last_of(mut all: BoxStream<'static, LogChunk>, count: usize, bytes: usize) -> VecDeque<LogChunk> {
    let mut last: VecDeque<LogChunk> = VecDeque::new();
    let mut held = 0;
    while let Some(chunk) = all.next().await {
        // A piece of a block from the runtime would keep all of that in memory.
        let chunk = LogChunk { bytes: Bytes::copy_from_slice(&chunk.bytes), ..chunk };
        held += chunk.bytes.len();
        last.push_back(chunk);
        while last.len() > count || held > bytes {
            let Some(oldest) = last.pop_front() else { break };
            held -= oldest.bytes.len();
        }
    }
    last
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

async fn chunk_next(
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
    let mut followed = HashSet::new();
    loop {
        changed.mark_unchanged();
        let present = instances_in(&shared, &scope);
        for key in &present {
            if followed.insert(key.clone()) {
                let follower = Follower {
                    shared: Arc::clone(&shared),
                    key: key.clone(),
                    name: key.short_name(),
                    filter: Filter::new(rules.clone()),
                    position: Position::default(),
                    block: Vec::new(),
                    lines: lines.clone(),
                };
                tokio::spawn(follower.run(query.clone(), rules.clone()));
            }
        }
        followed.retain(|key| present.contains(key));
        if present.is_empty() && scope.number.is_some() {
            return;
        }
        tokio::select! {
            _ = changed.changed() => {}
            () = lines.closed() => return,
        }
    }
}

/// Follows one instance.
struct Follower {
    shared: Arc<Shared>,
    key: InstanceKey,
    name: String,
    filter: Filter,
    position: Position,
    block: Vec<u8>,
    lines: mpsc::Sender<Bytes>,
}

/// Whoever listened has gone.
struct Gone;

/// How far output was read, by the time of the last chunk: the pieces of a long line have the same.
#[derive(Debug, Clone, Copy, Default)]
struct Position {
    time: Option<Timestamp>,
    /// Chunks of that time that were read.
    read: usize,
    /// Those of them that were met again since reading began anew.
    skipped: usize,
}

impl Position {
    /// Notes a chunk. False if it was read before.
    fn pass(&mut self, time: Timestamp) -> bool {
        if self.time != Some(time) {
            *self = Position { time: Some(time), read: 1, skipped: 1 };
            return true;
        }
        self.skipped += 1;
        let is_new = self.skipped > self.read;
        self.read = self.read.max(self.skipped);
        is_new
    }

    /// Reading begins anew at the last time.
    fn resume(&mut self) -> Option<Timestamp> {
        self.skipped = 0;
        self.time
    }
}

impl Follower {
    async fn run(mut self, query: LogQuery, rules: Rules) {
        // An error is a listener that has gone: there is nobody to tell.
        let _ = self.follow(query, rules).await;
    }

    /// Through all runs, until the instance is deleted.
    async fn follow(&mut self, query: LogQuery, rules: Rules) -> std::result::Result<(), Gone> {
        let shared = Arc::clone(&self.shared);
        let mut changed = shared.changed.subscribe();
        let mut options = LogOptions { follow: true, since: query.since, tail: query.tail };
        if query.all || (query.tail.is_some() && !rules.let_all_through()) {
            self.past(&query, rules).await?;
            options.tail = None;
        }
        let mut ended: Option<Run> = None;
        loop {
            changed.mark_unchanged();
            if !exists(&shared, &self.key) {
                return Ok(());
            }
            let Some(run) = container(&shared, &self.key).filter(|run| ended.as_ref() != Some(run)) else {
                tokio::select! {
                    _ = changed.changed() => continue,
                    () = self.lines.closed() => return Err(Gone),
                }
            };
            if let Some(since) = self.position.resume() {
                options.since = Some(since);
                options.tail = None;
            }
            match shared.runtime.logs(&run.id, &options).await {
                Ok(chunks) => self.pass_on(chunks.fuse()).await?,
                Err(error) => {
                    tracing::warn!(instance = %self.key, error = chain(&error), "cannot follow its output");
                }
            }
            match self.ending_of(&run).await {
                // The reading broke off, not the run: it goes on in a moment.
                Ending::None => tokio::time::sleep(RETRY).await,
                Ending::Run => {
                    self.finish().await?;
                    ended = Some(run);
                }
                Ending::Container => {
                    // It may have gone before all of it was read.
                    if let Some(kept) = shared.kept_logs.of_container(&self.key, &run.id) {
                        let since = self.position.resume();
                        if let Ok(chunks) = Source::kept(kept, since).open(&shared, None).await {
                            self.pass_on(chunks.fuse()).await?;
                        }
                    }
                    self.finish().await?;
                    ended = Some(run);
                }
            }
        }
    }

    /// What was written before now, as far as it is wanted and the runtime cannot find it by itself.
    async fn past(&mut self, query: &LogQuery, rules: Rules) -> std::result::Result<(), Gone> {
        let sources = sources(&self.shared, &self.key, query).await.unwrap_or_default();
        let mut last = VecDeque::new();
        let mut held = 0;
        for source in sources {
            let Ok(chunks) = source.open(&self.shared, None).await else { continue };
            let mut chunks = chunks.fuse();
            while let Some(chunk) = chunk_next(&self.key, &mut chunks).await {
                self.position.pass(chunk.time);
                let Some(chunk) = self.filter.push(chunk) else { continue };
                let Some(tail) = query.tail else {
                    self.add(&chunk);
                    self.send_if(BLOCK).await?;
                    continue;
                };
                let chunk = LogChunk { bytes: Bytes::copy_from_slice(&chunk.bytes), ..chunk };
                held += chunk.bytes.len();
                last.push_back(chunk);
                while last.len() > tail as usize || held > TAIL / 16 {
                    let Some(oldest) = last.pop_front() else { break };
                    held -= oldest.bytes.len();
                }
            }
        }
        for chunk in last {
            self.add(&chunk);
            self.send_if(BLOCK).await?;
        }
        drop(rules);
        self.send_if(1).await
    }

    /// Passes chunks on as they come, those that are there already together.
    async fn pass_on(&mut self, mut chunks: Fuse<Chunks>) -> std::result::Result<(), Gone> {
        loop {
            let chunk = tokio::select! {
                chunk = chunk_next(&self.key, &mut chunks) => chunk,
                () = self.lines.closed() => return Err(Gone),
            };
            let Some(chunk) = chunk else { return Ok(()) };
            let mut next = Some(chunk);
            while let Some(chunk) = next {
                if self.position.pass(chunk.time)
                    && let Some(chunk) = self.filter.push(chunk)
                {
                    self.add(&chunk);
                }
                next = if self.block.len() < BLOCK {
                    chunk_next(&self.key, &mut chunks).now_or_never().flatten()
                } else {
                    None
                };
            }
            self.send_if(1).await?;
        }
    }

    /// The run is over, and with it its last line.
    async fn finish(&mut self) -> std::result::Result<(), Gone> {
        let rest: Vec<LogChunk> = self.filter.finish().collect();
        for chunk in rest {
            self.add(&chunk);
        }
        self.send_if(1).await
    }

    fn add(&mut self, chunk: &LogChunk) {
        log_line::write(&mut self.block, &self.name, chunk);
    }

    /// Sends what has come together, if it is so many bytes.
    async fn send_if(&mut self, least: usize) -> std::result::Result<(), Gone> {
        if self.block.len() < least {
            return Ok(());
        }
        let block = std::mem::take(&mut self.block);
        self.lines.send(block.into()).await.map_err(|_| Gone)
    }

    /// Asks the runtime, because the end of the output is heard before the end of the run.
    async fn ending_of(&self, run: &Run) -> Ending {
        match self.shared.runtime.instance_inspect(&run.id).await {
            Ok(Some(owned)) => match owned.observed.state {
                RunState::Running { started_at } if started_at == run.started_at => Ending::None,
                _ => Ending::Run,
            },
            Ok(None) => Ending::Container,
            Err(_) => Ending::None,
        }
    }
}

/// What came to its end when output did.
enum Ending {
    None,
    Run,
    Container,
}

fn exists(shared: &Arc<Shared>, key: &InstanceKey) -> bool {
    shared.agent(&key.agent_key()).is_some_and(|agent| agent.state().slots.contains_key(&key.number))
}
