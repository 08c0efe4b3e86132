//! The rules of the scheduler, one by one: who gets which node, who waits, and what becomes of a node and its instances.

#![expect(clippy::unwrap_used, reason = "a test says what went wrong by where it panics")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chassis_core::InstanceKey;
use chassis_core::node::{Amounts, Architecture, Drain, Duty, NodeName, NodeSpec, NodeState};
use chassis_core::schedule::{
    Change, Container, Cramped, Data, Demand, Error, Held, Next, Place, Placement, Pulse, Request, Rules,
    Scheduler, Standing, Strategy, Submitted, Unfit, Wait, WhenDown,
};
use chassis_spec::RuntimeKind;
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + second).unwrap()
}

fn name(text: &str) -> NodeName {
    text.parse().unwrap()
}

/// So many cores, with 4 GiB for each.
fn cores(count: u64) -> Amounts {
    Amounts { cpu_millis: count * 1000, memory_bytes: count * (4 << 30), disk_bytes: 0, slots: 1 }
}

fn spec(node: &str, count: u64) -> NodeSpec {
    NodeSpec {
        name: name(node),
        capacity: Amounts { slots: 100, ..cores(count) },
        architecture: Architecture::Amd64,
        runtimes: BTreeSet::from([RuntimeKind::Docker]),
        region: Some("north".into()),
        labels: BTreeMap::from([("disk".to_owned(), "ssd".to_owned())]),
    }
}

/// An instance of one core that waits, and that does not move.
fn request(number: u32) -> Request {
    Request {
        instance: InstanceKey { fleet: "web".parse().unwrap(), agent: "api".parse().unwrap(), number },
        tenant: "web".into(),
        priority: 0,
        demand: Arc::new(Demand { amounts: cores(1), ..Demand::default() }),
        when_down: WhenDown::Stay,
        ends: false,
        wait: Wait::Always,
    }
}

fn asking(number: u32, change: impl FnOnce(&mut Demand)) -> Request {
    let mut request = request(number);
    change(Arc::make_mut(&mut request.demand));
    request
}

fn key(number: u32) -> InstanceKey {
    request(number).instance
}

/// A scheduler with nodes that count.
fn with_nodes(rules: Rules, nodes: &[(&str, u64)]) -> Scheduler {
    let mut scheduler = Scheduler::new(rules, 0);
    for (node, count) in nodes {
        add(&mut scheduler, spec(node, *count), at(0));
    }
    scheduler.take_changes();
    scheduler
}

fn add(scheduler: &mut Scheduler, spec: NodeSpec, now: Timestamp) {
    let name = spec.name.clone();
    let term = scheduler.node_register(spec, now).term;
    assert!(scheduler.node_report(&name, term, &[], now).unwrap().joined);
}

fn placed(scheduler: &mut Scheduler, request: Request, now: Timestamp) -> Placement {
    match scheduler.submit(request, now).unwrap() {
        Submitted::Placed(placement) => placement,
        Submitted::Waiting => panic!("it waits"),
    }
}

fn beat(scheduler: &mut Scheduler, node: &str, now: Timestamp) {
    let term = scheduler.node(&name(node)).unwrap().term();
    assert_eq!(scheduler.node_heartbeat(&name(node), term, now).unwrap(), Pulse::Alive);
}

fn held(placement: &Placement) -> Held {
    Held { instance: placement.instance.clone(), epoch: placement.epoch }
}

fn state(scheduler: &Scheduler, node: &str) -> NodeState {
    scheduler.node(&name(node)).unwrap().state()
}

fn node_of(scheduler: &Scheduler, number: u32) -> Option<String> {
    let tracked = scheduler.instance(&key(number))?;
    tracked.standing.place().map(|(node, _)| node.to_string())
}

