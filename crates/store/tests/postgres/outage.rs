//! A database that goes away and comes back.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use chassis_spec::{FleetName, Labels};
use chassis_store::{ErrorKind, Store};
use chassis_testkit::{SOON, eventually, expect};
use futures_util::future::{join, join_all};
use tokio::time::sleep;

use crate::home::Home;
use crate::support::{code, fleet};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_that_was_acknowledged_is_lost_when_postgres_crashes_under_writes() {
    const WRITERS: usize = 16;
    let home = Home::with(&["fsync=on"]);
    let store = home.open();
    let ended = AtomicBool::new(false);
    let write = |writer: usize| {
        let (store, ended) = (&store, &ended);
        async move {
            let (mut kept, mut refused): (Vec<FleetName>, Vec<FleetName>) = (Vec::new(), Vec::new());
            for at in 0.. {
                if ended.load(Ordering::Relaxed) {
                    break;
                }
                let name = fleet(&format!("w{writer}-{at}"));
                match store.fleet_create(&name, &Labels::default()).await {
                    Ok(_) => kept.push(name),
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
                        if error.code() != "outcome_unknown" {
                            refused.push(name);
                        }
                        sleep(Duration::from_millis(10)).await;
                    }
                }
            }
            (kept, refused)
        }
    };
    let disturb = async {
        for _ in 0..3 {
            sleep(Duration::from_millis(700)).await;
            tokio::task::block_in_place(|| {
                let mut postgres = home.postgres();
                postgres.crash();
                postgres.begin();
            });
        }
        sleep(Duration::from_secs(1)).await;
        ended.store(true, Ordering::Relaxed);
    };
    let ((), outcomes) = join(disturb, join_all((0..WRITERS).map(write))).await;
    eventually(SOON, || expect(store.unavailable_since().is_none(), || "it is back".to_owned()));
    let there: Vec<FleetName> =
        store.fleet_list().await.unwrap().into_iter().map(|fleet| fleet.name).collect();
    let (kept, refused): (Vec<_>, Vec<_>) = outcomes.into_iter().unzip();
    let (kept, refused) = (kept.concat(), refused.concat());
    assert!(kept.len() > 100 && !refused.is_empty(), "{} kept, {} refused", kept.len(), refused.len());
    for name in &kept {
        assert!(there.contains(name), "{name} was acknowledged and is lost");
    }
    for name in &refused {
        assert!(!there.contains(name), "{name} was refused and is there");
    }
}

#[tokio::test]
async fn a_database_that_is_away_is_said_so_at_once_and_found_again() {
    let home = Home::new();
    let store = home.open_with_fleet().await;
    home.postgres().stop();
    assert!(code(store.fleet_list().await).starts_with("database_unavailable"));
    let begun = Instant::now();
    let error = store.fleet_create(&fleet("g"), &Labels::default()).await.unwrap_err();
    assert_eq!((error.code(), error.kind()), ("database_unavailable", ErrorKind::Unavailable));
    assert!(error.to_string().contains("try again in 2 s"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    assert!(store.unavailable_since().is_some());
    eventually(SOON, || expect(!store.is_acting(), || "it still acts".to_owned()));
    let mut acting = store.acting();
    tokio::time::timeout(SOON, acting.wait_for(|acting| !*acting)).await.unwrap().unwrap();
    home.postgres().begin();
    tokio::time::timeout(SOON, acting.wait_for(|acting| *acting)).await.unwrap().unwrap();
    store.fleet_create(&fleet("g"), &Labels::default()).await.unwrap();
    assert!(store.unavailable_since().is_none());
}

#[tokio::test]
async fn a_database_that_does_not_answer_ends_the_lease_in_time() {
    let home = Home::new();
    let store = home.open_with_fleet().await;
    home.postgres().freeze();
    let begun = Instant::now();
    let mut acting = store.acting();
    tokio::time::timeout(SOON, acting.wait_for(|acting| !*acting)).await.unwrap().unwrap();
    assert!(!store.is_acting() && begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    home.postgres().thaw();
    tokio::time::timeout(SOON, acting.wait_for(|acting| *acting)).await.unwrap().unwrap();
}
