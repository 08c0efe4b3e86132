//! Environments: they live and die with their agents, and nobody else's agents are among them.

use chassis_core::environment::{Cause, FLEET, State, Told};
use chassis_core::{AgentKey, Event, EventKind, Wanted};
use chassis_store::{
    Environment, EnvironmentEnd, EnvironmentFilter, EnvironmentNew, Error, EventFilter, Result, SqlStore,
    Store,
};
use serde_json::json;
use zeroize::Zeroizing;

use crate::support::{Home, agent, code, declaration, fleet, spec, term, value};

fn new(id: &str, task: &str) -> EnvironmentNew {
    EnvironmentNew {
        id: id.to_owned(),
        task_id: task.to_owned(),
        node: "here".to_owned(),
        placed: None,
        request: r#"{"spec":{}}"#.to_owned(),
        private: value("{\"token\":\"needle-in-a-haystack\"}"),
        spec: spec("to-be-named", json!({})),
        seed: None,
        redrives: None,
    }
}

async fn make(store: &SqlStore, task: &str) -> Result<Environment> {
    store.environment_create(new(&format!("fuse-{task}"), task)).await
}

async fn told(store: &SqlStore) -> Vec<(Told, Option<String>)> {
    let filter = EventFilter { kinds: vec!["Environment".to_owned()], limit: 100, ..EventFilter::default() };
    let kind = |event: Event| match event.kind {
        EventKind::Environment { state, error, .. } => (state, error),
        other => panic!("{other:?}"),
    };
    store.event_list(&filter).await.unwrap().into_iter().map(kind).collect()
}

/// Ends the deletion as the agent's controller does.
async fn finish(store: &SqlStore, key: &AgentKey) {
    for instance in store.agent_load(key).await.unwrap().instances {
        let Wanted::Absent { cleanup } = instance.desired.wanted else { panic!("{instance:?}") };
        store.instance_forget(term(store), &key.instance(instance.number), cleanup).await.unwrap();
    }
    store.agent_forget(term(store), key).await.unwrap();
}

#[tokio::test]
async fn a_life_from_its_creation_to_its_end() {
    let home = Home::new();
    let store = home.open();
    let made = make(&store, "job").await.unwrap();
    assert_eq!(
        (made.state, made.key.agent.as_str(), made.running_at),
        (State::Provisioning, "fuse-job", None)
    );
    assert_eq!(store.environment_find(&made.key).await.unwrap(), Some(made.clone()));
    let record = store.agent_load(&made.key).await.unwrap();
    assert_eq!(record.instances.len(), 1);
    assert_eq!(record.agent.spec.name, made.key.agent);
    assert_eq!(code(make(&store, "job").await), "environment_exists");
    let same_task = store.environment_create(new("fuse-other", "job")).await;
    assert_eq!(code(same_task), "environment_exists");
    assert_eq!(code(store.environment_drain("fuse-job").await), "environment_not_running");

    let running = store.environment_run(term(&store), "fuse-job").await.unwrap().expect("it runs now");
    assert_eq!(running, store.environment_get("fuse-job").await.unwrap());
    assert_eq!(store.environment_run(term(&store), "fuse-job").await.unwrap(), None, "it runs already");
    let noted = store.environment_note("fuse-job", Some("not drained")).await.unwrap();
    assert_eq!((noted.state, noted.error.as_deref()), (State::Running, Some("not drained")));
    assert!(noted.running_at.is_some() && noted.updated_at >= made.updated_at);
    assert_eq!(store.environment_drain("fuse-job").await.unwrap().state, State::Draining);
    let drained = store.environment_drain("fuse-job").await.unwrap();
    assert_eq!((drained.state, drained.error), (State::Draining, None));

    let ending = store.environment_end("fuse-job").await.unwrap();
    assert_eq!(ending.state, State::Destroying);
    assert_eq!(store.environment_end("fuse-job").await.unwrap().state, State::Destroying);
    assert!(store.agent_load(&made.key).await.unwrap().agent.deleting);
    finish(&store, &made.key).await;
    assert_eq!(code(store.environment_get("fuse-job").await), "environment_not_found");
    let states: Vec<Told> = told(&store).await.into_iter().map(|(state, _)| state).collect();
    let lived = [Told::Provisioning, Told::Running, Told::Running, Told::Draining];
    assert_eq!(states, [&lived[..], &[Told::Destroying, Told::Destroyed]].concat());
    make(&store, "job").await.unwrap();
}

