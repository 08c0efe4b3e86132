//! One request to the collector at a time: HTTP/1.1, over TLS if its address says so.

use std::error::Error as StdError;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::handshake;
use hyper::header::HOST;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use opentelemetry_http::{HttpClient, HttpError};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio_rustls::TlsConnector;

use crate::error::{Error, Result};

/// For one request, from the connection to the end of the answer.
const LIMIT: Duration = Duration::from_secs(10);
/// An answer is a few bytes.
const ANSWER_LIMIT: usize = 64 << 10;

#[derive(Debug)]
pub(super) struct Sender {
    handle: Handle,
    tls: Option<Arc<ClientConfig>>,
    /// Whether the last request failed: told when that changes, not each time.
    failing: AtomicBool,
}

impl Sender {
    pub(super) fn new(handle: Handle, is_tls: bool) -> Result<Sender> {
        let tls = if is_tls { Some(trusting_the_system()?) } else { None };
        Ok(Sender { handle, tls, failing: AtomicBool::new(false) })
    }

    fn note(&self, host: &str, failure: Option<&str>) {
        let was_failing = self.failing.swap(failure.is_some(), Ordering::Relaxed);
        match failure {
            Some(error) if !was_failing => {
                tracing::warn!(host, error, "cannot send traces; those of now are lost, and it is tried on");
            }
            None if was_failing => tracing::info!(host, "traces are sent again"),
            _ => {}
        }
    }
}

/// Asked on the thread of the exporter, which knows nothing of tokio.
#[async_trait]
impl HttpClient for Sender {
    async fn send_bytes(&self, request: Request<Bytes>) -> std::result::Result<Response<Bytes>, HttpError> {
        let host = request.uri().host().unwrap_or_default().to_owned();
        let tls = self.tls.clone();
        let sent = self.handle.spawn(async { tokio::time::timeout(LIMIT, send(request, tls)).await });
        let answer = match sent.await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
            Err(ended) => Err(ended.into()),
        };
        match &answer {
            Ok(answer) if answer.status().is_success() => self.note(&host, None),
            Ok(answer) => self.note(&host, Some(&format!("the collector answers {}", answer.status()))),
            Err(error) => self.note(&host, Some(&error.to_string())),
        }
        answer
    }
}

type Failure = Box<dyn StdError + Send + Sync>;

async fn send(
    request: Request<Bytes>,
    tls: Option<Arc<ClientConfig>>,
) -> std::result::Result<Response<Bytes>, Failure> {
    let host = request.uri().host().ok_or("the address names no host")?.to_owned();
    // IPv6 addresses are in brackets.
    let name = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let usual = if tls.is_some() { 443 } else { 80 };
    let port = request.uri().port_u16().unwrap_or(usual);
    let stream = TcpStream::connect((name.as_str(), port)).await?;
    match tls {
        None => exchange(stream, request, &host, port).await,
        Some(config) => {
            let stream = TlsConnector::from(config).connect(ServerName::try_from(name)?, stream).await?;
            exchange(stream, request, &host, port).await
        }
    }
}

async fn exchange<S>(
    stream: S,
    request: Request<Bytes>,
    host: &str,
    port: u16,
) -> std::result::Result<Response<Bytes>, Failure>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
    let mut request = request.map(Full::new);
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).parse()?;
    *request.uri_mut() = path;
    request.headers_mut().insert(HOST, format!("{host}:{port}").parse()?);
    let connection = tokio::spawn(connection);
    let (head, body) = sender.send_request(request).await?.into_parts();
    let body = Limited::new(body, ANSWER_LIMIT).collect().await?.to_bytes();
    connection.abort();
    Ok(Response::from_parts(head, body))
}

/// For connections to servers whose certificates the system's authorities have signed.
pub(crate) fn trusting_the_system() -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    // A broken certificate among many is no reason to trust none of them.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(Error::CollectorTls)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}
