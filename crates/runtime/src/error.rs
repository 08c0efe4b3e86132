//! Why a runtime could not do a step.

use chassis_core::Reason;
use chassis_spec::FleetName;

pub type Result<T> = std::result::Result<T, Error>;

/// What lies beneath an error.
pub type Source = Box<dyn std::error::Error + Send + Sync>;

/// Text is for the person who reads `chassis describe`: what was wrong and what to do. The cause is the source.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The image is not on the node and could not be pulled.
    #[error("{message}")]
    ImageUnavailable { message: String, source: Option<Source> },
    /// A container or network of somebody else has the name.
    #[error("{message}")]
    NameTaken { message: String, source: Option<Source> },
    /// The runtime does not answer.
    #[error("{message}")]
    Unavailable { message: String, source: Option<Source> },
    /// The instance's directory cannot be made or written, or belongs to another instance.
    #[error("{message}")]
    Storage { message: String, source: Option<Source> },
    /// The runtime refused: a port in use, a user that the image lacks, a bad command.
    #[error("{message}")]
    Rejected { message: String, source: Option<Source> },
    /// This runtime has no such ability.
    #[error("{message}")]
    Unsupported { message: String, source: Option<Source> },
}

impl Error {
    pub fn image_unavailable(message: impl Into<String>) -> Self {
        Error::ImageUnavailable { message: message.into(), source: None }
    }

    pub fn name_taken(message: impl Into<String>) -> Self {
        Error::NameTaken { message: message.into(), source: None }
    }

    pub fn unavailable(message: impl Into<String>) -> Self {
        Error::Unavailable { message: message.into(), source: None }
    }

    pub fn storage(message: impl Into<String>) -> Self {
        Error::Storage { message: message.into(), source: None }
    }

    pub fn rejected(message: impl Into<String>) -> Self {
        Error::Rejected { message: message.into(), source: None }
    }

    /// Another fleet, in whose network the agent should be, is not there.
    pub fn no_fleet(fleet: &FleetName) -> Self {
        Error::rejected(format!(
            "`network.fleets` names the fleet {fleet}, which is not there; make it with `chassis create fleet {fleet}`, \
             or leave it out"
        ))
    }

    /// `what` is what this runtime cannot do: `show what instances use`.
    pub fn unsupported(what: &str) -> Self {
        let message =
            format!("this runtime cannot {what}; `docker` can (`chassis server status` shows which this is)");
        Error::Unsupported { message, source: None }
    }

    pub fn no_snapshots() -> Self {
        let message = "this runtime takes no snapshots of what runs; `sim` does".to_owned();
        Error::Unsupported { message, source: None }
    }

    /// The same error with its cause.
    #[must_use]
    pub fn caused_by(mut self, cause: impl Into<Source>) -> Self {
        let (Error::ImageUnavailable { source, .. }
        | Error::NameTaken { source, .. }
        | Error::Unavailable { source, .. }
        | Error::Storage { source, .. }
        | Error::Rejected { source, .. }
        | Error::Unsupported { source, .. }) = &mut self;
        *source = Some(cause.into());
        self
    }

    /// A word for scripts and clients; it never changes.
    pub fn code(&self) -> &'static str {
        match self {
            Error::ImageUnavailable { .. } => "image-unavailable",
            Error::NameTaken { .. } => "name-taken",
            Error::Unavailable { .. } => "runtime-unavailable",
            Error::Storage { .. } => "storage-unusable",
            Error::Rejected { .. } => "rejected",
            Error::Unsupported { .. } => "unsupported",
        }
    }

    /// What this means for the instance.
    pub fn reason(&self) -> Reason {
        match self {
            Error::ImageUnavailable { .. } => Reason::ImageUnavailable,
            Error::NameTaken { .. } => Reason::NameTaken,
            Error::Unavailable { .. } => Reason::RuntimeUnavailable,
            Error::Storage { .. } => Reason::StorageUnusable,
            Error::Rejected { .. } | Error::Unsupported { .. } => Reason::Rejected,
        }
    }
}

/// An error with its causes, in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
