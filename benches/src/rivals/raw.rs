//! The Engine's API and nothing around it: create, then start.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::docker::{Connection, Engine};

/// How long one takes.
pub(crate) async fn one(engine: &Engine, name: &str, body: &Value) -> Result<Duration> {
    let mut connection = engine.connect().await?;
    let began = Instant::now();
    create_and_start(&mut connection, name, body).await?;
    Ok(began.elapsed())
}

/// How long one of each body takes if so many are always under way. Their names are `<name>-0` and so on.
pub(crate) async fn many(
    engine: &Engine,
    name: &str,
    bodies: &Arc<Vec<Value>>,
    at_once: usize,
) -> Result<Duration> {
    let next = Arc::new(AtomicUsize::new(0));
    let mut connections = Vec::new();
    for _ in 0..at_once {
        connections.push(engine.connect().await?);
    }
    let began = Instant::now();
    let workers = connections.into_iter().map(|mut connection| {
        let (next, name, bodies) = (Arc::clone(&next), name.to_owned(), Arc::clone(bodies));
        tokio::spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let Some(body) = bodies.get(number) else { return Ok::<_, anyhow::Error>(()) };
                create_and_start(&mut connection, &format!("{name}-{number}"), body).await?;
            }
        })
    });
    for worker in workers.collect::<Vec<_>>() {
        worker.await??;
    }
    Ok(began.elapsed())
}

async fn create_and_start(connection: &mut Connection, name: &str, body: &Value) -> Result<()> {
    let created = connection.post(&format!("/containers/create?name={name}"), Some(body)).await?;
    let id = created["Id"].as_str().context("the Engine created a container without an id")?;
    connection.post(&format!("/containers/{id}/start"), None).await?;
    Ok(())
}
