//! Which lines of output somebody wants to see. Pure: chunks go in, and at most one comes out for each.
//!
//! A runtime hands long lines out in pieces. They are put together up to [`LONGEST`], which is all that is looked at of a
//! line and all that is held of each stream; what comes after it shares the fate of its beginning.

use std::collections::VecDeque;

use bytes::Bytes;
use chassis_api::LogLevel;
use chassis_runtime::{LogChunk, LogStream};
use jiff::Timestamp;
use regex::bytes::{Regex, RegexBuilder};
use serde::Deserialize;
use serde_json::Value;

use crate::log_place::Place;

/// How much of a line is put together, in bytes.
const LONGEST: usize = 1 << 20;
/// What a pattern may grow to when it is compiled, in bytes.
const PATTERN_SIZE: usize = 1 << 20;
/// Where a level is looked for in plain text: in so many words, and bytes, from the beginning.
const WORDS: usize = 8;
const HEAD: usize = 160;

/// What lines must be like.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rules {
    pub(crate) grep: Option<Regex>,
    /// At least this level.
    pub(crate) level: Option<LogLevel>,
    /// Put the pieces of long lines together, even if every line is wanted.
    pub(crate) whole: bool,
}

/// Lets through the lines of one instance that obey the rules.
#[derive(Debug)]
pub(crate) struct Filter {
    rules: Rules,
    /// Standard output, and standard error.
    streams: [Stream; 2],
}

/// What of the lines before decides about those that follow, in one stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Carry {
    level_shown: bool,
    rest_shown: Option<bool>,
}

#[derive(Debug, Default)]
struct Stream {
    /// The beginning of a line that is not at its end yet, and when that was written.
    begun: Vec<u8>,
    begun_at: Option<Timestamp>,
    /// `rest_shown`, of a line that was too long: whether its beginning was shown. `level_shown`: whether the last line
    /// that had a level was. A line without one belongs to it, as a stack trace does.
    carry: Carry,
}

/// The last lines of many, and no more of them than fit.
#[derive(Debug)]
pub(crate) struct Tail {
    /// Each with the place behind it.
    pub(crate) lines: VecDeque<(LogChunk, Place)>,
    count: usize,
    bytes: usize,
    held: usize,
}

impl Tail {
    /// At most so many lines, and so many bytes of them.
    pub(crate) fn new(count: u32, bytes: usize) -> Tail {
        Tail { lines: VecDeque::new(), count: count as usize, bytes, held: 0 }
    }

    pub(crate) fn push(&mut self, chunk: &LogChunk, place: Place) {
        // A copy, because a chunk keeps the whole block that it came in.
        let bytes = Bytes::copy_from_slice(&chunk.bytes);
        self.held += bytes.len();
        self.lines.push_back((LogChunk { bytes, ..*chunk }, place));
        while self.lines.len() > self.count || self.held > self.bytes {
            let Some((oldest, _)) = self.lines.pop_front() else { break };
            self.held -= oldest.bytes.len();
        }
    }
}

/// Reads a pattern. The error points at what is wrong in it.
pub(crate) fn pattern(text: &str, ignore_case: bool) -> Result<Regex, String> {
    RegexBuilder::new(text)
        .case_insensitive(ignore_case)
        .size_limit(PATTERN_SIZE)
        .dfa_size_limit(PATTERN_SIZE)
        .build()
        .map_err(|error| error.to_string())
}

impl Carry {
    /// In the three lowest bits.
    pub(crate) fn to_bits(self) -> u8 {
        let rest = match self.rest_shown {
            None => 0,
            Some(false) => 2,
            Some(true) => 4,
        };
        rest | u8::from(self.level_shown)
    }

    pub(crate) fn from_bits(bits: u8) -> Carry {
        let rest_shown = match bits & 6 {
            2 => Some(false),
            4 => Some(true),
            _ => None,
        };
        Carry { level_shown: bits & 1 != 0, rest_shown }
    }
}

