//! Follows what one instance prints through its runs, its containers and breaks of the connection to the runtime: each
//! line once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chassis_api::LogQuery;
use chassis_core::{InstanceKey, Run, RunState};
use chassis_runtime::LogOptions;
use futures_util::stream::Fuse;
use futures_util::{FutureExt, StreamExt};
use jiff::Timestamp;
use tokio::sync::mpsc;

use super::log_merge::chunk_next;
use super::log_resume::Begin;
use super::log_stream::{BLOCK, Block};
use crate::error::chain;
use crate::log_filter::{Rules, Tail};
use crate::log_place::{Place, Tracked};
use crate::log_source::{Chunks, Source, container, kept_after, sources, sources_after};
use crate::shared::Shared;

/// What is held of last lines, in bytes, where the runtime cannot find them by itself.
const TAIL: usize = 2 << 20;
/// Before output that could not be read any further is read again.
const RETRY: Duration = Duration::from_secs(1);
/// How often a place is told that no line brings.
const TELL_PLACE: Duration = Duration::from_secs(10);

/// Follows one instance.
pub(super) struct Follower {
    shared: Arc<Shared>,
    key: Arc<InstanceKey>,
    name: String,
    begin: Begin,
    /// When all this was asked for: nothing that ended before is wanted, unless the query asks for it.
    opened_at: Timestamp,
    /// The last lines that are wanted are the last that there are: the runtime finds them.
    finds_tail: bool,
    tracked: Tracked,
    /// The container that was read last.
    last: Option<Box<str>>,
    block: Block,
    told: Instant,
    lines: mpsc::Sender<Block>,
}

/// Whoever listened has gone.
struct Gone;

impl Follower {
    pub(super) fn new(
        shared: &Arc<Shared>,
        key: InstanceKey,
        rules: &Rules,
        begin: Begin,
        opened_at: Timestamp,
        lines: mpsc::Sender<Block>,
    ) -> Follower {
        Follower {
            shared: Arc::clone(shared),
            name: key.short_name(),
            key: Arc::new(key),
            begin,
            opened_at,
            finds_tail: rules.let_all_through(),
            tracked: match begin {
                Begin::After(place) => Tracked::after(rules.clone(), place),
                Begin::Query | Begin::Since(_) => Tracked::new(rules.clone()),
            },
            last: None,
            block: Block::default(),
            told: Instant::now(),
            lines,
        }
    }

    /// Until the instance is deleted, or nobody listens any more. Returns how far that was.
    pub(super) async fn run(mut self, query: LogQuery) -> (Arc<InstanceKey>, Place) {
        // An error is a listener that has gone: there is nobody to tell.
        let _ = self.follow(query).await;
        (self.key, self.tracked.place())
    }

