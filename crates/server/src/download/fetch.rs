//! One download: from an address that may be gone to, and no other.

use std::error::Error as StdError;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use chassis_core::address_is_public;
use http_body_util::{BodyExt, Empty};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1::handshake;
use hyper::header::{ACCEPT, ACCEPT_ENCODING, CONNECTION, HOST, LOCATION, USER_AGENT};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

use super::target::Target;
use super::{DownloadError, DownloadOptions, DownloadSource};
use crate::traces::trusting_the_system;

/// A release of a public forge is behind one or two.
pub(super) const REDIRECTS_MOST: usize = 3;
/// For one of several addresses.
const CONNECT: Duration = Duration::from_secs(5);
const AGENT: &str = concat!("chassis/", env!("CARGO_PKG_VERSION"));

type Failure = Box<dyn StdError + Send + Sync>;

/// What can be known of a target without asking anybody.
pub(super) fn check(target: &Target, options: &DownloadOptions) -> Result<(), DownloadError> {
    if !target.is_tls && !options.allow_http {
        return Err(DownloadError::InTheClear(target.shown()));
    }
    match target.host.parse() {
        Ok(address) if !is_allowed(target, address, options) => Err(DownloadError::NotPublic(target.shown())),
        _ => Ok(()),
    }
}

fn is_allowed(target: &Target, address: IpAddr, options: &DownloadOptions) -> bool {
    address_is_public(address)
        || options.allowed.iter().any(|source| match source {
            DownloadSource::Host(host) => *host == target.host,
            DownloadSource::Block(block) => block.contains(address),
        })
}

/// The bytes at the end of the redirects, not more than may be.
pub(super) async fn fetch(
    mut target: Target,
    options: &DownloadOptions,
) -> Result<Zeroizing<Vec<u8>>, DownloadError> {
    let first = target.shown();
    for _ in 0..=REDIRECTS_MOST {
        check(&target, options)?;
        let response = ask(&target, options).await?;
        let status = response.status();
        let location = response.headers().get(LOCATION);
        match (status.as_u16(), location) {
            (200, _) => return body(&target, response, options.most).await,
            (301 | 302 | 303 | 307 | 308, Some(location)) => {
                let location = location.to_str().map_err(|_| DownloadError::Malformed(target.shown()))?;
                target = target.redirected(location)?;
            }
            (status, _) => return Err(DownloadError::Answered { url: target.shown(), status }),
        }
    }
    Err(DownloadError::Redirects(first))
}

async fn body(
    target: &Target,
    response: Response<Incoming>,
    most: u64,
) -> Result<Zeroizing<Vec<u8>>, DownloadError> {
    let too_large = || DownloadError::TooLarge { url: target.shown(), most };
    let mut body = response.into_body();
    // What it says it has; it is counted all the same.
    let said = body.size_hint().exact().unwrap_or_default();
    if said > most {
        return Err(too_large());
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(said).unwrap_or_default()));
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| unreachable_for(target, &error.into()))?;
        let Ok(data) = frame.into_data() else { continue };
        if (bytes.len() + data.len()) as u64 > most {
            return Err(too_large());
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

async fn ask(target: &Target, options: &DownloadOptions) -> Result<Response<Incoming>, DownloadError> {
    let stream = connect(target, options).await?;
    let asked = async {
        if !target.is_tls {
            return exchange(stream, target).await;
        }
        let name = ServerName::try_from(target.host.clone())?;
        exchange(TlsConnector::from(tls()?).connect(name, stream).await?, target).await
    };
    asked.await.map_err(|error| unreachable_for(target, &error))
}

/// Resolves the host once, and connects to one of its addresses that may be gone to.
async fn connect(target: &Target, options: &DownloadOptions) -> Result<TcpStream, DownloadError> {
    let failed = |error: std::io::Error| unreachable_for(target, &error.into());
    let found: Vec<SocketAddr> =
        lookup_host((target.host.as_str(), target.port)).await.map_err(failed)?.collect();
    let allowed: Vec<SocketAddr> =
        found.iter().copied().filter(|address| is_allowed(target, address.ip(), options)).collect();
    if allowed.is_empty() && !found.is_empty() {
        // Not told to whoever asked: it would be a way to ask for the names of a private network.
        tracing::warn!(host = target.host, addresses = ?found, "refused to fetch from there");
        return Err(DownloadError::NotPublic(target.shown()));
    }
    let mut last = std::io::Error::other("the name has no address");
    for address in allowed {
        match tokio::time::timeout(CONNECT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = error,
            Err(_) => last = std::io::ErrorKind::TimedOut.into(),
        }
    }
    Err(failed(last))
}

async fn exchange<S>(stream: S, target: &Target) -> Result<Response<Incoming>, Failure>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
    // It ends with the body, which is dropped with whoever waits for it.
    tokio::spawn(connection);
    let request = Request::get(target.path.as_str())
        .header(HOST, target.authority())
        .header(USER_AGENT, AGENT)
        .header(ACCEPT, "*/*")
        .header(ACCEPT_ENCODING, "identity")
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())?;
    Ok(sender.send_request(request).await?)
}

fn tls() -> Result<Arc<ClientConfig>, Failure> {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    if let Some(config) = CONFIG.get() {
        return Ok(Arc::clone(config));
    }
    let config = trusting_the_system()?;
    Ok(Arc::clone(CONFIG.get_or_init(|| config)))
}

fn unreachable_for(target: &Target, error: &Failure) -> DownloadError {
    let mut why = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        why = format!("{why}: {error}");
        cause = error.source();
    }
    DownloadError::Unreachable { url: target.shown(), why }
}
