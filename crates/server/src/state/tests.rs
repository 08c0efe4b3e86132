//! Numbers that are forgotten and made anew while a server looks elsewhere, and which steps wait for which.

use std::sync::Arc;
use std::time::Instant;

use chassis_core::{Action, AgentKey, Desired, Memory, NodeName, Wanted};
use chassis_spec::AgentSpec;
use chassis_store::{Agent, AgentRecord, InstanceRecord, Placed};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::{AgentState, Outcome, Step};

const GOING: Wanted = Wanted::Absent { cleanup: false };

fn record(version: u64, instances: Vec<InstanceRecord>) -> AgentRecord {
    let spec: AgentSpec = serde_json::from_value(json!({"name": "a", "image": "any"})).unwrap();
    let agent = Agent {
        key: AgentKey { fleet: "f".parse().unwrap(), agent: spec.name.clone() },
        revision: 1,
        spec: Arc::new(spec),
        version,
        created_at: Timestamp::UNIX_EPOCH,
        deployed_at: Timestamp::UNIX_EPOCH,
        deleting: false,
        cleanup: false,
        template: 1,
        serving: [1].into(),
        pin: None,
        rollout: None,
    };
    AgentRecord { agent, instances }
}

/// Number 2, made so many seconds after the agent.
fn row(wanted: Wanted, version: u64, seconds: i64) -> InstanceRecord {
    InstanceRecord {
        number: 2,
        desired: Desired { wanted, started_after: None },
        memory: Memory::default(),
        version,
        created_at: Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds),
        placed: None,
        home: None,
    }
}

fn wanted(state: &AgentState) -> Option<Wanted> {
    state.slots.get(&2).map(|slot| slot.instance.desired.wanted)
}

fn look_ends(state: &mut AgentState) {
    let look = Step::Look { number: 2, id: "c".into() };
    state.finish(&look, Outcome::Seen { observed: None, asked: Instant::now() }, Timestamp::now());
}

#[test]
fn a_number_made_anew_is_another_though_its_version_is_lower() {
    let mut state = AgentState::new(record(1, vec![row(GOING, 5, 0)]));
    state.take(record(2, vec![row(Wanted::Running, 1, 1)]), None);
    assert_eq!(wanted(&state), Some(Wanted::Running));
    // Within its life a lower version is an older one.
    state.take(record(3, vec![row(GOING, 3, 1)]), None);
    state.take(record(4, vec![row(Wanted::Running, 2, 1)]), None);
    assert_eq!(wanted(&state), Some(GOING));
}

#[test]
fn what_is_in_no_record_goes_when_the_look_at_it_ends() {
    let mut state = AgentState::new(record(1, vec![row(GOING, 5, 0)]));
    state.slots.get_mut(&2).unwrap().instance.busy = true;
    state.take(record(2, Vec::new()), None);
    assert_eq!(wanted(&state), Some(GOING));
    look_ends(&mut state);
    assert_eq!(wanted(&state), None);
}

#[test]
fn what_was_made_anew_during_the_look_stays() {
    let mut state = AgentState::new(record(1, vec![row(GOING, 5, 0)]));
    state.slots.get_mut(&2).unwrap().instance.busy = true;
    state.take(record(2, Vec::new()), None);
    state.take(record(3, vec![row(Wanted::Running, 1, 1)]), None);
    look_ends(&mut state);
    assert_eq!(wanted(&state), Some(Wanted::Running));
}

#[test]
fn who_acts_keeps_what_was_wanted_anew_while_it_was_forgotten() {
    let mut state = AgentState::new(record(1, vec![row(GOING, 5, 0)]));
    state.slots.get_mut(&2).unwrap().instance.busy = true;
    state.reload(record(2, vec![row(Wanted::Running, 1, 1)]));
    let forget = Step::Act(Action::Forget { number: 2, cleanup: false });
    state.finish(&forget, Outcome::Forgotten, Timestamp::now());
    assert_eq!(wanted(&state), Some(Wanted::Running));
}

#[test]
fn steps_wait_only_for_their_like_on_their_node() {
    let node = |name: &str| NodeName::of_machine(name);
    let numbered = |number: u32, row: InstanceRecord| InstanceRecord { number, ..row };
    let on = |name: &str, row: InstanceRecord| {
        let placed = Placed { node: node(name), epoch: 1, ending: None, leased: false };
        InstanceRecord { placed: Some(placed), ..row }
    };
    let new = || row(Wanted::Running, 1, 0);
    let state = AgentState::new(record(
        1,
        vec![
            numbered(1, on("n1", new())),
            numbered(2, on("n1", new())),
            numbered(3, on("n2", new())),
            numbered(4, InstanceRecord { home: Some(node("n2")), ..new() }),
        ],
    ));
    let act = Step::Act;
    let forget = |number| Step::Act(Action::Forget { number, cleanup: true });
    let id = || "c".into();
    let create = |number| act(Action::Create { number });
    let stop = |number| act(Action::Stop { number, id: id() });
    let start = act(Action::Start { number: 2, id: id() });
    let steps = vec![create(1), create(2), create(3), start.clone(), forget(3), forget(4), stop(1), stop(2)];
    let mut lines: Vec<Vec<Step>> = state.lines(steps).into_iter().map(Vec::from).collect();
    let mut expected = vec![
        vec![create(1), create(2)],
        vec![create(3)],
        vec![start],
        vec![forget(3), forget(4)],
        vec![stop(1)],
        vec![stop(2)],
    ];
    lines.sort_by_key(|line| format!("{line:?}"));
    expected.sort_by_key(|line| format!("{line:?}"));
    assert_eq!(lines, expected);
}
