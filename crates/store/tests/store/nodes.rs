//! Nodes, and where instances are: a chassis that is alone knows of neither, and one that is not never forgets either.

use chassis_core::environment::FLEET;
use chassis_core::schedule::Next;
use chassis_core::{Drain, Duty, EventKind, InstanceKey, Liveness, NodeName, NodeSpec};
use chassis_store::{
    DataOwed, EnvironmentFilter, EnvironmentNew, Error, InstanceRecord, NodeChosen, NodeRecord,
    NodeRegistration, Placed, PlacementUpdate, Result, Scope, SqlStore, Store,
};
use jiff::Timestamp;
use serde_json::json;
use zeroize::Zeroizing;

use crate::support::{Home, agent, apply, code, events, fleet, instance, spec, term, value};

fn name(text: &str) -> NodeName {
    text.parse().unwrap()
}

fn machine(node: &str) -> NodeSpec {
    let capacity = json!({"cpuMillis": 4000, "memoryBytes": 1 << 30});
    serde_json::from_value(json!({"name": node, "capacity": capacity, "runtimes": ["sim"]})).unwrap()
}

fn registration(node: &str, token: &str) -> NodeRegistration {
    NodeRegistration {
        spec: machine(node),
        chosen: NodeChosen::default(),
        url: format!("https://{node}:7443"),
        identity: Some(format!("machine of {node}")),
        fingerprint: Some("ab".repeat(32)),
        token: Zeroizing::new(token.to_owned()),
    }
}

pub(crate) async fn register(store: &SqlStore, node: &str, token: &str) -> Result<NodeRecord> {
    store.node_register(registration(node, token), &machine("own"), Vec::new(), None).await
}

fn placed(node: &str, epoch: u64) -> Placed {
    Placed { node: name(node), epoch, leased: epoch == 1 << 34, ending: None }
}

async fn put(store: &SqlStore, key: &InstanceKey, placed: Option<Placed>, home: Option<&str>) {
    let update = PlacementUpdate { instance: key.clone(), placed, home: home.map(name) };
    store.placements_record(term(store), vec![update]).await.unwrap();
}

async fn get(store: &SqlStore, key: &InstanceKey) -> InstanceRecord {
    let record = store.agent_load(&key.agent_key()).await.unwrap();
    record.instances.into_iter().find(|instance| instance.number == key.number).unwrap()
}

async fn kinds(store: &SqlStore) -> Vec<EventKind> {
    events(store).await.into_iter().map(|event| event.kind).collect()
}

#[tokio::test]
async fn the_first_node_makes_the_own_one_a_node_that_has_everything() {
    let home = Home::new();
    let store = home.open_with_fleet().await;
    let volumes = json!([{"name": "data", "mountPath": "/data"}]);
    apply(&store, vec![spec("web", json!({"replicas": 2})), spec("db", json!({"volumes": volumes}))])
        .await
        .unwrap();
    let (web, db) = (instance("f", "web", 1), instance("f", "db", 1));
    assert_eq!((get(&store, &web).await.placed, get(&store, &db).await.home), (None, None));
    assert_eq!(store.node_list().await.unwrap(), []);
    store.node_cordon(true).await.unwrap();

    let first = register(&store, "n1", "token").await.unwrap();
    assert_eq!((first.version, first.duty, first.is_down), (1, Duty::Open, false));
    let listed = store.node_list().await.unwrap();
    let words: Vec<_> = listed.iter().map(|node| (node.name().as_str(), node.is_own(), node.duty)).collect();
    assert_eq!(words, [("n1", false, Duty::Open), ("own", true, Duty::Cordoned)]);
    for key in [&web, &instance("f", "web", 2), &db] {
        assert_eq!(get(&store, key).await.placed, Some(placed("own", 0)), "{key}");
    }
    let homes = (get(&store, &web).await.home, get(&store, &db).await.home);
    assert_eq!(homes, (None, Some(name("own"))), "only what has volumes has data");

    // What is made from now on waits, and another node changes nothing of it.
    store.agent_scale(&web.agent_key(), 3, None).await.unwrap();
    register(&store, "n2", "token").await.unwrap();
    assert_eq!(get(&store, &instance("f", "web", 3)).await.placed, None);
}

