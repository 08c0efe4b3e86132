//! One HTTP/1.1 connection: over a unix socket, over TLS, or in the clear within this machine.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::tls::Tls;
use crate::{Error, ServerAddress};

pub(crate) type Connection = SendRequest<Full<Bytes>>;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) async fn open(address: &ServerAddress, tls: Option<&Tls>) -> Result<Connection, Error> {
    let unreachable = |source| Error::Unreachable { address: address.clone(), source };
    match address {
        ServerAddress::Unix(path) => {
            speak(address, UnixStream::connect(path).await.map_err(unreachable)?).await
        }
        ServerAddress::LoopbackHttp { host, port } => {
            speak(address, tcp(host, *port).await.map_err(unreachable)?).await
        }
        ServerAddress::Https { host, port } => {
            let unusable = |source| Error::Tls { address: address.clone(), source };
            let stream = tcp(host, *port).await.map_err(unreachable)?;
            let name =
                ServerName::try_from(host.clone()).map_err(|error| unusable(io::Error::other(error)))?;
            let tls = tls.ok_or_else(|| unusable(io::ErrorKind::Unsupported.into()))?;
            let handshake = TlsConnector::from(Arc::clone(&tls.config)).connect(name, stream);
            let stream = timeout(CONNECT_TIMEOUT, handshake)
                .await
                .map_err(|_| unusable(io::ErrorKind::TimedOut.into()))?
                .map_err(|error| tls.explain(address, error))?;
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
