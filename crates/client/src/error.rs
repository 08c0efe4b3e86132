//! What can go wrong between a client and its server.

use chassis_api::{Fingerprint, Problem};

use crate::ServerAddress;

/// Why a request has no answer that can be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no server answers at {address}; check that it runs and that you may reach it")]
    Unreachable { address: ServerAddress, source: std::io::Error },
    #[error(
        "{address} cannot be reached securely; check its name and certificate, and this machine's certificates"
    )]
    Tls { address: ServerAddress, source: std::io::Error },
    /// Another certificate than the one by which the server is known.
    #[error(
        "{address} shows another certificate than the one that is trusted: expected {expected}, found {found}; if whoever \
         runs it says that it was replaced (`chassis server status` there shows it), trust the new one with `chassis login \
         --fingerprint {found}`; else somebody is between you and the server"
    )]
    OtherCertificate { address: ServerAddress, expected: Fingerprint, found: Fingerprint },
    /// Nobody who is trusted vouches for its certificate.
    #[error(
        "{address} shows a certificate ({found}) that this machine does not believe; `chassis login {address}` asks \
         whether to trust it, --ca names who vouches for it"
    )]
    Stranger { address: ServerAddress, found: Fingerprint, source: std::io::Error },
    #[error("the certificate of {address} has expired; whoever runs the server must renew it")]
    Expired { address: ServerAddress, source: std::io::Error },
    #[error(
        "something answers at {address}, but not with TLS; check the port, and that the server was not started with --tls off"
    )]
    NotTls { address: ServerAddress, source: std::io::Error },
    #[error("cannot use the certificates in {}", path.display())]
    CaFile { path: std::path::PathBuf, source: std::io::Error },
    #[error("the token is empty, or has characters that no token has; copy it again")]
    Token,
    #[error("the connection to {address} broke; try again")]
    Broken { address: ServerAddress, source: hyper::Error },
    /// The request was sent, and neither its answer nor a server that knows of it was found again.
    #[error(
        "the server went away before it answered, so the change may have been made or not: look, and run the same again, \
         which does nothing twice"
    )]
    Uncertain { address: ServerAddress, source: Box<Error> },
    /// A stream into an instance broke.
    #[error("the connection to {address} broke; is the server still there?")]
    StreamBroken { address: ServerAddress, source: Box<dyn std::error::Error + Send + Sync> },
    /// The server ended a stream into an instance, and said why.
    #[error("{address} ended the connection: {reason}")]
    StreamEnded { address: ServerAddress, reason: String },
    #[error(
        "{address} did not answer within {seconds} s; check that the server is not stopped or overloaded"
    )]
    Slow { address: ServerAddress, seconds: u64 },
    /// The server understood, and refused or failed.
    #[error(transparent)]
    Problem(Box<Problem>),
    /// Something else than a chassis server of this version answered.
    #[error(
        "{address} answered something that this version does not understand ({what}); compare `chassis version` with \
             `chassis server status`"
    )]
    Protocol { address: ServerAddress, what: String },
}

impl Error {
    /// A word for programs; never changes for a cause.
    pub fn code(&self) -> &str {
        match self {
            Error::Unreachable { .. } => "server_unreachable",
            Error::Tls { .. }
            | Error::OtherCertificate { .. }
            | Error::Stranger { .. }
            | Error::Expired { .. }
            | Error::CaFile { .. } => "server_untrusted",
            Error::NotTls { .. } => "server_not_encrypted",
            Error::Token => "token_malformed",
            Error::Uncertain { .. } => "outcome_unknown",
            Error::Broken { .. } | Error::StreamBroken { .. } => "connection_broken",
            Error::StreamEnded { .. } => "connection_ended",
            Error::Slow { .. } => "server_slow",
            Error::Problem(problem) => &problem.code,
            Error::Protocol { .. } => "server_not_understood",
        }
    }

    /// True if the server said that what was named does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Error::Problem(problem) if problem.status == 404)
    }
}