#[tokio::test]
async fn one_that_never_ran_has_failed_and_old_ones_leave_a_letter() {
    let home = Home::new();
    let store = home.open();
    let end = |cause, reason: &str| EnvironmentEnd { cause, reason: reason.to_owned() };
    let failed = make(&store, "a").await.unwrap();
    store
        .environment_expire(term(&store), "fuse-a", end(Cause::ProvisioningFailed, "no image"))
        .await
        .unwrap();
    finish(&store, &failed.key).await;
    assert_eq!(told(&store).await.last().unwrap(), &(Told::Failed, Some("no image".to_owned())));
    assert!(store.dead_letter_list().await.unwrap().is_empty());

    for times in 0..2 {
        let old = make(&store, "b").await.unwrap();
        store.environment_run(term(&store), "fuse-b").await.unwrap();
        store.environment_expire(term(&store), "fuse-b", end(Cause::IdleTimeout, "idle")).await.unwrap();
        finish(&store, &old.key).await;
        let letters = store.dead_letter_list().await.unwrap();
        assert_eq!((letters.len(), letters[0].retry_count), (1, times));
        assert_eq!((letters[0].kind.as_str(), letters[0].entity.as_str()), ("idle_timeout", "fuse-b"));
    }
    store.dead_letter_delete("idle_timeout", "fuse-b").await.unwrap();
    assert_eq!(code(store.dead_letter_delete("idle_timeout", "fuse-b").await), "dead_letter_not_found");
}

/// Whoever deletes its agent or its instance, or the fleet, has destroyed the environment.
#[tokio::test]
async fn it_goes_with_its_agent_its_instance_and_its_fleet() {
    let home = Home::new();
    let store = home.open();
    let [by_agent, by_instance, by_fleet] = ["a", "b", "c"];
    for task in [by_agent, by_instance, by_fleet] {
        make(&store, task).await.unwrap();
    }
    store.agent_delete(&agent(FLEET, "fuse-a"), true, None).await.unwrap();
    store.instance_delete(&agent(FLEET, "fuse-b").instance(1), true, None).await.unwrap();
    let state = async |id: &str| store.environment_get(id).await.unwrap().state;
    assert_eq!(state("fuse-a").await, State::Destroying);
    assert_eq!(state("fuse-b").await, State::Destroying);
    assert_eq!(state("fuse-c").await, State::Provisioning);
    store.fleet_delete(&fleet(FLEET), true, None).await.unwrap();
    assert_eq!(state("fuse-c").await, State::Destroying);
    assert_eq!(code(make(&store, "d").await), "fleet_deleting");
    for name in ["fuse-a", "fuse-b", "fuse-c"] {
        finish(&store, &agent(FLEET, name)).await;
    }
    store.fleet_forget(term(&store), &fleet(FLEET)).await.unwrap();
    make(&store, "d").await.unwrap();
}

#[tokio::test]
async fn the_fleet_is_for_environments_alone() {
    let home = Home::new();
    let store = home.open();
    let no_labels = chassis_spec::Labels::default();
    assert_eq!(code(store.fleet_create(&fleet(FLEET), &no_labels).await), "fleet_reserved");
    let made = make(&store, "job").await.unwrap();
    let apply = declaration(FLEET, vec![spec("mine", json!({}))]);
    assert_eq!(code(store.apply(&apply).await), "fleet_reserved");
    assert_eq!(code(store.agent_scale(&made.key, 2, None).await), "fleet_reserved");
    assert_eq!(code(store.revision_undo(&made.key, None, false, None).await), "fleet_reserved");
    let image = "other".parse().unwrap();
    assert_eq!(code(store.agent_upgrade(&made.key, Some(&image), None, None).await), "fleet_reserved");
}

