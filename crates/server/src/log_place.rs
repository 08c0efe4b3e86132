//! How far the output of instances was read, so that reading can go on exactly there: nothing missed, nothing doubled.
//!
//! A runtime dates each piece of output once, in the order in which one stream of an instance writes, and the date stays
//! with it in what is kept. Several pieces may have the same date. So a time and a count of pieces name a place in a
//! stream, through all runs and containers of the instance, for every server and also after rotation. The two streams of
//! an instance are dated independently of each other, and have a place each.

use std::collections::BTreeMap;

use chassis_core::InstanceKey;
use chassis_runtime::{LogChunk, LogStream};
use chassis_spec::{AgentName, FleetName};
use jiff::{SignedDuration, Timestamp};

use crate::log_filter::{Carry, Filter, Rules};

/// By how much what one stream wrote may be dated before what stands before it of the other stream: the runtime was not
/// scheduled between looking at the clock and writing.
pub(crate) const SKEW: SignedDuration = SignedDuration::from_secs(60);

/// A place in one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) time: Timestamp,
    /// Pieces of that time that were read.
    pub(crate) count: u32,
}

/// A place in what an instance prints, and what the filter has to know of what comes before it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Place {
    streams: [(Option<Mark>, Carry); 2],
}

/// The places of all instances of one stream of lines: what `Last-Event-ID` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Places {
    /// When somebody began to read. An instance that has no place yet is read from then on.
    pub(crate) began: Timestamp,
    pub(crate) instances: BTreeMap<(AgentName, u32), Place>,
}

/// Reads what an instance prints: knows how far, leaves out what was read before, and filters the rest.
#[derive(Debug)]
pub(crate) struct Tracked {
    filter: Filter,
    place: Place,
    /// Up to where each stream was read: beyond its place if a line is not at its end yet.
    read: [Option<Mark>; 2],
    /// How many pieces of the last time of each stream were met again, since reading began anew.
    again: [Option<u32>; 2],
    /// What stands before the first piece is not wanted.
    is_tail: bool,
}

fn index(stream: LogStream) -> usize {
    match stream {
        LogStream::Stdout => 0,
        LogStream::Stderr => 1,
    }
}

// === impl Tracked ===

impl Tracked {
    pub(crate) fn new(rules: Rules) -> Tracked {
        Tracked {
            filter: Filter::new(rules),
            place: Place::default(),
            read: [None; 2],
            again: [None; 2],
            is_tail: false,
        }
    }

    /// Goes on behind a place.
    pub(crate) fn after(rules: Rules, place: Place) -> Tracked {
        let mut filter = Filter::new(rules);
        filter.go_on(place.streams.map(|(_, carry)| carry));
        let read = place.streams.map(|(mark, _)| mark);
        Tracked { filter, place, read, again: read.map(|mark| mark.map(|_| 0)), is_tail: false }
    }

    /// Only what comes from the next piece on is wanted, of both streams.
    pub(crate) fn begin_with_next(&mut self) {
        self.is_tail = true;
    }

    /// Only what is written from a time on is wanted.
    pub(crate) fn begin_at(&mut self, time: Timestamp) {
        self.place = Place::at(time);
        self.read = self.place.streams.map(|(mark, _)| mark);
        self.again = [Some(0); 2];
    }

    pub(crate) fn place(&self) -> Place {
        self.place
    }

    /// Reading begins anew. Returns the time from which on there can be something that was not read.
    pub(crate) fn read_again(&mut self) -> Option<Timestamp> {
        self.again = self.read.map(|mark| mark.map(|_| 0));
        Place::since_of(self.read)
    }

    /// Notes the next piece. Returns what is to be shown now.
    pub(crate) fn push(&mut self, chunk: LogChunk) -> Option<LogChunk> {
        if !self.is_new(&chunk) {
            return None;
        }
        let which = index(chunk.stream);
        let shown = self.filter.push(chunk);
        if !self.filter.is_within_line(which) {
            self.place.streams[which] = (self.read[which], self.filter.carry(which));
        }
        shown
    }

