//! What the agent of an environment is called with: a token, and a certificate of its own. Made for each environment, kept
//! encrypted with it, and made anew when its token is rotated.

use jiff::{ToSpan, Zoned};
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, date_time_ymd};
use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

/// As long as Fuse's, if the environment does not live longer.
const DAYS_LEAST: i64 = 7;
const DAYS_MOST: i64 = 3650;
const SECONDS_A_DAY: i64 = 24 * 3600;

/// A certificate that nobody has signed but its own key, and that, in PEM.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Certificate {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Drop for Certificate {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

impl Certificate {
    /// Of an agent that serves inside of an environment which may run for so many seconds. It is reached by the addresses of
    /// whoever forwards to it, so it is known by itself, and not by a name.
    pub(crate) fn make(max_runtime_seconds: i64) -> Result<Certificate, rcgen::Error> {
        let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::CommonName, "environment");
        let now = Zoned::now();
        let days = (max_runtime_seconds / SECONDS_A_DAY + 1).clamp(DAYS_LEAST, DAYS_MOST);
        let day = |time: &Zoned| {
            date_time_ymd(time.year().into(), time.month().unsigned_abs(), time.day().unsigned_abs())
        };
        // Where the clock is a little behind it would not be valid yet; and it is valid until the end of its last day.
        params.not_before = day(&now.yesterday().unwrap_or_else(|_| now.clone()));
        params.not_after = day(&now.checked_add((days + 1).days()).unwrap_or_else(|_| now.clone()));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        Ok(Certificate { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}
