//! Requests to one node. Each has a connection for itself while it takes; a few that are done are kept for the next ones.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use chassis_api::Fingerprint;
use chassis_client::{Connector, Endpoint, Error as ClientError, ServerAddress, Token, Trust};
use chassis_core::NodeName;
use http::header::{
    CONNECTION, CONTENT_TYPE, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;
use zeroize::Zeroizing;

use crate::Error;
use crate::host::versions;
use crate::socket::{self, Inward, Outward, SILENCE};
use crate::wire::{Answer, Call, Failed, Kind, PROTOCOL_HEADER, PROTOCOLS, STREAM, TERM_HEADER, TERM_STALE};

/// To the node, and for TLS.
const CONNECT: Duration = Duration::from_secs(5);
/// What only looks is answered in this time.
const LOOK: Duration = Duration::from_secs(15);
/// Calls at the same time: those that only look, and all others, of which some take long.
const LOOKS: usize = 64;
const OTHERS: usize = 256;
/// Connections that wait for the next call, and for how long: less than the node waits.
const IDLE_COUNT: usize = 8;
const IDLE: Duration = Duration::from_secs(30);
/// No answer is longer: what a hundred thousand instances are.
const LONGEST: usize = 256 << 20;

type Sender = SendRequest<Full<Bytes>>;

#[derive(Debug)]
pub(super) struct Line {
    /// As in messages: `node worker-1 (https://10.0.0.5:7443)`.
    node: String,
    connector: Connector,
    term: AtomicU64,
    idle: Mutex<Vec<(Instant, Sender)>>,
    looks: Semaphore,
    others: Semaphore,
}

/// Where a node is. Two addresses are the same if they are written the same.
pub fn address(url: &str) -> Result<ServerAddress, Error> {
    match url.parse::<ServerAddress>() {
        Ok(ServerAddress::Unix(_)) => {
            Err(Error::Unusable { message: format!("`{url}` is no node's address; write https://host:port") })
        }
        Ok(address) => Ok(address),
        Err(error) => Err(Error::Unusable { message: error.to_string() }),
    }
}

impl Line {
    pub(super) fn new(
        node: Option<&NodeName>,
        url: &str,
        fingerprint: Option<Fingerprint>,
        token: &str,
    ) -> Result<Line, Error> {
        let unusable = |error: &dyn std::error::Error| Error::Unusable { message: error.to_string() };
        let address = address(url)?;
        let name = match node {
            Some(node) => format!("node {node} ({address})"),
            None => format!("the node at {address}"),
        };
        let trust = fingerprint.map_or(Trust::System, Trust::Fingerprint);
        let token = Some(Token::new(token).map_err(|error| unusable(&error))?);
        let connector =
            Connector::new(Endpoint { address, trust, token }).map_err(|error| unusable(&error))?;
        Ok(Line {
            node: name,
            connector,
            term: AtomicU64::new(0),
            idle: Mutex::default(),
            looks: Semaphore::new(LOOKS),
            others: Semaphore::new(OTHERS),
        })
    }

    pub(super) fn node(&self) -> &str {
        &self.node
    }

    pub(super) fn set_term(&self, term: u64) {
        self.term.store(term, Ordering::Release);
    }

    /// What the node answers at once.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        let body = self.within(LOOK, self.exchange(Method::GET, path, Bytes::new())).await?;
        serde_json::from_slice(&body).map_err(|error| self.not_understood(&error))
    }

    /// What the node answers as soon as it can, with signs of life until then.
    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &(impl Serialize + Sync),
    ) -> Result<Result<T, Failed>, Error> {
        let body = serde_json::to_vec(body).map_err(|error| self.not_understood(&error))?;
        self.answer(&self.exchange(Method::POST, path, body.into()).await?)
    }

    pub(super) async fn call<T: DeserializeOwned>(
        &self,
        path: &str,
        kind: Kind,
        call: &Call,
    ) -> Result<Result<T, Failed>, Error> {
        let capacity = if let Call::InstanceStart { secrets, .. } = call { secrets.length_most() } else { 0 };
        // As large as it can get, so that no part of a secret is left in a buffer that was too small.
        let mut body = Zeroizing::new(Vec::with_capacity(capacity + 256));
        serde_json::to_writer(&mut *body, call).map_err(|error| self.not_understood(&error))?;
        let exchange = async {
            let slots = if kind == Kind::Look { &self.looks } else { &self.others };
            // It is never closed.
            let _slot = slots.acquire().await;
            self.exchange(Method::POST, path, Bytes::from_owner(body)).await
        };
        let answered = if kind == Kind::Look { self.within(LOOK, exchange).await? } else { exchange.await? };
        self.answer(&answered)
    }

    /// A stream, on a connection of its own.
    pub(super) async fn stream(&self) -> Result<(Outward, Inward), Error> {
        let key = generate_key();
        let mut request = self.request(Method::GET, STREAM, Bytes::new());
        let headers = request.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        headers.insert(
            SEC_WEBSOCKET_KEY,
            HeaderValue::try_from(&key).map_err(|error| self.not_understood(&error))?,
        );
        let mut sender = self.open().await?;
        let response = self.within(SILENCE, async {
            sender.send_request(request).await.map_err(|error| self.unreachable(error))
        });
        let response = response.await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(self.refusal(response).await);
        }
        let accepted = response.headers().get(SEC_WEBSOCKET_ACCEPT).map(HeaderValue::as_bytes);
        if accepted != Some(derive_accept_key(key.as_bytes()).as_bytes()) {
            let what = "an upgrade to something else than a WebSocket".to_owned();
            return Err(Error::NotUnderstood { node: self.node.clone(), what });
        }
        let upgraded = hyper::upgrade::on(response).await.map_err(|error| self.unreachable(error))?;
        Ok(socket::open(upgraded, Role::Client).await)
    }

    /// What a refusal that came as an answer means.
    pub(super) fn refused(&self, failed: Failed) -> Error {
        let node = self.node.clone();
        if failed.code == TERM_STALE {
            return Error::TermStale { node, message: failed.message };
        }
        let message = failed
            .cause
            .map_or_else(|| failed.message.clone(), |cause| format!("{}: {cause}", failed.message));
        Error::Refused { node, message }
    }

    async fn exchange(&self, method: Method, path: &str, body: Bytes) -> Result<Zeroizing<Vec<u8>>, Error> {
        let mut kept = None;
        while let Some(mut sender) = self.take_idle() {
            let request = self.request(method.clone(), path, body.clone());
            if sender.ready().await.is_err() {
                continue;
            }
            match self.within(SILENCE, async { Ok(sender.send_request(request).await) }).await? {
                Ok(response) => {
                    kept = Some((sender, response));
                    break;
                }
                // It was closed before the request was sent.
                Err(error) if error.is_canceled() => {}
                Err(error) => return Err(self.unreachable(error)),
            }
        }
        let (sender, response) = if let Some(kept) = kept {
            kept
        } else {
            let mut sender = self.open().await?;
            let request = self.request(method, path, body);
            let response = self.within(SILENCE, async {
                sender.send_request(request).await.map_err(|error| self.unreachable(error))
            });
            let response = response.await?;
            (sender, response)
        };
        if response.status() != StatusCode::OK {
            return Err(self.refusal(response).await);
        }
        let spoken = response.headers().get(PROTOCOL_HEADER).and_then(|value| value.to_str().ok());
        if !spoken.and_then(|spoken| spoken.parse().ok()).is_some_and(|spoken| PROTOCOLS.contains(&spoken)) {
            let what = "it names no version of it".to_owned();
            return Err(Error::NotUnderstood { node: self.node.clone(), what });
        }
        let body = self.read(response).await?;
        self.keep_idle(sender);
        Ok(body)
    }

    fn request(&self, method: Method, path: &str, body: Bytes) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        // Paths are constants.
        *request.uri_mut() = path.parse().unwrap_or_default();
        let headers = request.headers_mut();
        self.connector.fill(headers);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(TERM_HEADER, HeaderValue::from(self.term.load(Ordering::Acquire)));
        if let Ok(versions) = HeaderValue::try_from(versions(PROTOCOLS)) {
            headers.insert(PROTOCOL_HEADER, versions);
        }
        request
    }

    async fn open(&self) -> Result<Sender, Error> {
        let opened = timeout(CONNECT, self.connector.open()).await;
        let opened = opened.map_err(|_| {
            self.unreachable(std::io::Error::new(
                std::io::ErrorKind::TimedOut,
                format!("no connection within {} s", CONNECT.as_secs()),
            ))
        })?;
        opened.map_err(|error| self.explain(error))
    }

    /// Reads an answer, in which blanks are signs of life.
    async fn read(&self, response: Response<Incoming>) -> Result<Zeroizing<Vec<u8>>, Error> {
        let mut body = response.into_body();
        let mut bytes = Zeroizing::new(Vec::new());
        loop {
            let frame = timeout(SILENCE, body.frame()).await.map_err(|_| self.silent(SILENCE))?;
            let Some(frame) = frame else { return Ok(bytes) };
            let frame = frame.map_err(|error| self.unreachable(error))?;
            let Ok(data) = frame.into_data() else { continue };
            if bytes.len() + data.len() > LONGEST {
                let what = format!("an answer of more than {LONGEST} bytes");
                return Err(Error::NotUnderstood { node: self.node.clone(), what });
            }
            if !bytes.is_empty() || data.iter().any(|byte| !byte.is_ascii_whitespace()) {
                bytes.extend_from_slice(&data);
            }
        }
    }

    fn answer<T: DeserializeOwned>(&self, body: &[u8]) -> Result<Result<T, Failed>, Error> {
        match serde_json::from_slice(body) {
            Ok(Answer::Ok(value)) => Ok(Ok(value)),
            Ok(Answer::Error(failed)) => Ok(Err(failed)),
            // The node's process ended while it did that.
            Err(error) if error.is_eof() => Err(self.unreachable("it ended in the middle of an answer")),
            Err(error) => Err(self.not_understood(&error)),
        }
    }

    /// What another status than that of an answer means.
    async fn refusal(&self, response: Response<Incoming>) -> Error {
        let (node, status) = (self.node.clone(), response.status());
        let theirs = response.headers().get(PROTOCOL_HEADER);
        let theirs = theirs.and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        match status {
            StatusCode::UNAUTHORIZED => Error::Token { node },
            StatusCode::UPGRADE_REQUIRED => {
                let latest = theirs.split(',').filter_map(|one| one.trim().parse::<u32>().ok()).max();
                let ours = PROTOCOLS.iter().copied().max();
                let (node_is_old, ours) = (latest < ours, versions(PROTOCOLS));
                Error::Protocol { node, ours, theirs, node_is_old }
            }
            _ => {
                let said = self.read(response).await.ok();
                let said = said.and_then(|body| serde_json::from_slice::<Failed>(&body).ok());
                let what =
                    said.map_or_else(|| status.to_string(), |said| format!("{status}: {}", said.message));
                Error::NotUnderstood { node, what }
            }
        }
    }

    fn explain(&self, error: ClientError) -> Error {
        let node = self.node.clone();
        match error {
            ClientError::OtherCertificate { expected, found, .. } => {
                Error::OtherCertificate { node, expected, found }
            }
            ClientError::Stranger { found, .. } => Error::Stranger { node, found },
            ClientError::Unreachable { source, .. } => Error::Unreachable { node, source: source.into() },
            other => Error::Unreachable { node, source: other.into() },
        }
    }

    pub(super) fn unreachable(&self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        Error::Unreachable { node: self.node.clone(), source: source.into() }
    }

    fn not_understood(&self, error: &dyn std::error::Error) -> Error {
        Error::NotUnderstood { node: self.node.clone(), what: error.to_string() }
    }

    fn silent(&self, after: Duration) -> Error {
        Error::Silent { node: self.node.clone(), seconds: after.as_secs() }
    }

    async fn within<T>(
        &self,
        limit: Duration,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        timeout(limit, work).await.unwrap_or_else(|_| Err(self.silent(limit)))
    }

    fn take_idle(&self) -> Option<Sender> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|(since, sender)| since.elapsed() < IDLE && !sender.is_closed());
        idle.pop().map(|(_, sender)| sender)
    }

    fn keep_idle(&self, sender: Sender) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_COUNT && !sender.is_closed() {
            idle.push((Instant::now(), sender));
        }
    }
}
