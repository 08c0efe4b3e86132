//! Environments: made, listed, shown, destroyed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use chassis_api::fuse::{Environment, EnvironmentCreate, EnvironmentList};
use chassis_core::environment;
use chassis_store::{EnvironmentFilter, EnvironmentNew};
use serde::Deserialize;

use super::api_keys::scope;
use super::body::{Body, LARGE};
use super::kept::{Kept, Private};
use super::request::{self, Asked, redacted};
use super::{agent, chosen, cursor, snapshots, view};
use crate::api::admission::check_specs;
use crate::api::extract::{Path, Query};
use crate::api::failure::{Failure, Result};
use crate::api::{SharedState, to_end};
use crate::auth::Caller;
use crate::controller::{AgentController, agents_changed};
use crate::environment::Known;
use crate::failpoint::failpoint;
use crate::nodes::NodeLink;
use crate::schedule::TENANT;
use crate::shared::Shared;

/// Longer than the acting server takes to give one up.
const PATIENCE: Duration = Duration::from_secs(58);
/// Whether the only host is cordoned still.
const BETWEEN_LOOKS: Duration = Duration::from_millis(200);
/// What init says of a startup script that it killed: whoever sent it asked for too little time.
const STARTUP_TOO_LONG: &str = "the startup script took longer";
/// How often ports are chosen, if those that were are somebody's on the machine where it came to be.
const PORT_TRIES: usize = 5;
/// How long one that failed may take to be cleaned up before that is told.
const CLEANING: Duration = Duration::from_secs(5);

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ListQuery {
    task_id: Option<String>,
    state: Option<String>,
    host_id: Option<String>,
    limit: Option<String>,
    cursor: Option<String>,
}

/// Answers when the environment runs, or has failed and is cleaned up.
pub(super) async fn create(
    State(shared): SharedState,
    caller: Caller,
    Body(mut create): Body<EnvironmentCreate, LARGE>,
) -> Result<(StatusCode, Json<Environment>)> {
    let agent = create.agent.take();
    let Asked { task_id, mut kept, mut private, seed } =
        request::check(create, |id| shared.nodes.is_host(id), &shared.environments)?;
    caller.tell(task_id.as_str());
    let seed = match &seed {
        Some(id) => Some(snapshots::seed(&shared, &caller, id).await?),
        None => None,
    };
    kept.seed = seed.as_ref().map(|seed| seed.data.clone());
    if let Some(agent) = agent {
        let agent = chosen::resolve(&shared, agent).await?;
        chosen::keep(agent, &mut kept, &mut private);
    }
    request::check_gpus_there(&kept.spec)?;
    agent::ports_choose(&shared, &mut kept)?;
    let making = Making { caller, task_id, kept, private, seed, redrives: None };
    to_end(async move { Ok((StatusCode::CREATED, Json(make(&shared, making).await?))) }).await
}

/// An environment that is to be made.
pub(super) struct Making {
    /// Who asked for it.
    pub(super) caller: Caller,
    pub(super) task_id: String,
    pub(super) kept: Kept,
    pub(super) private: Private,
    pub(super) seed: Option<chassis_store::Snapshot>,
    /// The kind and the environment of the dead letter that is tried again.
    pub(super) redrives: Option<(String, String)>,
}

