//! A line of output as it goes over the wire and into files: one JSON object, and a line break.

use std::borrow::Cow;

use chassis_runtime::{LogChunk, LogStream};
use jiff::Timestamp;
use serde::Serialize;

/// As [`chassis_api::LogLine`], without copies.
#[derive(Serialize)]
struct Line<'a> {
    instance: &'a str,
    time: Timestamp,
    stream: &'static str,
    text: Cow<'a, str>,
}

/// Appends a chunk.
pub(crate) fn write(out: &mut Vec<u8>, instance: &str, chunk: &LogChunk) {
    let stream = match chunk.stream {
        LogStream::Stdout => "stdout",
        LogStream::Stderr => "stderr",
    };
    let line = Line { instance, time: chunk.time, stream, text: String::from_utf8_lossy(&chunk.bytes) };
    // Strings and a time always have a JSON form, and memory takes it.
    if serde_json::to_writer(&mut *out, &line).is_ok() {
        out.push(b'\n');
    }
}
