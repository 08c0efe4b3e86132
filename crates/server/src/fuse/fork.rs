//! Forks: an environment that begins as another one is, or was.
//!
//! It is made as every environment is, and its instance goes on from a snapshot when it starts first. It has a token of its own,
//! ports of its own, and neither files nor a startup script: what those made of its origin is in the snapshot.

use std::sync::Arc;

use chassis_api::fuse::{Environment, ForkRequest};
use chassis_core::snapshot::State;
use chassis_store::Error;
use jiff::SignedDuration;

use super::environments::{self, Making};
use super::kept::{Kept, Private};
use super::{agent, snapshots};
use crate::api::failure::{Failure, Result};
use crate::api::to_end;
use crate::auth::{Caller, random_id};
use crate::shared::Shared;

/// How long the snapshot of a fork is kept that was not made after all. One that was keeps it for as long as it is there.
const KEPT: SignedDuration = SignedDuration::from_mins(5);

/// Answers when the fork runs.
pub(super) async fn fork(
    shared: Arc<Shared>,
    caller: Caller,
    id: String,
    request: ForkRequest,
) -> Result<Environment> {
    snapshots::check_able(&shared, &id).await?;
    if !request.reuse_snapshot_id.is_empty() {
        snapshots::find(&shared, &caller, &request.reuse_snapshot_id).await?;
    }
    to_end(async move {
        let is_new = request.reuse_snapshot_id.is_empty();
        let seed = seed(&shared, &id, request).await?;
        let snapshot = seed.id.clone();
        let made = make(&shared, caller, &id, seed).await;
        if is_new && made.is_err() {
            // Nobody asked for it but the fork. One that cannot be deleted now goes when its time is over.
            let deleted = snapshots::delete(&shared, &snapshot).await;
            if let Err(failure) = deleted {
                tracing::info!(
                    snapshot,
                    why = failure.detail(),
                    "the snapshot of a failed fork stays for now"
                );
            }
        }
        made
    })
    .await
}

/// Makes the fork, which begins from the snapshot.
async fn make(
    shared: &Arc<Shared>,
    caller: Caller,
    id: &str,
    seed: chassis_store::Snapshot,
) -> Result<Environment> {
    let origin = shared.store.environment_get(id).await?;
    let mut kept = Kept::from_json(&origin.request);
    let bytes = shared.store.environment_private(id).await?;
    let mut private = Private::from_json(&bytes).map_err(|_| Error::EnvironmentDamaged(id.to_owned()))?;
    private.files.clear();
    private.startup_script.clear();
    kept.startup_timeout = None;
    kept.wait = None;
    kept.seed = Some(seed.data.clone());
    agent::ports_choose(shared, &mut kept)?;
    let task_id = format!("fork-{}", random_id().map_err(environments::no_randomness)?);
    let making = Making { caller, task_id, kept, private, seed: Some(seed), redrives: None };
    environments::make(shared, making).await
}

/// The snapshot that it begins from: the one that was named, or a new one.
async fn seed(shared: &Arc<Shared>, id: &str, request: ForkRequest) -> Result<chassis_store::Snapshot> {
    if request.reuse_snapshot_id.is_empty() {
        let new = snapshots::for_fork(shared, id.to_owned(), request.comment, KEPT).await?;
        return snapshots::take(shared, new).await;
    }
    let found = shared.store.snapshot_get(&request.reuse_snapshot_id).await?;
    if found.environment != id {
        let message = format!("snapshot not found: {} is none of {id}", found.id);
        return Err(Failure::not_found("not_found", message));
    }
    if found.state != State::Ready {
        return Err(Error::SnapshotState { id: found.id, state: found.state }.into());
    }
    Ok(found)
}
