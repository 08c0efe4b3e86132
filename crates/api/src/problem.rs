//! Errors on the wire: RFC 9457 problem details, with a code for programs and a next step for people.

use serde::{Deserialize, Serialize};

/// The content type of a [`Problem`].
pub const PROBLEM_JSON: &str = "application/problem+json";

/// Why a request was refused or failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{detail}")]
pub struct Problem {
    #[serde(rename = "type", default = "about_blank")]
    pub kind: String,
    /// The status in words; the same for every problem of this status.
    pub title: String,
    pub status: u16,
    /// What was wrong and what to do next, for the person who asked.
    pub detail: String,
    /// A word for programs; never changes for a cause.
    pub code: String,
}

impl Problem {
    pub fn new(status: u16, title: &str, code: &str, detail: impl Into<String>) -> Self {
        Problem {
            kind: about_blank(),
            title: title.to_owned(),
            status,
            detail: detail.into(),
            code: code.to_owned(),
        }
    }
}

fn about_blank() -> String {
    "about:blank".to_owned()
}
