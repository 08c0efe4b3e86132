//! Why a node could not be asked.

use chassis_api::Fingerprint;

/// The text is for the person who looks after the server.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "{node} does not answer; check that `chassis node` runs there, and that this machine may reach it"
    )]
    Unreachable { node: String, source: Box<dyn std::error::Error + Send + Sync> },
    /// It took the connection, and then said nothing.
    #[error(
        "{node} has said nothing for {seconds} s; look whether its machine is overloaded, or the network between loses packets"
    )]
    Silent { node: String, seconds: u64 },
    #[error(
        "{node} shows another certificate than the one that it joined with: expected {expected}, found {found}; if whoever \
         runs it says that it was replaced, join it again with `--fingerprint {found}`; else somebody is between you and \
         the node"
    )]
    OtherCertificate { node: String, expected: Fingerprint, found: Fingerprint },
    #[error(
        "{node} shows a certificate ({found}) that this machine does not believe; if the node printed the same at its \
         start, join it with `--fingerprint {found}`"
    )]
    Stranger { node: String, found: Fingerprint },
    #[error(
        "{node} refuses the token; it is in the file `node-token` of the node's `.server` directory, and join takes it from \
         CHASSIS_NODE_TOKEN or a file"
    )]
    Token { node: String },
    #[error("{node} speaks versions {theirs} of the protocol and this program {ours}; {}", whose(*node_is_old))]
    Protocol { node: String, ours: String, theirs: String, node_is_old: bool },
    /// Another server took the node over, or this one has not yet.
    #[error("{node} takes orders of another term: {message}")]
    TermStale { node: String, message: String },
    /// It could not do that just now.
    #[error("{node}: {message}")]
    Refused { node: String, message: String },
    #[error("{node} answered something that is not the protocol of nodes ({what}); check the address")]
    NotUnderstood { node: String, what: String },
    /// The address or the token cannot be used at all.
    #[error("{message}")]
    Unusable { message: String },
}

fn whose(node_is_old: bool) -> &'static str {
    if node_is_old {
        "the node is the older one: upgrade `chassis` there"
    } else {
        "the server is the older one: upgrade `chassis` here"
    }
}

impl Error {
    /// A word for programs; never changes for a variant.
    pub fn code(&self) -> &'static str {
        match self {
            Error::Unreachable { .. } => "node_unreachable",
            Error::Silent { .. } => "node_silent",
            Error::OtherCertificate { .. } | Error::Stranger { .. } => "node_untrusted",
            Error::Token { .. } => "node_token",
            Error::Protocol { .. } => "node_protocol",
            Error::TermStale { .. } => "term_stale",
            Error::Refused { .. } => "node_refused",
            Error::NotUnderstood { .. } => "node_not_understood",
            Error::Unusable { .. } => "node_address",
        }
    }
}

impl From<Error> for chassis_runtime::Error {
    /// For a server all of them are the same: the node cannot be used now.
    fn from(error: Error) -> chassis_runtime::Error {
        let unavailable = chassis_runtime::Error::unavailable(error.to_string());
        match error {
            Error::Unreachable { source, .. } => unavailable.caused_by(source),
            _ => unavailable,
        }
    }
}
