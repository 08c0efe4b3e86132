//! The process itself, as every Prometheus client shows it: read from the kernel at each scrape.

use std::fmt;
use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

#[derive(Debug)]
pub(super) struct Process;

/// What the kernel says; of what it does not say there is no figure.
#[derive(Debug, Default)]
struct Facts {
    cpu_seconds: Option<f64>,
    resident_bytes: Option<f64>,
    virtual_bytes: Option<f64>,
    start_time_seconds: Option<f64>,
    threads: Option<f64>,
    open_fds: Option<f64>,
    max_fds: Option<f64>,
}

impl Facts {
    fn read() -> Facts {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        // The name is in brackets, and may hold spaces and brackets itself.
        let stat = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        // `man 5 proc` counts from 1, and the first two are cut off.
        let field = |number: usize| stat.split_whitespace().nth(number - 3)?.parse::<f64>().ok();
        let boot = fs::read_to_string("/proc/stat").unwrap_or_default();
        let boot = boot.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse::<f64>().ok());
        let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
        let max_fds = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
        let ticks = number(rustix::param::clock_ticks_per_second());
        let page = number(rustix::param::page_size() as u64);
        Facts {
            cpu_seconds: field(14).zip(field(15)).map(|(user, system)| (user + system) / ticks),
            resident_bytes: field(24).map(|pages| pages * page),
            virtual_bytes: field(23),
            start_time_seconds: field(22).zip(boot).map(|(started, boot)| boot + started / ticks),
            threads: field(20),
            // The directory that is read for this is open too.
            open_fds: fs::read_dir("/proc/self/fd").ok().map(|fds| number(fds.count() as u64) - 1.0),
            max_fds: max_fds.and_then(|limit| limit.split_whitespace().next()?.parse().ok()),
        }
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let facts = Facts::read();
        if let Some(seconds) = facts.cpu_seconds {
            let help = "Processor time, of the user and of the system";
            let counter =
                encoder.encode_descriptor("process_cpu_seconds", help, None, MetricType::Counter)?;
            ConstCounter::new(seconds).encode(counter)?;
        }
        let gauges = [
            ("process_resident_memory_bytes", "Resident memory", facts.resident_bytes),
            ("process_virtual_memory_bytes", "Virtual memory", facts.virtual_bytes),
            ("process_start_time_seconds", "Start, in seconds since 1970", facts.start_time_seconds),
            ("process_threads", "Threads", facts.threads),
            ("process_open_fds", "Open file descriptors", facts.open_fds),
            ("process_max_fds", "File descriptors that may be open", facts.max_fds),
        ];
        for (name, help, value) in gauges {
            let Some(value) = value else { continue };
            let gauge = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(value).encode(gauge)?;
        }
        let help = "The version that runs";
        let mut family = encoder.encode_descriptor("chassis_build_info", help, None, MetricType::Gauge)?;
        let labels = [("version", env!("CARGO_PKG_VERSION"))];
        ConstGauge::new(1_u32).encode(family.encode_family(&labels)?)
    }
}

#[allow(clippy::cast_precision_loss, reason = "none is near 2^52")]
fn number(value: u64) -> f64 {
    value as f64
}
