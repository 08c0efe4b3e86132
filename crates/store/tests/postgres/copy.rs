//! From SQLite to Postgres.

use chassis_core::EventKind;
use chassis_spec::Labels;
use chassis_store::{KeySource, PostgresOptions, SqlStore, Store, copy_to_postgres};
use serde_json::json;

use crate::home::Home;
use crate::instances::{note, running};
use crate::support::{apply, code, events, fleet, picture, secret, spec, value};

#[tokio::test]
async fn a_copy_is_the_same_chassis() {
    let home = Home::new();
    let path = home.key().with_file_name("chassis.db");
    let open = || SqlStore::open_sqlite(&path, KeySource::File(home.key())).unwrap();
    let source = open();
    source.fleet_create(&fleet("f"), &Labels::default()).await.unwrap();
    source.secret_write(&fleet("f"), &secret("key"), value("x"), false, None).await.unwrap();
    let env = json!([{"name": "KEY", "valueFrom": "secret://f/key"}]);
    apply(&source, vec![spec("web", json!({"replicas": 3, "env": env}))]).await.unwrap();
    apply(&source, vec![spec("web", json!({"image": "busybox:2", "env": env}))]).await.unwrap();
    // More than are written at once, and not a round number of them.
    note(&source, 1, running(), vec![EventKind::Started; 245]).await;
    let before = picture(&source).await;
    drop(source);

    let options = PostgresOptions::new(home.url(), "copy").unwrap();
    let copied = copy_to_postgres(&path, &options).unwrap();
    let rows = |table: &str| copied.iter().find(|(name, _)| name == table).unwrap().1;
    assert_eq!((rows("instances"), rows("revisions"), rows("secrets")), (3, 2, 1));
    assert_eq!(picture(&open()).await, before, "the old one is left as it was");

    let store = home.open();
    assert_eq!(picture(&store).await, before);
    assert_eq!(*store.secret_read(&fleet("f"), &secret("key")).await.unwrap(), b"x");
    let last = events(&store).await.last().unwrap().id;
    store.fleet_create(&fleet("g"), &Labels::default()).await.unwrap();
    assert_eq!(events(&store).await.last().unwrap().id, last + 1);

    // Neither over what is there, nor under a server.
    assert_eq!(code(copy_to_postgres(&path, &options)), "copy_refused");
    drop(store);
    let error = copy_to_postgres(&path, &options).unwrap_err();
    assert!(error.to_string().contains("not empty"), "{error}");
}
