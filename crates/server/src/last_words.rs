//! What an agent said last before it ended unasked: read before its container is started again or removed, because that
//! is what a person asks for first.
//!
//! Best effort, and bounded in time and memory: a runtime that is slow delays a restart by [`LIMIT`] at most, however
//! many instances ended at once.

use std::collections::VecDeque;
use std::time::Duration;

use chassis_core::{ExitLine, ExitReason, ExitRecord, Memory};
use chassis_runtime::{LogChunk, LogOptions, LogStream, Runtime};
use chassis_store::InstanceUpdate;
use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use tokio::time::{Instant, timeout_at};

use crate::error::chain;
use crate::shared::Shared;

/// For all that ended at once.
const LIMIT: Duration = Duration::from_secs(2);
/// Of how many instances that ended at once the output is read: with the others it is a common cause.
const INSTANCES: usize = 256;
const AT_ONCE: usize = 8;
/// Lines of each, the length of a line in bytes, and that of all together.
const LINES: u32 = 50;
const LINE_LENGTH: usize = 1 << 10;
const LENGTH: usize = 32 << 10;

/// Completes the records of runs that ended unasked.
pub(crate) async fn fill(shared: &Shared, updates: &mut [InstanceUpdate]) {
    let deadline = Instant::now() + LIMIT;
    let wanting = updates.iter_mut().filter_map(|update| {
        let InstanceUpdate { key, memory, exits, .. } = update;
        let exit = exits.iter_mut().rfind(|exit| exit.reason != ExitReason::Asked && exit.code.is_some())?;
        // Of what a node tells of earlier runs, the output lies before that of the present one.
        memory.exit.filter(|last| last.finished_at == exit.finished_at)?;
        Some((shared.runtime_of(key), &*memory, exit))
    });
    stream::iter(wanting.take(INSTANCES))
        .for_each_concurrent(AT_ONCE, |(runtime, memory, exit)| async move {
            match timeout_at(deadline, read(&*runtime, memory, exit)).await {
                Ok(Ok(lines)) => exit.log = lines,
                Ok(Err(error)) => {
                    tracing::debug!(container = exit.container, error = chain(&error), "no last output");
                }
                Err(_) => {
                    tracing::debug!(container = exit.container, "its last output took too long to read");
                }
            }
        })
        .await;
}

async fn read(
    runtime: &dyn Runtime,
    memory: &Memory,
    exit: &ExitRecord,
) -> chassis_runtime::Result<Vec<ExitLine>> {
    let since = memory.last_exit.map(|before| boundary(before.finished_at, exit.started_at));
    let options = LogOptions { follow: false, since, tail: Some(LINES) };
    let mut chunks = runtime.logs(&exit.container, &options).await?;
    let mut lines = Lines::default();
    while let Some(chunk) = chunks.next().await {
        lines.push(&chunk?);
    }
    Ok(lines.kept.into())
}

/// Where the output of one run ends and that of the next begins. The last of the one may be dated a little after its
/// end, and the first of the other a little before its start.
pub(crate) fn boundary(finished_at: Timestamp, started_at: Timestamp) -> Timestamp {
    let gap = started_at.duration_since(finished_at);
    if gap.is_positive() { finished_at.checked_add(gap / 2).unwrap_or(started_at) } else { started_at }
}

#[derive(Debug, Default)]
struct Lines {
    kept: VecDeque<ExitLine>,
    length: usize,
    /// Whether the last chunk of each stream, standard output first, left its line open.
    open: [bool; 2],
}

impl Lines {
    fn push(&mut self, chunk: &LogChunk) {
        let (index, stream) = match chunk.stream {
            LogStream::Stdout => (0, "stdout"),
            LogStream::Stderr => (1, "stderr"),
        };
        // What goes on with a long line is beyond what is kept of one.
        let goes_on = std::mem::replace(&mut self.open[index], !chunk.bytes.ends_with(b"\n"));
        if goes_on {
            return;
        }
        let bytes = chunk.bytes.trim_ascii_end();
        let text = String::from_utf8_lossy(&bytes[..bytes.len().min(LINE_LENGTH)]).into_owned();
        self.length += text.len();
        self.kept.push_back(ExitLine { time: chunk.time, stream: stream.to_owned(), text });
        while self.length > LENGTH || self.kept.len() > LINES as usize {
            let Some(oldest) = self.kept.pop_front() else { break };
            self.length -= oldest.text.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_output_is_cut_to_its_end() {
        let mut lines = Lines::default();
        let mut push = |text: String| {
            let time = Timestamp::UNIX_EPOCH;
            lines.push(&LogChunk { time, stream: LogStream::Stderr, bytes: text.into_bytes().into() });
        };
        push("é".repeat(9 << 10));
        push("the rest of it\n".to_owned());
        for number in 0..49 {
            push(format!("{number} {}\n", "x".repeat(700)));
        }
        assert!(lines.length <= LENGTH && lines.length > LENGTH - LINE_LENGTH);
        assert!(lines.kept.back().is_some_and(|line| line.text.starts_with("48 ")));
        let mut short = Lines::default();
        for chunk in ["a", "b\n", "c\n"] {
            let (time, stream) = (Timestamp::UNIX_EPOCH, LogStream::Stdout);
            short.push(&LogChunk { time, stream, bytes: chunk.as_bytes().to_vec().into() });
        }
        assert_eq!(short.kept.iter().map(|line| line.text.as_str()).collect::<Vec<_>>(), ["a", "c"]);
    }

    #[test]
    fn runs_meet_between_end_and_start() {
        let at = |second| Timestamp::from_second(second).unwrap();
        assert_eq!(boundary(at(10), at(20)), at(15));
        assert_eq!(boundary(at(20), at(10)), at(10));
    }
}
