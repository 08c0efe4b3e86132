//! The Engine's HTTP API as it is: one kept connection, requests and answers as JSON.
//!
//! This is the fastest way there is to a running container, so what it takes is what chassis is measured by.

use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;

const DEFAULT_SOCKET: &str = "/var/run/docker.sock";

/// Where the Engine listens.
#[derive(Debug, Clone)]
pub(crate) struct Engine {
    socket: PathBuf,
}

/// One connection, on which one request follows the other.
#[derive(Debug)]
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
}

/// What the Engine tells as it happens, one JSON object to a line.
#[derive(Debug)]
pub(crate) struct Events {
    body: Incoming,
    unread: Vec<u8>,
    // The stream ends with its connection.
    _connection: Connection,
}

/// A container as it appears in a list.
#[derive(Debug)]
pub(crate) struct Listed {
    pub(crate) id: String,
    pub(crate) running: bool,
}

impl Engine {
    /// The Engine that `DOCKER_HOST` names, or the local one.
    pub(crate) fn from_environment() -> Result<Engine> {
        let socket = match std::env::var("DOCKER_HOST") {
            Ok(host) if !host.is_empty() => host
                .strip_prefix("unix://")
                .ok_or_else(|| anyhow!("DOCKER_HOST is {host}; the benchmarks need a unix socket"))?
                .to_owned(),
            _ => DEFAULT_SOCKET.to_owned(),
        };
        Ok(Engine { socket: socket.into() })
    }

    pub(crate) async fn connect(&self) -> Result<Connection> {
        let stream = UnixStream::connect(&self.socket)
            .await
            .with_context(|| format!("Docker does not answer at {}", self.socket.display()))?;
        let (sender, driver) = handshake(TokioIo::new(stream)).await?;
        // Its errors reach whoever waits for the answer.
        tokio::spawn(driver);
        Ok(Connection { sender })
    }

    /// All containers, stopped ones too, whose name the predicate accepts.
    pub(crate) async fn containers(&self, wanted: impl Fn(&str) -> bool) -> Result<Vec<Listed>> {
        let answer = self.connect().await?.get("/containers/json?all=1").await?;
        let containers = answer.as_array().into_iter().flatten().filter_map(|container| {
            let name = container["Names"][0].as_str()?.trim_start_matches('/').to_owned();
            let id = container["Id"].as_str()?.to_owned();
            wanted(&name).then(|| Listed { id, running: container["State"] == "running" })
        });
        Ok(containers.collect())
    }

    /// Events from now on: the answer means that none is missed after it.
    pub(crate) async fn events(&self, filters: &Value) -> Result<Events> {
        let mut connection = self.connect().await?;
        let path = format!("/events?filters={}", encoded(&filters.to_string()));
        let response = connection.send(Method::GET, &path, None).await?;
        Ok(Events { body: response.into_body(), unread: Vec::new(), _connection: connection })
    }
}

impl Connection {
    pub(crate) async fn get(&mut self, path: &str) -> Result<Value> {
        self.call(Method::GET, path, None).await
    }

    pub(crate) async fn post(&mut self, path: &str, body: Option<&Value>) -> Result<Value> {
        self.call(Method::POST, path, body).await
    }

    /// Removes a container, running or not; one that is gone already is no error.
    pub(crate) async fn container_remove(&mut self, id: &str) -> Result<()> {
        self.remove(&format!("/containers/{id}?force=1&v=1")).await
    }

    /// Removes a network; one that is gone already is no error.
    pub(crate) async fn network_remove(&mut self, id: &str) -> Result<()> {
        self.remove(&format!("/networks/{id}")).await
    }

    async fn remove(&mut self, path: &str) -> Result<()> {
        let response = self.send(Method::DELETE, path, None).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        // 409: its removal has begun already.
        if status.is_success() || matches!(status.as_u16(), 404 | 409) {
            return Ok(());
        }
        bail!("DELETE {path}: {status}: {}", message(&body))
    }

    async fn call(&mut self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        let what = format!("{method} {path}");
        let response = self.send(method, path, body).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        if !status.is_success() && status.as_u16() != 304 {
            bail!("{what}: {status}: {}", message(&body));
        }
        if body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&body).with_context(|| format!("{what}: the answer is no JSON"))
    }

    async fn send(&mut self, method: Method, path: &str, body: Option<&Value>) -> Result<Response<Incoming>> {
        let bytes = body.map(serde_json::to_vec).transpose()?.unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "docker")
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(bytes)))?;
        self.sender.ready().await?;
        Ok(self.sender.send_request(request).await?)
    }
}

impl Events {
    pub(crate) async fn next(&mut self) -> Result<Value> {
        loop {
            if let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.unread.drain(..=end).collect();
                return Ok(serde_json::from_slice(&line)?);
            }
            let frame = self.body.frame().await.context("the Engine's events ended")??;
            if let Some(data) = frame.data_ref() {
                self.unread.extend_from_slice(data);
            }
        }
    }
}

fn message(body: &[u8]) -> String {
    let answer: Option<Value> = serde_json::from_slice(body).ok();
    let words = answer.as_ref().and_then(|answer| answer["message"].as_str());
    words.map_or_else(|| String::from_utf8_lossy(body).into_owned(), ToOwned::to_owned)
}

/// Percent-encodes all that could mean something in a query.
pub(crate) fn encoded(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}