/// Ids may be any text, and what differs only in what a name cannot say has a name of its own.
#[tokio::test]
async fn no_two_share_a_name() {
    let home = Home::new();
    let store = home.open();
    let mut names = std::collections::BTreeSet::new();
    // `fuse-job-1` is what the instance of `fuse-job` is called.
    for task in ["job", "job-1", "JOB", "job_1", "Ünï", "", "job-1-1", "web-7", "web"] {
        let made = make(&store, task).await.unwrap();
        assert!(names.insert(made.key.agent.to_string()), "{task}: {}", made.key.agent);
        let instance = made.key.instance(1).short_name();
        assert!(names.insert(instance.clone()), "{task}: {instance}");
    }
}

#[tokio::test]
async fn lists_are_by_id_in_parts_and_filtered() {
    let home = Home::new();
    let store = home.open();
    for task in ["c", "a", "b"] {
        make(&store, task).await.unwrap();
    }
    store.environment_run(term(&store), "fuse-b").await.unwrap();
    let ids = async |filter: EnvironmentFilter| -> Vec<String> {
        store.environment_list(&filter).await.unwrap().into_iter().map(|found| found.id).collect()
    };
    let all = EnvironmentFilter { limit: 10, ..EnvironmentFilter::default() };
    assert_eq!(ids(all.clone()).await, ["fuse-a", "fuse-b", "fuse-c"]);
    let first = EnvironmentFilter { limit: 2, ..all.clone() };
    assert_eq!(ids(first.clone()).await, ["fuse-a", "fuse-b"]);
    assert_eq!(ids(EnvironmentFilter { after: Some("fuse-b".to_owned()), ..first }).await, ["fuse-c"]);
    let running = EnvironmentFilter { state: Some(State::Running), ..all.clone() };
    assert_eq!(ids(running).await, ["fuse-b"]);
    let task = EnvironmentFilter { task_id: Some("c".to_owned()), ..all.clone() };
    assert_eq!(ids(task).await, ["fuse-c"]);
    assert!(ids(EnvironmentFilter { node: Some("elsewhere".to_owned()), ..all }).await.is_empty());
}

#[tokio::test]
async fn what_is_private_is_encrypted_and_survives_a_new_key() {
    let home = Home::new();
    let store = home.open();
    make(&store, "job").await.unwrap();
    let read = async || -> Zeroizing<Vec<u8>> { store.environment_private("fuse-job").await.unwrap() };
    assert_eq!(*read().await, *value("{\"token\":\"needle-in-a-haystack\"}"));
    let early = store.environment_private_write("fuse-job", value("{}")).await;
    assert!(matches!(early, Err(Error::EnvironmentNotRunning { .. })), "{early:?}");
    store.environment_run(term(&store), "fuse-job").await.unwrap();
    store.environment_private_write("fuse-job", value("another needle")).await.unwrap();
    assert_eq!(*read().await, *value("another needle"));
    assert_eq!(store.secret_rotate(None).await.unwrap(), 1);
    assert_eq!(*read().await, *value("another needle"));
    assert_eq!(code(store.environment_private("nobody").await), "environment_not_found");
}

