//! Snapshots: rows that say what is to be done, and what became of it.

use chassis_core::snapshot::State;
use chassis_store::{
    EnvironmentNew, SnapshotDue, SnapshotFilter, SnapshotNew, SnapshotStep, SqlStore, Store,
};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::support::{Home, code, spec, term, value};

async fn running(store: &SqlStore, task: &str, seed: Option<&str>) -> chassis_store::Result<()> {
    let id = format!("fuse-{task}");
    let new = EnvironmentNew {
        id: id.clone(),
        task_id: task.to_owned(),
        node: "here".to_owned(),
        request: "{}".to_owned(),
        private: value("{}"),
        spec: spec("to-be-named", json!({})),
        placed: None,
        seed: seed.map(str::to_owned),
        redrives: None,
    };
    store.environment_create(new).await?;
    store.environment_run(term(store), &id).await.map(drop)
}

fn new(id: &str) -> SnapshotNew {
    SnapshotNew {
        id: id.to_owned(),
        environment: "fuse-a".to_owned(),
        mode: "manual".to_owned(),
        arch: "amd64".to_owned(),
        details: "{}".to_owned(),
        quota: 3,
        ..SnapshotNew::default()
    }
}

async fn step(store: &SqlStore, id: &str, step: SnapshotStep) {
    store.snapshot_step(term(store), id, step).await.unwrap();
}

async fn ready(store: &SqlStore, new: SnapshotNew) {
    let id = new.id.clone();
    store.snapshot_create(new).await.unwrap();
    step(store, &id, SnapshotStep::Taken { digest: "d".to_owned(), size_bytes: 1 }).await;
}

async fn state(store: &SqlStore, id: &str) -> State {
    store.snapshot_get(id).await.unwrap().state
}

async fn due(store: &SqlStore) -> Vec<SnapshotDue> {
    store.snapshot_due(Timestamp::now()).await.unwrap().0
}

#[tokio::test]
async fn a_snapshot_is_what_its_row_says() {
    let home = Home::new();
    let store = home.open();
    assert_eq!(code(store.snapshot_create(new("s1")).await), "environment_not_found");
    running(&store, "a", None).await.unwrap();
    let made = store.snapshot_create(new("s1")).await.unwrap();
    assert_eq!((made.state, made.parent.as_deref(), made.tenant.as_str()), (State::Creating, None, "a"));
    assert_eq!(due(&store).await[0].snapshot, made);
    assert_eq!(code(store.snapshot_restore("s1").await), "snapshot_state");
    assert_eq!(code(store.snapshot_delete("s1").await), "snapshot_state");
    step(&store, "s1", SnapshotStep::Taken { digest: "d".to_owned(), size_bytes: 7 }).await;
    let found = store.snapshot_get("s1").await.unwrap();
    assert_eq!((found.state, found.digest.as_deref(), found.size_bytes), (State::Ready, Some("d"), Some(7)));
    assert!(due(&store).await.is_empty());

    assert_eq!(store.snapshot_restore("s1").await.unwrap().state, State::Restoring);
    step(&store, "s1", SnapshotStep::Failed("no".to_owned())).await;
    assert_eq!(store.snapshot_get("s1").await.unwrap().error.as_deref(), Some("no"));
    store.snapshot_restore("s1").await.unwrap();
    step(&store, "s1", SnapshotStep::Restored).await;
    assert_eq!(store.snapshot_get("s1").await.unwrap().error, None);

    // One that cannot be taken is to be forgotten, with what the runtime may have of it.
    store.snapshot_create(new("s2")).await.unwrap();
    step(&store, "s2", SnapshotStep::Failed("no".to_owned())).await;
    assert_eq!(state(&store, "s2").await, State::Deleting);
    step(&store, "s2", SnapshotStep::Removed).await;
    assert_eq!(code(store.snapshot_get("s2").await), "snapshot_not_found");
    // What comes too late changes nothing.
    step(&store, "s2", SnapshotStep::Removed).await;
    step(&store, "s1", SnapshotStep::Removed).await;
    assert_eq!(state(&store, "s1").await, State::Ready);

    ready(&store, new("s3")).await;
    assert_eq!(code(store.snapshot_delete("s1").await), "snapshot_has_children");
    ready(&store, new("s4")).await;
    assert_eq!(code(store.snapshot_create(new("s5")).await), "snapshot_quota");
    step(&store, "s4", SnapshotStep::Lost).await;
    assert_eq!(state(&store, "s4").await, State::Error);
    assert_eq!(code(store.snapshot_restore("s4").await), "snapshot_state");
    store.environment_drain("fuse-a").await.unwrap();
    assert_eq!(code(store.snapshot_restore("s3").await), "environment_not_running");
}

