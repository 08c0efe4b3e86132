//! What becomes of environments, and what their agents are called.

#![allow(clippy::unwrap_used, reason = "a test whose set-up fails should stop there")]

use chassis_core::environment::{
    Cause, Decision, Life, Limits, MAX_RUNTIME, PROVISIONING_LIMIT, Seen, State, agent_names, decide,
};
use jiff::{SignedDuration, Timestamp};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + seconds).unwrap()
}

fn life(state: State) -> Life {
    let running_at = (state != State::Provisioning).then(|| at(10));
    Life { state, created_at: at(0), wait: None, placed_at: None, running_at, used_at: None }
}

const FREE: Limits = Limits { max_runtime: MAX_RUNTIME, idle_timeout: None };

fn ended(decision: &Decision) -> Option<Cause> {
    match decision {
        Decision::End { cause, .. } => Some(*cause),
        _ => None,
    }
}

#[test]
fn it_runs_with_its_instance_or_fails_with_it() {
    let new = life(State::Provisioning);
    let deadline = at(0) + PROVISIONING_LIMIT;
    assert_eq!(decide(&new, &Seen::Running, FREE, at(1)), Decision::Run);
    assert_eq!(decide(&new, &Seen::Coming, FREE, at(1)), Decision::Wait(Some(deadline)));
    assert_eq!(decide(&new, &Seen::Unknown, FREE, at(1)), Decision::Wait(Some(deadline)));
    for seen in [Seen::Blocked("no image".to_owned()), Seen::Ended("exit 1".to_owned()), Seen::Gone] {
        assert_eq!(ended(&decide(&new, &seen, FREE, at(1))), Some(Cause::ProvisioningFailed), "{seen:?}");
    }
    for seen in [Seen::Coming, Seen::Unknown, Seen::Stopped] {
        let late = decide(&new, &seen, FREE, deadline);
        assert_eq!(ended(&late), Some(Cause::ProvisioningFailed), "{seen:?}");
    }
    // It ran after all, though late.
    assert_eq!(decide(&new, &Seen::Running, FREE, at(1_000)), Decision::Run);
}

#[test]
fn one_that_waits_for_a_place_is_told_why_it_got_none() {
    let full = || "n1 lacks 1 core".to_owned();
    let at_once = life(State::Provisioning);
    let refused = decide(&at_once, &Seen::Refused(full()), FREE, at(0));
    let reason = "no capacity: n1 lacks 1 core".to_owned();
    assert_eq!(refused, Decision::End { cause: Cause::NoCapacity, reason });
    // The book gives it up in time; this is for a server that has just taken over, and has no book yet.
    let waiting = Life { wait: Some(SignedDuration::from_secs(300)), ..at_once };
    assert_eq!(decide(&waiting, &Seen::Waiting, FREE, at(299)), Decision::Wait(Some(at(300))));
    assert_eq!(ended(&decide(&waiting, &Seen::Waiting, FREE, at(300))), Some(Cause::NoCapacity));
    let placed = Life { placed_at: Some(at(290)), ..waiting };
    let deadline = at(290) + PROVISIONING_LIMIT;
    assert_eq!(decide(&placed, &Seen::Coming, FREE, at(300)), Decision::Wait(Some(deadline)));
    assert_eq!(ended(&decide(&placed, &Seen::Coming, FREE, deadline)), Some(Cause::ProvisioningFailed));
}

#[test]
fn one_whose_node_hangs_before_it_began_is_tried_elsewhere() {
    let new = life(State::Provisioning);
    assert_eq!(decide(&new, &Seen::Unbegun, FREE, at(12)), Decision::Elsewhere);
    let late = at(0) + PROVISIONING_LIMIT;
    assert_eq!(ended(&decide(&new, &Seen::Unbegun, FREE, late)), Some(Cause::ProvisioningFailed));
}

#[test]
fn once_it_runs_only_age_idleness_and_loss_end_it() {
    let limits = Limits::from_seconds(100, 60);
    for state in [State::Running, State::Draining] {
        let mut life = life(state);
        let wait = |life: &Life, now| decide(life, &Seen::Running, limits, now);
        assert_eq!(wait(&life, at(11)), Decision::Wait(Some(at(70))), "idle comes first");
        life.used_at = Some(at(40));
        assert_eq!(wait(&life, at(71)), Decision::Wait(Some(at(100))));
        assert_eq!(ended(&wait(&life, at(100))), Some(Cause::IdleTimeout));
        life.used_at = Some(at(105));
        assert_eq!(wait(&life, at(109)), Decision::Wait(Some(at(110))), "then age");
        assert_eq!(ended(&wait(&life, at(110))), Some(Cause::StuckTask));
        assert_eq!(ended(&decide(&life, &Seen::Gone, limits, at(50))), Some(Cause::Lost));
        for seen in [Seen::Stopped, Seen::Unknown, Seen::Coming, Seen::Blocked(String::new())] {
            assert_eq!(ended(&decide(&life, &seen, limits, at(50))), None, "{seen:?} may pass");
        }
    }
    assert_eq!(Limits::from_seconds(0, 0), FREE);
    let long = decide(&life(State::Running), &Seen::Running, FREE, at(11));
    assert_eq!(long, Decision::Wait(Some(at(10) + MAX_RUNTIME)));
}

#[test]
fn what_goes_is_left_to_its_controller() {
    for seen in [Seen::Running, Seen::Gone, Seen::Blocked(String::new())] {
        let decision = decide(&life(State::Destroying), &seen, FREE, at(1_000_000));
        assert_eq!(decision, Decision::Wait(None));
    }
}

#[test]
fn the_end_of_time_is_no_overflow() {
    let limits = Limits { max_runtime: SignedDuration::MAX, idle_timeout: Some(SignedDuration::MAX) };
    let decision = decide(&life(State::Running), &Seen::Running, limits, at(50));
    assert_eq!(decision, Decision::Wait(Some(Timestamp::MAX)));
}

#[test]
fn an_agent_is_called_as_its_environment_unless_that_is_no_name() {
    let names = |id: &str| -> Vec<String> { agent_names(id).iter().map(ToString::to_string).collect() };
    let plain = names("fuse-job-7");
    assert_eq!((plain.len(), plain[0].as_str()), (2, "fuse-job-7"));
    assert!(plain[1].starts_with("fuse-job-7-x"), "{plain:?}");
    for id in ["fuse-Job", "fuse-job_7", "fuse-", "fuse-ünï", "-", "", &format!("fuse-{}", "a".repeat(300))]
    {
        let names = names(id);
        assert_eq!(names.len(), 1, "{id}: {names:?}");
        assert!(names[0].len() <= 40, "{names:?}");
    }
    assert_ne!(names("fuse-Job"), names("fuse-jOb"));
    assert_ne!(names(&format!("fuse-{}", "a".repeat(300))), names(&format!("fuse-{}", "a".repeat(301))));
}
