//! Rates, from two samples of counters. Pure.

use chassis_api::{NodeStats, Usage};
use jiff::Timestamp;
use serde::Serialize;

/// How fast an instance uses its machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Rates {
    /// Cores that it kept busy: 0.5 is half of one.
    pub(crate) cpu_cores: f64,
    pub(crate) network_received_bytes_per_second: f64,
    pub(crate) network_sent_bytes_per_second: f64,
    pub(crate) disk_read_bytes_per_second: f64,
    pub(crate) disk_written_bytes_per_second: f64,
}

/// None between two runs, whose counters began anew, and if no time went by.
pub(crate) fn rates(before: &Usage, after: &Usage) -> Option<Rates> {
    let seconds = seconds_between(before.read_at, after.read_at)?;
    let rate = |count: fn(&Usage) -> u64| per_second(count(before), count(after), seconds);
    Some(Rates {
        cpu_cores: rate(|usage| usage.cpu_nanoseconds)? / 1e9,
        network_received_bytes_per_second: rate(|usage| usage.network_received_bytes)?,
        network_sent_bytes_per_second: rate(|usage| usage.network_sent_bytes)?,
        disk_read_bytes_per_second: rate(|usage| usage.disk_read_bytes)?,
        disk_written_bytes_per_second: rate(|usage| usage.disk_written_bytes)?,
    })
}

/// Cores of a machine that were busy.
pub(crate) fn busy_cores(before: &NodeStats, after: &NodeStats) -> Option<f64> {
    let seconds = seconds_between(before.read_at, after.read_at)?;
    per_second(before.cpu_nanoseconds, after.cpu_nanoseconds, seconds).map(|rate| rate / 1e9)
}

fn seconds_between(before: Timestamp, after: Timestamp) -> Option<f64> {
    Some(after.duration_since(before).as_secs_f64()).filter(|seconds| *seconds > 0.0)
}

#[expect(clippy::cast_precision_loss, reason = "differences are far below 2^52")]
fn per_second(before: u64, after: u64, seconds: f64) -> Option<f64> {
    Some(after.checked_sub(before)? as f64 / seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(second: i64, cpu_nanoseconds: u64) -> Usage {
        Usage {
            read_at: Timestamp::from_second(second).unwrap(),
            cpu_nanoseconds,
            memory_bytes: 0,
            memory_limit_bytes: 0,
            network_received_bytes: cpu_nanoseconds,
            network_sent_bytes: 0,
            disk_read_bytes: 0,
            disk_written_bytes: 0,
            processes: 1,
            processes_limit: None,
        }
    }

    #[test]
    fn a_rate_is_over_the_time_that_went_by() {
        let rates = rates(&usage(10, 0), &usage(12, 1_000_000_000)).unwrap();
        assert!((rates.cpu_cores - 0.5).abs() < 1e-9);
        assert!((rates.network_received_bytes_per_second - 5e8).abs() < 1e-3);
    }

    #[test]
    fn another_run_has_no_rate() {
        assert_eq!(rates(&usage(10, 5), &usage(12, 3)), None);
        assert_eq!(rates(&usage(10, 5), &usage(10, 5)), None);
    }
}
