//! One HTTP/1.1 connection: over a unix socket, over TLS, or in the clear within this machine.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::{Error, ServerAddress};

pub(crate) type Connection = SendRequest<Full<Bytes>>;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The certificates that this machine trusts; read at most once for a client.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tls(Option<Arc<ClientConfig>>);

impl Tls {
    /// Reads the system's certificates if the address needs them.
    pub(crate) fn for_address(address: &ServerAddress) -> Result<Tls, Error> {
        if !matches!(address, ServerAddress::Https { .. }) {
            return Ok(Tls(None));
        }
        let untrusted =
            |source: rustls::Error| Error::Tls { address: address.clone(), source: io::Error::other(source) };
        let mut roots = RootCertStore::empty();
        // A broken certificate among many is no reason to trust none of them.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(untrusted)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Tls(Some(Arc::new(config))))
    }
}

pub(crate) async fn open(address: &ServerAddress, tls: &Tls) -> Result<Connection, Error> {
    let unreachable = |source| Error::Unreachable { address: address.clone(), source };
    match address {
        ServerAddress::Unix(path) => {
            speak(address, UnixStream::connect(path).await.map_err(unreachable)?).await
        }
        ServerAddress::LoopbackHttp { host, port } => {
            speak(address, tcp(host, *port).await.map_err(unreachable)?).await
        }
        ServerAddress::Https { host, port } => {
            let untrusted = |source| Error::Tls { address: address.clone(), source };
            let stream = tcp(host, *port).await.map_err(unreachable)?;
            let name =
                ServerName::try_from(host.clone()).map_err(|error| untrusted(io::Error::other(error)))?;
            let config = tls.0.clone().ok_or_else(|| untrusted(io::ErrorKind::Unsupported.into()))?;
            let handshake = TlsConnector::from(config).connect(name, stream);
            let stream = timeout(CONNECT_TIMEOUT, handshake)
                .await
                .map_err(|_| untrusted(io::ErrorKind::TimedOut.into()))?
                .map_err(untrusted)?;
            speak(address, stream).await
        }
    }
}

async fn tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let stream = timeout(CONNECT_TIMEOUT, TcpStream::connect((host, port)))
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn speak<S>(address: &ServerAddress, stream: S) -> Result<Connection, Error>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (sender, driver) = handshake(TokioIo::new(stream))
        .await
        .map_err(|source| Error::Broken { address: address.clone(), source })?;
    // Its errors reach whoever waits for the answer.
    tokio::spawn(driver.with_upgrades());
    Ok(sender)
}
