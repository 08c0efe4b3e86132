//! How requests are sent: over one connection that is kept, again where that does nothing twice, and with a limit on what is
//! read and waited for.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use bytes::Bytes;
use chassis_api::Problem;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, LINK};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Client;
use crate::Error;
use crate::connection::{self, Connection};

/// The head of any answer comes within this time; streams go on for longer.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(1);
/// Before a change is sent again whose answer did not come.
const REPEATS: [Duration; 5] = [
    Duration::from_millis(100),
    Duration::from_millis(400),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
];
/// Ten thousand instances are about 5 MB.
const LARGEST_ANSWER: usize = 64 << 20;

#[derive(Clone)]
pub(crate) enum Body {
    None,
    Json(Bytes),
    Raw(Bytes),
}

impl Client {
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        self.parse(&self.send(Method::GET, path, Body::None).await?)
    }

    /// All parts of a list.
    pub(super) async fn list<T: DeserializeOwned>(&self, path: &str) -> Result<Vec<T>, Error> {
        let mut all = Vec::new();
        let mut next = Some(path.to_owned());
        while let Some(path) = next {
            let (bytes, link) = self.list_part(&path).await?;
            next = link;
            let part: Vec<T> = self.parse(&bytes)?;
            if part.is_empty() && next.is_some() {
                return Err(self.not_understood("a list without end".to_owned()));
            }
            all.extend(part);
        }
        Ok(all)
    }

    /// One part of a list, and the path of the next.
    pub(super) async fn list_part(&self, path: &str) -> Result<(Bytes, Option<String>), Error> {
        let began = Instant::now();
        loop {
            let (connection, response) = self.exchange(Method::GET, path, Body::None).await?;
            let next = response.headers().get(LINK).and_then(next_part);
            match self.read_whole(response).await {
                Err(Error::Problem(problem)) if self.outage.waits(began, &problem).await => {}
                part => {
                    self.keep(connection);
                    return Ok((part?, next));
                }
            }
        }
    }

    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Error> {
        let body = self.json(body)?;
        self.parse(&self.send(Method::POST, path, body).await?)
    }

    pub(super) async fn post_once<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Error> {
        let body = self.json(body)?;
        self.parse(&self.send_once(Method::POST, path, body).await?)
    }

    /// Sends a change under a key of its own, so that it can be sent again if the connection breaks: it is made once.
    pub(super) async fn send_once(&self, method: Method, path: &str, body: Body) -> Result<Bytes, Error> {
        let key = HeaderValue::try_from(format!("{:032x}", rand::random::<u128>()))
            .map_err(|error| self.not_understood(error.to_string()))?;
        let mut pauses = REPEATS.iter();
        let mut was_sent = false;
        let began = Instant::now();
        loop {
            let mut request = self.request(method.clone(), path, body.clone())?;
            request.headers_mut().insert("idempotency-key", key.clone());
            let sent = async {
                let (connection, response) = self.exchange_request(request).await?;
                let answer = self.read_whole(response).await?;
                self.keep(connection);
                Ok(answer)
            };
            match sent.await {
                Err(Error::Problem(problem)) if self.outage.waits(began, &problem).await => {}
                // A server that ended is followed by another.
                Err(error) if may_repeat(&error) || (was_sent && is_away(&error)) => match pauses.next() {
                    Some(pause) => {
                        was_sent = true;
                        tokio::time::sleep(*pause).await;
                    }
                    None if was_sent => {
                        return Err(Error::Uncertain {
                            address: self.address.clone(),
                            source: Box::new(error),
                        });
                    }
                    None => return Err(error),
                },
                answered => return answered,
            }
        }
    }

    pub(super) async fn delete(&self, path: &str, cleanup: bool) -> Result<(), Error> {
        self.send(Method::DELETE, &format!("{path}?cleanup={cleanup}"), Body::None).await.map(drop)
    }

    /// Sends a request, reads the whole answer, and keeps the connection for the next one.
    pub(super) async fn send(&self, method: Method, path: &str, body: Body) -> Result<Bytes, Error> {
        let began = Instant::now();
        loop {
            match self.send_plain(method.clone(), path, body.clone()).await {
                Err(Error::Problem(problem)) if self.outage.waits(began, &problem).await => {}
                answer => return answer,
            }
        }
    }

    pub(super) async fn send_plain(&self, method: Method, path: &str, body: Body) -> Result<Bytes, Error> {
        let (connection, response) = self.exchange(method, path, body).await?;
        let answer = self.read_whole(response).await?;
        self.keep(connection);
        Ok(answer)
    }

    /// Keeps a connection, whose answer was read to its end, for the next request.
    pub(super) fn keep(&self, connection: Connection) {
        *self.idle.lock().unwrap_or_else(PoisonError::into_inner) = Some(connection);
    }

    pub(super) async fn open_stream(
        &self,
        method: Method,
        path: &str,
        body: Body,
    ) -> Result<Response<Incoming>, Error> {
        let (_, response) = self.exchange(method, path, body).await?;
        if response.status().is_success() { Ok(response) } else { Err(self.refusal(response).await) }
    }

    pub(super) async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Body,
    ) -> Result<(Connection, Response<Incoming>), Error> {
        let exchanged = self.exchange_request(self.request(method, path, body)?).await?;
        self.outage.note(exchanged.1.headers());
        Ok(exchanged)
    }

    pub(crate) async fn exchange_request(
        &self,
        mut request: Request<Full<Bytes>>,
    ) -> Result<(Connection, Response<Incoming>), Error> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut connection) = idle
            && connection.ready().await.is_ok()
        {
            match self.within_time(connection.try_send_request(request)).await? {
                Ok(response) => return Ok((connection, response)),
                // The server closed the connection while it was idle, and the request was never sent.
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(self.broken(error.into_error())),
                },
            }
        }
        let mut connection = connection::open(&self.address, self.tls.as_ref()).await?;
        let response = self.within_time(connection.send_request(request)).await?;
        response.map(|response| (connection, response)).map_err(|error| self.broken(error))
    }

    pub(crate) fn request(
        &self,
        method: Method,
        path: &str,
        body: Body,
    ) -> Result<Request<Full<Bytes>>, Error> {
        let mut request = Request::builder().method(method).uri(path).header(HOST, self.address.authority());
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, token.header());
        }
        let body = match body {
            Body::None => Bytes::new(),
            Body::Json(bytes) => {
                request = request.header(CONTENT_TYPE, "application/json");
                bytes
            }
            Body::Raw(bytes) => {
                request = request.header(CONTENT_TYPE, "application/octet-stream");
                bytes
            }
        };
        request.body(Full::new(body)).map_err(|error| self.not_understood(error.to_string()))
    }

    pub(super) async fn within_time<T>(&self, answer: impl Future<Output = T>) -> Result<T, Error> {
        tokio::time::timeout(ANSWER_TIMEOUT, answer)
            .await
            .map_err(|_| Error::Slow { address: self.address.clone(), seconds: ANSWER_TIMEOUT.as_secs() })
    }

    pub(super) async fn read_whole(&self, response: Response<Incoming>) -> Result<Bytes, Error> {
        if !response.status().is_success() {
            return Err(self.refusal(response).await);
        }
        self.read_body(response).await
    }

    pub(super) async fn read_body(&self, response: Response<Incoming>) -> Result<Bytes, Error> {
        match Limited::new(response.into_body(), LARGEST_ANSWER).collect().await {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) => Err(match error.downcast::<hyper::Error>() {
                Ok(error) => self.broken(*error),
                Err(error) => self.not_understood(error.to_string()),
            }),
        }
    }

    /// The problem that the server describes, or what a proxy or a stranger said instead.
    pub(crate) async fn refusal(&self, response: Response<Incoming>) -> Error {
        let status = response.status();
        match self.read_body(response).await {
            Err(error) => error,
            Ok(body) => match serde_json::from_slice::<Problem>(&body) {
                Ok(problem) => Error::Problem(Box::new(problem)),
                Err(_) => self.not_understood(describe_status(status)),
            },
        }
    }

    pub(super) fn parse<T: DeserializeOwned>(&self, answer: &[u8]) -> Result<T, Error> {
        serde_json::from_slice(answer).map_err(|error| self.not_understood(error.to_string()))
    }

    pub(super) fn json(&self, body: &impl Serialize) -> Result<Body, Error> {
        let bytes = serde_json::to_vec(body).map_err(|error| self.not_understood(error.to_string()))?;
        Ok(Body::Json(bytes.into()))
    }

    /// A query's fields as they stand in an address.
    pub(super) fn pairs(&self, query: &impl Serialize) -> Result<Vec<(String, Option<String>)>, Error> {
        let value = serde_json::to_value(query).map_err(|error| self.not_understood(error.to_string()))?;
        let Value::Object(fields) = value else { return Ok(Vec::new()) };
        Ok(fields
            .into_iter()
            .map(|(name, value)| match value {
                Value::Null => (name, None),
                Value::String(text) => (name, Some(text)),
                other => (name, Some(other.to_string())),
            })
            .collect())
    }

    pub(crate) fn broken(&self, source: hyper::Error) -> Error {
        Error::Broken { address: self.address.clone(), source }
    }

    pub(crate) fn not_understood(&self, what: String) -> Error {
        Error::Protocol { address: self.address.clone(), what }
    }
}

/// True if it is not known what became of a request, and asking again may tell.
fn may_repeat(error: &Error) -> bool {
    match error {
        Error::Broken { .. } => true,
        Error::Problem(problem) => problem.code == "idempotency_in_flight",
        _ => false,
    }
}

fn is_away(error: &Error) -> bool {
    match error {
        Error::Unreachable { .. } => true,
        Error::Problem(problem) => problem.code == "too_many_connections",
        _ => false,
    }
}

/// The path in `</api/v1/…>; rel="next"`.
fn next_part(link: &HeaderValue) -> Option<String> {
    let (path, rel) = link.to_str().ok()?.strip_prefix('<')?.split_once('>')?;
    // Only a path: a list goes on where it began.
    (rel.contains("rel=\"next\"") && path.starts_with('/')).then(|| path.to_owned())
}

fn describe_status(status: StatusCode) -> String {
    format!("status {status} without an explanation")
}
