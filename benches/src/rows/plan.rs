//! The planner alone: one plan over 10 000 instances in all the states that there are.

use std::hint::black_box;
use std::time::Instant;

use anyhow::Result;
use chassis_core::{
    AgentDesired, Blocked, Desired, Exit, Health, Instance, Limits, Memory, Observed, Reason, RunState, Site,
    Wanted, plan,
};
use chassis_spec::{Resources, RestartPolicy, RolloutSpec};
use jiff::{SignedDuration, Timestamp};

use crate::report::{Report, progress};
use crate::stats::Series;

const ROW: &str = "plan";
const INSTANCES: u32 = 10_000;
const ROUNDS: usize = 200;

pub(crate) fn measure(report: &mut Report) -> Result<()> {
    progress("plan");
    let now: Timestamp = "2026-11-22T12:00:00Z".parse()?;
    let instances: Vec<Instance> = (1..=INSTANCES).map(|number| instance(number, now)).collect();
    let agent = AgentDesired {
        serving: &[2],
        restart_policy: RestartPolicy::Always,
        limits: limits(),
        rollout: &RolloutSpec::default(),
        paused: false,
        restarts_held: false,
    };
    let mut series = Series::default();
    for _ in 0..ROUNDS {
        let began = Instant::now();
        black_box(plan(agent, black_box(&instances).iter(), now));
        series.push_milliseconds(began.elapsed());
    }
    report.bounded(ROW, "one plan over 10 000 instances", "ms", series, 20.0);
    Ok(())
}

fn limits() -> Limits {
    Limits::from(&Resources::default())
}

/// Half of them run as they should; the others are spread over what can be the matter.
fn instance(number: u32, now: Timestamp) -> Instance {
    let before = now - SignedDuration::from_mins(10);
    let soon = now + SignedDuration::from_secs(30);
    let running = RunState::Running { started_at: before };
    let exit = Exit { code: 1, out_of_memory: false, unhealthy: false, unleased: false, finished_at: before };
    let exited = RunState::Exited { started_at: before, exit };
    let mut memory = Memory::default();
    let (wanted, revision, state) = match number % 16 {
        0 => (Wanted::Running, 1, Some(running)),
        1 => (Wanted::Running, 2, None),
        2 => (Wanted::Running, 2, Some(RunState::Created)),
        3 => (Wanted::Running, 2, Some(exited)),
        4 => {
            memory.retry_at = Some(soon);
            (Wanted::Running, 2, Some(exited))
        }
        5 => {
            let message = "no such image".to_owned();
            let reason = Reason::ImageUnavailable;
            memory.blocked = Some(Blocked { reason, message, attempts: 3, retry_at: soon });
            (Wanted::Running, 2, None)
        }
        6 => (Wanted::Stopped, 2, Some(running)),
        7 => (Wanted::Absent { cleanup: true }, 2, Some(exited)),
        _ => (Wanted::Running, 2, Some(running)),
    };
    let observed = state.map(|state| Observed {
        id: format!("{number:064x}").into(),
        revision,
        name_is_right: true,
        limits: limits(),
        state,
        image_check: None,
    });
    Instance {
        number,
        desired: Desired { wanted, started_after: None },
        observed,
        memory,
        health: Health::default(),
        busy: number % 64 == 9,
        site: Site::Here,
        is_cramped: false,
    }
}
