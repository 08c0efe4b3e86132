//! Numbers that are forgotten and made anew while a server looks elsewhere.

use std::sync::Arc;
use std::time::Instant;

use chassis_core::{Action, AgentKey, Desired, Memory, Wanted};
use chassis_spec::AgentSpec;
use chassis_store::{Agent, AgentRecord, InstanceRecord};
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
