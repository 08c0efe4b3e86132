//! Commands in an environment, on the wire.

use serde::{Deserialize, Serialize};

use super::environment::{is_zero, or_default};

/// The body of `?action=exec`: exactly one of `cmd` and `shell`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExecRequest {
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub cmd: Vec<String>,
    /// Run with `sh -lc`.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub shell: String,
    /// 0 for a minute; at most ten.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "is_zero")]
    pub timeout_ms: i64,
}

/// How a command ended. What Fuse does not know is there only if there is something to say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecResult {
    /// 128 + signal if a signal ended it; 124 if its time was over.
    pub exit_code: i32,
    pub stdout: String,
    pub stderr: String,
    /// Its time was over, and it was ended.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub timed_out: bool,
    /// It wrote more than is kept of it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
    /// Base64 of what it wrote, if that is no text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdout_b64: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stderr_b64: Option<String>,
}
