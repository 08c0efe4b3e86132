//! Answers that go on: server-sent events.

use std::pin::Pin;

use bytes::{Buf, Bytes, BytesMut};
use chassis_api::{LogGone, LogLine};
use futures_util::stream::try_unfold;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::de::DeserializeOwned;

use crate::{Error, ServerAddress};

/// Items as they arrive; ends when the server ends it.
pub type Stream<T> = Pin<Box<dyn futures_util::Stream<Item = Result<T, Error>> + Send>>;

/// What comes of the output of instances.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogItem {
    /// Names the place behind this item: [`crate::Client::logs`] goes on there.
    pub id: Option<String>,
    pub content: LogContent,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogContent {
    Line(LogLine),
    /// Something of an instance is missing here.
    Gone(LogGone),
    /// Only the place has changed.
    Nothing,
}

/// Far above what a server of ours sends in a line.
const LONGEST_LINE: usize = 16 << 20;

/// A server-sent event, or what stands for one: an id alone.
#[derive(Debug, Default)]
pub(crate) struct SentEvent {
    pub(crate) id: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) data: Vec<u8>,
}

/// The data of each server-sent event is one item.
pub(crate) fn server_sent<T: DeserializeOwned + Send + 'static>(
    address: ServerAddress,
    body: Incoming,
) -> Stream<T> {
    events(
        address,
        body,
        |lines, event| {
            if event.data.is_empty() { Ok(None) } else { lines.parse(&event.data).map(Some) }
        },
    )
}

/// Output of instances.
pub(crate) fn log_items(address: ServerAddress, body: Incoming) -> Stream<LogItem> {
    events(address, body, |lines, event| {
        let content = match event.name.as_deref() {
            _ if event.data.is_empty() => LogContent::Nothing,
            Some("gone") => LogContent::Gone(lines.parse(&event.data)?),
            // Of a newer server.
            Some(_) => return Ok(None),
            None => LogContent::Line(lines.parse(&event.data)?),
        };
        Ok(Some(LogItem { id: event.id, content }))
    })
}

/// What is made of each event. Comments, which keep the connection alive, are skipped.
fn events<T: Send + 'static>(
    address: ServerAddress,
    body: Incoming,
    make: impl Fn(&Lines, SentEvent) -> Result<Option<T>, Error> + Copy + Send + Sync + 'static,
) -> Stream<T> {
    let lines = Lines::new(address, body);
    Box::pin(try_unfold(lines, move |mut lines| async move {
        while let Some(event) = lines.next_event().await? {
            if let Some(item) = make(&lines, event)? {
                return Ok(Some((item, lines)));
            }
        }
        Ok(None)
    }))
}

struct Lines {
    address: ServerAddress,
    body: Incoming,
    buffer: BytesMut,
    /// How much of the buffer was searched for a line break already.
    searched: usize,
    ended: bool,
}

impl Lines {
    fn new(address: ServerAddress, body: Incoming) -> Lines {
        Lines { address, body, buffer: BytesMut::new(), searched: 0, ended: false }
    }

    /// None at the end. An event that was cut off is not an event: the standard says so too.
    async fn next_event(&mut self) -> Result<Option<SentEvent>, Error> {
        let mut event = SentEvent::default();
        while let Some(line) = self.next().await? {
            if line.is_empty() && (event.id.is_some() || !event.data.is_empty()) {
                return Ok(Some(event));
            }
            let value = |field: &[u8]| {
                let value = line.strip_prefix(field)?.strip_prefix(b":")?;
                Some(value.strip_prefix(b" ").unwrap_or(value).to_vec())
            };
            if let Some(mut more) = value(b"data") {
                event.data.append(&mut more);
                event.data.push(b'\n');
                self.check_length(event.data.len())?;
            } else if let Some(id) = value(b"id") {
                event.id = String::from_utf8(id).ok();
            } else if let Some(name) = value(b"event") {
                event.name = String::from_utf8(name).ok();
            }
        }
        Ok(None)
    }

    /// The next line without its break; the last may lack one.
    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            if let Some(length) = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n') {
                let mut line = self.buffer.split_to(self.searched + length).freeze();
                self.buffer.advance(1);
                self.searched = 0;
                if line.ends_with(b"\r") {
                    line.truncate(line.len() - 1);
                }
                return Ok(Some(line));
            }
            self.searched = self.buffer.len();
            self.check_length(self.searched)?;
            if self.ended {
                self.searched = 0;
                return Ok((!self.buffer.is_empty()).then(|| self.buffer.split().freeze()));
            }
            match self.body.frame().await {
                None => self.ended = true,
                Some(Ok(frame)) => self.buffer.extend(frame.into_data().ok()),
                Some(Err(source)) => return Err(Error::Broken { address: self.address.clone(), source }),
            }
        }
    }

    fn parse<T: DeserializeOwned>(&self, json: &[u8]) -> Result<T, Error> {
        serde_json::from_slice(json).map_err(|error| self.not_understood(error.to_string()))
    }

    fn check_length(&self, length: usize) -> Result<(), Error> {
        if length > LONGEST_LINE { Err(self.not_understood("a line without end".to_owned())) } else { Ok(()) }
    }

    fn not_understood(&self, what: String) -> Error {
        Error::Protocol { address: self.address.clone(), what }
    }
}
