//! Who may call this server, from where and how often.

use chassis_core::Cidr;
use zeroize::Zeroizing;

/// What the server's own configuration says about callers.
#[derive(Debug, Clone, Default)]
pub struct AccessOptions {
    /// May everything; without it the one in the server's directory, if there is one.
    pub master_token: Option<Zeroizing<String>>,
    /// Clients of the network come from one of these, or are refused; from anywhere if there are none.
    pub allow_from: Vec<Cidr>,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<Cidr>,
}
