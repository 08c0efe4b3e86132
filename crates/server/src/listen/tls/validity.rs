//! Until when a certificate is valid: the one thing that is read of one here. (RFC 5280, section 4.1.)

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;

/// Its `notAfter`; `None` if this is no certificate.
pub(super) fn not_after(certificate: &[u8]) -> Option<Timestamp> {
    let (certificate, _) = element(certificate, SEQUENCE)?;
    let (mut rest, _) = element(certificate, SEQUENCE)?;
    if let Some((_, behind)) = element(rest, VERSION) {
        rest = behind;
    }
    // The serial number, the algorithm, the issuer.
    for tag in [INTEGER, SEQUENCE, SEQUENCE] {
        rest = element(rest, tag)?.1;
    }
    let (validity, _) = element(rest, SEQUENCE)?;
    let (_, behind) = element(validity, UTC_TIME).or_else(|| element(validity, GENERALIZED_TIME))?;
    if let Some((text, _)) = element(behind, GENERALIZED_TIME) {
        return time(std::str::from_utf8(text).ok()?);
    }
    let (text, _) = element(behind, UTC_TIME)?;
    let text = std::str::from_utf8(text).ok()?;
    let century = if text.get(..2)?.parse::<u8>().ok()? < 50 { "20" } else { "19" };
    time(&format!("{century}{text}"))
}

fn time(text: &str) -> Option<Timestamp> {
    let time = DateTime::strptime("%Y%m%d%H%M%SZ", text).ok()?;
    Some(time.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

/// The content of a DER element with this tag, and what is behind it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, rest) = der.split_first()?;
    if *found != tag {
        return None;
    }
    let (first, mut rest) = rest.split_first()?;
    let mut length = usize::from(*first);
    if let Some(count) = length.checked_sub(0x80) {
        let (bytes, behind) = rest.split_at_checked(count).filter(|_| (1..=3).contains(&count))?;
        length = bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
        rest = behind;
    }
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_read_in_either_of_its_forms() {
        for (year, end) in [(2049, "2049-05-06T00:00:00Z"), (2051, "2051-05-06T00:00:00Z")] {
            let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
            params.not_after = rcgen::date_time_ymd(year, 5, 6);
            let certificate = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
            assert_eq!(not_after(certificate.der()).unwrap().to_string(), end);
            for length in 0..certificate.der().len() {
                // Cut anywhere, it is no certificate; and nothing panics.
                assert_eq!(not_after(&certificate.der()[..length]), None);
            }
        }
    }
}
