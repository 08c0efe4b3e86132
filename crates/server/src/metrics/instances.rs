//! Instances by fleet and phase, and whether the runtime answers and this server acts: counted at each scrape, from what the controllers know.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use chassis_core::{Phase, Wanted};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::shared::Shared;

/// Fleets that have figures of their own: those with the most instances. The others are one, which is called [`OTHERS`].
pub(super) const FLEETS: usize = 100;
/// No fleet can have this name.
const OTHERS: &str = "_others";

const PHASES: [(Phase, &str); 11] = [
    (Phase::Pending, "pending"),
    (Phase::Starting, "starting"),
    (Phase::Running, "running"),
    (Phase::Stopping, "stopping"),
    (Phase::Stopped, "stopped"),
    (Phase::Backoff, "backoff"),
    (Phase::Completed, "completed"),
    (Phase::Failed, "failed"),
    (Phase::Blocked, "blocked"),
    (Phase::Removing, "removing"),
    (Phase::Unknown, "unknown"),
];

#[derive(Debug)]
pub(super) struct Instances(Arc<Shared>);

/// A figure of each fleet: its name, what it says, and where it is.
type ByFleet = (&'static str, &'static str, fn(&Count) -> u64);

/// The instances of one fleet.
#[derive(Debug, Default, Clone)]
struct Count {
    total: u64,
    /// Those that should run.
    desired: u64,
    /// Those that run and whose checks say that they do not do what they are for.
    failing: u64,
    by_phase: [u64; PHASES.len()],
}

impl Instances {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Instances(shared)
    }

    fn count(&self) -> Vec<(String, Count)> {
        let mut fleets: BTreeMap<String, Count> = BTreeMap::new();
        for agent in self.0.agents() {
            let state = agent.state();
            let count = fleets.entry(state.key.fleet.to_string()).or_default();
            for slot in state.slots.values() {
                let is_known = self.0.nodes.unknown(slot.placed.as_ref()).is_none();
                let phase = if is_known { slot.phase(&state.spec) } else { Phase::Unknown };
                count.total += 1;
                count.desired += u64::from(slot.instance.desired.wanted == Wanted::Running);
                count.failing += u64::from(slot.instance.is_failing());
                if let Some(place) = PHASES.iter().position(|(known, _)| *known == phase) {
                    count.by_phase[place] += 1;
                }
            }
        }
        bounded(fleets.into_iter().collect())
    }
}

/// Puts the smallest fleets together if there are too many.
fn bounded(mut fleets: Vec<(String, Count)>) -> Vec<(String, Count)> {
    // Stable, so that fleets of the same size stay in the order of their names.
    fleets.sort_by_key(|(_, count)| std::cmp::Reverse(count.total));
    if fleets.len() > FLEETS {
        let mut others = Count::default();
        for (_, count) in fleets.drain(FLEETS - 1..) {
            others.add(&count);
        }
        fleets.push((OTHERS.to_owned(), others));
    }
    fleets
}

impl Count {
    fn add(&mut self, other: &Count) {
        self.total += other.total;
        self.desired += other.desired;
        self.failing += other.failing;
        for (mine, more) in self.by_phase.iter_mut().zip(other.by_phase) {
            *mine += more;
        }
    }
}

impl Collector for Instances {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let facts = [
            ("chassis_runtime_up", "Whether the runtime answers", self.0.own().is_up()),
            ("chassis_acting", "Whether this server is the one that acts", self.0.store.is_acting()),
        ];
        for (name, help, is_true) in facts {
            let gauge = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(i64::from(is_true)).encode(gauge)?;
        }
        let help = "Nodes by state";
        let mut family = encoder.encode_descriptor("chassis_nodes", help, None, MetricType::Gauge)?;
        for (state, count) in self.0.node_states() {
            ConstGauge::new(count).encode(family.encode_family(&[("state", state.word())])?)?;
        }
        let fleets = self.count();
        let simple: [ByFleet; 2] = [
            ("chassis_instances_desired", "Instances that should run", |count| count.desired),
            ("chassis_instances_failing", "Instances that run, but fail their checks", |count| count.failing),
        ];
        for (name, help, value) in simple {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (fleet, count) in &fleets {
                let labels = [("fleet", fleet.as_str())];
                ConstGauge::new(value(count)).encode(family.encode_family(&labels)?)?;
            }
        }
        let help = "Instances that there are";
        let mut family = encoder.encode_descriptor("chassis_instances", help, None, MetricType::Gauge)?;
        for (fleet, count) in &fleets {
            for ((_, phase), value) in PHASES.iter().zip(count.by_phase) {
                let labels = [("fleet", fleet.as_str()), ("phase", phase)];
                ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_fleets_are_few_series_and_no_instance_is_lost() {
        let fleet = |n: u64| (format!("fleet-{n:04}"), Count { total: n, desired: 1, ..Count::default() });
        let shown = bounded((0..1000).map(fleet).collect());
        assert_eq!(shown.len(), FLEETS);
        assert_eq!(shown[0].0, "fleet-0999", "the largest keep their names");
        assert_eq!(shown[FLEETS - 1].0, OTHERS);
        assert_eq!(shown.iter().map(|(_, count)| count.desired).sum::<u64>(), 1000);
        assert_eq!(bounded((0..100).map(fleet).collect()).len(), 100);
    }
}