/// Makes an environment, and waits until it runs.
pub(super) async fn make(shared: &Arc<Shared>, making: Making) -> Result<Environment> {
    let Making { caller, task_id, mut kept, mut private, seed, redrives } = making;
    let (kind, id) = redrives.unzip();
    // The prefix may have been another then.
    let id = id.unwrap_or_else(|| format!("{}{task_id}", shared.environments.prefix));
    let wait = kept.wait.map(|seconds| Duration::from_secs(seconds.into()));
    let is_alone = shared.nodes.is_alone();
    if is_alone {
        request::check_placement(&kept.spec)?;
        opened(shared, wait.unwrap_or_default()).await?;
    }
    let image = agent::image(shared, &kept.spec.image)?;
    let mut spec = agent::spec(&task_id, &kept, &image)?;
    if let Some(key) = scope(&caller) {
        spec.labels.0.insert(TENANT.to_owned(), key);
    }
    if let Some(seed) = &seed {
        // What it begins from is there, and nowhere else.
        spec.placement.node = Some(snapshots::home(shared, seed)?.name.clone());
    }
    check_specs(shared, &caller, &environment::fleet(), std::slice::from_ref(&spec))
        .await
        .map_err(|failure| not_allowed(failure, kept.spec.storage_gb > 0))?;
    // So that nothing is made in vain. Whoever else asks at the same moment may still be first: the book decides, once it is
    // to book.
    if !is_alone
        && wait.is_none()
        && let Some(refused) = shared.schedule.would_refuse(&spec)
    {
        return Err(request::refused(refused, &id, seed.as_ref()));
    }
    if let Some(agent) = &private.agent {
        chosen::fetch(shared, agent).await?;
    }
    chosen::credentials(&kept.spec, &mut private, false)?;
    let mut failure = None;
    for _ in 0..PORT_TRIES {
        let new = EnvironmentNew {
            placed: None,
            id: id.clone(),
            task_id: task_id.clone(),
            node: shared.node.clone(),
            request: kept.to_json(),
            private: private.to_json(),
            spec: spec.clone(),
            seed: seed.as_ref().map(|seed| seed.id.clone()),
            redrives: kind.clone(),
        };
        failpoint("environment_create:before");
        let made = match shared.store.environment_create(new).await {
            Ok(made) => made,
            // The one before it is still being cleaned up.
            Err(error) => return Err(failure.unwrap_or_else(|| error.into())),
        };
        failpoint("environment_create:stored");
        agents_changed(shared, vec![made.key.clone()]).await;
        match running(shared, &made, PATIENCE + wait.unwrap_or_default()).await {
            Ok(made) => return Ok(view::environment(shared, made)),
            Err(failed) => {
                let is_taken = agent::port_is_taken(failed.detail());
                failure = Some(failed.map_detail(|detail| redacted(detail, &private)));
                if !is_taken {
                    break;
                }
            }
        }
        // Free is what nobody has on the machine where it came to be, and only that machine knows.
        agent::ports_choose(shared, &mut kept)?;
        agent::ports_set(&mut spec, &kept);
    }
    Err(failure.unwrap_or_else(agent::no_port))
}

/// Waits until the only host takes something new.
async fn opened(shared: &Shared, patience: Duration) -> Result<()> {
    let began = Instant::now();
    while shared.store.node_is_cordoned().await? {
        let left = patience.saturating_sub(began.elapsed());
        if left.is_zero() {
            return Err(request::no_capacity(format!("{}every host is cordoned", environment::NO_CAPACITY)));
        }
        tokio::time::sleep(left.min(BETWEEN_LOOKS)).await;
    }
    Ok(())
}

/// Waits until it runs, or says why it does not.
async fn running(
    shared: &Arc<Shared>,
    made: &chassis_store::Environment,
    patience: Duration,
) -> Result<chassis_store::Environment> {
    let internal = |message: String| Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message);
    let gone = || internal(format!("environment {} was destroyed before it ran", made.id));
    let Some(agent) = shared.agent(&made.key) else { return Err(gone()) };
    let Some(tended) = &agent.environment else { return Err(gone()) };
    let mut known = tended.subscribe();
    let is_decided = |known: &Known| !known.is_coming();
    let decided = tokio::time::timeout(patience, known.wait_for(is_decided)).await;
    let decided = decided.ok().and_then(|known| Some(known.ok()?.environment()));
    let Some(found) = decided else {
        return Err(internal(format!("environment {} did not run in time; it is destroyed", made.id)));
    };
    let Some(found) = found else { return Err(gone()) };
    if found.state != environment::State::Destroying {
        return Ok(found);
    }
    let reason = found.error.clone().unwrap_or_else(|| "it was destroyed".to_owned());
    let took_too_long = reason.contains(STARTUP_TOO_LONG);
    let refused = tended.refused();
    // Its task may be given again at once.
    let _ = tokio::time::timeout(CLEANING, known.wait_for(Known::is_gone)).await;
    if reason.starts_with(environment::NO_CAPACITY) {
        let reasons = refused.as_ref().map(request::reasons).unwrap_or_default();
        return Err(request::no_capacity(reason).with_details(reasons));
    }
    let message = format!("environment {} did not start: {reason}", made.id);
    Err(if took_too_long { super::body::invalid(message) } else { internal(message) })
}

