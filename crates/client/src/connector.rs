//! Connections to a server that is spoken to in another way than the API's: a node.

use bytes::Bytes;
use http::header::{AUTHORIZATION, HOST};
use http::{HeaderMap, HeaderValue};
use http_body_util::Full;
use hyper::client::conn::http1::SendRequest;

use crate::tls::Tls;
use crate::{Endpoint, Error, ServerAddress, connection};

/// Opens connections to one server, and knows what to show there.
#[derive(Debug, Clone)]
pub struct Connector {
    endpoint: Endpoint,
    tls: Option<Tls>,
}

impl Connector {
    pub fn new(endpoint: Endpoint) -> Result<Connector, Error> {
        Ok(Connector { tls: Tls::new(&endpoint)?, endpoint })
    }

    pub fn address(&self) -> &ServerAddress {
        &self.endpoint.address
    }

    /// A new connection, which can be upgraded. Gives up after ten seconds for each of its steps.
    pub async fn open(&self) -> Result<SendRequest<Full<Bytes>>, Error> {
        connection::open(&self.endpoint.address, self.tls.as_ref()).await
    }

    /// What every request has: the host, and the token.
    pub fn fill(&self, headers: &mut HeaderMap) {
        // An address that was parsed has a host that a header can hold.
        if let Ok(host) = HeaderValue::try_from(self.endpoint.address.authority()) {
            headers.insert(HOST, host);
        }
        if let Some(token) = &self.endpoint.token {
            headers.insert(AUTHORIZATION, token.header().clone());
        }
    }
}
