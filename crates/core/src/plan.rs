//! From what is wanted and what is there to what to do next.
//!
//! [`plan`] is asked again after every action and every event; it answers with the next step of each instance, never
//! with a sequence, so that whatever happened in between is taken into account. Rules that hold for every answer:
//!
//! - an instance gets at most one action, and none while an earlier one is under way or its node does not answer;
//! - a number's container is created only when the node shows none for it;
//! - an instance that is ready is taken down for another revision or a restart only if no more than the agent's
//!   `maxUnavailable` are away then; one that fails or does not run is replaced at once;
//! - a restart of a whole fleet takes one agent after the other;
//! - an instance whose node lacks what the present revision asks for goes on with what it has;
//! - a container that serves the present revision stays, whatever revision it was made for;
//! - when wanted and observed agree the answer is empty, but for the time of the next try.

use chassis_spec::{RestartPolicy, RolloutSpec};
use jiff::{SignedDuration, Timestamp};

use crate::instance::{Instance, Limits, Observed, RunState, Site, Wanted, later, restarts};
use crate::rollout::is_extra;

/// How often a restart that is held is asked about again.
const HELD_LOOK: SignedDuration = SignedDuration::from_millis(250);

/// How often room is asked for again that a node lacks.
const CRAMPED_LOOK: SignedDuration = SignedDuration::from_secs(1);

/// What is wanted of an agent as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AgentDesired<'a> {
    /// The revisions whose containers serve the present one, which is among them.
    pub serving: &'a [u64],
    pub restart_policy: RestartPolicy,
    pub limits: Limits,
    pub rollout: &'a RolloutSpec,
    /// Containers of other revisions are kept for now.
    pub paused: bool,
    /// The restart that was asked for is of the whole fleet, and another agent of it is not through yet.
    pub restarts_held: bool,
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
    /// Give the container its present limits.
    Update {
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
pub fn plan<'a>(
    agent: AgentDesired<'_>,
    instances: impl Iterator<Item = &'a Instance>,
    now: Timestamp,
) -> Plan {
    let mut plan = Plan::default();
    let mut disruptions = Vec::new();
    let (mut wanted, mut up) = (0_u32, 0_u32);
    let mut up_at = None;
    for instance in instances {
        let is_up = is_up(instance, agent, now);
        if instance.desired.wanted == Wanted::Running {
            // One whose node is silent may run, and is not waited for.
            wanted += u32::from(!is_extra(instance.number) && instance.site != Site::Silent);
            up += u32::from(is_up);
            up_at = earlier(up_at, instance.settles_at().filter(|at| *at > now));
        }
        if instance.busy || instance.site == Site::Silent {
            continue;
        }
        match decide(agent, instance, now) {
            Step::Nothing => {}
            Step::Act(action) => plan.actions.push(action),
            // Nothing is lost with one that fails. Of one that may be ready soon nobody can say that: after a restart of
            // the server that is every one that has a check.
            Step::Disrupt(action) if instance.is_failing() => plan.actions.push(action),
            Step::Disrupt(action) => disruptions.push((is_up, action)),
            Step::Wait(until) => plan.wake_at = earlier(plan.wake_at, Some(until)),
        }
    }
    let most = agent.rollout.unavailable_of(wanted).saturating_add(up).saturating_sub(wanted);
    let (ready, mut waiting): (Vec<_>, Vec<_>) = disruptions.into_iter().partition(|(is_up, _)| *is_up);
    for (index, disruption) in ready.into_iter().enumerate() {
        if index < most as usize {
            plan.actions.push(disruption.1);
        } else {
            waiting.push(disruption);
        }
    }
    if !waiting.is_empty() {
        plan.wake_at = earlier(plan.wake_at, up_at);
    }
    plan
}

fn earlier(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    one.into_iter().chain(other).min()
}

/// An instance that should run and is ready, or has done all that it should.
pub(crate) fn is_up(instance: &Instance, agent: AgentDesired<'_>, now: Timestamp) -> bool {
    let is_free = !instance.busy && instance.site == Site::Here;
    let Some(observed) = instance.observed.as_ref().filter(|_| is_free) else { return false };
    match observed.state {
        _ if instance.desired.wanted != Wanted::Running => false,
        RunState::Running { .. } => instance.is_ready(now),
        RunState::Exited { started_at, .. } => {
            agent.keeps(observed)
                && instance.desired.satisfied_by(started_at)
                && instance.exit().is_some_and(|exit| !restarts(agent.restart_policy, exit))
        }
        RunState::Created | RunState::Dead => false,
    }
}

