//! What this machine has.

use std::path::Path;
use std::{fs, io};

use chassis_core::{Amounts, Architecture};

/// Instances, unless somebody says otherwise: what one Docker Engine runs without complaint.
const SLOTS: u64 = 200;

/// What a node is made on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// All cores and memory, and what is free where instances have their data.
    pub capacity: Amounts,
    /// None if it is one that nodes do not have.
    pub architecture: Option<Architecture>,
    pub host_name: String,
}

/// Looks at this machine. `data_dir` must be there.
pub fn machine(data_dir: &Path) -> io::Result<Machine> {
    let cores = std::thread::available_parallelism()?.get();
    let disk = rustix::fs::statvfs(data_dir)?;
    let uname = rustix::system::uname();
    let capacity = Amounts {
        cpu_millis: u64::try_from(cores).unwrap_or(u64::MAX).saturating_mul(1000),
        memory_bytes: memory(&fs::read_to_string("/proc/meminfo")?).ok_or(io::ErrorKind::InvalidData)?,
        disk_bytes: disk.f_blocks.saturating_mul(disk.f_frsize),
        slots: SLOTS,
    };
    Ok(Machine {
        capacity,
        architecture: uname.machine().to_string_lossy().parse().ok(),
        host_name: uname.nodename().to_string_lossy().into_owned(),
    })
}

fn memory(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}
