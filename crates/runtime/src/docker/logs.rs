//! An agent's output, as Docker keeps it.

use bollard::container::LogOutput;
use bollard::query_parameters::LogsOptions;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, future};
use jiff::Timestamp;

use super::{Daemon, failure};
use crate::{Error, LogChunk, LogOptions, LogStream, Result};

pub(crate) async fn logs(
    daemon: &Daemon,
    id: &str,
    options: &LogOptions,
) -> Result<BoxStream<'static, Result<LogChunk>>> {
    let since = options.since;
    let docker_options = LogsOptions {
        follow: options.follow,
        stdout: true,
        stderr: true,
        timestamps: true,
        // Whole seconds is all that fits here; the rest is left out below.
        since: since.map_or(0, |since| i32::try_from(since.as_second()).unwrap_or(i32::MAX)),
        tail: options.tail.map_or_else(|| "all".to_owned(), |tail| tail.to_string()),
        ..LogsOptions::default()
    };
    let address = daemon.address.clone();
    let answered = std::sync::Arc::new(tokio::sync::Notify::new());
    let mut outputs =
        Box::pin(daemon.notifying_client(std::sync::Arc::clone(&answered))?.logs(id, Some(docker_options)));
    let first = match future::select(Box::pin(answered.notified()), outputs.next()).await {
        future::Either::Left(_) => None,
        future::Either::Right((Some(Err(error)), _)) if failure::is_not_found(&error) => {
            return Err(Error::rejected("its container is gone, and its output with it"));
        }
        future::Either::Right((Some(Err(error)), _)) => return Err(daemon.explain(error)),
        future::Either::Right((output, _)) => output,
    };
    let chunks = stream::iter(first).chain(outputs).filter_map(move |output| {
        future::ready(match output {
            Ok(output) => chunk(output).filter(|chunk| since.is_none_or(|since| chunk.time >= since)).map(Ok),
            Err(error) => Some(Err(failure::explain(&address, error))),
        })
    });
    Ok(chunks.boxed())
}

/// Splits the time off that Docker put in front.
fn chunk(output: LogOutput) -> Option<LogChunk> {
    let (stream, message) = match output {
        LogOutput::StdOut { message } => (LogStream::Stdout, message),
        LogOutput::StdErr { message } => (LogStream::Stderr, message),
        LogOutput::StdIn { .. } | LogOutput::Console { .. } => return None,
    };
    let (time, bytes) = timed(&message)?;
    Some(LogChunk { time, stream, bytes })
}

fn timed(message: &Bytes) -> Option<(Timestamp, Bytes)> {
    let space = message.iter().position(|byte| *byte == b' ')?;
    let time = std::str::from_utf8(&message[..space]).ok()?.parse().ok()?;
    Some((time, message.slice(space + 1..)))
}
