//! The figures of a run.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::load::{Operation, Outcome};
use crate::rounds::Figures;

#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) seed: u64,
    pub(crate) rounds: u32,
    pub(crate) time: Duration,
    pub(crate) operations: Vec<Operation>,
    pub(crate) figures: Figures,
    pub(crate) violations: Vec<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Figures { kills, stops, takeovers, takeovers_by_lease, epochs, samples, .. } = &self.figures;
        let seconds: Vec<f64> = takeovers.iter().map(Duration::as_secs_f64).collect();
        let (mut acknowledged, mut refused, mut unknown) = (0, 0, 0);
        let mut reasons: BTreeMap<&str, u32> = BTreeMap::new();
        for operation in &self.operations {
            match &operation.outcome {
                Outcome::Acknowledged => acknowledged += 1,
                Outcome::Refused(code) => {
                    refused += 1;
                    *reasons.entry(code).or_default() += 1;
                }
                Outcome::Unknown(code) => {
                    unknown += 1;
                    *reasons.entry(code).or_default() += 1;
                }
            }
        }
        let Report { seed, rounds, time, violations, .. } = self;
        writeln!(
            formatter,
            "--- failover: {rounds} rounds in {:.0} s, FAILOVER_SEED={seed}",
            time.as_secs_f64()
        )?;
        writeln!(
            formatter,
            "acting server killed {kills} times, stopped and woken {stops} times, {epochs} epochs"
        )?;
        writeln!(formatter, "takeover after the fault    {}", spread(&seconds))?;
        writeln!(formatter, "takeover after the lease    {}", spread(takeovers_by_lease))?;
        writeln!(
            formatter,
            "writes                      {acknowledged} acknowledged, {refused} refused, {unknown} unknown {reasons:?}"
        )?;
        let slowest = self.operations.iter().filter(|operation| operation.outcome == Outcome::Acknowledged);
        let slowest = slowest.map(|operation| operation.answered.saturating_sub(operation.invoked)).max();
        writeln!(
            formatter,
            "slowest acknowledged write  {:.2} s",
            slowest.unwrap_or_default().as_secs_f64()
        )?;
        let by_server: BTreeMap<usize, usize> =
            self.operations.iter().fold(BTreeMap::new(), |mut count, operation| {
                *count.entry(operation.server).or_default() += 1;
                count
            });
        writeln!(formatter, "writes by server            {by_server:?}")?;
        writeln!(formatter, "looks for doubled instances {samples}")?;
        writeln!(formatter, "violations                  {}", violations.len())?;
        violations.iter().take(50).try_for_each(|violation| writeln!(formatter, "  {violation}"))
    }
}

fn spread(seconds: &[f64]) -> String {
    let mut sorted = seconds.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.as_slice() {
        [] => "none".to_owned(),
        all => format!("median {:.2} s, max {:.2} s", all[all.len() / 2], all[all.len() - 1]),
    }
}