#[test]
fn spread_goes_where_most_is_free_and_binpack_where_least_is() {
    let nodes = [("a", 8), ("b", 16), ("c", 16)];
    let mut spread = with_nodes(Rules::default(), &nodes);
    let where_to: Vec<_> =
        (1..=5).map(|number| placed(&mut spread, request(number), at(0)).node.to_string()).collect();
    // Of b and c, which are alike, the first by name; a is as full with one as they are with two.
    assert_eq!(where_to, ["b", "c", "a", "b", "c"]);

    let mut binpack = with_nodes(Rules { strategy: Strategy::Binpack, ..Rules::default() }, &nodes);
    let where_to: Vec<_> =
        (1..=9).map(|number| placed(&mut binpack, request(number), at(0)).node.to_string()).collect();
    assert_eq!(where_to, ["a", "a", "a", "a", "a", "a", "a", "a", "b"]);
    let spread_by_request = asking(10, |demand| demand.strategy = Some(Strategy::Spread));
    assert_eq!(placed(&mut binpack, spread_by_request, at(0)).node, name("c"));
}

#[test]
fn each_node_says_why_it_cannot() {
    let mut scheduler = with_nodes(Rules::default(), &[("full", 2), ("tiny", 1), ("cordoned", 8)]);
    for (node, change) in [
        (
            "arm",
            Box::new(|spec: &mut NodeSpec| spec.architecture = Architecture::Arm64)
                as Box<dyn Fn(&mut NodeSpec)>,
        ),
        ("elsewhere", Box::new(|spec| spec.region = Some("south".into()))),
        ("nowhere", Box::new(|spec| spec.region = None)),
        ("hdd", Box::new(|spec| spec.labels = BTreeMap::from([("disk".to_owned(), "hdd".to_owned())]))),
        ("bare", Box::new(|spec| spec.labels.clear())),
        ("sim", Box::new(|spec| spec.runtimes = BTreeSet::from([RuntimeKind::Sim]))),
    ] {
        let mut spec = spec(node, 8);
        change(&mut spec);
        add(&mut scheduler, spec, at(0));
    }
    placed(&mut scheduler, asking(1, |demand| demand.node = Some(name("full"))), at(0));
    scheduler.node_assign(&name("cordoned"), Duty::Cordoned).unwrap();
    scheduler.node_register(spec("new", 8), at(0));

    let mut picky = asking(2, |demand| {
        demand.amounts = cores(2);
        demand.region = Some("north".into());
        demand.architecture = Some(Architecture::Amd64);
        demand.labels = BTreeMap::from([("disk".to_owned(), "ssd".to_owned())]);
    });
    picky.wait = Wait::No;
    let error = scheduler.submit(picky, at(1)).unwrap_err();
    assert_eq!(error.code(), "no_place");
    let Error::NoPlace(refused) = error else { panic!("{error}") };
    let why: Vec<_> = refused.nodes.iter().map(|(node, unfit)| format!("{node} {unfit}")).collect();
    assert_eq!(
        why,
        [
            "arm is arm64, not amd64",
            "bare lacks label disk=ssd",
            "cordoned is cordoned",
            "elsewhere is in region south, not north",
            "full lacks 1 core, 4Gi of memory",
            "hdd has label disk=hdd, not ssd",
            "new is suspect",
            "nowhere is in no region, not in north",
            "sim does not run docker",
            "tiny is too small by 1 core, 4Gi of memory, even when empty",
        ]
    );
    assert!(scheduler.instance(&key(2)).is_none(), "one that was refused is not kept");

    let pinned = asking(3, |demand| demand.node = Some(name("cordoned")));
    let Error::NoPlace(refused) = scheduler.submit(Request { wait: Wait::No, ..pinned }, at(1)).unwrap_err()
    else {
        panic!("another error");
    };
    assert_eq!(refused.nodes[&name("cordoned")], Unfit::State(NodeState::Cordoned));
    assert_eq!(
        refused.to_string(),
        "no node can take web/api-3: arm is not cordoned, which was asked for (8 more too); cordoned is cordoned"
    );
}

