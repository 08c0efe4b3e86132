//! From what is wanted and what is there to what to do next.
//!
//! [`plan`] is asked again after every action and every event; it answers with the next step of each instance, never
//! with a sequence, so that whatever happened in between is taken into account. Rules that hold for every answer:
//!
//! - an instance gets at most one action, and none while an earlier one is under way;
//! - a number's container is created only when the node shows none for it;
//! - an instance that runs is taken down for a newer revision or a restart only while all others that should run are
//!   ready: one at a time. Those that are not ready anyway are replaced at once;
//! - when wanted and observed agree the answer is empty, but for the time of the next try.

use chassis_spec::RestartPolicy;
use jiff::Timestamp;

use crate::instance::{Instance, Observed, RunState, Wanted, restarts};

/// What is wanted of an agent as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AgentDesired {
    pub revision: u64,
    pub restart_policy: RestartPolicy,
}

/// One step for one instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Make the container, of the present revision.
    Create {
        number: u32,
    },
    Start {
        number: u32,
        id: Box<str>,
    },
    Stop {
        number: u32,
        id: Box<str>,
    },
    Remove {
        number: u32,
        id: Box<str>,
    },
    /// Give the container its name back.
    Rename {
        number: u32,
        id: Box<str>,
    },
    /// The container is gone: remove the data if `cleanup`, then the instance itself.
    Forget {
        number: u32,
        cleanup: bool,
    },
}

/// What to do now, and when to ask again if nothing happens before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    pub actions: Vec<Action>,
    pub wake_at: Option<Timestamp>,
}

enum Step {
    Nothing,
    Act(Action),
    /// As `Act`, but it takes a running instance down.
    Disrupt(Action),
    Wait(Timestamp),
}

/// Decides the next step of every instance of one agent.
pub fn plan<'a>(agent: AgentDesired, instances: impl Iterator<Item = &'a Instance>, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let mut disruptions = Vec::new();
    let mut all_up = true;
    let mut up_at = None;
    for instance in instances {
        if !is_up(instance, agent, now) {
            all_up = false;
            up_at = earlier(up_at, instance.settles_at());
        }
        if instance.busy {
            continue;
        }
        match decide(agent, instance, now) {
            Step::Nothing => {}
            Step::Act(action) => plan.actions.push(action),
            // Nothing is lost with one that fails.
            Step::Disrupt(action) if instance.is_failing() => plan.actions.push(action),
            Step::Disrupt(action) => disruptions.push(action),
            Step::Wait(until) => plan.wake_at = earlier(plan.wake_at, Some(until)),
        }
    }
    if all_up {
        plan.actions.extend(disruptions.into_iter().next());
    } else if !disruptions.is_empty() {
        plan.wake_at = earlier(plan.wake_at, up_at.filter(|at| *at > now));
    }
    plan
}

fn earlier(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    one.into_iter().chain(other).min()
}

/// An instance that should run and is ready, or has done all that it should, or should not and so takes nothing away.
fn is_up(instance: &Instance, agent: AgentDesired, now: Timestamp) -> bool {
    if instance.desired.wanted != Wanted::Running {
        return true;
    }
    let Some(observed) = instance.observed.as_ref().filter(|_| !instance.busy) else { return false };
    match observed.state {
        RunState::Running { .. } => instance.is_ready(now),
        RunState::Exited { started_at, .. } => {
            observed.revision == agent.revision
                && instance.desired.satisfied_by(started_at)
                && instance.exit().is_some_and(|exit| !restarts(agent.restart_policy, exit))
        }
        RunState::Created | RunState::Dead => false,
    }
}

fn decide(agent: AgentDesired, instance: &Instance, now: Timestamp) -> Step {
    let number = instance.number;
    if let Some(blocked) = &instance.memory.blocked
        && now < blocked.retry_at
    {
        return Step::Wait(blocked.retry_at);
    }
    let Some(observed) = &instance.observed else {
        return match instance.desired.wanted {
            Wanted::Running => Step::Act(Action::Create { number }),
            Wanted::Stopped => Step::Nothing,
            Wanted::Absent { cleanup } => Step::Act(Action::Forget { number, cleanup }),
        };
    };
    let id = observed.id.clone();
    let runs = matches!(observed.state, RunState::Running { .. });
    match instance.desired.wanted {
        Wanted::Absent { .. } | Wanted::Stopped if runs => Step::Act(Action::Stop { number, id }),
        Wanted::Absent { .. } => Step::Act(Action::Remove { number, id }),
        Wanted::Stopped => Step::Nothing,
        Wanted::Running => decide_running(agent, instance, observed, now),
    }
}

fn decide_running(agent: AgentDesired, instance: &Instance, observed: &Observed, now: Timestamp) -> Step {
    let number = instance.number;
    let id = observed.id.clone();
    let stale = observed.revision != agent.revision;
    match observed.state {
        RunState::Running { started_at } if stale || !instance.desired.satisfied_by(started_at) => {
            Step::Disrupt(Action::Stop { number, id })
        }
        RunState::Dead => Step::Act(Action::Remove { number, id }),
        _ if stale => Step::Act(Action::Remove { number, id }),
        RunState::Running { started_at } if instance.memory.condemns(&id, started_at) => {
            Step::Act(Action::Stop { number, id })
        }
        _ if !observed.name_is_right => Step::Act(Action::Rename { number, id }),
        RunState::Running { .. } => Step::Nothing,
        RunState::Created => Step::Act(Action::Start { number, id }),
        RunState::Exited { started_at, .. } if !instance.desired.satisfied_by(started_at) => {
            Step::Act(Action::Start { number, id })
        }
        RunState::Exited { .. }
            if instance.exit().is_some_and(|exit| !restarts(agent.restart_policy, exit)) =>
        {
            Step::Nothing
        }
        RunState::Exited { .. } => match instance.memory.retry_at {
            Some(retry_at) if now < retry_at => Step::Wait(retry_at),
            _ => Step::Act(Action::Start { number, id }),
        },
    }
}

impl Action {
    pub fn number(&self) -> u32 {
        match self {
            Action::Create { number }
            | Action::Start { number, .. }
            | Action::Stop { number, .. }
            | Action::Remove { number, .. }
            | Action::Rename { number, .. }
            | Action::Forget { number, .. } => *number,
        }
    }
}