    /// A run is over: what is to be shown of lines that lack their end, each with the place behind it.
    pub(crate) fn finish(&mut self) -> Vec<(LogChunk, Place)> {
        let rest: Vec<LogChunk> = self.filter.finish().collect();
        let behind = [0, 1].map(|which| (self.read[which], self.filter.carry(which)));
        let mut shown = Vec::new();
        for chunk in rest {
            let which = index(chunk.stream);
            self.place.streams[which] = behind[which];
            shown.push((chunk, self.place));
        }
        self.place.streams = behind;
        shown
    }

    fn is_new(&mut self, chunk: &LogChunk) -> bool {
        if std::mem::take(&mut self.is_tail) {
            let nothing = Some(Mark { time: chunk.time, count: 0 });
            for which in 0..2 {
                self.read[which] = self.read[which].or(nothing);
                self.place.streams[which].0 = self.read[which];
            }
        }
        let which = index(chunk.stream);
        let (read, again) = (&mut self.read[which], &mut self.again[which]);
        let first = Mark { time: chunk.time, count: 1 };
        match (read.as_mut(), again.as_mut()) {
            (Some(mark), Some(_)) if chunk.time < mark.time => return false,
            (Some(mark), Some(met)) if chunk.time == mark.time && *met < mark.count => {
                *met += 1;
                return false;
            }
            (Some(mark), _) if chunk.time == mark.time => mark.count = mark.count.saturating_add(1),
            _ => *read = Some(first),
        }
        *again = None;
        true
    }
}

// === impl Place ===

impl Place {
    /// Before everything that is written from a time on.
    pub(crate) fn at(time: Timestamp) -> Place {
        Place { streams: [(Some(Mark { time, count: 0 }), Carry::default()); 2] }
    }

    /// The time from which on there can be something that follows.
    pub(crate) fn since(&self) -> Option<Timestamp> {
        Place::since_of(self.streams.map(|(mark, _)| mark))
    }

    fn since_of(marks: [Option<Mark>; 2]) -> Option<Timestamp> {
        let newest = marks.iter().flatten().map(|mark| mark.time).max()?;
        let skewed = newest.checked_sub(SKEW).unwrap_or(newest);
        // A stream without a mark has written nothing yet.
        let [Some(stdout), Some(stderr)] = marks else { return Some(skewed) };
        Some(stdout.time.min(stderr.time).max(skewed))
    }

    /// The last piece that was read; none if there was none.
    pub(crate) fn last(&self) -> Option<(LogStream, Mark)> {
        let [(stdout, _), (stderr, _)] = self.streams;
        let marks = [(LogStream::Stdout, stdout), (LogStream::Stderr, stderr)];
        let read = marks.into_iter().filter_map(|(stream, mark)| Some((stream, mark?)));
        read.filter(|(_, mark)| mark.count > 0).max_by_key(|(_, mark)| mark.time)
    }
}

// === impl Places ===

/// The form that is written below.
const VERSION: u8 = 1;
const HAS_MARK: u8 = 1;

impl Places {
    pub(crate) fn new(began: Timestamp) -> Places {
        Places { began, instances: BTreeMap::new() }
    }

    pub(crate) fn of(&self, key: &InstanceKey) -> Option<Place> {
        self.instances.get(&(key.agent.clone(), key.number)).copied()
    }

    pub(crate) fn set(&mut self, key: &InstanceKey, place: Place) {
        self.instances.insert((key.agent.clone(), key.number), place);
    }

    /// The instances that have a place.
    pub(crate) fn keys(&self, fleet: &FleetName) -> impl Iterator<Item = InstanceKey> {
        self.instances.keys().map(|(agent, number)| InstanceKey {
            fleet: fleet.clone(),
            agent: agent.clone(),
            number: *number,
        })
    }