#[test]
fn a_node_that_falls_silent_is_suspect_then_down_and_only_what_moves_leaves_it() {
    let rules = Rules::default();
    let mut scheduler = with_nodes(rules, &[("a", 8)]);
    let stays = placed(&mut scheduler, request(1), at(0));
    let moves = placed(&mut scheduler, Request { when_down: WhenDown::Move, ..request(2) }, at(0));
    let data = asking(3, |demand| demand.data = Data::Unborn);
    let at_home = placed(&mut scheduler, Request { when_down: WhenDown::Move, ..data }, at(0));
    assert_eq!([stays.leased, moves.leased, at_home.leased], [false, true, false]);
    add(&mut scheduler, spec("b", 8), at(0));

    scheduler.tick(at(14));
    assert_eq!(state(&scheduler, "a"), NodeState::Active);
    beat(&mut scheduler, "b", at(15));
    scheduler.tick(at(15));
    assert_eq!(state(&scheduler, "a"), NodeState::Suspect);
    assert_eq!(node_of(&scheduler, 2).unwrap(), "a", "a suspect node keeps all");
    beat(&mut scheduler, "a", at(16));
    assert_eq!(state(&scheduler, "a"), NodeState::Active, "one heartbeat is enough");

    let term = scheduler.node(&name("a")).unwrap().term();
    let down = 16 + rules.down_after().as_secs();
    for second in 17..down {
        beat(&mut scheduler, "b", at(second));
        scheduler.tick(at(second));
    }
    assert_eq!(node_of(&scheduler, 2).unwrap(), "a", "its lease is not over yet");
    scheduler.take_changes();
    scheduler.tick(at(down));
    assert_eq!(state(&scheduler, "a"), NodeState::Down);
    let there: Vec<_> = (1..=3).map(|number| node_of(&scheduler, number).unwrap()).collect();
    assert_eq!(there, ["a", "b", "a"], "what has its data there has nowhere to go");

    // It returns, with all that it had.
    let all = [held(&stays), held(&moves), held(&at_home)];
    let Pulse::Report { term: next } = scheduler.node_heartbeat(&name("a"), term, at(down + 9)).unwrap()
    else {
        panic!("a node that was down counts at once");
    };
    assert!(next > term);
    let orders = scheduler.node_report(&name("a"), term, &[], at(down + 9)).unwrap();
    assert!(!orders.joined, "a report of the old term counts");
    let orders = scheduler.node_report(&name("a"), next, &all, at(down + 9)).unwrap();
    assert!(!orders.joined, "it counts with an instance that is not its own");
    assert_eq!(orders.end, [held(&moves)]);
    assert_eq!(state(&scheduler, "a"), NodeState::Down);
    let rest = [held(&stays), held(&at_home)];
    let orders = scheduler.node_report(&name("a"), next, &rest, at(down + 10)).unwrap();
    assert!(orders.joined && orders.start.is_empty() && orders.end.is_empty());
    assert_eq!(state(&scheduler, "a"), NodeState::Active);
    assert_eq!(node_of(&scheduler, 2).unwrap(), "b", "it does not move back");
}

