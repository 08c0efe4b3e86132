//! What is kept of an agent's output, and for how long.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Bytes, Seconds};

/// What is kept of the agent's output. An instance never takes more of the disk than `maxSize` × `maxFiles`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LogsSpec {
    /// The size at which a new file is begun: 64Ki to 1Gi.
    #[serde(default = "LogsSpec::default_max_size", alias = "max_size", alias = "max-size")]
    pub max_size: Bytes,
    /// How many such files there are, the newest included: 1 to 100.
    #[serde(default = "LogsSpec::default_max_files", alias = "max_files", alias = "max-file")]
    pub max_files: u32,
    /// Compresses all files but the newest.
    #[serde(default = "LogsSpec::default_compress")]
    pub compress: bool,
    /// How long the output of a container that was replaced or deleted is kept: up to 90d; 0 is not at all.
    #[serde(default = "LogsSpec::default_keep")]
    pub keep: Seconds,
}

impl LogsSpec {
    /// The most output that one container's log holds, in bytes.
    pub fn bound(&self) -> u64 {
        self.max_size.0.saturating_mul(self.max_files.into())
    }

    pub(crate) fn is_default(&self) -> bool {
        *self == LogsSpec::default()
    }

    fn default_max_size() -> Bytes {
        Bytes(10 << 20)
    }

    fn default_max_files() -> u32 {
        5
    }

    fn default_compress() -> bool {
        true
    }

    fn default_keep() -> Seconds {
        Seconds(7 * 24 * 3600)
    }
}

impl Default for LogsSpec {
    fn default() -> Self {
        LogsSpec {
            max_size: Self::default_max_size(),
            max_files: Self::default_max_files(),
            compress: Self::default_compress(),
            keep: Self::default_keep(),
        }
    }
}