pub(super) fn no_randomness(_: crate::error::Error) -> Failure {
    let detail = "the random number generator of the system does not answer; nothing was made";
    Failure::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail)
}

/// What this server does for nobody is in this dialect a request that cannot be; whom it lets do what is another matter.
fn not_allowed(failure: Failure, wants_storage: bool) -> Failure {
    if failure.code() != "not_allowed" {
        return failure;
    }
    let mut reasons = failure.detail().to_owned();
    if wants_storage {
        reasons += " (spec.storage_gb is the most that the workspace may hold; leave it out for no limit)";
    }
    super::body::invalid(reasons)
}

pub(super) async fn list(
    State(shared): SharedState,
    Query(query): Query<ListQuery>,
) -> Result<Json<EnvironmentList>> {
    let limit = cursor::limit(query.limit.as_deref());
    let after = cursor::read(query.cursor.as_deref())?;
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    let state = match given(query.state).map(|word| word.parse()) {
        Some(Ok(state)) => Some(state),
        // Nothing is ever in a state that there is not.
        Some(Err(_)) => return Ok(Json(EnvironmentList { environments: Vec::new(), next_cursor: None })),
        None => None,
    };
    let filter = EnvironmentFilter {
        task_id: given(query.task_id),
        state,
        node: given(query.host_id),
        after,
        limit: limit + 1,
    };
    let mut found = shared.store.environment_list(&filter).await?;
    let has_more = found.len() > limit as usize;
    found.truncate(limit as usize);
    let next_cursor = found.last().filter(|_| has_more).map(|last| cursor::write(&last.id));
    let environments = found.into_iter().map(|found| view::environment(&shared, found)).collect();
    Ok(Json(EnvironmentList { environments, next_cursor }))
}

pub(super) async fn show(State(shared): SharedState, Path(id): Path<String>) -> Result<Json<Environment>> {
    let found = shared.store.environment_get(&id).await?;
    Ok(Json(view::environment(&shared, found)))
}

/// Answers when it is gone.
pub(super) async fn destroy(State(shared): SharedState, Path(id): Path<String>) -> Result<StatusCode> {
    to_end(async move {
        failpoint("environment_destroy:before");
        let ending = shared.store.environment_end(&id).await?;
        failpoint("environment_destroy:stored");
        // Subscribed to before it is told, so that its end is not missed.
        let agent = shared.agent(&ending.key);
        let known = agent.as_ref().and_then(|agent| Some(agent.environment.as_ref()?.subscribe()));
        agents_changed(&shared, vec![ending.key.clone()]).await;
        let Some((agent, mut known)) = agent.zip(known) else { return Ok(StatusCode::NO_CONTENT) };
        let gone = known.wait_for(Known::is_gone);
        let ended = tokio::time::timeout(PATIENCE, async {
            tokio::select! {
                _ = gone => None,
                host = host_is_away(&shared, &agent) => Some(host),
            }
        });
        match ended.await {
            Ok(None) => return Ok(StatusCode::NO_CONTENT),
            Ok(Some(host)) => {
                let message = format!(
                    "host {host} does not answer; environment {id} is {}, and gone when the host is back",
                    environment::State::Destroying
                );
                return Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message));
            }
            Err(_) => {}
        }
        let message = format!("environment {id} is still being destroyed; it goes on by itself");
        Err(Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message))
    })
    .await
}

/// Waits until the host of an environment is known not to answer.
async fn host_is_away(shared: &Shared, agent: &AgentController) -> String {
    let mut changed = shared.changed.subscribe();
    loop {
        let placed = agent.state().placed(environment::NUMBER);
        let node = shared.nodes.of(placed.as_ref()).filter(|node| !node.is_own);
        let is_away =
            |node: &NodeLink| shared.is_silent(node) || agent.state().is_unanswered(environment::NUMBER);
        if let Some(node) = node.filter(|node| is_away(node)) {
            return node.name.to_string();
        }
        if changed.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}