#[test]
fn only_what_is_made_to_end_is_moved() {
    let rules = Rules::default();
    let down =
        |scheduler: &mut Scheduler, since: i64| scheduler.tick(at(since + rules.down_after().as_secs()));
    let moving = |number| Request { when_down: WhenDown::Move, ..request(number) };

    // The server's own node gives itself no lease.
    let mut scheduler = with_nodes(rules, &[("own", 8)]);
    scheduler.own_set(name("own"));
    let here = placed(&mut scheduler, moving(1), at(0));
    assert!(!here.leased);
    scheduler.lease_set(&key(1), here.epoch, true);
    assert!(scheduler.take_changes().iter().all(|change| !matches!(change, Change::Leased(_))));
    down(&mut scheduler, 0);
    assert_eq!(state(&scheduler, "own"), NodeState::Down);
    assert_eq!(node_of(&scheduler, 1).unwrap(), "own");

    // What is wanted of one that has its place already is told when its container is made anew.
    let mut scheduler = with_nodes(rules, &[("a", 8)]);
    let [stays, moves] = [request(1), moving(2)].map(|request| placed(&mut scheduler, request, at(0)));
    scheduler.take_changes();
    scheduler.lease_set(&key(1), stays.epoch, true);
    scheduler.lease_set(&key(2), moves.epoch + 9, false);
    let changes = scheduler.take_changes();
    assert_eq!(
        changes,
        [Change::Leased(Placement { leased: true, ..stays })],
        "of another epoch nothing is said"
    );
    add(&mut scheduler, spec("b", 8), at(0));

    // A clock that is set makes no node silent.
    scheduler.clock_set(SignedDuration::from_hours(1));
    down(&mut scheduler, 3599);
    assert_eq!(state(&scheduler, "a"), NodeState::Suspect);
    beat(&mut scheduler, "b", at(3600 + 90));
    down(&mut scheduler, 3600);
    assert_eq!([1, 2].map(|number| node_of(&scheduler, number).unwrap()), ["b", "b"]);

    // A server that takes over believes of no node that it is down, if something is leased there.
    let (book, stored) = (1 << 40, Place { node: name("a"), epoch: 7, leased: true, ending: None });
    let mut next = Scheduler::new(rules, book);
    next.node_restore(spec("a", 8), Duty::Open, true, at(0));
    next.node_restore(spec("b", 8), Duty::Open, false, at(0));
    next.instance_restore(moving(1), Some(stored), at(0));
    next.tick(at(1));
    assert_eq!((state(&next, "a"), node_of(&next, 1).unwrap()), (NodeState::Suspect, "a".to_owned()));
    let b = next.node(&name("b")).unwrap().term();
    let after = rules.down_after().as_secs();
    assert!(next.node_report(&name("b"), b, &[], at(after - 1)).unwrap().joined);
    next.tick(at(after));
    assert_eq!(node_of(&next, 1).unwrap(), "b");
}

#[test]
fn a_node_that_registers_again_keeps_its_instances_and_its_duty() {
    let mut scheduler = with_nodes(Rules::default(), &[("a", 4)]);
    let kept = placed(&mut scheduler, request(1), at(0));
    let lost = placed(&mut scheduler, request(2), at(0));
    let ending = placed(&mut scheduler, request(3), at(0));
    scheduler.instance_end(&ending.instance).unwrap();
    scheduler.node_assign(&name("a"), Duty::Cordoned).unwrap();

    let again = scheduler.node_register(spec("a", 2), at(5));
    assert!(!again.is_new);
    assert_eq!(again.over, Amounts { slots: 0, ..cores(1) }, "three cores are taken, two are there now");
    let orders = scheduler.node_report(&name("a"), again.term, &[held(&kept)], at(5)).unwrap();
    assert!(orders.joined);
    assert_eq!(orders.start, [lost]);
    assert!(scheduler.instance(&key(3)).is_none(), "what was to end and is not there has ended");
    let node = scheduler.node(&name("a")).unwrap();
    assert_eq!((node.state(), node.instances().len()), (NodeState::Cordoned, 2));
    scheduler.node_assign(&name("a"), Duty::Open).unwrap();
    assert_eq!(scheduler.submit(request(4), at(6)).unwrap(), Submitted::Waiting, "it is full");
}

#[test]
fn a_node_that_registers_again_and_again_without_a_report_is_down_in_the_end() {
    let mut scheduler = with_nodes(Rules::default(), &[("a", 4)]);
    for second in 0..200 {
        scheduler.node_register(spec("a", 4), at(second));
        scheduler.tick(at(second));
    }
    assert_eq!(state(&scheduler, "a"), NodeState::Down);
}

#[test]
fn a_reservation_is_booked_once_and_expires() {
    let mut scheduler = with_nodes(Rules::default(), &[("a", 1)]);
    let reservation = scheduler.reserve(request(1), at(0)).unwrap();
    assert_eq!(scheduler.reserve(request(1), at(0)).unwrap_err().code(), "instance_known");
    assert_eq!(scheduler.reserve(request(2), at(0)).unwrap_err().code(), "no_place");
    assert_eq!(scheduler.submit(request(2), at(0)).unwrap(), Submitted::Waiting);
    assert_eq!(scheduler.confirm(reservation.id, at(1)).unwrap().node, name("a"));
    assert_eq!(scheduler.confirm(reservation.id, at(1)).unwrap_err().code(), "not_reserved");
    scheduler.release(reservation.id);
    assert_eq!(node_of(&scheduler, 1).unwrap(), "a", "what was confirmed is not released");

    scheduler.instance_end(&key(2)).unwrap();
    let epoch = scheduler.instance(&key(1)).unwrap().standing.place().unwrap().1;
    assert!(scheduler.instance_ended(&key(1), epoch, at(2)));
    assert!(!scheduler.instance_ended(&key(1), epoch, at(2)), "it ends once");
    let expires = scheduler.reserve(request(3), at(2)).unwrap();
    assert_eq!(scheduler.confirm(expires.id, expires.expires_at).unwrap_err().code(), "not_reserved");
    assert_eq!(scheduler.node(&name("a")).unwrap().used(), Amounts::default());
}

