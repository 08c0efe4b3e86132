//! What agents print: read from the runtime, merged over instances, followed across restarts.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use chassis_api::{LogLine, LogQuery, Scope};
use chassis_core::{InstanceKey, RunState};
use chassis_runtime::{LogChunk, LogOptions, LogStream};
use futures_util::StreamExt;
use futures_util::stream;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::mpsc;

use super::SharedState;
use super::failure::{Failure, Result};
use super::instances::agents_in;
use crate::error::chain;
use crate::shared::Shared;

/// Lines on their way to a slow reader; beyond that the runtime is not read any further.
const IN_FLIGHT: usize = 256;
/// Before output that could not be read any further is read again.
const RETRY: Duration = Duration::from_secs(1);

type Chunks = stream::BoxStream<'static, chassis_runtime::Result<LogChunk>>;

pub(crate) async fn read(
    State(shared): SharedState,
    query: std::result::Result<Query<LogQuery>, QueryRejection>,
) -> Result<Response> {
    let Query(query) = query?;
    let scope = Scope { fleet: query.fleet.clone(), agent: query.agent.clone(), number: query.number };
    let instances = instances_in(&shared, &scope);
    if instances.is_empty() && scope.number.is_some() {
        return Err(Failure::not_found(
            "instance_not_found",
            "there is no such instance; `chassis ps` shows all",
        ));
    }
    let (lines, reader) = mpsc::channel(IN_FLIGHT);
    if query.follow {
        tokio::spawn(follow_all(shared, scope, query, lines));
    } else {
        tokio::spawn(read_all(shared, instances, query, lines));
    }
    let body = stream::unfold(reader, |mut reader| async {
        let line: LogLine = reader.recv().await?;
        let mut json = serde_json::to_vec(&line).unwrap_or_default();
        json.push(b'\n');
        Some((Ok::<_, std::convert::Infallible>(Bytes::from(json)), reader))
    });
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(body)).into_response())
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
    instances: Vec<InstanceKey>,
    query: LogQuery,
    lines: mpsc::Sender<LogLine>,
) {
    let options = LogOptions { follow: false, since: query.since, tail: query.tail };
    let mut readers = Vec::new();
    for key in instances {
        let Some((id, _)) = container(&shared, &key) else { continue };
        match shared.runtime.logs(&id, &options).await {
            Ok(mut chunks) => {
                if let Some(head) = chunk_next(&key, &mut chunks).await {
                    readers.push((head, key, chunks));
                }
            }
            Err(error) => tracing::warn!(instance = %key, error = chain(&error), "cannot read its output"),
        }
    }
    while let Some(oldest) = (0..readers.len()).min_by_key(|index| readers[*index].0.time) {
        let (head, key, chunks) = &mut readers[oldest];
        if lines.send(line(key, head)).await.is_err() {
            return;
        }
        match chunk_next(key, chunks).await {
            Some(next) => *head = next,
            None => drop(readers.swap_remove(oldest)),
        }
    }
}

async fn chunk_next(key: &InstanceKey, chunks: &mut Chunks) -> Option<LogChunk> {
    match chunks.next().await? {
        Ok(chunk) => Some(chunk),
        Err(error) => {
            tracing::warn!(instance = %key, error = chain(&error), "cannot read its output any further");
            None
        }
    }
}

/// One reader for each instance, also for those that come later.
async fn follow_all(shared: Arc<Shared>, scope: Scope, query: LogQuery, lines: mpsc::Sender<LogLine>) {
    let mut changed = shared.changed.subscribe();
    let mut followed = HashSet::new();
    loop {
        changed.mark_unchanged();
        let present = instances_in(&shared, &scope);
        for key in &present {
            if followed.insert(key.clone()) {
                tokio::spawn(follow_one(Arc::clone(&shared), key.clone(), query.clone(), lines.clone()));
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

/// Follows one instance through its runs, until it is deleted or nobody listens.
async fn follow_one(shared: Arc<Shared>, key: InstanceKey, query: LogQuery, lines: mpsc::Sender<LogLine>) {
    let mut changed = shared.changed.subscribe();
    let mut options = LogOptions { follow: true, since: query.since, tail: query.tail };
    let mut read_up_to: Option<Timestamp> = None;
    let mut ended: Option<(Box<str>, Timestamp)> = None;
    loop {
        changed.mark_unchanged();
        if !exists(&shared, &key) {
            return;
        }
        let run = container(&shared, &key).filter(|run| ended.as_ref() != Some(run));
        let Some((id, started_at)) = run else {
            tokio::select! {
                _ = changed.changed() => continue,
                () = lines.closed() => return,
            }
        };
        if let Some(last) = read_up_to {
            options.since = last.checked_add(SignedDuration::from_nanos(1)).ok();
            options.tail = None;
        }
        match shared.runtime.logs(&id, &options).await {
            Ok(mut chunks) => loop {
                let chunk = tokio::select! {
                    chunk = chunk_next(&key, &mut chunks) => chunk,
                    () = lines.closed() => return,
                };
                let Some(chunk) = chunk else { break };
                read_up_to = Some(chunk.time);
                if lines.send(line(&key, &chunk)).await.is_err() {
                    return;
                }
            },
            Err(error) => tracing::warn!(instance = %key, error = chain(&error), "cannot follow its output"),
        }
        if still_runs(&shared, &id, started_at).await {
            // The reading broke off, not the run: it goes on in a moment.
            tokio::time::sleep(RETRY).await;
        } else {
            ended = Some((id, started_at));
        }
    }
}

/// Asks the runtime, because the end of the output is heard before the end of the run.
async fn still_runs(shared: &Arc<Shared>, id: &str, started_at: Timestamp) -> bool {
    match shared.runtime.instance_inspect(id).await {
        Ok(Some(owned)) => {
            matches!(owned.observed.state, RunState::Running { started_at: present } if present == started_at)
        }
        Ok(None) => false,
        Err(_) => true,
    }
}

fn exists(shared: &Arc<Shared>, key: &InstanceKey) -> bool {
    shared.agent(&key.agent_key()).is_some_and(|agent| agent.state().slots.contains_key(&key.number))
}

/// The instance's container and the run that it is in.
fn container(shared: &Arc<Shared>, key: &InstanceKey) -> Option<(Box<str>, Timestamp)> {
    let agent = shared.agent(&key.agent_key())?;
    let state = agent.state();
    let observed = state.slots.get(&key.number)?.instance.observed.as_ref()?;
    Some((observed.id.clone(), observed.state.started_at()?))
}

fn line(key: &InstanceKey, chunk: &LogChunk) -> LogLine {
    LogLine {
        instance: key.short_name(),
        time: chunk.time,
        stream: match chunk.stream {
            LogStream::Stdout => "stdout",
            LogStream::Stderr => "stderr",
        }
        .to_owned(),
        text: String::from_utf8_lossy(&chunk.bytes).into_owned(),
    }
}