impl Rules {
    /// True if every chunk is let through as it is.
    pub(crate) fn let_all_through(&self) -> bool {
        self.grep.is_none() && self.level.is_none() && !self.whole
    }
}

impl Filter {
    pub(crate) fn new(rules: Rules) -> Self {
        Filter { rules, streams: Default::default() }
    }

    /// Knows from now on what another one knew that was given what came before.
    pub(crate) fn go_on(&mut self, carries: [Carry; 2]) {
        for (stream, carry) in self.streams.iter_mut().zip(carries) {
            stream.carry = carry;
        }
    }

    pub(crate) fn carry(&self, stream: usize) -> Carry {
        self.streams[stream].carry
    }

    /// True while a line is put together of which nothing was decided yet.
    pub(crate) fn is_within_line(&self, stream: usize) -> bool {
        self.streams[stream].begun_at.is_some()
    }

    /// Takes the next chunk; returns what is to be shown now.
    pub(crate) fn push(&mut self, chunk: LogChunk) -> Option<LogChunk> {
        if self.rules.let_all_through() {
            return Some(chunk);
        }
        let stream = match chunk.stream {
            LogStream::Stdout => 0,
            LogStream::Stderr => 1,
        };
        self.streams[stream].push(&self.rules, chunk)
    }

    /// The output is over: what is to be shown of lines that lack their end.
    pub(crate) fn finish(&mut self) -> impl Iterator<Item = LogChunk> {
        let rules = &self.rules;
        self.streams
            .iter_mut()
            .zip([LogStream::Stdout, LogStream::Stderr])
            .filter_map(|(stream, which)| stream.finish(rules, which))
    }
}

impl Stream {
    fn push(&mut self, rules: &Rules, chunk: LogChunk) -> Option<LogChunk> {
        let ended = chunk.bytes.ends_with(b"\n");
        if let Some(shown) = self.carry.rest_shown {
            if ended {
                self.carry.rest_shown = None;
            }
            return shown.then_some(chunk);
        }
        if ended && self.begun.is_empty() {
            return self.wants(rules, &chunk.bytes).then_some(chunk);
        }
        let time = *self.begun_at.get_or_insert(chunk.time);
        self.begun.extend_from_slice(&chunk.bytes);
        if !ended && self.begun.len() < LONGEST {
            return None;
        }
        let line = std::mem::take(&mut self.begun);
        self.begun_at = None;
        let shown = self.wants(rules, &line);
        self.carry.rest_shown = (!ended).then_some(shown);
        shown.then(|| LogChunk { time, stream: chunk.stream, bytes: Bytes::from(line) })
    }

    fn finish(&mut self, rules: &Rules, stream: LogStream) -> Option<LogChunk> {
        self.carry.rest_shown = None;
        let time = self.begun_at.take()?;
        let line = std::mem::take(&mut self.begun);
        self.wants(rules, &line).then(|| LogChunk { time, stream, bytes: Bytes::from(line) })
    }

    fn wants(&mut self, rules: &Rules, line: &[u8]) -> bool {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        if let Some(least) = rules.level {
            if let Some(level) = level_of(line) {
                self.carry.level_shown = level >= least;
            }
            if !self.carry.level_shown {
                return false;
            }
        }
        rules.grep.as_ref().is_none_or(|pattern| pattern.is_match(line))
    }
}

/// The level that a line says it has, in any of the ways in which programs say that.
pub(crate) fn level_of(line: &[u8]) -> Option<LogLevel> {
    let line = line.trim_ascii_start();
    if line.first() == Some(&b'{') {
        return level_of_json(line);
    }
    let head = String::from_utf8_lossy(&line[..line.len().min(HEAD)]);
    level_of_klog(&head).or_else(|| level_of_pair(&head)).or_else(|| level_of_words(&head))
}

#[derive(Deserialize)]
struct Leveled {
    level: Option<Value>,
    severity: Option<Value>,
    lvl: Option<Value>,
    levelname: Option<Value>,
    #[serde(rename = "log.level")]
    log_level: Option<Value>,
    #[serde(rename = "severityText")]
    severity_text: Option<Value>,
}