#[test]
fn a_drain_holds_a_place_first_keeps_to_its_parallelism_and_ends_the_rest_at_its_deadline() {
    let mut scheduler = with_nodes(Rules::default(), &[("a", 8)]);
    let home = asking(9, |demand| demand.data = Data::Unborn);
    placed(&mut scheduler, home, at(0));
    for number in 1..=5 {
        placed(&mut scheduler, request(number), at(0));
    }
    add(&mut scheduler, spec("b", 3), at(0));
    let drain = Drain { deadline: Some(at(60)), parallelism: 2 };
    scheduler.node_assign(&name("a"), Duty::Draining(drain)).unwrap();

    let mut gone = Vec::new();
    for second in 1..=10 {
        beat(&mut scheduler, "a", at(second));
        beat(&mut scheduler, "b", at(second));
        scheduler.tick(at(second));
        let ending: Vec<_> = scheduler
            .instances()
            .filter_map(|one| match &one.standing {
                Standing::Ending { node, epoch, next: Next::Move { reservation: Some(_) } }
                    if *node == name("a") =>
                {
                    Some((one.request.instance.clone(), *epoch))
                }
                _ => None,
            })
            .collect();
        assert!(ending.len() <= 2, "{ending:?}");
        for (instance, epoch) in ending {
            assert!(scheduler.instance_ended(&instance, epoch, at(second)));
            assert_eq!(node_of(&scheduler, instance.number).unwrap(), "b", "the place that was held is its");
            gone.push(instance.number);
        }
    }
    assert_eq!(gone.len(), 3, "b has room for three");
    let left = scheduler.node(&name("a")).unwrap().instances().len();
    assert_eq!(left, 3, "what has no other place runs on until the deadline");

    for second in 11..=60 {
        beat(&mut scheduler, "a", at(second));
        beat(&mut scheduler, "b", at(second));
        scheduler.tick(at(second));
    }
    let ending: Vec<_> = scheduler.node(&name("a")).unwrap().instances().iter().cloned().collect();
    for instance in ending {
        let epoch = scheduler.instance(&instance).unwrap().standing.place().unwrap().1;
        assert!(scheduler.instance_ended(&instance, epoch, at(61)));
    }
    assert!(scheduler.node(&name("a")).unwrap().is_drained());
    assert_eq!(scheduler.waiting(), 3);
    assert_eq!(scheduler.node_remove(&name("a")).unwrap_err().code(), "node_in_use", "data is on it");
    scheduler.node_assign(&name("a"), Duty::Open).unwrap();
    scheduler.tick(at(62));
    assert_eq!(node_of(&scheduler, 9).unwrap(), "a", "it waited for the node that has its data");
}

#[test]
fn a_machine_that_is_gone_for_good_gives_all_up() {
    let mut scheduler = with_nodes(Rules::default(), &[("a", 8)]);
    placed(&mut scheduler, asking(1, |demand| demand.data = Data::Unborn), at(0));
    placed(&mut scheduler, request(2), at(0));
    add(&mut scheduler, spec("b", 8), at(0));
    scheduler.take_changes();
    scheduler.node_abandon(&name("a"), at(1)).unwrap();
    scheduler.tick(at(1));
    assert_eq!((node_of(&scheduler, 1).unwrap(), node_of(&scheduler, 2).unwrap()), ("b".into(), "b".into()));
    let lost = Change::DataLost { instance: key(1), node: name("a") };
    assert!(scheduler.take_changes().contains(&lost));
    assert_eq!(scheduler.instance(&key(1)).unwrap().request.demand.data, Data::On(name("b")));
}

