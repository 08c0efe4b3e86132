//! Requests to a server's own socket, as many at once as there are connections.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;

use crate::stats::Series;

/// One kept connection.
#[derive(Debug)]
pub(crate) struct Caller(SendRequest<Full<Bytes>>);

/// What came of a load.
#[derive(Debug)]
pub(crate) struct Load {
    pub(crate) per_second: f64,
    /// Of each request, in milliseconds.
    latencies: Vec<f64>,
}

impl Caller {
    pub(crate) async fn connect(data_dir: &Path) -> Result<Caller> {
        let stream = UnixStream::connect(data_dir.join(".server/socket")).await?;
        let (sender, driver) = handshake(TokioIo::new(stream)).await?;
        // Its errors reach whoever waits for the answer.
        tokio::spawn(driver);
        Ok(Caller(sender))
    }

    /// A request whose answer is good, and has not been read yet.
    pub(crate) async fn open(
        &mut self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Response<Incoming>> {
        let bytes = body.map(serde_json::to_vec).transpose()?.unwrap_or_default();
        let request = Request::builder()
            .method(method.clone())
            .uri(path)
            .header(HOST, "localhost")
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(bytes)))?;
        self.0.ready().await?;
        let response = self.0.send_request(request).await?;
        let status = response.status();
        if !status.is_success() {
            let body = response.into_body().collect().await?.to_bytes();
            bail!("{method} {path}: {status}: {}", String::from_utf8_lossy(&body));
        }
        Ok(response)
    }

    pub(crate) async fn call(&mut self, method: Method, path: &str, body: Option<&Value>) -> Result<Bytes> {
        Ok(self.open(method, path, body).await?.into_body().collect().await?.to_bytes())
    }
}

/// Asks for `paths` in turn over so many connections for so long. Each answer must hold `expected` bytes or more.
///
/// With `rate`, so many requests a second in all, spread over the connections; one that waits for the answer before it
/// counts from when it was due. Without, each connection asks again as soon as it has its answer.
pub(crate) async fn ask(
    data_dir: &Path,
    connections: usize,
    rate: Option<f64>,
    window: Duration,
    paths: Vec<String>,
    expected: usize,
) -> Result<Load> {
    let paths = Arc::new(paths);
    let mut callers = Vec::new();
    for _ in 0..connections {
        callers.push(Caller::connect(data_dir).await?);
    }
    let began = Instant::now();
    let asking = callers.into_iter().enumerate().map(|(first, mut caller)| {
        let paths = Arc::clone(&paths);
        tokio::spawn(async move {
            let mut latencies = Vec::new();
            while began.elapsed() < window {
                let number = first + latencies.len() * connections;
                let path = &paths[number % paths.len()];
                let mut asked = Instant::now();
                if let Some(rate) = rate {
                    let due = began + Duration::from_secs_f64(f64::from(u32::try_from(number)?) / rate);
                    tokio::time::sleep_until(due.into()).await;
                    asked = due;
                }
                let answer = caller.call(Method::GET, path, None).await?;
                latencies.push(asked.elapsed().as_secs_f64() * 1000.0);
                anyhow::ensure!(answer.len() >= expected, "{path}: only {} bytes", answer.len());
            }
            Ok(latencies)
        })
    });
    gather(asking.collect(), began).await
}

/// Sends so many bodies, which `make` makes of their numbers, over so many connections.
pub(crate) async fn send(
    data_dir: &Path,
    connections: usize,
    count: usize,
    path: &str,
    make: impl Fn(usize) -> Value + Send + Sync + 'static,
) -> Result<Load> {
    let (next, make, path) = (Arc::new(AtomicUsize::new(0)), Arc::new(make), path.to_owned());
    let mut callers = Vec::new();
    for _ in 0..connections {
        callers.push(Caller::connect(data_dir).await?);
    }
    let began = Instant::now();
    let sending = callers.into_iter().map(|mut caller| {
        let (next, make, path) = (Arc::clone(&next), Arc::clone(&make), path.clone());
        tokio::spawn(async move {
            let mut latencies = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return Ok(latencies);
                }
                let asked = Instant::now();
                caller.call(Method::POST, &path, Some(&make(number))).await?;
                latencies.push(asked.elapsed().as_secs_f64() * 1000.0);
            }
        })
    });
    gather(sending.collect(), began).await
}

async fn gather(tasks: Vec<tokio::task::JoinHandle<Result<Vec<f64>>>>, began: Instant) -> Result<Load> {
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await.context("a caller broke off")??);
    }
    let count = u32::try_from(latencies.len())?;
    let per_second = f64::from(count) / began.elapsed().as_secs_f64();
    latencies.sort_by(f64::total_cmp);
    Ok(Load { per_second, latencies })
}

impl Load {
    /// The latency that so many of a hundred requests stay below, in milliseconds.
    pub(crate) fn percentile(&self, percent: usize) -> f64 {
        let place = (self.latencies.len() * percent / 100).min(self.latencies.len().saturating_sub(1));
        self.latencies.get(place).copied().unwrap_or(f64::NAN)
    }
}

/// Several loads, as series of the report.
#[derive(Debug, Default)]
pub(crate) struct Loads {
    pub(crate) per_second: Series,
    pub(crate) p99: Series,
}

impl Loads {
    pub(crate) fn push(&mut self, load: &Load) {
        self.per_second.push(load.per_second);
        self.p99.push(load.percentile(99));
    }
}
