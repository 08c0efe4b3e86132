//! What this machine uses as a whole, as its kernel says.

use std::fs;

use chassis_api::NodeStats;
use jiff::Timestamp;

/// Linux counts processor time for `/proc/stat` in hundredths of a second on every architecture that we build for.
const NANOSECONDS_PER_TICK: u64 = 10_000_000;

/// `None` where `/proc` cannot be read.
pub(crate) fn read(name: &str) -> Option<NodeStats> {
    let (cores, busy_ticks) = processors(&fs::read_to_string("/proc/stat").ok()?)?;
    let memory = fs::read_to_string("/proc/meminfo").ok()?;
    let total = memory_bytes(&memory, "MemTotal")?;
    let load = fs::read_to_string("/proc/loadavg").ok()?;
    Some(NodeStats {
        name: name.to_owned(),
        read_at: Timestamp::now(),
        cores,
        cpu_nanoseconds: busy_ticks * NANOSECONDS_PER_TICK,
        memory_bytes: total,
        memory_used_bytes: total.saturating_sub(memory_bytes(&memory, "MemAvailable")?),
        load_average: load.split_whitespace().next()?.parse().ok()?,
    })
}

/// How many there are, and how long they were busy, in ticks.
fn processors(text: &str) -> Option<(u32, u64)> {
    let all = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: Vec<u64> = all.split_whitespace().map_while(|field| field.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal; what guests use is in user already.
    let [user, nice, system, _idle, _iowait, irq, softirq, steal, ..] = ticks[..] else { return None };
    let is_one = |line: &&str| line.starts_with("cpu") && !line.starts_with("cpu ");
    let cores = u32::try_from(text.lines().filter(is_one).count()).ok()?;
    Some((cores, user + nice + system + irq + softirq + steal))
}

fn memory_bytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kibibytes| kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_is_neither_idle_nor_waiting() {
        let text =
            "cpu  10 1 20 999 888 2 3 4 5 6\ncpu0 5 0 10 1 1 1 1 2 0 0\ncpu1 5 1 10 1 1 1 2 2 0 0\nintr 7\n";
        assert_eq!(processors(text), Some((2, 40)));
    }

    #[test]
    fn this_machine_can_be_read() {
        let stats = read("here").expect("/proc");
        assert!(stats.cores > 0 && stats.cpu_nanoseconds > 0);
        assert!(stats.memory_used_bytes > 0 && stats.memory_used_bytes < stats.memory_bytes);
    }
}
