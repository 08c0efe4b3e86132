//! What containers use, as the Engine reads it off their cgroups.
//!
//! Cgroup v1 and v2 differ in names: `total_inactive_file` and `Read` there, `inactive_file` and `read` here.

use std::time::Duration;

use bollard::models::{
    ContainerBlkioStats, ContainerMemoryStats, ContainerNetworkStats, ContainerStatsResponse,
};
use bollard::query_parameters::StatsOptions;
use chassis_core::Usage;
use futures_util::{StreamExt, stream};
use jiff::Timestamp;

use super::{Daemon, failure};
use crate::{Error, Result};

/// Asked for at the same time. Reading is cheap; an Engine before 20.10 (API 1.41) knows no `one-shot` and waits a
/// second for each.
const AT_A_TIME: usize = 8;
/// One container that the Engine is stuck with must not make all others wait.
const PATIENCE: Duration = Duration::from_secs(5);

/// One answer for each id: a container that cannot be read hides no other.
pub(crate) async fn stats(daemon: &Daemon, ids: &[Box<str>]) -> Result<Vec<(Box<str>, Result<Usage>)>> {
    let docker = &daemon.client()?;
    let reads = ids.iter().cloned().map(|id| async move {
        let options = StatsOptions { stream: false, one_shot: true };
        let mut answer = Box::pin(docker.stats(&id, Some(options)));
        let usage = match tokio::time::timeout(PATIENCE, answer.next()).await {
            Ok(Some(Ok(stats))) => usage(&stats),
            Ok(Some(Err(error))) if !failure::is_not_found(&error) => Err(daemon.explain(error)),
            Ok(_) => Err(gone()),
            Err(_) => Err(Error::unavailable("Docker did not say within 5 s what it uses; ask again")),
        };
        (id, usage)
    });
    Ok(stream::iter(reads).buffer_unordered(AT_A_TIME).collect().await)
}

fn gone() -> Error {
    Error::rejected("its container is gone or does not run, and uses nothing")
}

fn usage(stats: &ContainerStatsResponse) -> Result<Usage> {
    // Of a container that does not run the Engine answers with empty counters and the year 1.
    let cpu = stats.cpu_stats.as_ref().and_then(|cpu| cpu.cpu_usage.as_ref()?.total_usage);
    let memory = stats.memory_stats.as_ref().filter(|memory| memory.usage.is_some()).ok_or_else(gone)?;
    let read_at = stats.read.as_deref().and_then(|read| read.parse::<Timestamp>().ok());
    let networks = || stats.networks.iter().flat_map(|networks| networks.values());
    let network =
        |count: fn(&ContainerNetworkStats) -> Option<u64>| networks().filter_map(count).sum::<u64>();
    let pids = stats.pids_stats.as_ref();
    Ok(Usage {
        read_at: read_at.ok_or_else(gone)?,
        cpu_nanoseconds: cpu.unwrap_or(0),
        memory_bytes: memory_held(memory),
        memory_limit_bytes: memory.limit.unwrap_or(0),
        network_received_bytes: network(|one| one.rx_bytes),
        network_sent_bytes: network(|one| one.tx_bytes),
        disk_read_bytes: disk(stats.blkio_stats.as_ref(), "read"),
        disk_written_bytes: disk(stats.blkio_stats.as_ref(), "write"),
        processes: pids.and_then(|pids| pids.current).unwrap_or(0),
        // Without a limit some Engines say 0, others the largest number.
        processes_limit: pids.and_then(|pids| pids.limit).filter(|limit| (1..u64::MAX).contains(limit)),
    })
}

fn memory_held(memory: &ContainerMemoryStats) -> u64 {
    let usage = memory.usage.unwrap_or(0);
    let cache = memory
        .stats
        .as_ref()
        .and_then(|stats| stats.get("total_inactive_file").or_else(|| stats.get("inactive_file")))
        .copied()
        .unwrap_or(0);
    usage.checked_sub(cache).unwrap_or(usage)
}

fn disk(stats: Option<&ContainerBlkioStats>, operation: &str) -> u64 {
    stats
        .and_then(|stats| stats.io_service_bytes_recursive.as_ref())
        .into_iter()
        .flatten()
        .filter(|entry| entry.op.as_ref().is_some_and(|op| op.eq_ignore_ascii_case(operation)))
        .filter_map(|entry| entry.value)
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Usage {
        usage(&serde_json::from_str(json).unwrap()).unwrap()
    }

    #[test]
    fn both_cgroup_versions_mean_the_same() {
        let v1 = read(
            r#"{"read": "2026-11-22T12:00:00.5Z", "cpu_stats": {"cpu_usage": {"total_usage": 7}},
                "memory_stats": {"usage": 100, "limit": 1000, "stats": {"total_inactive_file": 40, "inactive_file": 1}},
                "networks": {"eth0": {"rx_bytes": 1, "tx_bytes": 2}, "eth1": {"rx_bytes": 3, "tx_bytes": 4}},
                "blkio_stats": {"io_service_bytes_recursive": [
                    {"major": 8, "minor": 0, "op": "Read", "value": 5}, {"major": 8, "minor": 0, "op": "Write", "value": 6},
                    {"major": 8, "minor": 0, "op": "Total", "value": 11}]},
                "pids_stats": {"current": 3, "limit": 512}}"#,
        );
        let v2 = read(
            r#"{"read": "2026-11-22T12:00:00.5Z", "cpu_stats": {"cpu_usage": {"total_usage": 7}},
                "memory_stats": {"usage": 100, "limit": 1000, "stats": {"inactive_file": 40}},
                "networks": {"eth0": {"rx_bytes": 4, "tx_bytes": 6}},
                "blkio_stats": {"io_service_bytes_recursive": [
                    {"major": 8, "minor": 0, "op": "read", "value": 5}, {"major": 8, "minor": 0, "op": "write", "value": 6}]},
                "pids_stats": {"current": 3, "limit": 512}}"#,
        );
        assert_eq!(v1, v2);
        assert_eq!((v1.memory_bytes, v1.network_received_bytes, v1.disk_written_bytes), (60, 4, 6));
    }

    #[test]
    fn no_network_and_no_limit_are_no_error() {
        let usage = read(
            r#"{"read": "2026-11-22T12:00:00Z", "cpu_stats": {"cpu_usage": {"total_usage": 7}},
                "memory_stats": {"usage": 100, "limit": 1000}, "blkio_stats": {"io_service_bytes_recursive": null},
                "pids_stats": {"current": 1, "limit": 18446744073709551615}}"#,
        );
        assert_eq!((usage.memory_bytes, usage.network_sent_bytes, usage.processes_limit), (100, 0, None));
    }

    #[test]
    fn what_does_not_run_uses_nothing() {
        let stopped = r#"{"read": "0001-01-01T00:00:00Z", "memory_stats": {}, "pids_stats": {}}"#;
        assert!(usage(&serde_json::from_str(stopped).unwrap()).is_err());
    }
}
