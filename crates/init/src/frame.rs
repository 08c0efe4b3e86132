//! Secrets on their way to init: one frame on its standard input.
//!
//! ```text
//! "chassis1" | payload length: u32 | FNV-1a of the payload: u64 | payload
//! payload = (name length: u32 | name | value length: u32 | value)*
//! ```
//! Numbers are little-endian. A frame that is cut short or damaged is refused as a whole: an agent never starts with
//! half of its secrets.

use zeroize::Zeroizing;

const MAGIC: [u8; 8] = *b"chassis1";
/// Bytes before the payload.
pub const HEADER_LENGTH: usize = 20;
/// More environment than the kernel would pass on.
const LONGEST_PAYLOAD: usize = 4 << 20;

/// Puts environment variables into one frame. `None` if they are more than a frame holds.
pub fn encode<'a>(variables: impl Iterator<Item = (&'a str, &'a str)> + Clone) -> Option<Zeroizing<Vec<u8>>> {
    let length: usize = variables.clone().map(|(name, value)| 8 + name.len() + value.len()).sum();
    if length > LONGEST_PAYLOAD {
        return None;
    }
    // The whole size is reserved at once: growing would leave copies behind in freed memory.
    let mut frame = Zeroizing::new(Vec::with_capacity(HEADER_LENGTH + length));
    frame.resize(HEADER_LENGTH, 0);
    for (name, value) in variables {
        for part in [name, value] {
            frame.extend_from_slice(&u32::try_from(part.len()).ok()?.to_le_bytes());
            frame.extend_from_slice(part.as_bytes());
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

/// The environment variables in a payload. `None` if it is not what the header promised.
pub fn decode<'a>(header: &[u8; HEADER_LENGTH], payload: &'a [u8]) -> Option<Vec<(&'a [u8], &'a [u8])>> {
    let checksum = u64::from_le_bytes(header[12..].try_into().ok()?);
    if payload_length(header)? != payload.len() || fnv1a(payload) != checksum {
        return None;
    }
    let mut rest = payload;
    let mut variables = Vec::new();
    while !rest.is_empty() {
        variables.push((take(&mut rest)?, take(&mut rest)?));
    }
    Some(variables)
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

    fn split(frame: &[u8]) -> (&[u8; HEADER_LENGTH], &[u8]) {
        frame.split_first_chunk().unwrap()
    }

    #[test]
    fn what_was_encoded_is_decoded() {
        let variables = [("API_KEY", "line\nbreak"), ("EMPTY", "")];
        let frame = encode(variables.into_iter()).unwrap();
        let (header, payload) = split(&frame);
        assert_eq!(payload_length(header), Some(payload.len()));
        let expected: Vec<_> =
            variables.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
        assert_eq!(decode(header, payload), Some(expected));
    }

    #[test]
    fn any_damage_is_noticed() {
        let frame = encode([("API_KEY", "value")].into_iter()).unwrap();
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
