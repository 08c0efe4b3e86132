//! What the server counts of itself, for `GET /metrics`. docs/observability.md says what each figure means.
//!
//! What holds: names and units are Prometheus's (seconds, bytes, `_total`); what is counted is counted in memory and begins
//! at zero with each server; every label has few values that are known beforehand, but for the names of fleets, of which
//! [`instances`] shows at most [`instances::FLEETS`]. No label ever names an instance, a path or a user.

mod http;
mod instances;
mod page;
mod process;

use std::time::{Duration, Instant};

use chassis_core::{CheckKind, EventKind, Probe};
use chassis_store::{CommitObserver, InstanceUpdate};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use tracing::{Instrument, field};

use crate::traces::TRACE_TARGET;

pub(crate) use http::measure;
pub(crate) use page::Page;

/// Label names with values that are in the code.
type Labels<const N: usize> = [(&'static str, &'static str); N];
type Histograms<const N: usize> = Family<Labels<N>, Histogram, fn() -> Histogram>;

/// Seconds of what happens in memory or on disk.
const QUICK: [f64; 12] = [0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5, 10.0];
/// Seconds of what a runtime does.
const SLOW: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 120.0];

/// Writes that share a transaction.
const BATCHES: [f64; 8] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0];

/// Why an instance is started again though nobody asked for it.
const RESTARTS: [&str; 5] = ["completed", "failed", "lost", "out_of_memory", "unhealthy"];

/// What is counted where it happens.
#[derive(Debug)]
pub(crate) struct Metrics {
    requests: Family<Labels<3>, Counter>,
    request_seconds: Histograms<2>,
    streams: Family<Labels<1>, Gauge>,
    pub(crate) connections_refused: Counter,
    step_seconds: Histograms<1>,
    step_failures: Family<Labels<1>, Counter>,
    restarts: Family<Labels<1>, Counter>,
    reconcile_seconds: Histogram,
    reconcile_lag_seconds: Histogram,
    looks: Family<Labels<2>, Counter>,
    commit_seconds: Histogram,
    commit_operations: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        let restarts = Family::default();
        for reason in RESTARTS {
            drop(restarts.get_or_create(&[("reason", reason)]));
        }
        Metrics {
            requests: Family::default(),
            request_seconds: Family::new_with_constructor(quick),
            streams: Family::default(),
            connections_refused: Counter::default(),
            step_seconds: Family::new_with_constructor(slow),
            step_failures: Family::default(),
            restarts,
            reconcile_seconds: quick(),
            reconcile_lag_seconds: quick(),
            looks: Family::default(),
            commit_seconds: quick(),
            commit_operations: Histogram::new(BATCHES),
        }
    }
}

impl Metrics {
    /// Counts what the store commits.
    pub(crate) fn commit_observer(&self) -> CommitObserver {
        let (seconds, operations) = (self.commit_seconds.clone(), self.commit_operations.clone());
        Box::new(move |commit| {
            seconds.observe(commit.took.as_secs_f64());
            operations.observe(f64::from(u32::try_from(commit.operations).unwrap_or(u32::MAX)));
        })
    }

    /// Carries out a step on the runtime, and counts how long it took and whether it failed.
    pub(crate) async fn step<T, E>(
        &self,
        step: &'static str,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let began = Instant::now();
        let span = tracing::info_span!(
            target: TRACE_TARGET,
            "step",
            otel.name = step,
            otel.status_code = field::Empty,
        );
        let ended = work.instrument(span.clone()).await;
        if ended.is_err() {
            span.record("otel.status_code", "ERROR");
        }
        let labels = [("step", step)];
        self.step_seconds.get_or_create(&labels).observe(began.elapsed().as_secs_f64());
        if ended.is_err() {
            self.step_failures.get_or_create(&labels).inc();
        }
        ended
    }

    /// One turn of a controller: how long after it was woken it began, and how long it took.
    pub(crate) fn reconciled(&self, lag: Option<Duration>, took: Duration) {
        if let Some(lag) = lag {
            self.reconcile_lag_seconds.observe(lag.as_secs_f64());
        }
        self.reconcile_seconds.observe(took.as_secs_f64());
    }

    /// Counts what was noted of instances: each end of a run after which the next begins.
    pub(crate) fn noted(&self, updates: &[InstanceUpdate]) {
        for update in updates {
            let past = update.past.iter().map(|(_, event)| (event, true));
            let events = update.events.iter().map(|event| (event, update.memory.retry_at.is_some()));
            for (event, again) in past.chain(events) {
                if let Some(reason) = restart_reason(event, again) {
                    self.restarts.get_or_create(&[("reason", reason)]).inc();
                }
            }
        }
    }

    /// One look at an instance; none if the runtime could not look.
    pub(crate) fn looked(&self, kind: CheckKind, probe: Option<&Probe>) {
        let check = match kind {
            CheckKind::Health => "health",
            CheckKind::Readiness => "readiness",
        };
        let result = match probe.map(|probe| &probe.error) {
            Some(None) => "good",
            Some(Some(_)) => "bad",
            None => "unknown",
        };
        self.looks.get_or_create(&[("check", check), ("result", result)]).inc();
    }
}

fn restart_reason(event: &EventKind, again: bool) -> Option<&'static str> {
    match event {
        EventKind::Lost => Some("lost"),
        EventKind::Exited(exit) if again => Some(match exit {
            exit if exit.unhealthy => "unhealthy",
            exit if exit.out_of_memory => "out_of_memory",
            exit if exit.code != 0 => "failed",
            _ => "completed",
        }),
        _ => None,
    }
}

fn quick() -> Histogram {
    Histogram::new(QUICK)
}

fn slow() -> Histogram {
    Histogram::new(SLOW)
}
