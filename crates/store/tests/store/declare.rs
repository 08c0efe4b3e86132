//! Declaring fleets and agents, scaling them, taking them away.

use chassis_core::{EventKind, Wanted};
use chassis_spec::Labels;
use chassis_store::{AgentChange, Apply, ErrorKind, SqlStore, Store};
use serde_json::json;

use crate::support::{
    Home, agent, alive, apply, code, declaration, events, fleet, instance, numbers, picture, secret, spec,
    term, value,
};

#[tokio::test]
async fn declaring_creates_updates_scales_and_leaves_alone() {
    let home = Home::new();
    let store = home.open_with_fleet().await;
    let one = |applied: chassis_store::Applied| {
        let outcome = applied.agents.into_iter().next().unwrap();
        (outcome.change, outcome.revision, outcome.replicas)
    };

    let applied = apply(&store, vec![spec("web", json!({"replicas": 2}))]).await.unwrap();
    assert_eq!(one(applied), (AgentChange::Created, 1, (0, 2)));
    let before = picture(&store).await;
    let applied = apply(&store, vec![spec("web", json!({"replicas": 2}))]).await.unwrap();
    assert_eq!(one(applied), (AgentChange::Unchanged, 1, (2, 2)));
    assert_eq!(picture(&store).await, before, "what is declared already is not written again");
    let applied = apply(&store, vec![spec("web", json!({"replicas": 3}))]).await.unwrap();
    assert_eq!(one(applied), (AgentChange::Scaled, 1, (2, 3)));
    let applied = apply(&store, vec![spec("web", json!({"image": "busybox:2"}))]).await.unwrap();
    assert_eq!(one(applied), (AgentChange::Updated, 2, (3, 3)));
    let applied = apply(&store, vec![spec("job", json!({}))]).await.unwrap();
    assert_eq!(applied.agents.len(), 1, "others are told of only where somebody asks what would be");
    let asked = chassis_store::Apply {
        fleet: fleet("f"),
        create_fleet: None,
        agents: vec![spec("job", json!({}))],
        prune: false,
        dry_run: true,
        expected: None,
    };
    let shown = store.apply(&asked).await.unwrap();
    assert_eq!(shown.agents[1].change, AgentChange::Undeclared);
    assert_eq!(shown.agents[1].agent.as_str(), "web");

    let record = store.agent_load(&agent("f", "web")).await.unwrap();
    assert_eq!((record.agent.revision, alive(&record)), (2, vec![1, 2, 3]));
    assert_eq!(record.agent.spec.image.as_str(), "busybox:2");
    assert_eq!(record.agent.spec.fleet, Some(fleet("f")));

    let kinds: Vec<_> = events(&store).await.into_iter().map(|event| event.kind).collect();
    let deployed = |revision, image: &str| EventKind::AgentDeployed { revision, image: image.to_owned() };
    assert_eq!(
        kinds,
        [
            EventKind::FleetCreated,
            deployed(1, "busybox"),
            EventKind::Scaled { from: 0, to: 2 },
            EventKind::Scaled { from: 2, to: 3 },
            deployed(2, "busybox:2"),
            EventKind::RolloutStarted { revision: 2, from: 1 },
            deployed(1, "busybox"),
            EventKind::Scaled { from: 0, to: 1 },
        ]
    );
}