    /// A few bytes for each instance: times are written as differences.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        let began = nanoseconds(self.began);
        out.extend_from_slice(&began.to_be_bytes());
        let mut agent_before: Option<&AgentName> = None;
        for ((agent, number), place) in &self.instances {
            // An agent's name stands before its first instance; an empty one says that it is the same.
            let name = if agent_before == Some(agent) { "" } else { agent.as_str() };
            agent_before = Some(agent);
            write_number(&mut out, name.len() as u64);
            out.extend_from_slice(name.as_bytes());
            write_number(&mut out, u64::from(*number));
            for (mark, carry) in &place.streams {
                out.push(carry.to_bits() << 1 | u8::from(mark.is_some()));
                if let Some(mark) = mark {
                    let ahead = nanoseconds(mark.time).wrapping_sub(began);
                    // The sign in the lowest bit, so that small differences are short.
                    write_number(
                        &mut out,
                        ahead.wrapping_shl(1).cast_unsigned() ^ (ahead >> 63).cast_unsigned(),
                    );
                    write_number(&mut out, u64::from(mark.count));
                }
            }
        }
        out
    }

    /// None if these bytes were not made by [`Places::to_bytes`].
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Places> {
        let (version, bytes) = bytes.split_first()?;
        let (began, mut bytes) = bytes.split_first_chunk::<8>()?;
        if *version != VERSION {
            return None;
        }
        let began = i64::from_be_bytes(*began);
        let mut places = Places::new(timestamp(began)?);
        let mut agent: Option<AgentName> = None;
        while !bytes.is_empty() {
            let length = usize::try_from(read_number(&mut bytes)?).ok()?;
            let (name, rest) = bytes.split_at_checked(length)?;
            bytes = rest;
            if !name.is_empty() {
                agent = Some(std::str::from_utf8(name).ok()?.parse().ok()?);
            }
            let number = u32::try_from(read_number(&mut bytes)?).ok()?;
            let mut place = Place::default();
            for stream in &mut place.streams {
                let (flags, rest) = bytes.split_first()?;
                bytes = rest;
                stream.1 = Carry::from_bits(flags >> 1);
                if flags & HAS_MARK != 0 {
                    let folded = read_number(&mut bytes)?;
                    let ahead = (folded >> 1).cast_signed() ^ -(folded & 1).cast_signed();
                    let time = timestamp(began.wrapping_add(ahead))?;
                    stream.0 = Some(Mark { time, count: u32::try_from(read_number(&mut bytes)?).ok()? });
                }
            }
            places.instances.insert((agent.clone()?, number), place);
        }
        Some(places)
    }
}

/// Since 1970, until 2262.
fn nanoseconds(time: Timestamp) -> i64 {
    i64::try_from(time.as_nanosecond()).unwrap_or(i64::MAX)
}

fn timestamp(nanoseconds: i64) -> Option<Timestamp> {
    Timestamp::from_nanosecond(nanoseconds.into()).ok()
}