#[tokio::test]
async fn a_node_registers_again_and_keeps_what_it_had() {
    let home = Home::new();
    let store = home.open_with_fleet().await;
    apply(&store, vec![spec("web", json!({}))]).await.unwrap();
    let first = register(&store, "n1", "first").await.unwrap();
    let key = instance("f", "web", 1);
    put(&store, &key, Some(placed("n1", 7)), None).await;
    store.node_assign(&name("n1"), Duty::Cordoned, None).await.unwrap();

    let moved = NodeRegistration { url: "https://elsewhere:1".to_owned(), ..registration("n1", "second") };
    let stale = store.node_register(moved.clone(), &machine("own"), Vec::new(), Some(1)).await;
    assert_eq!(code(stale), "version_conflict");
    let again = store.node_register(moved, &machine("own"), Vec::new(), Some(2)).await.unwrap();
    assert_eq!((again.version, again.duty, again.registered_at), (3, Duty::Cordoned, first.registered_at));
    assert_eq!(again.url.as_deref(), Some("https://elsewhere:1"));
    assert_eq!(**store.node_token(&name("n1")).await.unwrap(), *"second");
    assert_eq!(get(&store, &key).await.placed, Some(placed("n1", 7)));

    assert_eq!(code(register(&store, "own", "x").await), "node_is_own");
    let twice = NodeRegistration { url: "https://elsewhere:1".to_owned(), ..registration("n2", "x") };
    assert_eq!(code(store.node_register(twice, &machine("own"), Vec::new(), None).await), "node_taken");
    let same = NodeRegistration { identity: again.identity, ..registration("n2", "x") };
    assert_eq!(code(store.node_register(same, &machine("own"), Vec::new(), None).await), "node_taken");
    assert_eq!(code(store.node_token(&name("own")).await), "node_not_found");
}

#[tokio::test]
async fn duty_and_silence_are_told_once() {
    let home = Home::new();
    let store = home.open();
    register(&store, "n1", "token").await.unwrap();
    let node = name("n1");
    let before = kinds(&store).await.len();
    let deadline = Some(Timestamp::from_second(2_000_000_000).unwrap());
    let drain = Duty::Draining(Drain { deadline, parallelism: 2 });
    for duty in [Duty::Cordoned, Duty::Cordoned, drain, Duty::Open] {
        let assigned = store.node_assign(&node, duty, None).await.unwrap();
        assert_eq!((assigned.duty, store.node_get(&node).await.unwrap()), (duty, assigned.clone()));
    }
    for liveness in [Liveness::Alive, Liveness::Suspect, Liveness::Down, Liveness::Down, Liveness::Alive] {
        store.node_note(term(&store), &node, liveness).await.unwrap();
        assert_eq!(store.node_get(&node).await.unwrap().is_down, liveness == Liveness::Down);
    }
    store.node_note(term(&store), &name("nobody"), Liveness::Down).await.unwrap();
    let told = events(&store).await.split_off(before);
    assert!(told.iter().all(|event| event.fleet.is_none() && event.kind.node() == Some(&node)), "{told:?}");
    let told: Vec<_> = told.into_iter().map(|event| event.kind).collect();
    let node = || node.clone();
    let expected = [
        EventKind::NodeCordoned { node: node() },
        EventKind::NodeDraining { node: node(), deadline },
        EventKind::NodeOpened { node: node() },
        EventKind::NodeSuspect { node: node() },
        EventKind::NodeDown { node: node() },
        EventKind::NodeUp { node: node() },
    ];
    assert_eq!(told, expected);
    assert_eq!(code(store.node_assign(&name("n2"), Duty::Open, None).await), "node_not_found");
    assert_eq!(code(store.node_assign(&name("n1"), Duty::Cordoned, Some(1)).await), "version_conflict");
}

#[tokio::test]
async fn places_are_kept_with_what_comes_after_them() {
    let home = Home::new();
    let store = home.open_with_fleet().await;
    apply(&store, vec![spec("web", json!({}))]).await.unwrap();
    register(&store, "n1", "token").await.unwrap();
    let key = instance("f", "web", 1);
    let version = get(&store, &key).await.version;
    let ending = |next| Some(Placed { ending: Some(next), ..placed("n1", 1 << 33) });
    let steps = [
        Some(placed("n1", 1 << 33)),
        Some(placed("n1", 1 << 33)),
        ending(Next::Move { reservation: None }),
        ending(Next::Forget),
        None,
        Some(placed("own", 1 << 34)),
    ];
    for step in steps {
        put(&store, &key, step.clone(), Some("n1")).await;
        let record = get(&store, &key).await;
        assert_eq!((record.placed, record.home), (step, Some(name("n1"))));
    }
    assert_eq!(get(&store, &key).await.version, version + 5, "what is so already is no change");
    let told = kinds(&store).await;
    let told: Vec<_> = told.iter().filter(|kind| matches!(kind, EventKind::InstancePlaced { .. })).collect();
    let placed_on = |node: &str| EventKind::InstancePlaced { node: name(node) };
    assert_eq!(told, [&placed_on("n1"), &placed_on("own")]);
    // One that was not asked to leave had a node that is down.
    for step in [ending(Next::Move { reservation: None }), Some(placed("own", 3)), None] {
        put(&store, &key, step, None).await;
    }
    let told = kinds(&store).await;
    let left = told.iter().filter(|kind| matches!(kind, EventKind::InstanceLeft { .. }));
    let left_of = |node: &str, down| EventKind::InstanceLeft { node: name(node), down };
    let own = left_of("own", true);
    let expected = [own.clone(), own.clone(), left_of("n1", false), own];
    assert_eq!(left.cloned().collect::<Vec<_>>(), expected);
    put(&store, &instance("f", "gone", 1), Some(placed("n1", 9)), None).await;
}