    async fn follow(&mut self, query: LogQuery) -> Result<(), Gone> {
        let shared = Arc::clone(&self.shared);
        let mut changed = shared.changed.subscribe();
        let mut options = LogOptions { follow: true, since: query.since, tail: None };
        options.tail = self.past(&query).await?;
        let mut ended: Option<Run> = None;
        loop {
            changed.mark_unchanged();
            let there = exists(&shared, &self.key);
            let run = container(&shared, &self.key).filter(|run| ended.as_ref() != Some(run));
            let Some(run) = run.filter(|_| there) else {
                if !there {
                    return self.catch_up(&query).await;
                }
                tokio::select! {
                    _ = changed.changed() => continue,
                    () = self.lines.closed() => return Err(Gone),
                }
            };
            if self.last.as_ref().is_some_and(|last| *last != run.id) {
                self.catch_up(&query).await?;
            }
            self.last = Some(run.id.clone());
            if let Some(since) = self.tracked.read_again() {
                options.since = query.since.max(Some(since));
                options.tail = None;
            }
            match shared.runtime_of(&self.key).logs(&run.id, &options).await {
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
                    self.catch_up(&query).await?;
                    self.finish().await?;
                    ended = Some(run);
                }
            }
        }
    }

    /// What was written before now, where the runtime cannot find what of it is wanted. Returns how many of the last
    /// lines it shall find.
    async fn past(&mut self, query: &LogQuery) -> Result<Option<u32>, Gone> {
        let present = container(&self.shared, &self.key).map(|run| run.id);
        match self.begin {
            Begin::Query if query.all || (query.tail.is_some() && !self.finds_tail) => {
                self.last = present;
                let sources = sources(&self.shared, &self.key, query).await.unwrap_or_default();
                self.read(sources, query.tail.map(|count| (count, None))).await?;
            }
            Begin::Query => {
                match query.tail {
                    None => {}
                    Some(0) => self.tracked.begin_at(self.opened_at),
                    Some(_) => self.tracked.begin_with_next(),
                }
                return Ok(query.tail);
            }
            Begin::Since(time) if query.tail.is_some() => {
                self.last = present;
                let sources = sources_after(&self.shared, &self.key, query, time);
                self.read(sources, query.tail.map(|count| (count, Some(time)))).await?;
            }
            Begin::Since(_) | Begin::After(_) => {
                self.last = present;
                self.catch_up(query).await?;
            }
        }
        Ok(None)
    }

    /// What is kept of containers that went since the last one was read.
    async fn catch_up(&mut self, query: &LogQuery) -> Result<(), Gone> {
        let since = self.tracked.read_again();
        let kept = kept_after(&self.shared, &self.key, query, since.unwrap_or(self.opened_at));
        self.read(kept.into_iter().map(|source| source.since(since)).collect(), None).await
    }

    /// Passes on what is in places, one after the other; of what was written before a time only the last lines, if
    /// there are so many.
    async fn read(
        &mut self,
        sources: Vec<Source>,
        tail: Option<(u32, Option<Timestamp>)>,
    ) -> Result<(), Gone> {
        let before = tail.and_then(|(_, before)| before);
        let mut last = tail.map(|(count, _)| Tail::new(count, TAIL));
        for source in sources {
            let is_over = source.is_over();
            let Ok(mut chunks) = source.open(&self.shared, &self.key, None).await else { continue };
            while let Some(chunk) = chunk_next(&self.key, &mut chunks).await {
                let Some(chunk) = self.tracked.push(chunk) else { continue };
                if before.is_some_and(|before| chunk.time >= before) {
                    self.add_last(&mut last).await?;
                }
                let place = self.tracked.place();
                if let Some(last) = &mut last {
                    last.push(&chunk, place);
                } else {
                    self.block.add(&self.key, &self.name, &chunk, place);
                    self.send_if(BLOCK).await?;
                }
            }
            if is_over {
                for (chunk, place) in self.tracked.finish() {
                    match &mut last {
                        Some(last) => last.push(&chunk, place),
                        None => self.block.add(&self.key, &self.name, &chunk, place),
                    }
                }
            }
        }
        self.add_last(&mut last).await?;
        self.send_if(0).await
    }

    async fn add_last(&mut self, last: &mut Option<Tail>) -> Result<(), Gone> {
        for (chunk, place) in last.take().into_iter().flat_map(|last| last.lines) {
            self.block.add(&self.key, &self.name, &chunk, place);
            self.send_if(BLOCK).await?;
        }
        Ok(())
    }

    /// Passes chunks on as they come, those that are there already together.
    async fn pass_on(&mut self, mut chunks: Fuse<Chunks>) -> Result<(), Gone> {
        loop {
            let chunk = tokio::select! {
                chunk = chunk_next(&self.key, &mut chunks) => chunk,
                () = self.lines.closed() => return Err(Gone),
            };
            let Some(chunk) = chunk else { return Ok(()) };
            let mut next = Some(chunk);
            while let Some(chunk) = next {
                if let Some(chunk) = self.tracked.push(chunk) {
                    self.block.add(&self.key, &self.name, &chunk, self.tracked.place());
                }
                next = if self.block.text.len() < BLOCK {
                    chunk_next(&self.key, &mut chunks).now_or_never().flatten()
                } else {
                    None
                };
            }
            if self.block.is_empty() && self.told.elapsed() > TELL_PLACE {
                self.block.note(&self.key, self.tracked.place());
            }
            self.send_if(0).await?;
        }
    }

    /// The run is over, and with it its last line.
    async fn finish(&mut self) -> Result<(), Gone> {
        for (chunk, place) in self.tracked.finish() {
            self.block.add(&self.key, &self.name, &chunk, place);
        }
        self.send_if(0).await
    }

    /// Sends what has come together, if it is so many bytes.
    async fn send_if(&mut self, least: usize) -> Result<(), Gone> {
        if self.block.is_empty() || self.block.text.len() < least {
            return Ok(());
        }
        self.told = Instant::now();
        self.lines.send(std::mem::take(&mut self.block)).await.map_err(|_| Gone)
    }

    /// Asks the runtime, because the end of the output is heard before the end of the run.
    async fn ending_of(&self, run: &Run) -> Ending {
        match self.shared.runtime_of(&self.key).instance_inspect(&run.id).await {
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