#[test]
fn a_revision_gets_more_only_where_there_is_room() {
    let mut scheduler = with_nodes(Rules::default(), &[("a", 4)]);
    let first = placed(&mut scheduler, request(1), at(0));
    placed(&mut scheduler, request(2), at(0));
    placed(&mut scheduler, request(3), at(0));
    let sized = |number, times: u64| {
        asking(number, |demand| {
            let one = demand.amounts;
            demand.amounts = (1..times).fold(one, |sum, _| sum.plus(one));
        })
    };
    let used = |scheduler: &Scheduler| scheduler.node(&name("a")).unwrap().used();
    let one = request(1).demand.amounts;
    let rebook = |scheduler: &mut Scheduler, times, container| {
        scheduler.instance_rebook(sized(1, times), first.epoch, container, at(1))
    };
    assert_eq!(rebook(&mut scheduler, 2, Container::Less), Ok(()));
    assert_eq!(used(&scheduler), sized(1, 4).demand.amounts);
    let refused = rebook(&mut scheduler, 3, Container::Less);
    assert_eq!(refused, Err(Cramped::Lacks(Unfit::Full { missing: Amounts { slots: 0, ..one } })));
    assert_eq!(used(&scheduler), sized(1, 4).demand.amounts, "what was refused is not booked");
    assert_eq!(rebook(&mut scheduler, 1, Container::Same), Ok(()));
    let other = scheduler.instance_rebook(sized(1, 1), first.epoch + 99, Container::Same, at(1));
    assert_eq!(other, Err(Cramped::Leaves), "another place than it has");

    // Without a container there is nothing to go on with: it waits for a place that is large enough.
    assert_eq!(rebook(&mut scheduler, 3, Container::None), Err(Cramped::Leaves));
    assert_eq!((scheduler.waiting(), used(&scheduler)), (1, sized(1, 2).demand.amounts));
    add(&mut scheduler, spec("b", 4), at(2));
    scheduler.tick(at(2));
    assert_eq!(node_of(&scheduler, 1).unwrap(), "b");

    // Volumes that come later are at home where it is; those that are elsewhere are not given up.
    let here = scheduler.instance(&key(2)).unwrap().standing.place().unwrap().1;
    let with = |data| asking(2, |demand| demand.data = data);
    let born = scheduler.instance_rebook(with(Data::Unborn), here, Container::Same, at(3));
    assert_eq!(born, Ok(()));
    assert_eq!(scheduler.instance(&key(2)).unwrap().request.demand.home(), Some(&name("a")));
    let elsewhere = scheduler.instance_rebook(with(Data::On(name("b"))), here, Container::Same, at(3));
    assert_eq!(elsewhere, Err(Cramped::Lacks(Unfit::NoData { on: name("b") })));
}

