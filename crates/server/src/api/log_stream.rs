//! Lines of output on their way to whoever asked: a JSON object to a line, or server-sent events each of which names the
//! place behind it.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chassis_api::LogGone;
use chassis_core::InstanceKey;
use chassis_runtime::LogChunk;
use futures_util::stream;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::failure::{Failure, Result};
use crate::log_line;
use crate::log_place::{Place, Places};

/// Blocks of lines on their way to a slow reader.
pub(super) const IN_FLIGHT: usize = 8;
/// Lines that are there already are sent together, up to so many bytes.
pub(super) const BLOCK: usize = 32 << 10;
/// Tells a silent connection from a dead one.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Milliseconds after which a client whose connection broke comes back.
const RETRY: u32 = 1000;
const EVENT_STREAM: &str = "text/event-stream";
const JSON_LINES: &str = "application/x-ndjson";

/// Lines that are there together, of one instance or of several.
#[derive(Debug, Default)]
pub(super) struct Block {
    /// Each a JSON object and a line break.
    pub(super) text: Vec<u8>,
    lines: Vec<LineEnd>,
}

/// Where in a block a line ends, and the place behind it.
#[derive(Debug)]
struct LineEnd {
    end: usize,
    key: Arc<InstanceKey>,
    place: Place,
}

/// How lines are written.
pub(super) enum Format {
    JsonLines,
    Events(Box<Events>),
}

/// Server-sent events.
pub(super) struct Events {
    places: Places,
    /// Instances of which something that follows their place is not kept.
    gone: Vec<InstanceKey>,
    /// What is being written, and how many of its lines are.
    block: Block,
    written: usize,
    is_begun: bool,
}

// === impl Block ===

impl Block {
    pub(super) fn add(&mut self, key: &Arc<InstanceKey>, name: &str, chunk: &LogChunk, place: Place) {
        log_line::write(&mut self.text, name, chunk);
        self.note(key, place);
    }

    /// Notes a place without a line: everything up to it was read, and is not wanted.
    pub(super) fn note(&mut self, key: &Arc<InstanceKey>, place: Place) {
        self.lines.push(LineEnd { end: self.text.len(), key: Arc::clone(key), place });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }
}

// === impl Format ===

/// Whether events are asked for, rather than lines: whichever stands first.
pub(super) fn wants_events(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut media = accepted
        .flat_map(|value| value.split(','))
        .map(|one| one.split(';').next().unwrap_or_default().trim().to_ascii_lowercase());
    media
        .find(|media| [EVENT_STREAM, JSON_LINES].contains(&media.as_str()))
        .is_some_and(|it| it == EVENT_STREAM)
}

/// The places in `Last-Event-ID`.
pub(super) fn last_places(headers: &HeaderMap) -> Result<Option<Places>> {
    let Some(id) = headers.get("last-event-id").filter(|id| !id.is_empty()) else { return Ok(None) };
    let places = URL_SAFE_NO_PAD.decode(id.as_bytes()).ok().and_then(|bytes| Places::from_bytes(&bytes));
    let detail = "this `Last-Event-ID` is none that a stream of output gave; begin again without it";
    places.map(Some).ok_or_else(|| Failure::new(StatusCode::BAD_REQUEST, "invalid_header", detail))
}

impl Format {
    pub(super) fn events(places: Places, gone: Vec<InstanceKey>) -> Format {
        let block = Block::default();
        Format::Events(Box::new(Events { places, gone, block, written: 0, is_begun: false }))
    }

    /// The answer whose body is what comes through a channel, until it is closed.
    pub(super) fn answer(self, blocks: mpsc::Receiver<Block>) -> Response {
        let media = match self {
            Format::JsonLines => JSON_LINES,
            Format::Events(_) => EVENT_STREAM,
        };
        let body = stream::unfold((self, blocks), |(mut format, mut blocks)| async {
            let bytes = match &mut format {
                Format::JsonLines => loop {
                    let block = blocks.recv().await?;
                    if !block.text.is_empty() {
                        break block.text.into();
                    }
                },
                Format::Events(events) => events.next(&mut blocks).await?,
            };
            Some((Ok::<Bytes, Infallible>(bytes), (format, blocks)))
        });
        let headers = [(header::CONTENT_TYPE, media), (header::CACHE_CONTROL, "no-store")];
        (headers, Body::from_stream(body)).into_response()
    }
}

// === impl Events ===

impl Events {
    /// What is to be written next; none at the end.
    async fn next(&mut self, blocks: &mut mpsc::Receiver<Block>) -> Option<Bytes> {
        if !std::mem::replace(&mut self.is_begun, true) {
            return Some(self.beginning().into());
        }
        loop {
            if self.written < self.block.lines.len() {
                return Some(self.events().into());
            }
            match timeout(KEEP_ALIVE, blocks.recv()).await {
                Ok(block) => (self.block, self.written) = (block?, 0),
                Err(_) => return Some(Bytes::from_static(b":\n\n")),
            }
        }
    }

    /// An id before the first line: whoever is cut off before it goes on from here.
    fn beginning(&mut self) -> String {
        let mut out = format!("retry: {RETRY}\nid: {}\n\n", self.id());
        for key in std::mem::take(&mut self.gone) {
            let gone = serde_json::to_string(&LogGone { instance: key.short_name() }).unwrap_or_default();
            let _ = write!(out, "event: gone\ndata: {gone}\n\n");
        }
        out
    }

    fn events(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut start = self.written.checked_sub(1).map_or(0, |before| self.block.lines[before].end);
        while let Some(line) = self.block.lines.get(self.written)
            && out.len() < BLOCK
        {
            self.places.set(&line.key, line.place);
            let data = &self.block.text[start..line.end];
            out.extend_from_slice(b"id: ");
            out.extend_from_slice(URL_SAFE_NO_PAD.encode(self.places.to_bytes()).as_bytes());
            if !data.is_empty() {
                // It ends with a line break.
                out.extend_from_slice(b"\ndata: ");
                out.extend_from_slice(data.trim_ascii_end());
            }
            out.extend_from_slice(b"\n\n");
            start = line.end;
            self.written += 1;
        }
        out
    }

    fn id(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.places.to_bytes())
    }
}
