//! What is there of the output of several instances, merged by time.

use std::collections::VecDeque;
use std::sync::Arc;

use chassis_api::LogQuery;
use chassis_core::InstanceKey;
use chassis_runtime::LogChunk;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use jiff::Timestamp;
use tokio::sync::mpsc;

use super::log_resume::Begin;
use super::log_stream::{BLOCK, Block};
use crate::error::chain;
use crate::log_filter::{Rules, Tail};
use crate::log_place::{Place, Tracked};
use crate::log_source::{Chunks, Source};
use crate::shared::Shared;

/// What is held of last lines for one request, in bytes, where the runtime cannot find them by itself.
const TAIL: usize = 32 << 20;

/// A line with the place behind it.
type Line = (LogChunk, Place);

/// One instance: one source after the other.
pub(super) struct Reading {
    key: Arc<InstanceKey>,
    /// In the opposite order.
    sources: Vec<Source>,
    /// So many of the last lines, which the runtime finds by itself.
    own_tail: Option<u32>,
    /// So many of the last lines, of those that were written before a time if there is one.
    tail: Option<(u32, Option<Timestamp>)>,
    chunks: Option<Chunks>,
    tracked: Tracked,
    /// What comes when a source is at its end.
    last: VecDeque<Line>,
}

/// What is there of all instances. Only one line of each is held at a time.
pub(super) async fn read_all(shared: Arc<Shared>, readings: Vec<Reading>, lines: mpsc::Sender<Block>) {
    let bytes = TAIL / readings.len().max(1);
    let mut readers = Vec::new();
    for reading in readings {
        let key = Arc::clone(&reading.key);
        let mut shown = reading.shown(&shared, bytes).await;
        if let Some(head) = shown.next().await {
            readers.push((head, key.short_name(), key, shown));
        }
    }
    let mut block = Block::default();
    while let Some(oldest) = (0..readers.len()).min_by_key(|index| readers[*index].0.0.time) {
        let ((head, place), name, key, shown) = &mut readers[oldest];
        block.add(key, name, head, *place);
        match shown.next().await {
            Some(next) => (*head, *place) = next,
            None => drop(readers.swap_remove(oldest)),
        }
        if (block.text.len() >= BLOCK || readers.is_empty())
            && lines.send(std::mem::take(&mut block)).await.is_err()
        {
            return;
        }
    }
}

impl Reading {
    pub(super) fn new(
        key: InstanceKey,
        mut sources: Vec<Source>,
        rules: &Rules,
        query: &LogQuery,
        begin: Begin,
    ) -> Reading {
        let is_easy = rules.let_all_through() && sources.len() == 1 && sources[0].has_own_tail();
        let mut tracked = Tracked::new(rules.clone());
        let (own_tail, tail) = match begin {
            Begin::After(place) => {
                tracked = Tracked::after(rules.clone(), place);
                (None, None)
            }
            Begin::Since(time) => (None, query.tail.map(|count| (count, Some(time)))),
            Begin::Query if is_easy && query.tail.is_some() => {
                tracked.begin_with_next();
                (query.tail, None)
            }
            Begin::Query => (None, query.tail.map(|count| (count, None))),
        };
        sources.reverse();
        let key = Arc::new(key);
        Reading { key, sources, own_tail, tail, chunks: None, tracked, last: VecDeque::new() }
    }

    /// The lines that are wanted, the oldest first.
    async fn shown(self, shared: &Arc<Shared>, bytes: usize) -> BoxStream<'static, Line> {
        let tail = self.tail;
        let state = (Arc::clone(shared), self);
        let mut all = stream::unfold(state, |(shared, mut reading)| async {
            Some((reading.next(&shared).await?, (shared, reading)))
        })
        .fuse()
        .boxed();
        let Some((count, before)) = tail else { return all };
        let mut last = Tail::new(count, bytes);
        let mut first_after = None;
        while let Some((chunk, place)) = all.next().await {
            if before.is_some_and(|before| chunk.time >= before) {
                first_after = Some((chunk, place));
                break;
            }
            last.push(&chunk, place);
        }
        stream::iter(last.lines).chain(stream::iter(first_after)).chain(all).boxed()
    }

    async fn next(&mut self, shared: &Shared) -> Option<Line> {
        loop {
            if let Some(chunks) = &mut self.chunks {
                if let Some(chunk) = chunk_next(&self.key, chunks).await {
                    match self.tracked.push(chunk) {
                        Some(chunk) => return Some((chunk, self.tracked.place())),
                        None => continue,
                    }
                }
                self.chunks = None;
                self.last.extend(self.tracked.finish());
            }
            if let Some(line) = self.last.pop_front() {
                return Some(line);
            }
            match self.sources.pop()?.open(shared, &self.key, self.own_tail).await {
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