/// Its operator hears of it once, and nobody tries again but when asked to.
#[tokio::test]
async fn one_that_cannot_be_removed_is_a_dead_letter() {
    let home = Home::new();
    let store = home.open();
    running(&store, "a", None).await.unwrap();
    ready(&store, SnapshotNew { retention_until: Some(Timestamp::UNIX_EPOCH), ..new("s1") }).await;
    ready(&store, new("s2")).await;
    assert!(!due(&store).await[0].may_expire, "s2 rests on it");
    store.snapshot_delete("s2").await.unwrap();
    step(&store, "s2", SnapshotStep::Removed).await;
    assert!(!due(&store).await[0].may_expire, "it is the newest of what runs");
    store.environment_end("fuse-a").await.unwrap();
    assert_eq!(due(&store).await.len(), 1);

    step(&store, "s1", SnapshotStep::Expired).await;
    assert_eq!(state(&store, "s1").await, State::Deleting);
    let later = Timestamp::now() + SignedDuration::from_secs(1);
    let failed = |retry_at| SnapshotStep::NotRemoved { why: "no".to_owned(), retry_at };
    step(&store, "s1", failed(Some(later))).await;
    let found = store.snapshot_get("s1").await.unwrap();
    assert_eq!((found.state, found.removals), (State::Deleting, 1));
    step(&store, "s1", failed(None)).await;
    assert_eq!(state(&store, "s1").await, State::Error);
    let letters = store.dead_letter_list().await.unwrap();
    assert_eq!((letters[0].kind.as_str(), letters[0].entity.as_str()), ("snapshot_delete", "s1"));
    let again = store.snapshot_delete("s1").await.unwrap().unwrap();
    assert_eq!((again.state, again.removals, again.retry_at), (State::Deleting, 0, None));
}

#[tokio::test]
async fn a_seed_stays_as_long_as_what_began_from_it() {
    let home = Home::new();
    let store = home.open();
    running(&store, "a", None).await.unwrap();
    assert_eq!(code(running(&store, "fork-1", Some("s1")).await), "snapshot_not_found");
    store.snapshot_create(new("s1")).await.unwrap();
    assert_eq!(code(running(&store, "fork-1", Some("s1")).await), "snapshot_state");
    assert_eq!(code(store.environment_get("fuse-fork-1").await), "environment_not_found");
    step(&store, "s1", SnapshotStep::Taken { digest: "d".to_owned(), size_bytes: 1 }).await;
    running(&store, "fork-1", Some("s1")).await.unwrap();
    let record = store.snapshot_get("fork-seed-1").await.unwrap();
    assert_eq!((record.data.as_str(), record.parent.as_deref()), ("s1", Some("s1")));
    assert_eq!(code(store.snapshot_delete("s1").await), "snapshot_has_children");
    let of_fork =
        SnapshotFilter { environment: Some("fuse-fork-1".to_owned()), limit: 9, ..SnapshotFilter::default() };
    assert_eq!(store.snapshot_list(&of_fork).await.unwrap(), [record]);
    // It keeps nothing of its own, and is gone at once.
    assert_eq!(store.snapshot_delete("fork-seed-1").await.unwrap(), None);
    assert!(store.snapshot_delete("s1").await.unwrap().is_some());
}