#[tokio::test]
async fn a_declaration_is_taken_whole_or_not_at_all() {
    let home = Home::new();
    let store = home.open_with_fleet().await;
    store.secret_write(&fleet("f"), &secret("there"), value("x"), false, None).await.unwrap();
    apply(&store, vec![spec("old", json!({}))]).await.unwrap();
    let before = picture(&store).await;
    let needs = |names: &[&str]| {
        let env =
            names.iter().enumerate().map(|(at, name)| json!({"name": format!("V{at}"), "valueFrom": name}));
        spec("last", json!({"env": env.collect::<Vec<_>>()}))
    };
    let ports = |replicas| json!({"replicas": replicas, "ports": [{"containerPort": 80, "hostPort": 8080}]});
    for (last, expected) in [
        (needs(&["secret://f/there", "secret://f/b", "secret://f/a", "secret://f/b"]), "secret_missing"),
        (needs(&["secret://other/key"]), "secret_foreign"),
        (spec("old-1", json!({})), "name_collision"),
        (spec("first", json!({})), "agent_repeated"),
    ] {
        assert_eq!(code(apply(&store, vec![spec("first", json!({})), last]).await), expected);
        assert_eq!(picture(&store).await, before, "after {expected}");
    }
    let error =
        apply(&store, vec![needs(&["secret://f/b", "secret://f/there", "secret://f/a"])]).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "agent `last` needs secrets that do not exist; make them with \
         `chassis secret create f/a --from-file <file>`, `chassis secret create f/b --from-file <file>`"
    );
    // The parser refuses a second replica beside a fixed port, but scaling gets there another way.
    apply(&store, vec![spec("port", ports(1))]).await.unwrap();
    assert_eq!(code(store.agent_scale(&agent("f", "port"), 2, None).await), "host_port_fixed");
    store.agent_scale(&agent("f", "old"), 2, None).await.unwrap();
    let mut fixed = ports(1);
    fixed.as_object_mut().unwrap().remove("replicas");
    assert_eq!(code(apply(&store, vec![spec("old", fixed)]).await), "host_port_fixed");
}

#[tokio::test]
async fn names_that_would_give_the_same_containers_collide_across_fleets() {
    let home = Home::new();
    let store = home.open();
    let declare = |fleet_name: &str, name: &str| Apply {
        create_fleet: Some(Labels::default()),
        ..declaration(fleet_name, vec![spec(name, json!({}))])
    };
    assert!(store.apply(&declare("a", "b-c")).await.unwrap().fleet_created);
    assert_eq!(code(store.apply(&declare("a-b", "c")).await), "name_collision");
    assert_eq!(store.fleet_list().await.unwrap().len(), 1, "the fleet was not made either");
    store.apply(&declare("a-b", "d")).await.unwrap();
}

#[tokio::test]
async fn a_dry_run_answers_what_the_real_one_does() {
    let home = Home::new();
    let store = home.open_with_fleet().await;
    apply(&store, vec![spec("keep", json!({})), spec("go", json!({"replicas": 2}))]).await.unwrap();
    let before = picture(&store).await;
    let real = Apply {
        prune: true,
        ..declaration("f", vec![spec("new", json!({})), spec("keep", json!({"replicas": 4, "args": ["x"]}))])
    };
    let dry = store.apply(&Apply { dry_run: true, ..real.clone() }).await.unwrap();
    assert_eq!(picture(&store).await, before);
    assert_eq!(*store.event_watch().borrow(), events(&store).await.last().unwrap().id);
    assert_eq!(store.apply(&real).await.unwrap(), dry);
    let changes: Vec<_> = dry.agents.iter().map(|outcome| (outcome.agent.as_str(), outcome.change)).collect();
    assert_eq!(
        changes,
        [("new", AgentChange::Created), ("keep", AgentChange::Updated), ("go", AgentChange::Deleted)]
    );
    assert!(store.agent_load(&agent("f", "go")).await.unwrap().agent.deleting);
}

#[tokio::test]
async fn scaling_fills_the_lowest_free_numbers_and_revives() {
    let home = Home::new();
    let store = home.open_with_fleet().await;
    let web = agent("f", "web");
    apply(&store, vec![spec("web", json!({"replicas": 5}))]).await.unwrap();
    store.instance_delete(&instance("f", "web", 2), true, None).await.unwrap();
    let record = store.instance_delete(&instance("f", "web", 3), false, None).await.unwrap();
    assert_eq!(alive(&record), [1, 4, 5]);

    // 3 still stands there, taken down for good but with its data: it is wanted back. 2 is not free while its data goes.
    let record = store.agent_scale(&web, 5, None).await.unwrap();
    assert_eq!(alive(&record), [1, 3, 4, 5, 6]);
    let revived = record.instances.iter().find(|instance| instance.number == 3).unwrap();
    assert!(revived.desired.started_after.is_some());
    let untouched = record.instances.iter().find(|instance| instance.number == 4).unwrap();
    assert_eq!(untouched.desired.started_after, None);
    assert_eq!(
        code(store.instance_forget(term(&store), &instance("f", "web", 3), false).await),
        "not_deleting"
    );
    assert_eq!(
        code(store.instance_forget(term(&store), &instance("f", "web", 2), false).await),
        "not_deleting"
    );
    store.instance_forget(term(&store), &instance("f", "web", 2), true).await.unwrap();

    let record = store.agent_scale(&web, 1, None).await.unwrap();
    assert_eq!((alive(&record), numbers(&record, Wanted::is_absent)), (vec![1], vec![3, 4, 5, 6]));
    let record = store.agent_scale(&web, 2, None).await.unwrap();
    assert_eq!(alive(&record), [1, 2]);
    assert_eq!(code(store.agent_scale(&web, 10_001, None).await), "too_many_instances");
}

