//! Carries out one step on one instance, and says what the node shows afterwards.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chassis_api::Pull;
use chassis_core::rollout::is_extra;
use chassis_core::{Action, EventKind, InstanceKey, Pin, Reason, RunState, Wanted};
use chassis_node::probe;
use chassis_runtime::{Image, InstanceConfig, InstanceSecrets, PlacedFile, PullProgress, SecretFile};
use chassis_spec::{AgentSpec, ImageName, SecretRef, WhenDown};
use chassis_store::{Scope, Term};
use tokio::sync::{AcquireError, SemaphorePermit};
use tokio::time::timeout;
use tracing::{Instrument, Span};
use zeroize::Zeroizing;

use crate::controller::AgentController;
use crate::environment;
use crate::error::chain;
use crate::failpoint::failpoint;
use crate::fuse::given::{GivenError, given};
use crate::kept_logs;
use crate::lead::NotActing;
use crate::nodes::NodeLink;
use crate::owed;
use crate::policy::spec_refused;
use crate::shared::Shared;
use crate::state::{Outcome, Step};
use crate::traces::TRACE_TARGET;

/// Before it is looked again whether a place says what is wanted of it.
const LEASE_POLL: Duration = Duration::from_secs(1);

/// Why a step failed, for the instance's state.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Runtime(#[from] chassis_runtime::Error),
    #[error(transparent)]
    Store(#[from] chassis_store::Error),
    #[error(transparent)]
    Download(crate::download::DownloadError),
    #[error("{0}")]
    Secret(String),
    #[error("{0}")]
    NotAllowed(String),
    #[error("the server is ending")]
    Ending(#[from] AcquireError),
    #[error(transparent)]
    NotActing(#[from] NotActing),
}

pub(crate) async fn act(
    shared: &Arc<Shared>,
    agent: &AgentController,
    term: Option<Term>,
    step: &Step,
) -> Outcome {
    let key = agent.key();
    let span = match step {
        Step::Look { .. } => Span::none(),
        Step::Act(action) => tracing::info_span!(
            target: TRACE_TARGET,
            "act",
            otel.name = format!("{} instance", action.word()),
            fleet = key.fleet.as_str(),
            agent = key.agent.as_str(),
            number = action.number(),
        ),
    };
    match try_act(shared, agent, term, step).instrument(span).await {
        Ok(outcome) => outcome,
        Err(Failure::NotActing(_)) => Outcome::Abandoned,
        Err(Failure::Store(error)) if term.is_some_and(|term| shared.is_fenced(term, &error)) => {
            Outcome::Abandoned
        }
        Err(failure) => {
            let reason = failure.reason();
            if reason == Reason::RuntimeUnavailable {
                shared.node_of(&key.instance(step.number())).suspect.notify_one();
            }
            Outcome::Failed { reason, message: chain(&failure) }
        }
    }
}

/// Many steps wait for their turn at once: what is large and not for all of them is put elsewhere.
async fn try_act(
    shared: &Arc<Shared>,
    agent: &AgentController,
    term: Option<Term>,
    step: &Step,
) -> Result<Outcome, Failure> {
    let action = match step {
        Step::Look { number, id } => return inspect(shared, agent, *number, id).await,
        Step::Act(action) => action,
    };
    // It may have waited in its line for longer than this server acts.
    let term = term.filter(|term| shared.lead.term() == Some(*term)).ok_or(NotActing)?;
    let metrics = &shared.metrics;
    let hands = |number: u32| shared.hands_on(term, &agent.key().instance(number));
    match action {
        Action::Create { number } => {
            let (revision, spec, image) = image_pinned(shared, agent, term, *number).await?;
            let key = agent.state().instance_key(*number);
            check_allowed(shared, &spec)?;
            let _slot = slot_take(shared).await?;
            failpoint("create:before");
            // The place and its epoch belong together, whatever is decided meanwhile.
            let (node, epoch, leased) = place_lease(shared, agent, term, *number, &spec).await?;
            let config = InstanceConfig { key, revision, spec, image, epoch, leased };
            let runtime = shared.hands_at(term, &node)?;
            let observed = metrics.step("create", runtime.instance_create(&config)).await?;
            failpoint("create:after");
            Ok(Outcome::Seen { observed: Some(observed), asked: Instant::now() })
        }
        Action::Start { number, id } => {
            let spec = start_spec(shared, agent, *number).await?;
            check_allowed(shared, &spec)?;
            let secrets = match Box::pin(given(shared, agent, &spec)).await? {
                Some(given) => given,
                None => secrets_gather(shared, &spec).await?,
            };
            let _slot = slot_take(shared).await?;
            failpoint("start:before");
            if !environment::begin(agent) {
                // It is somebody else's to start by now.
                return Err(NotActing.into());
            }
            metrics.step("start", hands(*number)?.instance_start(id, secrets)).await?;
            failpoint("start:after");
            inspect(shared, agent, *number, id).await
        }
        Action::Stop { number, id } => {
            Box::pin(prepare(shared, agent, term, *number)).await?;
            if !Box::pin(drain(shared, agent, term, *number, id)).await? {
                return inspect(shared, agent, *number, id).await;
            }
            failpoint("stop:before");
            metrics.step("stop", hands(*number)?.instance_stop(id)).await?;
            failpoint("stop:after");
            inspect(shared, agent, *number, id).await
        }
        Action::Remove { number, id } => {
            hands(*number)?;
            output_keep(shared, agent, term, *number, id).await;
            failpoint("keep:after");
            let _slot = slot_take(shared).await?;
            failpoint("remove:before");
            metrics.step("remove", hands(*number)?.instance_remove(id)).await?;
            failpoint("remove:after");
            Ok(Outcome::Seen { observed: None, asked: Instant::now() })
        }
        Action::Rename { number, id } => {
            let key = agent.state().instance_key(*number);
            hands(*number)?.instance_rename(id, &key).await?;
            inspect(shared, agent, *number, id).await
        }
        Action::Update { number, id } => {
            let spec = Arc::clone(&agent.state().spec);
            failpoint("update:before");
            metrics.step("update", hands(*number)?.instance_update(id, &spec.resources)).await?;
            failpoint("update:after");
            inspect(shared, agent, *number, id).await
        }
        Action::Forget { number, cleanup } => {
            let key = agent.state().instance_key(*number);
            failpoint("forget:before");
            if *cleanup {
                let (placed, home) = agent.state().place_of(*number);
                let home = home.filter(|_| placed.is_none()).and_then(|home| shared.nodes.get(&home));
                if home.is_some_and(|home| !home.is_up()) {
                    // It waits for nothing, and its data for its node.
                    let of = Scope {
                        fleet: key.fleet.clone(),
                        agent: Some(key.agent.clone()),
                        number: Some(*number),
                    };
                    owed::owe(shared, term, &of, &shared.nodes_answering()).await?;
                } else {
                    hands(*number)?.data_remove(&key).await?;
                }
                shared.kept_logs.remove(&key).await;
                failpoint("forget:cleaned");
            }
            match shared.store.instance_forget(term, &key, *cleanup).await {
                Ok(()) | Err(chassis_store::Error::InstanceNotFound(_)) => {}
                // Wanted back, or its data wanted gone, since this step was decided: a reload says which.
                Err(chassis_store::Error::NotDeleting(_)) => {
                    return Ok(Outcome::Seen { observed: None, asked: Instant::now() });
                }
                Err(error) => return Err(error.into()),
            }
            failpoint("forget:after");
            Ok(Outcome::Forgotten)
        }
    }
}

/// The place for a new container, which says of it what the definition wants: that it ends with the lease of its node, or does
/// not. Before it is made that is in the store, so that nothing is ever placed elsewhere that does not end.
async fn place_lease(
    shared: &Shared,
    agent: &AgentController,
    term: Term,
    number: u32,
    spec: &AgentSpec,
) -> Result<(Arc<NodeLink>, u64, bool), Failure> {
    let key = agent.key().instance(number);
    let mut changed = shared.changed.subscribe();
    loop {
        changed.mark_unchanged();
        let placed = agent.state().placed(number);
        let node = shared.nodes.of(placed.as_ref()).ok_or(NotActing)?;
        let wanted = !node.is_own && spec.placement.when_node_down == WhenDown::Move;
        let (epoch, leased) = placed.as_ref().map_or((0, false), |placed| (placed.epoch, placed.leased));
        // An extra instance of a rollout is in no book, and ends with the lease like those that it stands in for.
        if leased == wanted || is_extra(number) {
            return Ok((node, epoch, wanted));
        }
        if placed.is_some_and(|placed| placed.ending.is_some()) || shared.lead.term() != Some(term) {
            return Err(NotActing.into());
        }
        shared.schedule.lease_set(term, &key, epoch, wanted).ok_or(NotActing)?;
        let _ = timeout(LEASE_POLL, changed.changed()).await;
    }
}

/// Waits until the runtime may be given more to do.
async fn slot_take(shared: &Shared) -> Result<SemaphorePermit<'_>, AcquireError> {
    shared.metrics.step("wait", shared.work.acquire()).await
}

/// Has an agent that works finish that before its signal; one that is unhealthy would only use up the time. False if it is
/// not to be stopped.
async fn drain(
    shared: &Arc<Shared>,
    agent: &AgentController,
    term: Term,
    number: u32,
    id: &str,
) -> Result<bool, Failure> {
    let Some(drain) = agent.state().drain(number) else { return Ok(true) };
    let environment = shared.store.environment_find(agent.key()).await?;
    if environment.as_ref().is_some_and(environment::is_thrown_away) {
        return Ok(true);
    }
    let runtime = shared.hands_on(term, &agent.key().instance(number))?;
    let Err(message) = probe::drain(&*runtime, id, &drain).await else { return Ok(true) };
    agent.state().note_event(number, EventKind::DrainFailed { message: message.clone() });
    match environment {
        Some(environment) => Ok(environment::drain_failed(shared, term, &environment, id, &message).await?),
        None => Ok(true),
    }
}

fn check_allowed(shared: &Shared, spec: &AgentSpec) -> Result<(), Failure> {
    spec_refused(shared, spec).map_or(Ok(()), |why| Err(Failure::NotAllowed(why)))
}

/// Copies what the container has printed, unless it printed nothing or all data is to go.
async fn output_keep(shared: &Shared, agent: &AgentController, term: Term, number: u32, id: &str) {
    let (key, keep) = {
        let state = agent.state();
        let Some(slot) = state.slots.get(&number) else { return };
        let instance = &slot.instance;
        let ran = instance.observed.as_ref().is_some_and(|observed| observed.state != RunState::Created);
        if !ran || instance.desired.wanted == (Wanted::Absent { cleanup: true }) {
            return;
        }
        (state.instance_key(number), state.spec.logs.keep)
    };
    kept_logs::keep(shared, &*shared.runtime_of(&key), term, &key, id, keep).await;
}

async fn inspect(
    shared: &Shared,
    agent: &AgentController,
    number: u32,
    id: &str,
) -> Result<Outcome, Failure> {
    let asked = Instant::now();
    let owned = shared.runtime_of(&agent.key().instance(number)).instance_inspect(id).await?;
    Ok(Outcome::Seen { observed: owned.map(|owned| owned.observed), asked })
}

/// Makes sure that another container can take over before one that runs is taken down for it.
async fn prepare(shared: &Shared, agent: &AgentController, term: Term, number: u32) -> Result<(), Failure> {
    let spec = {
        let state = agent.state();
        if !state.is_replaced(number) {
            return Ok(());
        }
        Arc::clone(&state.spec)
    };
    check_allowed(shared, &spec)?;
    image_pinned(shared, agent, term, number).await?;
    secrets_gather(shared, &spec).await?;
    for fleet in spec.network.fleets() {
        match shared.store.fleet_get(fleet).await {
            Err(chassis_store::Error::FleetNotFound(_)) => {
                return Err(chassis_runtime::Error::no_fleet(fleet).into());
            }
            found => found?,
        };
    }
    Ok(shared.runtime_of(&agent.key().instance(number)).spec_check(&spec).await?)
}

/// The definition that a container was made from: an earlier one only where a rollout is paused.
async fn start_spec(
    shared: &Shared,
    agent: &AgentController,
    number: u32,
) -> Result<Arc<AgentSpec>, Failure> {
    let (spec, other) = {
        let state = agent.state();
        (Arc::clone(&state.spec), state.other_revision(number))
    };
    match other {
        Some(revision) => Ok(shared.store.revision_get(agent.key(), revision).await?.spec),
        None => Ok(spec),
    }
}

/// The present revision and its image: what its name meant when it was first needed, and that alone.
async fn image_pinned(
    shared: &Shared,
    agent: &AgentController,
    term: Term,
    number: u32,
) -> Result<(u64, Arc<AgentSpec>, Arc<Image>), Failure> {
    let key = agent.key().instance(number);
    let present = || {
        let state = agent.state();
        (state.revision, Arc::clone(&state.spec), state.pin.clone())
    };
    let (mut revision, mut spec, mut held) = present();
    // What is known already is prepared by each node for itself, however long another one takes.
    let _pinning = if held.is_none() { Some(agent.pinning.lock().await) } else { None };
    if held.is_none() {
        (revision, spec, held) = present();
    }
    let name = &spec.image;
    if let Some(pin) = held {
        let image = image_prepare(shared, term, &key, name, Some(&pin)).await?;
        return Ok((revision, spec, image));
    }
    let image = image_prepare(shared, term, &key, name, None).await?;
    let pin = Pin { id: Some(image.id.clone()), digest: image.digest.clone() };
    failpoint("pin:before");
    let held = shared.store.revision_pin(term, agent.key(), revision, &pin).await?;
    failpoint("pin:after");
    agent.state().pin_set(revision, held.clone());
    let image =
        if held == pin { image } else { image_prepare(shared, term, &key, name, Some(&held)).await? };
    Ok((revision, spec, image))
}

/// Finds or pulls the image, and shows the progress of a pull to whoever waits.
async fn image_prepare(
    shared: &Shared,
    term: Term,
    key: &InstanceKey,
    image: &ImageName,
    pin: Option<&Pin>,
) -> Result<Arc<Image>, Failure> {
    let progress = |progress: PullProgress| {
        let pull = Pull {
            image: image.to_string(),
            layers: progress.layers,
            layers_done: progress.layers_done,
            bytes_done: progress.bytes_done,
            bytes_total: progress.bytes_total,
        };
        shared.pulls().insert(image.to_string(), pull);
        shared.changed.send_replace(());
    };
    let runtime = shared.hands_on(term, key)?;
    let prepare = async {
        match pin {
            Some(pin) => runtime.image_pinned(image, pin, &progress).await,
            None => runtime.image_prepare(image, &progress).await,
        }
    };
    let prepared = shared.metrics.step("image", prepare).await;
    shared.pulls().remove(image.as_str());
    Ok(prepared?)
}

/// Gathers what is given to the agent at this start: the secrets that it names, in the form in which it gets them, its files
/// and its startup script.
async fn secrets_gather(shared: &Shared, spec: &AgentSpec) -> Result<InstanceSecrets, Failure> {
    let mut secrets = InstanceSecrets::default();
    for from in &spec.env_from {
        let text = secret_text(shared, &from.secret).await?;
        for (line, number) in text.lines().zip(1..) {
            let line = line.trim_start();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (name, value) = line.split_once('=').ok_or_else(|| {
                Failure::Secret(format!("line {number} of {} is not NAME=value", from.secret))
            })?;
            secrets
                .env
                .push((format!("{}{}", from.prefix, name.trim_end()), Zeroizing::new(value.to_owned())));
        }
    }
    for variable in &spec.env {
        let Some(reference) = &variable.value_from else { continue };
        let text = secret_text(shared, reference).await?;
        // A file made with an editor or `echo` ends in a line break that nobody means.
        let value =
            text.strip_suffix('\n').map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
        secrets.env.push((variable.name.to_string(), Zeroizing::new(value.to_owned())));
    }
    for volume in &spec.volumes {
        let Some(reference) = &volume.secret else { continue };
        let content = secret_read(shared, reference).await?;
        secrets.files.push(SecretFile { path: volume.mount_path.clone(), content });
    }
    for file in &spec.files {
        let content = match &file.secret {
            Some(reference) => secret_read(shared, reference).await?,
            None => Zeroizing::new(file.content.clone().unwrap_or_default().into_bytes()),
        };
        secrets.placed.push(PlacedFile { path: file.path.clone(), content, executable: file.executable });
    }
    secrets.startup.clone_from(&spec.startup);
    Ok(secrets)
}

async fn secret_read(shared: &Shared, reference: &SecretRef) -> Result<Zeroizing<Vec<u8>>, Failure> {
    Ok(shared.store.secret_read(&reference.fleet, &reference.name).await?)
}

async fn secret_text(shared: &Shared, reference: &SecretRef) -> Result<Zeroizing<String>, Failure> {
    let bytes = secret_read(shared, reference).await?;
    let text = std::str::from_utf8(&bytes).ok().filter(|text| !text.contains('\0'));
    text.map(|text| Zeroizing::new(text.to_owned())).ok_or_else(|| {
        Failure::Secret(format!(
            "{reference} is not text; use it as a file: `volumes: [{{secret: {reference}, …}}]`"
        ))
    })
}

impl From<GivenError> for Failure {
    fn from(error: GivenError) -> Failure {
        match error {
            GivenError::Store(error) => Failure::Store(error),
            GivenError::Download(error) => Failure::Download(error),
        }
    }
}

impl Failure {
    fn reason(&self) -> Reason {
        match self {
            Failure::Runtime(error) => error.reason(),
            Failure::Store(
                chassis_store::Error::AgentNotFound { .. } | chassis_store::Error::RevisionNotFound { .. },
            ) => Reason::StorageUnusable,
            Failure::Store(error) => match error.kind() {
                chassis_store::ErrorKind::NotFound => Reason::SecretMissing,
                _ => Reason::StorageUnusable,
            },
            Failure::Secret(_) => Reason::SecretMissing,
            Failure::NotAllowed(_) | Failure::Download(_) => Reason::Rejected,
            Failure::Ending(_) | Failure::NotActing(_) => Reason::RuntimeUnavailable,
        }
    }
}
