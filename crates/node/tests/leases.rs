//! What may move is ended when no server has answered for its node for as long as the lease says; everything else runs on.

#![allow(clippy::unwrap_used, reason = "a test fails where something is not as it must be")]

mod common;
#[path = "../../runtime/tests/support/mod.rs"]
mod support;

use std::sync::Arc;
use std::time::Duration;

use chassis_core::RunState;
use chassis_init::lease::{self, Writer};
use chassis_runtime::{Error, InstanceSecrets, Runtime, SimOptions, SimRuntime};
use common::Served;
use serde_json::json;
use support::{config, wait_for};

#[tokio::test]
async fn what_may_move_ends_with_the_lease_and_nothing_else_does() {
    let runtime: Arc<dyn Runtime> = Arc::new(SimRuntime::new(SimOptions::default()));
    let served = Served::new(Arc::clone(&runtime));
    let start =
        async |served: &Served, id: &str| served.remote.instance_start(id, InstanceSecrets::default()).await;
    let mut stays = config(&*served.remote, "collector", json!({ "image": "agent" })).await;
    let mut moves = stays.clone();
    (stays.epoch, moves.epoch, moves.key.number, moves.leased) = (4, 5, 2, true);
    let stays = served.remote.instance_create(&stays).await.unwrap().id;
    let moves = served.remote.instance_create(&moves).await.unwrap().id;
    start(&served, &stays).await.unwrap();
    let refused = start(&served, &moves).await;
    assert!(
        matches!(&refused, Err(Error::Unavailable { message, .. }) if message.contains("no server has answered")),
        "before the first answer that counts: {refused:?}"
    );
    let first = served.remote.heartbeat(None, None).await.unwrap();
    assert!(served.remote.heartbeat(Some(first.granted()), None).await.unwrap().lease > 50_000);
    start(&served, &moves).await.unwrap();

    // The next process of the node has the lease that this one had.
    let served = served.again(Arc::clone(&runtime)).await;
    assert!(served.remote.heartbeat(None, None).await.unwrap().lease > 40_000);
    let directory = served.directory().join(".lease");
    let boot = lease::boot_id().unwrap();
    assert!(lease::read(&directory.join(lease::FILE), &boot).unwrap() > lease::since_boot());
    // As if it had ended a second after the machine was booted.
    Writer::open(&directory).unwrap().write(&boot, Duration::from_secs(1)).unwrap();
    let served = served.again(Arc::clone(&runtime)).await;
    wait_for(&*runtime, &moves, |state| matches!(state, RunState::Exited { .. })).await;
    assert!(start(&served, &moves).await.is_err());
    let other = runtime.instance_inspect(&stays).await.unwrap().unwrap();
    assert!(matches!(other.observed.state, RunState::Running { .. }), "{other:?}");
}
