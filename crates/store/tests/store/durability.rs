//! Many writers at once, and a disk that is full.

use std::fs;
use std::io::Write;
use std::path::Path;

use chassis_spec::Labels;
use chassis_store::{ErrorKind, KeySource, SqlStore, Store};
use futures_util::future::{FutureExt, join_all};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use serde_json::json;

use crate::support::{Home, apply, code, fleet, picture, secret, spec, value};

#[tokio::test]
async fn writers_that_come_together_share_a_commit() {
    let home = Home::new();
    let store = home.open();
    let before = store.commits();
    let names: Vec<_> = (0..200).map(|at| fleet(&format!("fleet-{at}"))).collect();
    let labels = Labels::default();
    let answers = join_all(names.iter().map(|name| store.fleet_create(name, &labels))).await;
    assert!(answers.iter().all(Result::is_ok));
    let commits = store.commits() - before;
    assert!(commits <= 50, "200 writes took {commits} commits");
    assert_eq!(home.crash().open().fleet_list().await.unwrap().len(), 200);

    // Among them some that fail: they fail alone.
    let mixed = (150..250).map(|at| fleet(&format!("fleet-{at}"))).collect::<Vec<_>>();
    let answers = join_all(mixed.iter().map(|name| store.fleet_create(name, &labels))).await;
    let refused = answers.into_iter().filter_map(Result::err).map(|error| error.code()).collect::<Vec<_>>();
    assert_eq!(refused, ["fleet_exists"; 50]);
    assert_eq!(home.crash().open().fleet_list().await.unwrap().len(), 250);
}

#[tokio::test]
async fn who_gives_up_waiting_disturbs_nobody() {
    let home = Home::new();
    let store = home.open();
    assert!(store.fleet_create(&fleet("a"), &Labels::default()).now_or_never().is_none());
    store.fleet_create(&fleet("b"), &Labels::default()).await.unwrap();
    assert_eq!(code(store.fleet_create(&fleet("b"), &Labels::default()).await), "fleet_exists");
}

#[tokio::test]
async fn a_full_disk_refuses_changes_and_loses_none() {
    let home = Home::new();
    let Some(disk) = SmallDisk::mount(&home.path("disk")) else {
        return;
    };
    let open = || SqlStore::open_sqlite(&disk.path.join("chassis.db"), KeySource::File(home.key())).unwrap();
    let store = open();
    store.fleet_create(&fleet("f"), &Labels::default()).await.unwrap();
    store.secret_write(&fleet("f"), &secret("key"), value("x"), false, None).await.unwrap();
    apply(&store, vec![spec("web", json!({"replicas": 3}))]).await.unwrap();

    disk.fill();
    let mut before = picture(&store).await;
    let mut failures = 0;
    for at in 0..200 {
        let text = "x".repeat(5000);
        match apply(&store, vec![spec(&format!("agent{at}"), json!({"args": [text]}))]).await {
            Ok(_) => before = picture(&store).await,
            Err(error) => {
                assert_eq!((error.code(), error.kind()), ("storage_full", ErrorKind::Unavailable));
                assert_eq!(picture(&store).await, before, "a change that was refused has no part that stays");
                failures += 1;
            }
        }
        if failures == 3 {
            break;
        }
    }
    assert_eq!(failures, 3, "the disk was never full");

    fs::remove_file(disk.filler()).unwrap();
    apply(&store, vec![spec("after", json!({}))]).await.unwrap();
    let after = picture(&store).await;
    drop(store);
    let store = open();
    assert_eq!(picture(&store).await, after);
    assert_eq!(*store.secret_read(&fleet("f"), &secret("key")).await.unwrap(), b"x");
}

struct SmallDisk {
    path: std::path::PathBuf,
}

impl SmallDisk {
    fn mount(path: &Path) -> Option<Self> {
        fs::create_dir(path).unwrap();
        if let Err(error) = mount("tmpfs", path, "tmpfs", MountFlags::empty(), Some(c"size=1m")) {
            assert!(!rustix::process::geteuid().is_root(), "{error}");
            chassis_testkit::not_tested("a full disk under the store, because only root can mount");
            return None;
        }
        Some(SmallDisk { path: path.to_owned() })
    }

    fn filler(&self) -> std::path::PathBuf {
        self.path.join("filler")
    }

    /// Takes all the room there is.
    fn fill(&self) {
        let mut file = fs::File::create(self.filler()).unwrap();
        while file.write(&[0; 4096]).is_ok() {}
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        unmount(&self.path, UnmountFlags::DETACH).unwrap();
    }
}