/// What its agent could not finish it goes on with, and drains all the same.
#[tokio::test]
async fn a_drain_that_fails_wants_the_instance_running_again() {
    let home = Home::new();
    let store = home.open();
    let made = make(&store, "job").await.unwrap();
    store.environment_run(term(&store), "fuse-job").await.unwrap();
    assert!(!store.environment_drain_failed(term(&store), "fuse-job", "early").await.unwrap());
    let wanted = async || store.agent_load(&made.key).await.unwrap().instances[0].desired;
    let before = wanted().await;
    store.environment_drain("fuse-job").await.unwrap();
    assert_eq!(wanted().await.wanted, Wanted::Stopped);
    assert!(store.environment_drain_failed(term(&store), "fuse-job", "busy").await.unwrap());
    let found = store.environment_get("fuse-job").await.unwrap();
    assert_eq!((found.state, found.error.as_deref()), (State::Draining, Some("busy")));
    assert_eq!(wanted().await, before, "in the same run");
    let again = store.environment_drain("fuse-job").await.unwrap();
    assert_eq!((again.error, wanted().await.wanted), (None, Wanted::Stopped));
}

/// A letter has what it takes to make its environment again, encrypted, until it is deleted.
#[tokio::test]
async fn a_letter_keeps_what_is_private_and_is_redriven_with_its_environment() {
    let home = Home::new();
    let store = home.open();
    let made = make(&store, "job").await.unwrap();
    store.environment_run(term(&store), "fuse-job").await.unwrap();
    let end = EnvironmentEnd { cause: Cause::StuckTask, reason: "old".to_owned() };
    store.environment_expire(term(&store), "fuse-job", end).await.unwrap();
    finish(&store, &made.key).await;
    let read = async || store.dead_letter_read("stuck_task", "fuse-job").await.unwrap();
    let (letter, private) = read().await;
    assert_eq!((letter.redriven_at, private), (None, Some(value("{\"token\":\"needle-in-a-haystack\"}"))));
    assert_eq!(store.secret_rotate(None).await.unwrap(), 1);
    assert!(read().await.1.is_some_and(|private| *private == *value("{\"token\":\"needle-in-a-haystack\"}")));

    let missing = EnvironmentNew { redrives: Some("idle_timeout".to_owned()), ..new("fuse-job", "job") };
    assert_eq!(code(store.environment_create(missing).await), "dead_letter_not_found");
    assert_eq!(code(store.environment_get("fuse-job").await), "environment_not_found", "nothing was made");
    let again = EnvironmentNew { redrives: Some("stuck_task".to_owned()), ..new("fuse-job", "job") };
    store.environment_create(again.clone()).await.unwrap();
    assert!(read().await.0.redriven_at.is_some());
    assert_eq!(code(store.environment_create(again).await), "environment_exists");
    assert_eq!(code(store.dead_letter_read("stuck_task", "nobody").await), "dead_letter_not_found");
}

#[tokio::test]
async fn profiles_are_encrypted_counted_and_survive_a_new_key() {
    let home = Home::new();
    let store = home.open();
    let [first, second] = ["alpha", "beta"].map(|name| name.parse().unwrap());
    assert_eq!(code(store.agent_profile_read(&first).await), "agent_profile_not_found");
    assert_eq!(store.agent_profile_write(&second, value("needle-in-a-haystack")).await.unwrap().version, 1);
    let made = store.agent_profile_write(&first, value("one")).await.unwrap();
    let changed = store.agent_profile_write(&first, value("two")).await.unwrap();
    assert_eq!((changed.version, changed.created_at), (2, made.created_at));
    assert_eq!(store.secret_rotate(None).await.unwrap(), 2);
    let listed = store.agent_profile_list().await.unwrap();
    let listed: Vec<_> = listed.iter().map(|found| (found.name.as_str(), found.profile.as_slice())).collect();
    assert_eq!(listed, [("alpha", &b"two"[..]), ("beta", &b"needle-in-a-haystack"[..])]);
    assert!(!format!("{made:?}").contains("one"));
    store.agent_profile_delete(&first).await.unwrap();
    assert_eq!(code(store.agent_profile_delete(&first).await), "agent_profile_not_found");
}
