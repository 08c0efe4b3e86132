//! Where a server listens: a unix socket of this machine, or an HTTPS port.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use http::Uri;

/// An address that `--server` and `CHASSIS_SERVER` take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerAddress {
    /// `unix:///path/to/socket`.
    Unix(PathBuf),
    /// `https://host:port`.
    Https { host: String, port: u16 },
    /// `http://localhost:port`: without encryption only within this machine.
    LoopbackHttp { host: String, port: u16 },
}

/// Why a text is not an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    #[error("`{0}` is not a server's address; write unix:///path/to/socket or https://host:port")]
    Malformed(String),
    #[error("`{0}` is neither unix:// nor https://; write unix:///path/to/socket or https://host:port")]
    Scheme(String),
    #[error("`{0}` would send everything unencrypted; write https:// (http:// is only for localhost)")]
    Unencrypted(String),
    #[error("`{0}` has a path behind the host; write only https://host:port")]
    Path(String),
}

impl AddressError {
    /// A word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            AddressError::Malformed(_) => "address_malformed",
            AddressError::Scheme(_) => "address_scheme",
            AddressError::Unencrypted(_) => "address_unencrypted",
            AddressError::Path(_) => "address_path",
        }
    }
}

impl ServerAddress {
    /// The `Host` header: for a socket any name would do.
    pub(crate) fn authority(&self) -> String {
        match self {
            ServerAddress::Unix(_) => "localhost".to_owned(),
            ServerAddress::Https { host, port } | ServerAddress::LoopbackHttp { host, port } => {
                if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
            }
        }
    }
}

impl FromStr for ServerAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let malformed = || AddressError::Malformed(text.to_owned());
        if let Some(path) = text.strip_prefix("unix://") {
            return if path.starts_with('/') {
                Ok(ServerAddress::Unix(path.into()))
            } else {
                Err(malformed())
            };
        }
        let uri: Uri = text.parse().map_err(|_| malformed())?;
        let host = uri.host().ok_or_else(malformed)?.trim_start_matches('[').trim_end_matches(']').to_owned();
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err(malformed());
        }
        if uri.path_and_query().is_some_and(|path| path.as_str() != "/") {
            return Err(AddressError::Path(text.to_owned()));
        }
        match uri.scheme_str() {
            Some("https") => Ok(ServerAddress::Https { host, port: uri.port_u16().unwrap_or(443) }),
            Some("http") if is_loopback(&host) => {
                Ok(ServerAddress::LoopbackHttp { host, port: uri.port_u16().unwrap_or(80) })
            }
            Some("http") => Err(AddressError::Unencrypted(text.to_owned())),
            _ => Err(AddressError::Scheme(text.to_owned())),
        }
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServerAddress::Unix(path) => write!(formatter, "unix://{}", path.display()),
            ServerAddress::Https { .. } => write!(formatter, "https://{}", self.authority()),
            ServerAddress::LoopbackHttp { .. } => write!(formatter, "http://{}", self.authority()),
        }
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_written() {
        for text in [
            "unix:///run/chassis/socket",
            "https://chassis.example:8443",
            "https://[::1]:8443",
            "http://127.0.0.1:80",
        ] {
            assert_eq!(text.parse::<ServerAddress>().unwrap().to_string(), text);
        }
        assert_eq!(
            "https://chassis.example".parse::<ServerAddress>().unwrap().to_string(),
            "https://chassis.example:443"
        );
        for (text, code) in [
            ("", "address_malformed"),
            ("unix://relative", "address_malformed"),
            ("/run/chassis/socket", "address_malformed"),
            ("https://user:password@host", "address_malformed"),
            ("tcp://host:2375", "address_scheme"),
            ("http://chassis.example:80", "address_unencrypted"),
            ("https://host/path", "address_path"),
        ] {
            assert_eq!(text.parse::<ServerAddress>().unwrap_err().code(), code, "{text}");
        }
    }
}
