//! Who may call this server, from where and how often.

use chassis_core::Cidr;
use jiff::SignedDuration;
use zeroize::Zeroizing;

/// What the server's own configuration says about callers.
#[derive(Debug, Clone)]
pub struct AccessOptions {
    /// May everything; without it the one in the server's directory, if there is one.
    pub master_token: Option<Zeroizing<String>>,
    /// Clients of the network come from one of these, or are refused; from anywhere if there are none.
    pub allow_from: Vec<Cidr>,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<Cidr>,
    /// Requests in each second that an API key may make for long; 0 for as many as it likes.
    pub rate_limit: u32,
    /// For how long rows of the audit log are kept.
    pub audit_kept: SignedDuration,
}
