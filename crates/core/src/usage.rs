//! What an instance uses of its machine.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Counters since the instance's container was started, and what it holds now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// When the runtime read these; rates come from two of them.
    pub read_at: Timestamp,
    /// Processor time of all its processes on all cores.
    pub cpu_nanoseconds: u64,
    /// What it holds, without file cache that the kernel can drop at once: as `docker stats` counts.
    pub memory_bytes: u64,
    /// The machine's memory, if the instance has no limit of its own.
    pub memory_limit_bytes: u64,
    pub network_received_bytes: u64,
    pub network_sent_bytes: u64,
    /// What reached the block devices; what the page cache answers is not in it.
    pub disk_read_bytes: u64,
    pub disk_written_bytes: u64,
    /// Processes and threads.
    pub processes: u64,
    /// None without a limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processes_limit: Option<u64>,
}
