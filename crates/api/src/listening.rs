//! Where a server is reached, and the certificate that it shows there.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One address that a server listens on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Listening {
    /// As `CHASSIS_SERVER` takes it: `unix:///path`, `https://host:port`, `http://host:port`.
    pub address: String,
    /// None where nothing is encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Certificate>,
}

/// What a server shows to whoever connects with TLS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Certificate {
    pub fingerprint: Fingerprint,
    /// True if the server made it for itself.
    pub generated: bool,
    /// It is believed until then.
    pub expires_at: Timestamp,
}

/// The SHA-256 of a certificate (of its DER), by which a client knows a server: `sha256:` and 64 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct Fingerprint([u8; 32]);

/// A text that is no [`Fingerprint`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a certificate's fingerprint; write sha256: and 64 hex digits, as `chassis server status` shows it"
)]
pub struct NoFingerprint(String);

impl Fingerprint {
    /// Of a hash that was computed already.
    pub fn new(sha256: [u8; 32]) -> Self {
        Fingerprint(sha256)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl FromStr for Fingerprint {
    type Err = NoFingerprint;

    /// Also as `openssl x509 -fingerprint -sha256` prints it.
    fn from_str(text: &str) -> Result<Self, NoFingerprint> {
        let wrong = || NoFingerprint(text.to_owned());
        let lower = text.trim().to_ascii_lowercase();
        let digits = ["sha256:", "sha256 fingerprint="].iter().find_map(|begin| lower.strip_prefix(begin));
        let digits: Vec<u8> = digits.unwrap_or(&lower).bytes().filter(|byte| *byte != b':').collect();
        if digits.len() != 64 {
            return Err(wrong());
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
            let (high, low) = (digit(pair[0]).ok_or_else(wrong)?, digit(pair[1]).ok_or_else(wrong)?);
            *byte = high << 4 | low;
        }
        Ok(Fingerprint(bytes))
    }
}

impl TryFrom<String> for Fingerprint {
    type Error = NoFingerprint;

    fn try_from(text: String) -> Result<Self, NoFingerprint> {
        text.parse()
    }
}

impl From<Fingerprint> for String {
    fn from(fingerprint: Fingerprint) -> String {
        fingerprint.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_read_as_people_copy_it() {
        let mut sha256 = [7; 32];
        sha256[0] = 0xab;
        let fingerprint = Fingerprint::new(sha256);
        let plain = format!("ab{}", "07".repeat(31));
        assert_eq!(fingerprint.to_string(), format!("sha256:{plain}"));
        let openssl = format!("SHA256 Fingerprint=AB{}\n", ":07".repeat(31));
        for text in [format!("sha256:{plain}"), plain.clone(), openssl] {
            assert_eq!(text.parse(), Ok(fingerprint), "{text}");
        }
        for text in ["", "sha256:", &plain[1..], &format!("{plain}0"), &plain.replace('7', "g")] {
            assert!(text.parse::<Fingerprint>().is_err(), "{text}");
        }
    }
}
