//! Revisions: which share their containers, what image each runs, and what becomes of a rollout.

use chassis_core::{EventKind, Pin, Rollout, RolloutState};
use chassis_store::{AgentChange, RevisionOutcome, SqlStore, Store};
use serde_json::{Value, json};

use crate::support::{Home, agent, apply, code, events, spec, term};

pub(crate) async fn deploy(store: &SqlStore, more: Value) {
    apply(store, vec![spec("web", more)]).await.unwrap();
}

pub(crate) async fn rollout(store: &SqlStore) -> Rollout {
    store.agent_load(&agent("f", "web")).await.unwrap().agent.rollout.unwrap()
}

/// Every instance is ready with the present revision.
async fn complete(store: &SqlStore) {
    let before = rollout(store).await;
    let after = Rollout { state: RolloutState::Complete, ..before.clone() };
    assert!(store.rollout_record(term(store), &agent("f", "web"), &before, &after, None).await.unwrap());
}

async fn templates(store: &SqlStore) -> Vec<u64> {
    let revisions = store.revision_list(&agent("f", "web")).await.unwrap();
    revisions.iter().map(|revision| revision.template).collect()
}

fn pin(id: &str) -> Pin {
    Pin { id: Some(id.to_owned()), digest: None }
}

#[tokio::test]
async fn revisions_that_need_no_new_container_share_it() {
    let home = Home::new();
    let store = home.open_with_fleet().await;
    let key = agent("f", "web");
    deploy(&store, json!({})).await;
    deploy(&store, json!({"labels": {"a": "1"}})).await;
    deploy(&store, json!({"image": "busybox:2"})).await;
    deploy(&store, json!({"image": "busybox:2", "resources": {"memory": "1Gi"}})).await;
    assert_eq!(templates(&store).await, [1, 1, 3, 3]);
    assert_eq!(*store.agent_load(&key).await.unwrap().agent.serving, [3, 4]);

    let undone = store.revision_undo(&key, Some(2), true, None).await.unwrap();
    assert_eq!((undone.change, undone.revision), (AgentChange::Updated, 5));
    assert_eq!(templates(&store).await.len(), 4, "a dry run makes no revision");
    store.revision_undo(&key, Some(2), false, None).await.unwrap();
    let present = store.agent_load(&key).await.unwrap().agent;
    assert_eq!((present.revision, &*present.serving), (5, &[1, 2, 5][..]));
    assert_eq!(present.spec.labels.0["a"], "1");
    let again = store.revision_undo(&key, Some(2), false, None).await.unwrap();
    assert_eq!((again.change, again.revision), (AgentChange::Unchanged, 5));
    assert_eq!(code(store.revision_undo(&key, Some(9), false, None).await), "revision_not_found");
}

#[tokio::test]
async fn the_first_pin_holds_for_all_that_share_the_container() {
    let home = Home::new();
    let store = home.open_with_fleet().await;
    let key = agent("f", "web");
    deploy(&store, json!({})).await;
    deploy(&store, json!({"labels": {"a": "1"}})).await;
    assert_eq!(store.revision_pin(term(&store), &key, 2, &pin("one")).await.unwrap(), pin("one"));
    assert_eq!(store.revision_pin(term(&store), &key, 1, &pin("two")).await.unwrap(), pin("one"));
    deploy(&store, json!({"args": ["x"]})).await;
    assert_eq!(
        store.agent_load(&key).await.unwrap().agent.pin,
        None,
        "a new container looks at the tag anew"
    );
    assert_eq!(store.revision_pin(term(&store), &key, 3, &pin("two")).await.unwrap(), pin("two"));

    let same = store.agent_upgrade(&key, None, Some(&pin("two")), None).await.unwrap();
    assert_eq!((same.change, same.revision), (AgentChange::Unchanged, 3));
    let moved = store.agent_upgrade(&key, None, Some(&pin("three")), None).await.unwrap();
    assert_eq!((moved.change, moved.revision), (AgentChange::Updated, 4));
    let other = store.agent_upgrade(&key, Some(&"busybox:9".parse().unwrap()), None, None).await.unwrap();
    assert_eq!((other.change, other.revision), (AgentChange::Updated, 5));
    store.revision_undo(&key, Some(1), false, None).await.unwrap();
    drop(store);
    let reopened = home.open();
    assert_eq!(reopened.agent_load(&key).await.unwrap().agent.pin, Some(pin("one")));
}

#[tokio::test]
async fn a_failed_revision_goes_back_to_the_last_complete_one_and_only_once() {
    let home = Home::new();
    let store = home.open_with_fleet().await;
    let key = agent("f", "web");
    deploy(&store, json!({})).await;
    assert_eq!(rollout(&store).await.from, None);
    assert_eq!(code(store.revision_undo(&key, None, false, None).await), "nothing_to_undo");
    complete(&store).await;
    deploy(&store, json!({"image": "busybox:2"})).await;
    deploy(&store, json!({"image": "busybox:3"})).await;
    let before = rollout(&store).await;
    assert_eq!((before.revision, before.from), (3, Some(1)));

    assert!(store.rollout_roll_back(term(&store), &key, &before, "it crashed").await.unwrap());
    assert!(!store.rollout_roll_back(term(&store), &key, &before, "it crashed").await.unwrap());
    assert!(!store.rollout_record(term(&store), &key, &before, &before, None).await.unwrap());
    let present = store.agent_load(&key).await.unwrap().agent;
    assert_eq!((present.revision, &*present.serving), (4, &[1, 4][..]));
    let after = rollout(&store).await;
    assert_eq!(after.undoes.map(|undone| (undone.revision, undone.to)), Some((3, 1)));
    let revisions = store.revision_list(&key).await.unwrap();
    let outcomes: Vec<_> = revisions.iter().map(|revision| revision.outcome).collect();
    let (complete, failed) = (Some(RevisionOutcome::Complete), Some(RevisionOutcome::Failed));
    assert_eq!(outcomes, [complete, None, failed, None]);
    assert_eq!(revisions[3].cause, "rollback from 3: it crashed");
    let rolled = EventKind::RolledBack { from: 3, to: 1, revision: 4 };
    assert!(events(&store).await.iter().any(|event| event.kind == rolled));
}

#[tokio::test]
async fn a_pause_lasts_over_a_deploy() {
    let home = Home::new();
    let store = home.open_with_fleet().await;
    let key = agent("f", "web");
    deploy(&store, json!({})).await;
    complete(&store).await;
    assert!(store.rollout_pause(&key, true, None).await.unwrap());
    assert!(!store.rollout_pause(&key, true, None).await.unwrap());
    deploy(&store, json!({"image": "busybox:2"})).await;
    assert_eq!(rollout(&store).await.state, RolloutState::Paused);
    assert!(store.rollout_pause(&key, false, None).await.unwrap());
    let resumed = rollout(&store).await;
    assert_eq!((resumed.state, resumed.revision, resumed.from), (RolloutState::Progressing, 2, Some(1)));
}

#[tokio::test]
async fn old_revisions_go_but_for_those_that_may_serve() {
    let home = Home::new();
    let store = home.open_with_fleet().await;
    deploy(&store, json!({})).await;
    complete(&store).await;
    for number in 0..130 {
        deploy(&store, json!({"args": [number.to_string()]})).await;
    }
    let kept: Vec<u64> =
        store.revision_list(&agent("f", "web")).await.unwrap().iter().map(|one| one.revision).collect();
    assert_eq!(kept[0], 1, "what is gone back to stays");
    assert_eq!((kept[1], kept.len()), (32, 101));
}
