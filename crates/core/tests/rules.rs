//! The rules that every plan and every note keeps, for instances in any state whatever.

#![expect(clippy::unwrap_used, reason = "a test says what went wrong by where it panics")]

use chassis_core::instance::restarts;
use chassis_core::instance::{
    Blocked, Condemned, Desired, Exit, Instance, Limits, Memory, Observed, Reason, Run, RunState, Site,
    Wanted,
};
use chassis_core::scale::scale;
use chassis_core::{
    Action, AgentDesired, Check, EventKind, Health, Probe, RestartBudget, Verdict, backoff, plan,
};
use chassis_spec::{Amount, Bytes, HealthCheck, RestartPolicy, RolloutSpec};
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

/// The present revision, and the one before it, whose containers serve it.
const SERVING: [u64; 2] = [2, 3];
const LIMITS: Limits = Limits { cpu: None, memory: Bytes(64 << 20), pids: 9 };

/// What is wanted of an agent of revision 3, replaced one at a time.
fn desired(restart_policy: RestartPolicy, rollout: &RolloutSpec) -> AgentDesired<'_> {
    AgentDesired {
        serving: &SERVING,
        restart_policy,
        limits: LIMITS,
        rollout,
        paused: false,
        restarts_held: false,
    }
}

fn any_rollout() -> impl Strategy<Value = RolloutSpec> {
    let amount = || prop_oneof![(0..4u32).prop_map(Amount::Count), (0..101u32).prop_map(Amount::Percent)];
    (amount(), amount()).prop_map(|(max_unavailable, max_surge)| RolloutSpec {
        max_unavailable,
        max_surge,
        ..RolloutSpec::default()
    })
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + second).unwrap()
}

fn any_policy() -> impl Strategy<Value = RestartPolicy> {
    prop_oneof![Just(RestartPolicy::Always), Just(RestartPolicy::OnFailure), Just(RestartPolicy::Never)]
}

fn any_exit() -> impl Strategy<Value = Exit> {
    (prop_oneof![Just(0), Just(1), Just(137)], any::<bool>(), 50..100i64).prop_map(|(code, oom, second)| {
        Exit { code, out_of_memory: oom, unhealthy: false, unleased: false, finished_at: at(second) }
    })
}

fn any_state() -> impl Strategy<Value = RunState> {
    prop_oneof![
        Just(RunState::Created),
        Just(RunState::Dead),
        (0..50i64).prop_map(|second| RunState::Running { started_at: at(second) }),
        (0..50i64, any_exit()).prop_map(|(second, exit)| RunState::Exited { started_at: at(second), exit }),
    ]
}

fn any_observed() -> impl Strategy<Value = Observed> {
    let limits = prop_oneof![3 => Just(LIMITS), 1 => Just(Limits { pids: 1, ..LIMITS })];
    ("[ab]", 1..4u64, any::<bool>(), limits, any_state()).prop_map(
        |(id, revision, name_is_right, limits, state)| Observed {
            id: id.into(),
            revision,
            name_is_right,
            limits,
            state,
            image_check: None,
        },
    )
}

fn any_memory() -> impl Strategy<Value = Memory> {
    let run = prop::option::of(
        ("[ab]", 0..50i64).prop_map(|(id, second)| Run { id: id.into(), started_at: at(second) }),
    );
    let blocked = prop::option::weighted(0.2, (1..9u32, 0..200i64)).prop_map(|blocked| {
        blocked.map(|(attempts, second)| Blocked {
            reason: Reason::NameTaken,
            message: "taken".to_owned(),
            attempts,
            retry_at: at(second),
        })
    });
    let condemned = prop::option::weighted(
        0.2,
        ("[ab]", 0..50i64).prop_map(|(id, second)| Condemned {
            run: Run { id: id.into(), started_at: at(second) },
            was_good: false,
        }),
    );
    (run, prop::option::of(any_exit()), 0..9u32, prop::option::of(0..200i64), blocked, condemned).prop_map(
        |(run, exit, failures, retry, blocked, condemned)| Memory {
            run,
            exit,
            last_exit: None,
            restarts: failures,
            failures,
            retry_at: retry.map(at),
            blocked,
            condemned,
            told: 0,
        },
    )
}

