//! Carries requests to the Docker daemon: one connection per request, over a unix socket or TCP.
//!
//! bollard's own unix transport refuses to exist without the socket file, and no transport of its tells when an answer
//! began. Here a missing daemon is the error of each call, and nothing of a stopped daemon outlives its restart.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bollard::errors::Error;
use bollard::{API_DEFAULT_VERSION, BollardRequest, Docker};
use bytes::Bytes;
use http_body_util::{BodyExt, Collected, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, HeaderValue, UPGRADE};
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Notify;

/// Answers of the daemon begin within this, except for calls that wait by their nature.
const TIMEOUT_SECONDS: u64 = 60;
/// For calls that wait by their nature: longer than any grace period.
const NO_TIMEOUT_SECONDS: u64 = 10 * 365 * 24 * 3600;
const DEFAULT_SOCKET: &str = "/var/run/docker.sock";

const LONGEST_REFUSAL: usize = 64 << 10;

/// How the daemon says no.
#[derive(Deserialize)]
struct Refusal {
    message: String,
}

/// Where the daemon listens.
#[derive(Debug, Clone)]
pub(crate) enum Address {
    Unix(PathBuf),
    Tcp(String),
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Address {
    /// Reads what `DOCKER_HOST` may say; without it, Docker's own default.
    pub(crate) fn parse(host: Option<&str>) -> Option<Address> {
        let Some(host) = host.filter(|host| !host.is_empty()) else {
            return Some(Address::Unix(DEFAULT_SOCKET.into()));
        };
        match host.split_once("://")? {
            ("unix", path) if path.starts_with('/') => Some(Address::Unix(path.into())),
            ("tcp" | "http", address) => {
                let address = address.trim_end_matches('/');
                let has_port = address.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
                let port = if has_port { "" } else { ":2375" };
                (!address.is_empty()).then(|| Address::Tcp(format!("{address}{port}")))
            }
            _ => None,
        }
    }

    /// The socket, if the daemon is on this machine.
    pub(crate) fn socket(&self) -> Option<&Path> {
        match self {
            Address::Unix(path) => Some(path),
            Address::Tcp(_) => None,
        }
    }

    /// True if the daemon has this machine's clock.
    pub(crate) fn is_local(&self) -> bool {
        matches!(self, Address::Unix(_))
    }

    /// A client for calls that are answered soon.
    pub(crate) fn client(&self) -> Result<Docker, Error> {
        self.build(TIMEOUT_SECONDS, None)
    }

    /// A client for calls that wait by their nature: stop, pull, attach.
    pub(crate) fn patient_client(&self) -> Result<Docker, Error> {
        self.build(NO_TIMEOUT_SECONDS, None)
    }

    /// A client that notifies when the daemon begins to answer.
    pub(crate) fn notifying_client(&self, answered: Arc<Notify>) -> Result<Docker, Error> {
        self.build(TIMEOUT_SECONDS, Some(answered))
    }

    fn build(&self, timeout: u64, answered: Option<Arc<Notify>>) -> Result<Docker, Error> {
        let address = self.clone();
        let transport = move |request: BollardRequest| {
            let (address, answered) = (address.clone(), answered.clone());
            async move {
                let response = address.send(request).await?;
                if let Some(answered) = answered {
                    answered.notify_one();
                }
                Ok(response)
            }
        };
        Docker::connect_with_custom_transport(transport, Some("http://docker"), timeout, API_DEFAULT_VERSION)
    }

    async fn send(&self, mut request: BollardRequest) -> Result<Response<Incoming>, Error> {
        let (mut sender, connection) = http1::handshake(TokioIo::new(self.connect().await?)).await?;
        tokio::spawn(connection.with_upgrades());
        request.headers_mut().insert(HOST, HeaderValue::from_static("docker"));
        if let Some(path) = request.uri().path_and_query().cloned() {
            *request.uri_mut() = Uri::from(path);
        }
        Ok(sender.send_request(request).await?)
    }

    /// Sends a request after whose head the connection carries bytes both ways. Shutting down its writing half reaches the
    /// daemon.
    pub(crate) async fn hijack(
        &self,
        path: &str,
        body: String,
    ) -> Result<impl AsyncRead + AsyncWrite + Send + Unpin + use<>, Error> {
        let (mut sender, connection) = http1::handshake(TokioIo::new(self.connect().await?)).await?;
        tokio::spawn(connection.with_upgrades());
        let request = Request::post(path)
            .header(HOST, HeaderValue::from_static("docker"))
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .header(CONNECTION, HeaderValue::from_static("Upgrade"))
            .header(UPGRADE, HeaderValue::from_static("tcp"))
            .body(Full::new(Bytes::from(body)))?;
        let answer = tokio::time::timeout(Duration::from_secs(TIMEOUT_SECONDS), sender.send_request(request));
        let response = answer.await.map_err(|_| Error::RequestTimeoutError)??;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(TokioIo::new(hyper::upgrade::on(response).await?));
        }
        let status_code = response.status().as_u16();
        let body = Limited::new(response.into_body(), LONGEST_REFUSAL).collect().await;
        let body = body.map(Collected::to_bytes).unwrap_or_default();
        let words = serde_json::from_slice::<Refusal>(&body).map(|refusal| refusal.message);
        let message = words.unwrap_or_else(|_| String::from_utf8_lossy(&body).into_owned());
        Err(Error::DockerResponseServerError { status_code, message })
    }

    async fn connect(&self) -> io::Result<Pin<Box<dyn Stream>>> {
        Ok(match self {
            Address::Unix(path) => Box::pin(UnixStream::connect(path).await?),
            Address::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Box::pin(stream)
            }
        })
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Address::Unix(path) => write!(formatter, "unix://{}", path.display()),
            Address::Tcp(address) => write!(formatter, "tcp://{address}"),
        }
    }
}