fn level_of_json(line: &[u8]) -> Option<LogLevel> {
    let Leveled { level, severity, lvl, levelname, log_level, severity_text } =
        serde_json::from_slice(line).ok()?;
    [level, severity, lvl, levelname, log_level, severity_text].into_iter().flatten().find_map(|value| {
        match value {
            // As pino and bunyan count: 10 is trace, 60 is fatal.
            Value::Number(number) => Some(match number.as_f64()? {
                ..20.0 => LogLevel::Trace,
                ..30.0 => LogLevel::Debug,
                ..40.0 => LogLevel::Info,
                ..50.0 => LogLevel::Warn,
                ..60.0 => LogLevel::Error,
                _ => LogLevel::Fatal,
            }),
            Value::String(word) => word.parse().ok(),
            _ => None,
        }
    })
}

/// `E0102 15:04:05.678901 …`, as Kubernetes' own programs write.
fn level_of_klog(head: &str) -> Option<LogLevel> {
    let level = match head.bytes().next()? {
        b'I' => LogLevel::Info,
        b'W' => LogLevel::Warn,
        b'E' => LogLevel::Error,
        b'F' => LogLevel::Fatal,
        _ => return None,
    };
    let (date, rest) = head[1..].split_once(' ')?;
    let is_date = date.len() == 4 && date.bytes().all(|byte| byte.is_ascii_digit());
    (is_date && rest.trim_start().starts_with(|first: char| first.is_ascii_digit())).then_some(level)
}

/// `level=warn`, as logfmt has it.
fn level_of_pair(head: &str) -> Option<LogLevel> {
    head.split_ascii_whitespace().find_map(|word| {
        let (key, value) = word.split_once('=')?;
        let known = ["level", "lvl", "severity"].iter().any(|known| known.eq_ignore_ascii_case(key));
        if known { value.trim_matches('"').parse().ok() } else { None }
    })
}