#[test]
fn who_waits_is_served_by_priority_then_by_share_and_gives_up_when_it_said() {
    let mut scheduler = with_nodes(Rules::default(), &[("a", 4)]);
    let of = |number, tenant: &str, priority| Request { tenant: tenant.into(), priority, ..request(number) };
    let running: Vec<_> =
        (1..=3).map(|number| placed(&mut scheduler, of(number, "rich", 0), at(0))).collect();
    let poor = placed(&mut scheduler, of(4, "poor", 0), at(0));
    for (number, tenant, priority) in [(5, "rich", 0), (6, "poor", 0), (7, "rich", 1), (8, "new", 0)] {
        assert_eq!(scheduler.submit(of(number, tenant, priority), at(0)).unwrap(), Submitted::Waiting);
    }
    let hasty = Request { wait: Wait::Until(at(5)), ..of(9, "new", 2) };
    assert_eq!(scheduler.submit(hasty, at(0)).unwrap(), Submitted::Waiting);
    assert_eq!(scheduler.wake_at(at(0)), Some(at(5)));
    scheduler.take_changes();
    scheduler.tick(at(5));
    let changes = scheduler.take_changes();
    assert!(matches!(&changes[..], [Change::GaveUp(refused)] if refused.instance == key(9)), "{changes:?}");

    let mut order = Vec::new();
    for ended in running.into_iter().chain([poor]) {
        scheduler.instance_ended(&ended.instance, ended.epoch, at(6));
        scheduler.tick(at(6));
        for change in scheduler.take_changes() {
            if let Change::Placed(placement) = change {
                order.push(placement.instance.number);
            }
        }
    }
    // The highest priority; who has nothing; then poor and rich have one each, and rich came first.
    assert_eq!(order[..2], [7, 8]);
    assert_eq!(order.len(), 4);
    let a = scheduler.node(&name("a")).unwrap();
    assert!(a.free().cpu_millis == 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever others ask for, and however much more they weigh, whoever waits is served in the end if what is before them
    /// ends: also the lowest of all that needs a whole node, when small ones take all that comes free.
    #[test]
    fn nobody_starves(
        nodes in 1..5_usize,
        size in 1..=4_u64,
        lives in prop::collection::vec(1..40_i64, 1..20),
        flood in prop::collection::vec((0..=255_u8, 1..=2_u64), 1..20),
    ) {
        let names = ["a", "b", "c", "d", "e"];
        let list: Vec<_> = names[..nodes].iter().map(|name| (*name, 4)).collect();
        let mut scheduler = with_nodes(Rules::default(), &list);
        // Whose share is larger than the others' can ever be.
        scheduler.tenant_weigh(&"crowd".into(), 1_000);
        add(&mut scheduler, spec("z", 1), at(0));
        placed(&mut scheduler, asking(2_000_000, |demand| demand.node = Some(name("z"))), at(0));
        scheduler.take_changes();
        let mut runs: Vec<(i64, Placement)> = Vec::new();
        let mut number = 0;
        let victim = 1_000_000;
        let mut served = None;
        for second in 1..=1_000_i64 {
            for name in &names[..nodes] {
                beat(&mut scheduler, name, at(second));
            }
            runs.retain(|(until, placement)| {
                let is_over = *until <= second;
                if is_over {
                    scheduler.instance_ended(&placement.instance, placement.epoch, at(second));
                }
                !is_over
            });
            if second == 20 {
                let mut request = asking(victim, |demand| demand.amounts = cores(size));
                request.ends = true;
                scheduler.submit(request, at(second)).unwrap();
            }
            for _ in 0..8 {
                number += 1;
                let (priority, size) = flood[number as usize % flood.len()];
                let wait = Wait::Until(at(second + 30));
                let request = asking(number, |demand| demand.amounts = cores(size));
                let request = Request { priority, tenant: "crowd".into(), ends: true, wait, ..request };
                scheduler.submit(request, at(second)).unwrap();
            }
            scheduler.tick(at(second));
            for change in scheduler.take_changes() {
                if let Change::Placed(placement) = change {
                    if placement.instance.number == victim {
                        served = Some(second);
                    }
                    runs.push((second + lives[placement.instance.number as usize % lives.len()], placement));
                }
            }
            if served.is_some() {
                break;
            }
        }
        // Its patience, and twice the longest life.
        prop_assert!(served.is_some_and(|second| second <= 20 + 60 + 80), "served at {served:?}");
    }

    /// Reservations, places, ends and expiries in any order: what a node counts is what is there, and never too much.
    #[test]
    fn nothing_is_booked_twice(steps in prop::collection::vec((0..5_u8, 1..12_u32, 1..=3_u64), 1..80)) {
        let mut scheduler = with_nodes(Rules::default(), &[("a", 4), ("b", 5)]);
        let mut ids = Vec::new();
        let mut second = 0;
        for (what, number, size) in steps {
            second += 1;
            for name in ["a", "b"] {
                beat(&mut scheduler, name, at(second));
            }
            let request = asking(number, |demand| demand.amounts = cores(size));
            match what {
                0 => drop(scheduler.submit(request, at(second))),
                1 => ids.extend(scheduler.reserve(request, at(second)).map(|reservation| reservation.id)),
                2 => drop(ids.pop().map(|id| scheduler.confirm(id, at(second)))),
                3 => {
                    let place = scheduler.instance(&key(number)).and_then(|one| one.standing.place().map(|at| at.1));
                    place.map(|epoch| scheduler.instance_ended(&key(number), epoch, at(second)));
                }
                _ => second += 10,
            }
            scheduler.tick(at(second));
            let mut taken = BTreeMap::new();
            for node in scheduler.nodes() {
                for key in node.instances() {
                    prop_assert!(taken.insert(key.clone(), node.spec().name.clone()).is_none(), "{key} twice");
                }
                let amounts = |key: &InstanceKey| scheduler.instance(key).unwrap().request.demand.amounts;
                let sum = node.instances().iter().fold(Amounts::default(), |sum, key| sum.plus(amounts(key)));
                prop_assert_eq!(node.used(), sum);
                prop_assert!(node.spec().capacity.covers(sum));
            }
        }
    }
}

#[test]
fn what_never_began_is_placed_elsewhere_though_its_node_is_silent() {
    let mut scheduler = with_nodes(Rules::default(), &[("a", 2), ("b", 2)]);
    let wants_data = |number| asking(number, |demand| demand.data = Data::Unborn);
    let first = placed(&mut scheduler, wants_data(1), at(1));
    let other = if first.node == name("a") { "b" } else { "a" };
    scheduler.node_suspect(&first.node);
    assert_eq!(scheduler.node(&first.node).unwrap().state(), NodeState::Suspect);
    assert!(!scheduler.instance_withdraw(&key(1), first.epoch + 1, at(2)), "another placement");
    assert!(scheduler.instance_withdraw(&key(1), first.epoch, at(2)));
    scheduler.tick(at(2));
    let Standing::Placed { node, epoch } = scheduler.instance(&key(1)).unwrap().standing.clone() else {
        panic!("it has no place")
    };
    assert!(node == name(other) && epoch > first.epoch);
    assert_eq!(scheduler.instance(&key(1)).unwrap().request.demand.home(), Some(&name(other)));
    assert_eq!(scheduler.node(&first.node).unwrap().used(), Amounts::default());
    // What its first node still made of it is not its own when it is back, and what it says of it is no news.
    beat(&mut scheduler, first.node.as_str(), at(3));
    let term = scheduler.node(&first.node).unwrap().term();
    let held = Held { instance: key(1), epoch: first.epoch };
    let orders = scheduler.node_report(&first.node, term, std::slice::from_ref(&held), at(3)).unwrap();
    assert_eq!(orders.end, [held]);
    assert!(!scheduler.instance_ended(&key(1), first.epoch, at(3)));
    assert!(!scheduler.instance_withdraw(&key(1), first.epoch, at(3)));
}

/// Whoever had the book before may have had it started.
#[test]
fn what_another_book_placed_is_not_withdrawn() {
    let mut scheduler = Scheduler::new(Rules::default(), 7 << 32);
    for node in ["a", "b"] {
        scheduler.node_restore(spec(node, 2), Duty::Open, false, at(0));
    }
    let epoch = (6 << 32) + 5;
    scheduler.instance_restore(
        request(1),
        Some(Place { node: name("a"), epoch, leased: false, ending: None }),
        at(0),
    );
    assert!(!scheduler.instance_withdraw(&key(1), epoch, at(1)));
    assert_eq!(scheduler.instance(&key(1)).unwrap().standing, Standing::Placed { node: name("a"), epoch });
}

#[test]
fn who_waits_knows_how_many_are_before_it() {
    let mut scheduler = with_nodes(Rules::default(), &[("a", 1)]);
    placed(&mut scheduler, request(1), at(1));
    for (number, priority) in [(2, 0), (3, 5), (4, 0)] {
        let waiting = scheduler.submit(Request { priority, ..request(number) }, at(2)).unwrap();
        assert_eq!(waiting, Submitted::Waiting);
    }
    let ahead = [1, 2, 3, 4].map(|number| scheduler.ahead(&key(number)));
    assert_eq!(ahead, [None, Some(1), Some(0), Some(2)]);
}