/// Seven bits in a byte, the lowest first; the highest bit says that there are more.
fn write_number(out: &mut Vec<u8>, mut number: u64) {
    loop {
        let low = (number & 0x7f) as u8;
        number >>= 7;
        if number == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

fn read_number(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::log_filter::pattern;

    fn time(nanoseconds: i64) -> Timestamp {
        timestamp(nanoseconds).unwrap()
    }

    /// Pieces in the order in which a runtime keeps them: each stream is in the order of its times, the two together need
    /// not be.
    fn pieces() -> impl Strategy<Value = Vec<LogChunk>> {
        let piece = (0..3_i64, any::<bool>(), -2..3_i64, 0..6_usize);
        prop::collection::vec(piece, 0..40).prop_map(|pieces| {
            let mut times = [1_000_000_i64; 2];
            let mut now = 1_000_000;
            pieces
                .into_iter()
                .map(|(step, is_stdout, skew, text)| {
                    now += step;
                    let which = usize::from(!is_stdout);
                    times[which] = times[which].max(now + skew);
                    let text =
                        ["one\n", "ERROR two\n", "INFO three\n", "begun ", "ERROR be", "  at x\n"][text];
                    let stream = if is_stdout { LogStream::Stdout } else { LogStream::Stderr };
                    LogChunk { time: time(times[which]), stream, bytes: Bytes::from(text) }
                })
                .collect()
        })
    }

    fn shown(tracked: &mut Tracked, pieces: &[LogChunk]) -> Vec<(Place, String)> {
        let mut shown = Vec::new();
        for piece in pieces {
            if let Some(chunk) = tracked.push(piece.clone()) {
                let line = format!("{:?} {:?} {:?}", chunk.stream, chunk.time, chunk.bytes);
                shown.push((tracked.place(), line));
            }
        }
        shown
    }

    proptest! {
        /// Whoever was cut off after any line gets exactly those that follow, whatever is read again, filtered or not.
        #[test]
        fn reading_goes_on_exactly_where_it_was_cut_off(pieces in pieces(), rules in 0..3_usize, cut: prop::sample::Index) {
            let rules = [
                Rules::default(),
                Rules { whole: true, ..Rules::default() },
                Rules { level: Some(chassis_api::LogLevel::Warn), grep: Some(pattern("[a-z]", false).unwrap()), ..Rules::default() },
            ][rules].clone();
            let all = shown(&mut Tracked::new(rules.clone()), &pieces);
            if !all.is_empty() {
                let cut = cut.index(all.len());
                let key = InstanceKey { fleet: "f".parse().unwrap(), agent: "a".parse().unwrap(), number: 3 };
                let mut places = Places::new(time(5));
                places.set(&key, all[cut].0);
                let place = Places::from_bytes(&places.to_bytes()).unwrap().of(&key).unwrap();
                let since = place.since().unwrap();
                let rest: Vec<LogChunk> = pieces.iter().filter(|piece| piece.time >= since).cloned().collect();
                let lines = |shown: &[(Place, String)]| shown.iter().map(|(_, line)| line.clone()).collect::<Vec<_>>();
                let gone_on = shown(&mut Tracked::after(rules, place), &rest);
                prop_assert_eq!(lines(&gone_on), lines(&all[cut + 1..]));
            }
        }

        #[test]
        fn bytes_of_anybody_are_read_without_harm(bytes: Vec<u8>) {
            if let Some(places) = Places::from_bytes(&bytes) {
                prop_assert_eq!(Places::from_bytes(&places.to_bytes()), Some(places));
            }
        }
    }

    #[test]
    fn places_are_short() {
        let mut places = Places::new(time(1_700_000_000_000_000_000));
        let place = Place::at(time(1_700_000_000_000_000_000 + 3_600_000_000_000));
        for number in 1..=10 {
            let agent = "data-collector".parse().unwrap();
            places.set(&InstanceKey { fleet: "f".parse().unwrap(), agent, number }, place);
        }
        let bytes = places.to_bytes();
        assert_eq!(Places::from_bytes(&bytes), Some(places));
        assert!(bytes.len() < 240, "{}", bytes.len());
    }

    #[test]
    fn what_stands_before_a_tail_is_never_shown() {
        let chunk = |at, stream, text| LogChunk { time: time(at), stream, bytes: Bytes::from_static(text) };
        let mut tracked = Tracked::new(Rules::default());
        tracked.begin_with_next();
        tracked.push(chunk(9, LogStream::Stdout, b"last\n"));
        let mut again = Tracked::after(Rules::default(), tracked.place());
        assert!(again.push(chunk(8, LogStream::Stderr, b"before\n")).is_none());
        assert!(again.push(chunk(9, LogStream::Stdout, b"last\n")).is_none());
        assert!(again.push(chunk(9, LogStream::Stderr, b"after\n")).is_some());
    }
}
