//! What an instance is given at each start, on its way to init: one frame on its standard input.
//!
//! ```text
//! "chassis2" | payload length: u32 | FNV-1a of the payload: u64 | payload
//! payload = (kind: u8 | number: u32 | name length: u32 | name | value length: u32 | value)*
//! ```
//! Numbers are little-endian. A frame that is cut short or damaged is refused as a whole: an agent never starts with
//! half of its secrets. Both ends are of one version: init is put into the instance's directory before each start.

use zeroize::Zeroizing;

const MAGIC: [u8; 8] = *b"chassis2";
/// Bytes before the payload.
pub const HEADER_LENGTH: usize = 20;
/// Bytes of an entry beside its name and value.
const ENTRY_LENGTH: usize = 13;
/// More environment than the kernel would pass on, files of as much, and a program of 64 MiB.
const LONGEST_PAYLOAD: usize = 80 << 20;

/// One thing that is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    pub kind: Kind,
    /// The mode of a file; the seconds that a script may take.
    pub number: u32,
    /// The name of a variable; the path of a file.
    pub name: &'a [u8],
    /// The value, the content, or the script.
    pub value: &'a [u8],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An environment variable of the agent.
    Variable,
    /// A file that is written before the agent starts.
    File,
    /// What is run before the agent starts.
    Startup,
}

/// Puts entries into one frame. `None` if they are more than a frame holds.
pub fn encode<'a>(entries: impl Iterator<Item = Entry<'a>> + Clone) -> Option<Zeroizing<Vec<u8>>> {
    let length: usize =
        entries.clone().map(|entry| ENTRY_LENGTH + entry.name.len() + entry.value.len()).sum();
    if length > LONGEST_PAYLOAD {
        return None;
    }
    // The whole size is reserved at once: growing would leave copies behind in freed memory.
    let mut frame = Zeroizing::new(Vec::with_capacity(HEADER_LENGTH + length));
    frame.resize(HEADER_LENGTH, 0);
    for entry in entries {
        frame.push(entry.kind as u8);
        frame.extend_from_slice(&entry.number.to_le_bytes());
        for part in [entry.name, entry.value] {
            frame.extend_from_slice(&u32::try_from(part.len()).ok()?.to_le_bytes());
            frame.extend_from_slice(part);
        }
    }
    let checksum = fnv1a(&frame[HEADER_LENGTH..]);
    frame[..8].copy_from_slice(&MAGIC);
    frame[8..12].copy_from_slice(&u32::try_from(length).ok()?.to_le_bytes());
    frame[12..HEADER_LENGTH].copy_from_slice(&checksum.to_le_bytes());
    Some(frame)
}

/// How long the payload after this header is. `None` if this is no header.
pub fn payload_length(header: &[u8; HEADER_LENGTH]) -> Option<usize> {
    let length = u32::from_le_bytes(header[8..12].try_into().ok()?) as usize;
    (header[..8] == MAGIC && length <= LONGEST_PAYLOAD).then_some(length)
}

/// The entries of a payload. `None` if it is not what the header promised.
pub fn decode<'a>(header: &[u8; HEADER_LENGTH], payload: &'a [u8]) -> Option<Vec<Entry<'a>>> {
    let checksum = u64::from_le_bytes(header[12..].try_into().ok()?);
    if payload_length(header)? != payload.len() || fnv1a(payload) != checksum {
        return None;
    }
    let mut rest = payload;
    let mut entries = Vec::new();
    while let Some((kind, after)) = rest.split_first() {
        let kind = match kind {
            0 => Kind::Variable,
            1 => Kind::File,
            2 => Kind::Startup,
            _ => return None,
        };
        let (number, after) = after.split_first_chunk()?;
        rest = after;
        let (name, value) = (take(&mut rest)?, take(&mut rest)?);
        entries.push(Entry { kind, number: u32::from_le_bytes(*number), name, value });
    }
    Some(entries)
}

fn take<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, after) = rest.split_first_chunk()?;
    let (part, after) = after.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    *rest = after;
    Some(part)
}

/// FNV-1a of 64 bits: tells damage, not malice.
pub fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRIES: [Entry<'_>; 4] = [
        Entry { kind: Kind::Variable, number: 0, name: b"API_KEY", value: b"line\nbreak" },
        Entry { kind: Kind::Variable, number: 0, name: b"EMPTY", value: b"" },
        Entry { kind: Kind::File, number: 0o600, name: b"/data/a", value: b"\0\xff" },
        Entry { kind: Kind::Startup, number: 30, name: b"", value: b"true" },
    ];

    fn split(frame: &[u8]) -> (&[u8; HEADER_LENGTH], &[u8]) {
        frame.split_first_chunk().unwrap()
    }

    #[test]
    fn what_was_encoded_is_decoded() {
        let frame = encode(ENTRIES.into_iter()).unwrap();
        let (header, payload) = split(&frame);
        assert_eq!(payload_length(header), Some(payload.len()));
        assert_eq!(decode(header, payload), Some(ENTRIES.to_vec()));
    }

    #[test]
    fn any_damage_is_noticed() {
        let frame = encode(ENTRIES.into_iter()).unwrap();
        for position in 0..frame.len() {
            let mut damaged = frame.to_vec();
            damaged[position] ^= 1;
            let (header, payload) = split(&damaged);
            assert_eq!(decode(header, payload), None, "byte {position}");
        }
        let (header, payload) = split(&frame);
        assert_eq!(decode(header, &payload[1..]), None);
    }
}
