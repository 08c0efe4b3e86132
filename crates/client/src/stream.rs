//! Answers that go on: server-sent events, and one JSON object to a line.

use std::pin::Pin;

use bytes::{Buf, Bytes, BytesMut};
use futures_util::stream::try_unfold;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::de::DeserializeOwned;

use crate::{Error, ServerAddress};

/// Items as they arrive; ends when the server ends it.
pub type Stream<T> = Pin<Box<dyn futures_util::Stream<Item = Result<T, Error>> + Send>>;

/// Far above what a server of ours sends in a line.
const LONGEST_LINE: usize = 16 << 20;

/// Each line of the body is one item.
pub(crate) fn json_lines<T: DeserializeOwned + Send + 'static>(
    address: ServerAddress,
    body: Incoming,
) -> Stream<T> {
    let lines = Lines::new(address, body);
    Box::pin(try_unfold(lines, |mut lines| async move {
        while let Some(line) = lines.next().await? {
            if !line.is_empty() {
                return Ok(Some((lines.parse(&line)?, lines)));
            }
        }
        Ok(None)
    }))
}

/// The data of each server-sent event is one item. Comments, which keep the connection alive, are skipped.
pub(crate) fn server_sent<T: DeserializeOwned + Send + 'static>(
    address: ServerAddress,
    body: Incoming,
) -> Stream<T> {
    let lines = Lines::new(address, body);
    Box::pin(try_unfold(lines, |mut lines| async move {
        let mut data = Vec::new();
        while let Some(line) = lines.next().await? {
            if line.is_empty() && !data.is_empty() {
                return Ok(Some((lines.parse(&data)?, lines)));
            }
            if let Some(more) = line.strip_prefix(b"data:") {
                data.extend_from_slice(more.strip_prefix(b" ").unwrap_or(more));
                data.push(b'\n');
                lines.check_length(data.len())?;
            }
        }
        // An event that was cut off is not an event: the standard says so too.
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