/// A level in capitals or brackets near the beginning, behind a time perhaps; or the first word, with a colon.
fn level_of_words(head: &str) -> Option<LogLevel> {
    if head.starts_with("Traceback (most recent call last)") {
        return Some(LogLevel::Error);
    }
    head.split_ascii_whitespace().take(WORDS).enumerate().find_map(|(position, word)| {
        let bare = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
        let bracketed = word.starts_with(['[', '<', '(']) && bare.len() < word.len() - 1;
        let in_capitals = !bare.is_empty() && bare.bytes().all(|byte| byte.is_ascii_uppercase());
        let leads = position == 0 && word.ends_with(':');
        if bracketed || in_capitals || leads { bare.parse().ok() } else { None }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(text: impl Into<Vec<u8>>) -> LogChunk {
        LogChunk { time: Timestamp::UNIX_EPOCH, stream: LogStream::Stdout, bytes: Bytes::from(text.into()) }
    }

    fn shown(rules: &Rules, chunks: &[&str]) -> Vec<String> {
        let mut filter = Filter::new(rules.clone());
        let mut shown: Vec<LogChunk> = chunks.iter().filter_map(|text| filter.push(chunk(*text))).collect();
        shown.extend(filter.finish());
        shown.iter().map(|chunk| String::from_utf8_lossy(&chunk.bytes).into_owned()).collect()
    }

    #[test]
    fn every_way_to_say_a_level_is_understood() {
        use LogLevel::{Debug, Error, Fatal, Info, Trace, Warn};
        for (line, level) in [
            (r#"{"level":"warn","msg":"x"}"#, Some(Warn)),
            (r#"{"severity":"ERROR"}"#, Some(Error)),
            (r#"{"lvl":"dbug"}"#, None),
            (r#"{"lvl":"debug"}"#, Some(Debug)),
            (r#"{"level":30,"time":1}"#, Some(Info)),
            (r#"{"level":35}"#, Some(Info)),
            (r#"{"level":60}"#, Some(Fatal)),
            (r#"{"level":10}"#, Some(Trace)),
            (r#"{"level":{"a":1}}"#, None),
            (r#"{"log.level":"critical"}"#, Some(Fatal)),
            (r#"{"level":"warn""#, None),
            ("time=\"2026-01-02\" level=warning msg=\"level=info\"", Some(Warn)),
            ("lvl=error msg=x", Some(Error)),
            ("ERROR something broke", Some(Error)),
            ("Error: something broke", Some(Error)),
            ("error: linking failed", Some(Error)),
            ("warning: unused", Some(Warn)),
            ("2026-11-22 10:00:00,123 WARNING root: x", Some(Warn)),
            ("2026-11-22T10:00:00Z  INFO chassis::server: x", Some(Info)),
            ("[2026-11-22 10:00:00] [error] [pid 3] x", Some(Error)),
            ("[WARN] x", Some(Warn)),
            ("10:00 [main] DEBUG org.x - y", Some(Debug)),
            ("E0102 15:04:05.678901       1 main.go:3] x", Some(Error)),
            ("F0102 15:04:05.678901       1 main.go:3] x", Some(Fatal)),
            ("panic: runtime error: index out of range", Some(Fatal)),
            ("Traceback (most recent call last):", Some(Error)),
            ("there was no error at all", None),
            ("the operation had an ERRORLESS run", None),
            ("    at com.example.Main(Main.java:1)", None),
            ("I am fine", None),
            ("", None),
        ] {
            assert_eq!(level_of(line.as_bytes()), level, "{line}");
        }
    }

    #[test]
    fn a_trace_belongs_to_its_error() {
        let rules = Rules { level: Some(LogLevel::Warn), ..Rules::default() };
        let lines = [
            "before anything\n",
            "INFO fine\n",
            "  more of it\n",
            "ERROR broken\n",
            "  at a\n",
            "  at b\n",
            "DEBUG x\n",
            "y\n",
        ];
        assert_eq!(shown(&rules, &lines), ["ERROR broken\n", "  at a\n", "  at b\n"]);
    }

    #[test]
    fn pieces_are_one_line() {
        let grep = Some(pattern("be.*end", false).unwrap());
        let rules = Rules { grep, ..Rules::default() };
        assert_eq!(
            shown(&rules, &["no\n", "be", "gin ", "end\n", "end\n", "be", "end"]),
            ["begin end\n", "beend"]
        );
    }

    #[test]
    fn a_line_without_end_is_held_to_a_bound() {
        let piece = "x".repeat(16 << 10);
        let mut pieces = vec!["wanted ".to_owned()];
        pieces.extend(std::iter::repeat_n(piece.clone(), 200));
        pieces.extend(["tail\n".to_owned(), "wanted too\n".to_owned(), "not\n".to_owned()]);
        for (text, all) in [("wanted", true), ("tail", false)] {
            let mut filter =
                Filter::new(Rules { grep: Some(pattern(text, false).unwrap()), ..Rules::default() });
            let mut out = Vec::new();
            for piece in &pieces {
                out.extend(filter.push(chunk(piece.as_str())));
                assert!(filter.streams[0].begun.len() < LONGEST + piece.len());
            }
            let bytes: usize = out.iter().map(|chunk| chunk.bytes.len()).sum();
            let line: usize = 7 + 200 * piece.len() + 5;
            assert_eq!(bytes, if all { line + 11 } else { 0 }, "{text}");
        }
    }

    #[test]
    fn a_bad_pattern_is_told_with_its_place() {
        let error = pattern("a(b", false).unwrap_err();
        assert!(error.contains("a(b\n     ^") && error.contains("unclosed group"), "{error}");
        assert!(pattern(r"(\w{100}){100}{100}", false).unwrap_err().contains("size limit"));
        assert!(pattern("ERR", true).unwrap().is_match(b"err"));
    }
}
