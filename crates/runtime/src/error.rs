//! Why a runtime could not do a step.

use chassis_core::Reason;

pub type Result<T> = std::result::Result<T, Error>;

/// Text is for the person who reads `chassis describe`: what was wrong and what to do. The cause is the source.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{message}")]
    ImageUnavailable { message: String },
    #[error("{message}")]
    NameTaken { message: String },
    #[error("{message}")]
    Unavailable { message: String },
    #[error("{message}")]
    Storage { message: String },
    #[error("{message}")]
    Rejected { message: String },
}

impl Error {
    /// What this means for the instance.
    pub fn reason(&self) -> Reason {
        match self {
            Error::ImageUnavailable { .. } => Reason::ImageUnavailable,
            Error::NameTaken { .. } => Reason::NameTaken,
            Error::Unavailable { .. } => Reason::RuntimeUnavailable,
            Error::Storage { .. } => Reason::StorageUnusable,
            Error::Rejected { .. } => Reason::Rejected,
        }
    }
}