#[tokio::test]
async fn data_stays_where_it_is_for_as_long_as_it_does() {
    let home = Home::new();
    let store = home.open_with_fleet().await;
    apply(&store, vec![spec("web", json!({"replicas": 2}))]).await.unwrap();
    register(&store, "n1", "token").await.unwrap();
    let (web, second) = (agent("f", "web"), instance("f", "web", 2));
    put(&store, &second, Some(placed("n1", 7)), Some("n1")).await;
    for cleanup in [false, true] {
        store.instance_delete(&second, cleanup, None).await.unwrap();
        store.instance_forget(term(&store), &second, cleanup).await.unwrap();
        store.agent_scale(&web, 2, None).await.unwrap();
        let back = get(&store, &second).await;
        assert_eq!((back.placed, back.home), (None, (!cleanup).then(|| name("n1"))), "{cleanup}");
    }

    // An agent that is deleted with its data leaves none, also of instances that went before.
    put(&store, &second, None, Some("n1")).await;
    store.agent_scale(&web, 1, None).await.unwrap();
    store.instance_forget(term(&store), &second, false).await.unwrap();
    store.agent_delete(&web, true, None).await.unwrap();
    store.instance_forget(term(&store), &instance("f", "web", 1), true).await.unwrap();
    store.agent_forget(term(&store), &web).await.unwrap();
    apply(&store, vec![spec("web", json!({"replicas": 2}))]).await.unwrap();
    assert_eq!(get(&store, &second).await.home, None);
}

#[tokio::test]
async fn a_node_goes_when_nothing_is_there() {
    let home = Home::new();
    let store = home.open_with_fleet().await;
    apply(&store, vec![spec("web", json!({"replicas": 2}))]).await.unwrap();
    register(&store, "n1", "token").await.unwrap();
    let (one, two) = (instance("f", "web", 1), instance("f", "web", 2));
    put(&store, &one, Some(placed("n1", 7)), Some("n1")).await;
    put(&store, &two, Some(placed("own", 8)), Some("n1")).await;
    let (here, there) = ((one.clone(), placed("n1", 7)), (two.clone(), placed("own", 8)));
    assert_eq!(store.placement_list(Some(&name("n1"))).await.unwrap(), std::slice::from_ref(&here));
    assert_eq!(store.placement_list(None).await.unwrap(), [here, there]);
    let error = store.node_remove(&name("n1"), None).await.unwrap_err();
    assert!(matches!(error, Error::NodeInUse { count: 2, .. }), "{error:?}");
    put(&store, &one, None, None).await;
    assert_eq!(code(store.node_remove(&name("n1"), None).await), "node_in_use", "data alone holds it too");
    put(&store, &one, None, Some("own")).await;
    put(&store, &two, Some(placed("own", 8)), Some("own")).await;
    assert_eq!(code(store.node_remove(&name("own"), None).await), "node_is_own");
    store.node_remove(&name("n1"), Some(1)).await.unwrap();
    assert_eq!(code(store.node_get(&name("n1")).await), "node_not_found");
    assert_eq!(code(store.node_remove(&name("n1"), None).await), "node_not_found");
    assert_eq!(store.node_list().await.unwrap().len(), 1, "a chassis that was not alone stays so");
    assert_eq!(kinds(&store).await.last(), Some(&EventKind::NodeRemoved { node: name("n1"), gone: false }));
}