fn decide(agent: AgentDesired<'_>, instance: &Instance, now: Timestamp) -> Step {
    let number = instance.number;
    if let Some(blocked) = &instance.memory.blocked
        && now < blocked.retry_at
    {
        return Step::Wait(blocked.retry_at);
    }
    let Some(observed) = &instance.observed else {
        return match instance.desired.wanted {
            Wanted::Running if instance.site != Site::Here => Step::Nothing,
            Wanted::Running if instance.is_cramped => look_again(now),
            Wanted::Running => Step::Act(Action::Create { number }),
            Wanted::Stopped => Step::Nothing,
            Wanted::Absent { cleanup } => Step::Act(Action::Forget { number, cleanup }),
        };
    };
    let id = observed.id.clone();
    let runs = matches!(observed.state, RunState::Running { .. });
    match instance.desired_here().wanted {
        Wanted::Absent { .. } | Wanted::Stopped if runs => Step::Act(Action::Stop { number, id }),
        _ if instance.site == Site::Leaving => Step::Act(Action::Remove { number, id }),
        Wanted::Absent { .. } => Step::Act(Action::Remove { number, id }),
        Wanted::Stopped => Step::Nothing,
        Wanted::Running => decide_running(agent, instance, observed, now),
    }
}

fn decide_running(agent: AgentDesired<'_>, instance: &Instance, observed: &Observed, now: Timestamp) -> Step {
    let number = instance.number;
    let id = observed.id.clone();
    let stale = !agent.keeps(observed) && !instance.is_cramped;
    match observed.state {
        RunState::Running { .. } if stale => Step::Disrupt(Action::Stop { number, id }),
        RunState::Running { started_at } if !instance.desired.satisfied_by(started_at) => {
            if agent.restarts_held && !instance.is_failing() {
                Step::Wait(now.saturating_add(HELD_LOOK).unwrap_or(now))
            } else {
                Step::Disrupt(Action::Stop { number, id })
            }
        }
        RunState::Dead => Step::Act(Action::Remove { number, id }),
        _ if stale => Step::Act(Action::Remove { number, id }),
        RunState::Running { started_at } if instance.memory.condemns(&id, started_at) => {
            Step::Act(Action::Stop { number, id })
        }
        _ if !observed.name_is_right => Step::Act(Action::Rename { number, id }),
        _ if !agent.paused && !instance.is_cramped && observed.limits != agent.limits => {
            Step::Act(Action::Update { number, id })
        }
        RunState::Running { .. } if instance.is_cramped => look_again(now),
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

/// Nobody tells when a node has room again.
fn look_again(now: Timestamp) -> Step {
    Step::Wait(later(now, CRAMPED_LOOK))
}

impl AgentDesired<'_> {
    /// True of a container that the present revision would not make otherwise, but perhaps for its limits.
    pub fn serves(&self, observed: &Observed) -> bool {
        self.serving.contains(&observed.revision)
    }

    /// True while an instance that was to be restarted then is not up again.
    pub fn restart_is_open(&self, instance: &Instance, asked: Timestamp, now: Timestamp) -> bool {
        instance.desired.wanted == Wanted::Running
            && instance.site != Site::Silent
            && instance.desired.started_after == Some(asked)
            && !(is_up(instance, *self, now)
                && instance.observed.as_ref().is_some_and(|observed| match observed.state {
                    RunState::Running { started_at } | RunState::Exited { started_at, .. } => {
                        instance.desired.satisfied_by(started_at)
                    }
                    RunState::Created | RunState::Dead => false,
                }))
    }

    /// True of a container that is not to be made anew for now.
    pub fn keeps(&self, observed: &Observed) -> bool {
        self.paused || self.serves(observed)
    }
}

impl Action {
    /// What it is called where actions are told apart.
    pub fn word(&self) -> &'static str {
        match self {
            Action::Create { .. } => "create",
            Action::Start { .. } => "start",
            Action::Stop { .. } => "stop",
            Action::Remove { .. } => "remove",
            Action::Rename { .. } => "rename",
            Action::Update { .. } => "update",
            Action::Forget { .. } => "forget",
        }
    }

    pub fn number(&self) -> u32 {
        match self {
            Action::Create { number }
            | Action::Start { number, .. }
            | Action::Stop { number, .. }
            | Action::Remove { number, .. }
            | Action::Rename { number, .. }
            | Action::Update { number, .. }
            | Action::Forget { number, .. } => *number,
        }
    }
}
