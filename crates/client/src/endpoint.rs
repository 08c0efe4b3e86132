//! A server, and what is needed to believe it and to be believed by it.

use std::path::PathBuf;

use chassis_api::Fingerprint;
use http::HeaderValue;

use crate::tls::Tls;
use crate::{Error, ServerAddress, connection};

/// What [`crate::Client::connect`] needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub address: ServerAddress,
    /// Only with `https`.
    pub trust: Trust,
    /// Sent over `https`, and within this machine over `http`; a unix socket needs none.
    pub token: Option<Token>,
}

/// By what a server is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Trust {
    /// One of this machine's certificate authorities says that it is who it is.
    #[default]
    System,
    /// One of those in a file of PEM does.
    CaFile(PathBuf),
    /// It shows exactly this certificate, whatever its names and dates are.
    Fingerprint(Fingerprint),
}

/// What a caller shows. It is in no text that this crate makes.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(HeaderValue);

impl Token {
    /// Blanks around it, as a file's last line break, are no part of it.
    pub fn new(text: &str) -> Result<Token, Error> {
        let text = text.trim();
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Error::Token);
        }
        let mut value = HeaderValue::try_from(format!("Bearer {text}")).map_err(|_| Error::Token)?;
        value.set_sensitive(true);
        Ok(Token(value))
    }

    pub(crate) fn header(&self) -> &HeaderValue {
        &self.0
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Token(..)")
    }
}

/// What a server shows to somebody who knows only its address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Introduction {
    /// One of this machine's certificate authorities vouches for it, or there is nothing that could be read on the way.
    Known,
    /// Nobody does, and `reason` says why not.
    Stranger { fingerprint: Fingerprint, reason: String },
}

/// Connects, and sends nothing.
pub async fn introduce(address: &ServerAddress) -> Result<Introduction, Error> {
    let endpoint = Endpoint::from(address.clone());
    match connection::open(address, Tls::new(&endpoint)?.as_ref()).await {
        Ok(_) => Ok(Introduction::Known),
        Err(Error::Stranger { found, source, .. }) => {
            Ok(Introduction::Stranger { fingerprint: found, reason: source.to_string() })
        }
        Err(error) => Err(error),
    }
}

impl From<ServerAddress> for Endpoint {
    fn from(address: ServerAddress) -> Endpoint {
        Endpoint { address, trust: Trust::System, token: None }
    }
}
