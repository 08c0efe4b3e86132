//! Follows what one instance prints through its runs, its containers and breaks of the connection to the runtime: each
//! line once.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use chassis_api::LogQuery;
use chassis_core::{InstanceKey, Run, RunState};
use chassis_runtime::{LogChunk, LogOptions};
use futures_util::stream::Fuse;
use futures_util::{FutureExt, StreamExt};
use jiff::Timestamp;
use tokio::sync::mpsc;

use super::logs::{BLOCK, chunk_next};
use crate::error::chain;
use crate::log_filter::{Filter, Rules, Tail};
use crate::log_line;
use crate::log_source::{Chunks, Source, container, sources};
use crate::shared::Shared;

/// What is held of last lines, in bytes, where the runtime cannot find them by itself.
const TAIL: usize = 2 << 20;
/// Before output that could not be read any further is read again.
const RETRY: Duration = Duration::from_secs(1);

/// Follows one instance.
pub(super) struct Follower {
    shared: Arc<Shared>,
    key: InstanceKey,
    name: String,
    /// The last lines that are wanted are the last that there are: the runtime finds them.
    finds_tail: bool,
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
    pub(super) fn new(
        shared: &Arc<Shared>,
        key: &InstanceKey,
        rules: &Rules,
        lines: mpsc::Sender<Bytes>,
    ) -> Follower {
        Follower {
            shared: Arc::clone(shared),
            key: key.clone(),
            name: key.short_name(),
            finds_tail: rules.let_all_through(),
            filter: Filter::new(rules.clone()),
            position: Position::default(),
            block: Vec::new(),
            lines,
        }
    }

    pub(super) async fn run(mut self, query: LogQuery) {
        // An error is a listener that has gone: there is nobody to tell.
        let _ = self.follow(query).await;
    }

    /// Through all runs, until the instance is deleted.
    async fn follow(&mut self, query: LogQuery) -> Result<(), Gone> {
        let shared = Arc::clone(&self.shared);
        let mut changed = shared.changed.subscribe();
        let mut options = LogOptions { follow: true, since: query.since, tail: query.tail };
        if query.all || (query.tail.is_some() && !self.finds_tail) {
            self.past(&query).await?;
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

    /// What was written before now, where the runtime cannot find what of it is wanted.
    async fn past(&mut self, query: &LogQuery) -> Result<(), Gone> {
        let mut last = query.tail.map(|count| Tail::new(count, TAIL));
        for source in sources(&self.shared, &self.key, query).await.unwrap_or_default() {
            let Ok(mut chunks) = source.open(&self.shared, None).await else { continue };
            while let Some(chunk) = chunk_next(&self.key, &mut chunks).await {
                self.position.pass(chunk.time);
                match (self.filter.push(chunk), &mut last) {
                    (Some(chunk), Some(last)) => last.push(&chunk),
                    (Some(chunk), None) => {
                        self.add(&chunk);
                        self.send_if(BLOCK).await?;
                    }
                    (None, _) => {}
                }
            }
        }
        for chunk in last.into_iter().flat_map(|last| last.chunks) {
            self.add(&chunk);
            self.send_if(BLOCK).await?;
        }
        self.send_if(1).await
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
    async fn finish(&mut self) -> Result<(), Gone> {
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
    async fn send_if(&mut self, least: usize) -> Result<(), Gone> {
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