#[tokio::test]
async fn a_version_that_is_no_longer_true_is_refused() {
    let home = Home::new();
    let store = home.open_with_fleet().await;
    apply(&store, vec![spec("web", json!({}))]).await.unwrap();
    let web = agent("f", "web");
    let seen = store.agent_load(&web).await.unwrap().agent.version;
    let record = store.agent_scale(&web, 2, Some(seen)).await.unwrap();
    let error = store.agent_scale(&web, 3, Some(seen)).await.unwrap_err();
    assert_eq!((error.code(), error.kind()), ("version_conflict", ErrorKind::Conflict));
    assert!(error.to_string().contains(&format!("version {}, not {seen}", record.agent.version)), "{error}");
    assert_eq!(code(store.agent_delete(&web, false, Some(seen)).await), "version_conflict");
    assert_eq!(code(store.fleet_delete(&fleet("f"), false, Some(99)).await), "version_conflict");
    assert_eq!(store.agent_load(&web).await.unwrap(), record);
}

#[tokio::test]
async fn deletion_ends_when_all_is_gone_and_not_before() {
    let home = Home::new();
    let store = home.open_with_fleet().await;
    let (f, web) = (fleet("f"), agent("f", "web"));
    store.secret_write(&f, &secret("key"), value("x"), false, None).await.unwrap();
    apply(&store, vec![spec("web", json!({}))]).await.unwrap();
    assert_eq!(code(store.fleet_forget(term(&store), &f).await), "not_deleting");
    assert_eq!(code(store.agent_forget(term(&store), &web).await), "not_deleting");

    assert!(store.fleet_delete(&f, false, None).await.unwrap().deleting);
    let before = picture(&store).await;
    store.fleet_delete(&f, false, None).await.unwrap();
    assert_eq!(picture(&store).await, before, "asked twice is asked once");
    store.agent_delete(&web, true, None).await.unwrap();
    assert_refuses_work(&store).await;

    assert_eq!(code(store.fleet_forget(term(&store), &f).await), "not_empty");
    assert_eq!(code(store.agent_forget(term(&store), &web).await), "not_empty");
    assert_eq!(
        code(store.instance_forget(term(&store), &instance("f", "web", 1), false).await),
        "not_deleting"
    );
    store.instance_forget(term(&store), &instance("f", "web", 1), true).await.unwrap();
    store.agent_forget(term(&store), &web).await.unwrap();
    store.fleet_forget(term(&store), &f).await.unwrap();
    assert_eq!(code(store.fleet_get(&f).await), "fleet_not_found");
    assert_eq!(store.secret_list(None).await.unwrap(), []);

    // What comes back under an old name begins anew; what was said of the old one is still told.
    store.fleet_create(&f, &Labels::default()).await.unwrap();
    assert_eq!(code(store.agent_load(&web).await), "agent_not_found");
    apply(&store, vec![spec("web", json!({}))]).await.unwrap();
    assert_eq!(store.agent_load(&web).await.unwrap().agent.revision, 1);
    let told =
        |kind: &EventKind| matches!(kind, EventKind::AgentDeleted | EventKind::Deleted { cleanup: true });
    assert_eq!(events(&store).await.iter().filter(|event| told(&event.kind)).count(), 2);
}

async fn assert_refuses_work(store: &SqlStore) {
    let (f, web) = (fleet("f"), agent("f", "web"));
    assert_eq!(code(store.fleet_create(&f, &Labels::default()).await), "fleet_deleting");
    assert_eq!(code(apply(store, vec![spec("new", json!({}))]).await), "fleet_deleting");
    assert_eq!(code(store.agent_scale(&web, 2, None).await), "agent_deleting");
    assert_eq!(code(store.secret_write(&f, &secret("new"), value("x"), false, None).await), "fleet_deleting");
    assert_eq!(code(store.instance_delete(&instance("f", "web", 1), true, None).await), "instance_not_found");
}
