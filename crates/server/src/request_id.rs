//! A name for each request, in its answer, in the log and in the audit.

use jiff::Timestamp;

/// The most that a caller's own id may have.
const LONGEST: usize = 128;

/// What a request is called: what the caller said in `X-Request-Id`, or a `UUIDv7` (RFC 9562), which sorts by time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RequestId(String);

impl RequestId {
    pub(crate) fn new() -> Self {
        let milliseconds = u128::try_from(Timestamp::now().as_millisecond()).unwrap_or_default();
        let random = rand::random::<u128>();
        // 48 bits of time, the version, 12 random bits, the variant, 62 random bits.
        let high = (milliseconds << 80) | (7 << 76) | (random & (0xfff << 64));
        let id = high | (0b10 << 62) | (random & ((1 << 62) - 1));
        let hex = format!("{id:032x}");
        let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
        RequestId(parts.join("-"))
    }

    /// As Fuse's clients know it: `req_` and 32 hex digits.
    pub(crate) fn new_fuse() -> Self {
        RequestId(format!("req_{:032x}", rand::random::<u128>()))
    }

    /// What they may send themselves.
    pub(crate) fn parse_fuse(text: &str) -> Option<Self> {
        RequestId::parse(text).filter(|_| !text.contains(['.', ':']))
    }

    /// Only what cannot forge a line of a log.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
        ((1..=LONGEST).contains(&text.len()) && text.bytes().all(is_plain))
            .then(|| RequestId(text.to_owned()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}