fn any_desired() -> impl Strategy<Value = Desired> {
    let wanted = prop_oneof![
        4 => Just(Wanted::Running),
        1 => Just(Wanted::Stopped),
        1 => any::<bool>().prop_map(|cleanup| Wanted::Absent { cleanup }),
    ];
    (wanted, prop::option::of(0..60i64))
        .prop_map(|(wanted, after)| Desired { wanted, started_after: after.map(at) })
}

fn any_health() -> impl Strategy<Value = Health> {
    let verdict = || {
        prop::option::of(prop::sample::select(vec![Verdict::Starting, Verdict::Healthy, Verdict::Unhealthy]))
    };
    (verdict(), verdict()).prop_map(|(health, readiness)| Health { health, readiness })
}

fn any_instances() -> impl Strategy<Value = Vec<Instance>> {
    let busy = prop::bool::weighted(0.2);
    let site = prop_oneof![
        8 => Just(Site::Here), 1 => Just(Site::Silent), 1 => Just(Site::Nowhere), 1 => Just(Site::Leaving)
    ];
    let instance = (any_desired(), prop::option::of(any_observed()), any_memory(), any_health(), busy, site);
    prop::collection::vec(instance, 1..8).prop_map(|instances| {
        let numbered = instances.into_iter().zip(1..);
        numbered
            .map(|((desired, observed, memory, health, busy, site), number)| Instance {
                number,
                desired,
                observed,
                memory,
                health,
                busy,
                site,
                is_cramped: false,
            })
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_plan_keeps_its_rules(
        instances in any_instances(),
        policy in any_policy(),
        rollout in any_rollout(),
        paused in prop::bool::weighted(0.2),
        second in 0..300i64,
    ) {
        let agent = AgentDesired { paused, ..desired(policy, &rollout) };
        let plan = plan(agent, instances.iter(), at(second));
        let mut acted = std::collections::BTreeSet::new();
        let mut taken_down = 0;
        for action in &plan.actions {
            let instance = instances.iter().find(|instance| instance.number == action.number());
            let instance = instance.expect("an action is about an instance that exists");
            prop_assert!(acted.insert(instance.number), "two actions for {}", instance.number);
            prop_assert!(!instance.busy, "an action for a busy instance");
            prop_assert!(instance.site != Site::Silent, "an action where nobody answers");
            let leaves = instance.site == Site::Leaving;
            let state = instance.observed.as_ref().map(|observed| observed.state);
            match action {
                Action::Create { .. } => {
                    prop_assert!(state.is_none() && instance.desired.wanted == Wanted::Running);
                    prop_assert!(instance.site == Site::Here, "made where it has no place");
                }
                Action::Forget { cleanup, .. } => {
                    prop_assert!(state.is_none());
                    prop_assert_eq!(instance.desired.wanted, Wanted::Absent { cleanup: *cleanup });
                }
                Action::Start { .. } => {
                    prop_assert!(instance.desired.wanted == Wanted::Running && !leaves);
                    prop_assert!(agent.keeps(instance.observed.as_ref().unwrap()));
                    let startable = matches!(state, Some(RunState::Created | RunState::Exited { .. }));
                    prop_assert!(startable, "starts {state:?}");
                }
                Action::Stop { .. } => {
                    let runs = matches!(state, Some(RunState::Running { .. }));
                    prop_assert!(runs, "stops what does not run");
                    let failing = instance.is_failing();
                    if instance.desired.wanted == Wanted::Running && !failing && !leaves {
                        taken_down += 1;
                        let serves = agent.keeps(instance.observed.as_ref().unwrap());
                        let since = instance.running_since().unwrap();
                        prop_assert!(!serves || !instance.desired.satisfied_by(since), "takes down what may stay");
                    }
                }
                Action::Remove { .. } => {
                    let idle = !matches!(state, Some(RunState::Running { .. }) | None);
                    prop_assert!(idle, "removes what runs");
                    prop_assert!(
                        leaves || instance.desired.wanted != Wanted::Stopped,
                        "a stopped instance keeps its container"
                    );
                }
                Action::Update { .. } => {
                    let observed = instance.observed.as_ref().unwrap();
                    prop_assert!(!paused && agent.serves(observed) && observed.limits != LIMITS);
                }
                Action::Rename { .. } => prop_assert!(!instance.observed.as_ref().unwrap().name_is_right),
            }
            if let Action::Start { id, .. } | Action::Stop { id, .. } | Action::Remove { id, .. } = action {
                prop_assert_eq!(id, &instance.observed.as_ref().unwrap().id);
            }
        }
        let is_counted = |instance: &&Instance| {
            instance.desired.wanted == Wanted::Running && instance.site != Site::Silent
        };
        let wanted = instances.iter().filter(is_counted);
        let (mut count, mut up) = (0, 0);
        for instance in wanted {
            count += 1;
            let done = instance.exit().is_some_and(|exit| {
                let since = instance.observed.as_ref().unwrap().state.started_at().unwrap();
                agent.keeps(instance.observed.as_ref().unwrap())
                    && instance.desired.satisfied_by(since)
                    && !restarts(policy, exit)
            });
            let is_free = !instance.busy && instance.site == Site::Here;
            up += u32::from(is_free && (instance.is_ready(at(second)) || done));
        }
        let away = rollout.unavailable_of(count);
        prop_assert!(
            taken_down == 0 || up - taken_down + away >= count,
            "takes {taken_down} down of {up} that are up, of {count} that should be: {away} may be away"
        );
        if let Some(wake_at) = plan.wake_at {
            prop_assert!(wake_at > at(second), "a wake-up in the past would spin");
        }
    }

    #[test]
    fn what_was_noted_is_not_noted_again(
        wanted in any_desired(),
        observed in prop::option::of(any_observed()),
        memory in any_memory(),
        policy in any_policy(),
        seed: u64,
    ) {
        let rollout = RolloutSpec::default();
        let agent = desired(policy, &rollout);
        let noted = memory.note(&wanted, observed.as_ref(), agent, seed);
        if let Some((memory, _)) = noted {
            prop_assert_eq!(memory.note(&wanted, observed.as_ref(), agent, seed), None);
        }
    }

    #[test]
    fn scaling_reaches_the_count_with_the_right_numbers(
        alive in prop::collection::btree_set(1..30u32, 0..12),
        taken in prop::collection::btree_set(1..30u32, 0..4),
        count in 0..20u32,
    ) {
        let taken: std::collections::BTreeSet<u32> = taken.difference(&alive).copied().collect();
        let change = scale(&alive, &taken, count);
        let mut after = alive.clone();
        after.extend(&change.add);
        after.retain(|number| !change.remove.contains(number));
        prop_assert_eq!(after.len(), count as usize);
        prop_assert!(change.add.is_empty() || change.remove.is_empty());
        prop_assert!(change.add.iter().all(|number| *number > 0 && !alive.contains(number) && !taken.contains(number)));
        if let Some(highest) = change.add.last() {
            let free = |number: &u32| !after.contains(number) && !taken.contains(number);
            prop_assert!(!(1..*highest).any(|number| free(&number)), "a lower number was free");
        }
        if let Some(lowest_removed) = change.remove.iter().min() {
            prop_assert!(after.iter().all(|kept| kept < lowest_removed), "a higher number was kept");
        }
    }

    #[test]
    fn restarts_wait_longer_and_longer_up_to_the_cap(failures in 0..200u32, seed: u64) {
        let delay = backoff::restart_delay(failures, seed);
        prop_assert!(delay <= backoff::RESTART_CAP && delay >= SignedDuration::ZERO);
        let full = match failures {
            0 | 1 => SignedDuration::ZERO,
            more => SignedDuration::from_secs(1 << (more - 2).min(20)).min(backoff::RESTART_CAP),
        };
        prop_assert!(delay <= full && delay >= full * 4 / 5, "{delay:?} is not within a fifth of {full:?}");
    }
}

#[test]
fn a_crash_is_restarted_at_once_then_after_one_second_doubling_and_a_good_run_forgives() {
    let wanted = Desired::running();
    let rollout = RolloutSpec::default();
    let mut memory = Memory::default();
    let mut started = at(0);
    let mut waits = Vec::new();
    for length in [1, 1, 1, 1, 601, 1] {
        let finished_at = started.checked_add(SignedDuration::from_secs(length)).unwrap();
        let exit = Exit { code: 1, out_of_memory: false, unhealthy: false, unleased: false, finished_at };
        let observed = Observed {
            id: "a".into(),
            revision: 3,
            name_is_right: true,
            limits: LIMITS,
            image_check: None,
            state: RunState::Exited { started_at: started, exit },
        };
        (memory, _) =
            memory.note(&wanted, Some(&observed), desired(RestartPolicy::Always, &rollout), 0).unwrap();
        let wait = memory.retry_at.unwrap().duration_since(finished_at);
        waits.push((wait.as_millis() + 999) / 1000);
        started = memory.retry_at.unwrap().checked_add(SignedDuration::from_millis(1)).unwrap();
    }
    assert_eq!(waits, [0, 1, 2, 4, 0, 1]);
    assert_eq!(memory.restarts, 6);
}

/// A run that fails its check from its first second on: looked at eagerly, counted by the clock.
#[test]
fn a_slow_start_gets_its_start_period_and_all_its_retries() {
    let rules: HealthCheck =
        serde_json::from_str(r#"{"tcp": {"port": 1}, "interval": 2, "retries": 3, "startPeriod": 10}"#)
            .unwrap();
    let mut check = Check::default();
    let mut time = at(0);
    let mut looks = 0;
    while check.verdict == Verdict::Starting {
        time = time.checked_add(check.pause(&rules)).unwrap();
        looks += 1;
        check.note(&rules, at(0), Probe { time, latency_ms: 1, error: Some("refused".to_owned()) });
    }
    assert_eq!(check.verdict, Verdict::Unhealthy);
    let after = time.duration_since(at(0)).as_secs();
    assert!((14..=18).contains(&after), "given up after {after} s");
    assert!(looks >= 8, "only {looks} looks");

    assert!(check.note(&rules, at(0), Probe { time, latency_ms: 1, error: None }));
    assert_eq!((check.verdict, check.failures), (Verdict::Healthy, 0));
    for failure in 1..=3 {
        let changed = check.note(&rules, at(0), Probe { time, latency_ms: 1, error: Some(String::new()) });
        assert_eq!(changed, failure == 3, "at failure {failure}");
    }
}

#[test]
fn a_fleet_is_restarted_by_a_quarter_in_a_minute() {
    let mut budget = RestartBudget::default();
    let taken = (0..40).filter(|_| budget.take(40, at(0)).is_ok()).count();
    assert_eq!(taken, 10);
    assert_eq!(budget.take(40, at(59)), Err(at(60)));
    assert_eq!(budget.take(40, at(60)), Ok(()));
    let mut small = RestartBudget::default();
    assert_eq!((0..5).filter(|_| small.take(1, at(0)).is_ok()).count(), 2);
}

/// An agent that ends well when it is stopped for being unhealthy is started again all the same.
#[test]
fn an_unhealthy_run_counts_as_a_failure_whatever_its_code() {
    let run = |started: i64, state| Observed {
        id: "a".into(),
        revision: 3,
        name_is_right: true,
        limits: LIMITS,
        image_check: None,
        state: match state {
            None => RunState::Running { started_at: at(started) },
            Some(finished) => RunState::Exited {
                started_at: at(started),
                exit: Exit {
                    code: 0,
                    out_of_memory: false,
                    unhealthy: false,
                    unleased: false,
                    finished_at: at(finished),
                },
            },
        },
    };
    let wanted = Desired::running();
    let rollout = RolloutSpec::default();
    let policy = RestartPolicy::OnFailure;
    let (memory, _) =
        Memory::default().note(&wanted, Some(&run(0, None)), desired(policy, &rollout), 0).unwrap();
    let (memory, _) = memory.note_unhealthy(false, "no answer".to_owned()).unwrap();
    assert_eq!(memory.note_unhealthy(false, String::new()), None, "condemned twice");
    let agent = desired(policy, &rollout);
    let instance = |memory: &Memory, observed| Instance {
        number: 1,
        desired: wanted,
        observed: Some(observed),
        memory: memory.clone(),
        health: Health::default(),
        busy: false,
        site: Site::Here,
        is_cramped: false,
    };
    let stop = plan(agent, [instance(&memory, run(0, None))].iter(), at(700));
    assert_eq!(stop.actions, [Action::Stop { number: 1, id: "a".into() }]);
    let (memory, events) =
        memory.note(&wanted, Some(&run(0, Some(700))), desired(policy, &rollout), 0).unwrap();
    assert!(matches!(events[..], [EventKind::Exited(Exit { unhealthy: true, .. })]), "{events:?}");
    assert_eq!((memory.restarts, memory.failures), (1, 1));
    let start = plan(agent, [instance(&memory, run(0, Some(700)))].iter(), at(700));
    assert_eq!(start.actions, [Action::Start { number: 1, id: "a".into() }]);
    let (memory, _) = memory.note(&wanted, Some(&run(701, None)), desired(policy, &rollout), 0).unwrap();
    assert_eq!(memory.condemned, None);
}
