//! The database file: found again, or refused and left as it is.

use std::fs;

use chassis_store::{Error, ErrorKind, Store};
use rusqlite::Connection;
use serde_json::json;

use crate::revisions::{deploy, rollout};
use crate::support::{Home, agent, apply, code, fleet, picture, secret, spec, value};

#[tokio::test]
async fn what_was_answered_is_there_after_a_restart_and_after_a_crash() {
    let home = Home::new();
    let store = home.open_with_fleet().await;
    store.secret_write(&fleet("f"), &secret("key"), value("x"), false, None).await.unwrap();
    let env = json!([{"name": "KEY", "valueFrom": "secret://f/key"}]);
    apply(&store, vec![spec("web", json!({"replicas": 3, "env": env, "labels": {"tier": "front"}}))])
        .await
        .unwrap();
    let before = picture(&store).await;
    assert_eq!(store.server_id().len(), 12);
    let crashed = home.crash();
    drop(store);
    assert_eq!(picture(&home.open()).await, before);
    assert_eq!(picture(&crashed.open()).await, before);
    assert_ne!(Home::new().open().server_id(), home.open().server_id());
}

#[tokio::test]
async fn a_newer_database_is_refused_and_left_alone() {
    let home = Home::new();
    drop(home.open_with_fleet().await);
    let raw = Connection::open(home.database()).unwrap();
    raw.pragma_update(None, "user_version", 99).unwrap();
    // With the log left over, as after a crash: there is where the newer version stands.
    let crashed = home.crash();
    drop(raw);
    for home in [home, crashed] {
        let before = contents(&home);
        let error = home.try_open().unwrap_err();
        assert_eq!((error.code(), error.kind()), ("database_newer", ErrorKind::Conflict));
        assert!(error.to_string().contains("schema 99, this one knows "), "{error}");
        assert_eq!(contents(&home), before);
    }
}

#[tokio::test]
async fn a_damaged_database_is_refused_and_left_alone() {
    let whole = {
        let home = Home::new();
        let store = home.open_with_fleet().await;
        apply(&store, vec![spec("web", json!({"replicas": 200}))]).await.unwrap();
        drop(store);
        fs::read(home.database()).unwrap()
    };
    let mut overwritten = whole.clone();
    for page in overwritten.chunks_exact_mut(4096).skip(3) {
        page[..512].fill(0xa5);
    }
    let damages = [
        ("no database", b"This was a shopping list once.".to_vec()),
        ("empty", Vec::new()),
        ("cut off", whole[..whole.len() / 2].to_vec()),
        ("overwritten in places", overwritten),
    ];
    for (damage, bytes) in damages {
        let home = Home::new();
        fs::write(home.database(), &bytes).unwrap();
        let error = home.try_open().unwrap_err();
        assert_eq!(
            (error.code(), error.kind()),
            ("database_corrupt", ErrorKind::Internal),
            "{damage}: {error}"
        );
        let text = error.to_string();
        assert!(text.contains(home.database().to_str().unwrap()) && text.contains("restore"), "{text}");
        assert_eq!(fs::read(home.database()).unwrap(), bytes, "{damage}");
    }
}

#[tokio::test]
async fn a_database_of_somebody_else_is_refused_and_left_alone() {
    let home = Home::new();
    Connection::open(home.database()).unwrap().execute_batch("CREATE TABLE notes (text)").unwrap();
    let before = contents(&home);
    assert_eq!(code(home.try_open()), "database_foreign");
    assert_eq!(contents(&home), before);
}

#[tokio::test]
async fn a_lost_database_is_not_begun_anew_over_its_log() {
    let home = Home::new();
    let store = home.open_with_fleet().await;
    let crashed = home.crash();
    drop(store);
    fs::remove_file(crashed.database()).unwrap();
    assert_eq!(code(crashed.try_open()), "database_corrupt");
    assert!(!crashed.database().exists());
}

#[tokio::test]
async fn a_database_whose_making_was_cut_off_is_made_again() {
    let home = Home::new();
    fs::write(home.path("chassis.db.new"), b"half a page").unwrap();
    home.open_with_fleet().await;
    assert!(!home.path("chassis.db.new").exists());
    let nowhere = home.path("missing").join("chassis.db");
    let error = chassis_store::SqlStore::open_sqlite(&nowhere, chassis_store::KeySource::File(home.key()))
        .unwrap_err();
    assert!(matches!(&error, Error::Open { path, .. } if *path == nowhere), "{error:?}");
}

/// A data directory of the version before there were rollouts, with a fleet `f` and its agent `web` at revision 2.
#[tokio::test]
async fn what_ran_before_there_were_rollouts_is_what_is_gone_back_to() {
    let home = Home::new();
    let connection = Connection::open(home.database()).unwrap();
    connection.execute_batch(include_str!("../../migrations/0001_begin.sql")).unwrap();
    connection
        .execute_batch(
            r#"PRAGMA application_id = 1667785075; PRAGMA user_version = 1;
            INSERT INTO fleets (name, labels, version, created_at, deleting) VALUES ('f', '{}', 1, 0, 0);
            INSERT INTO agents (fleet, name, revision, version, created_at, deleting) VALUES ('f', 'web', 2, 1, 0, 0);
            INSERT INTO revisions VALUES ('f', 'web', 1, '{"name": "web", "image": "busybox:1"}', 0);
            INSERT INTO revisions VALUES ('f', 'web', 2, '{"name": "web", "image": "busybox:2"}', 0);"#,
        )
        .unwrap();
    drop(connection);
    let store = home.open();
    let present = store.agent_load(&agent("f", "web")).await.unwrap().agent;
    assert_eq!((present.rollout, present.pin, &*present.serving), (None, None, &[2][..]));
    deploy(&store, json!({"image": "busybox:3"})).await;
    assert_eq!(rollout(&store).await.from, Some(2));
}

/// What people have on disk, but for the index of the log, which any reader makes.
fn contents(home: &Home) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut files = home.bytes();
    files.retain(|(path, bytes)| !path.to_string_lossy().ends_with("-shm") && !bytes.is_empty());
    files
}