#[tokio::test]
async fn a_machine_that_is_gone_for_good_leaves_nothing_behind() {
    let home = Home::new();
    let store = home.open_with_fleet().await;
    apply(&store, vec![spec("web", json!({"replicas": 3}))]).await.unwrap();
    let own = machine("own");
    let kept = vec![instance("f", "old", 4)];
    store.node_register(registration("n1", "token"), &own, kept.clone(), None).await.unwrap();
    assert_eq!(store.home_list(&name("own")).await.unwrap(), kept, "what was found there");
    let [one, two, three] = [1, 2, 3].map(|number| instance("f", "web", number));
    put(&store, &one, Some(placed("n1", 7)), Some("n1")).await;
    put(&store, &two, Some(placed("n1", 8)), None).await;
    put(&store, &three, Some(placed("own", 9)), Some("n1")).await;
    assert_eq!(code(store.node_abandon(&name("n1"), None).await), "node_not_down");
    assert_eq!(code(store.node_abandon(&name("own"), None).await), "node_is_own");
    store.node_note(term(&store), &name("n1"), Liveness::Down).await.unwrap();

    let of = |number| Scope { fleet: one.fleet.clone(), agent: Some(one.agent.clone()), number };
    store.data_owe(term(&store), &name("n1"), of(Some(3))).await.unwrap();
    assert_eq!(store.home_list(&name("n1")).await.unwrap(), std::slice::from_ref(&one));
    let owed = store.data_owed(&name("n1")).await.unwrap();
    assert_eq!(owed, [DataOwed { node: name("n1"), instance: three.clone() }]);
    store.data_paid(term(&store), owed[0].clone()).await.unwrap();
    assert_eq!(store.data_owed(&name("n1")).await.unwrap(), []);
    put(&store, &three, Some(placed("own", 9)), Some("n1")).await;
    store.data_owe(term(&store), &name("n1"), of(None)).await.unwrap();
    assert_eq!(store.data_owed(&name("n1")).await.unwrap().len(), 2);
    put(&store, &one, Some(placed("n1", 7)), Some("n1")).await;

    store.node_abandon(&name("n1"), None).await.unwrap();
    assert_eq!(code(store.node_get(&name("n1")).await), "node_not_found");
    assert_eq!(store.data_owed(&name("n1")).await.unwrap(), []);
    for key in [&one, &two] {
        let record = get(&store, key).await;
        assert_eq!((record.placed, record.home), (None, None), "{key}");
    }
    assert_eq!(get(&store, &three).await.placed, Some(placed("own", 9)));
    let told = kinds(&store).await;
    let lost = told.iter().filter(|kind| **kind == EventKind::DataLost { node: name("n1") }).count();
    assert_eq!((lost, told.last()), (1, Some(&EventKind::NodeRemoved { node: name("n1"), gone: true })));

    // A book that has not heard of it yet puts nothing there.
    put(&store, &two, Some(placed("n1", 10)), Some("n1")).await;
    assert_eq!((get(&store, &two).await.placed, get(&store, &two).await.home), (None, None));
}

#[tokio::test]
async fn an_environment_has_its_place_from_the_beginning_and_is_found_by_it() {
    let home = Home::new();
    let store = home.open();
    register(&store, "n1", "token").await.unwrap();
    let new = EnvironmentNew {
        id: "fuse-job".to_owned(),
        task_id: "job".to_owned(),
        node: "n1".to_owned(),
        seed: None,
        redrives: None,
        placed: Some(placed("n1", 7)),
        request: "{}".to_owned(),
        private: value("{}"),
        spec: spec("to-be-named", json!({})),
    };
    let made = store.environment_create(new).await.unwrap();
    let key = agent(FLEET, "fuse-job").instance(1);
    assert_eq!(get(&store, &key).await.placed, Some(placed("n1", 7)));
    assert_eq!(made.node, "n1");
    put(&store, &key, Some(placed("own", 8)), None).await;
    let on = async |node: &str| {
        let filter =
            EnvironmentFilter { node: Some(node.to_owned()), limit: 9, ..EnvironmentFilter::default() };
        store.environment_list(&filter).await.unwrap().len()
    };
    assert_eq!((on("n1").await, on("own").await), (0, 1));
}

#[tokio::test]
async fn tokens_survive_a_new_key() {
    let home = Home::new();
    let store = home.open_with_fleet().await;
    register(&store, "n1", "needle-in-a-haystack").await.unwrap();
    store.secret_write(&fleet("f"), &crate::support::secret("other"), value("x"), false, None).await.unwrap();
    assert_eq!(store.secret_rotate(None).await.unwrap(), 2);
    drop(store);
    let store = home.open();
    assert_eq!(**store.node_token(&name("n1")).await.unwrap(), *"needle-in-a-haystack");
    assert!(!format!("{:?}", registration("n1", "needle")).contains("needle"));
}
