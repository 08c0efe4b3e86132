//! `chassis wait`: until instances are in a state, or cannot get there as things are.
//!
//! Changes nothing, and so also waits for what somebody else does. Events say when to look again; what changes with
//! time alone is looked at each second.

use std::fmt::Write as _;
use std::time::Duration;

use chassis_api::{
    Agent, EventQuery, HealthState, Instance, Phase, Progress, ProgressQuery, ProgressState, Scope,
};
use chassis_client::Client;
use chassis_spec::RestartPolicy;
use futures_util::StreamExt;
use jiff::{SignedDuration, Timestamp};

use crate::args::{WaitFor, WaitState};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output::{clean, count};
use crate::scope::{find_words, not_found, short_names};

const REFRESH: Duration = Duration::from_secs(1);
/// Events come in bursts; one look is enough for each.
const BURST: Duration = Duration::from_millis(50);
/// When an instance that has a check shows it.
const SETTLED: SignedDuration = SignedDuration::from_secs(5);
/// Instances that are named when a wait ends badly.
const MOST_NAMED: usize = 10;

/// What there is of what is waited for.
struct Picture {
    /// Names that still mean something.
    left: usize,
    agents: Vec<Agent>,
    instances: Vec<Instance>,
    /// How far the server sees them on the way to what is wanted of them.
    progress: Progress,
}

enum Verdict {
    /// So many are as they should be.
    Done(usize),
    /// What is missing.
    Waiting(String),
    /// Why nothing that is under way leads there.
    Impossible(String),
}

pub(super) async fn run(context: &Context, args: WaitFor) -> Result<Exit, Failure> {
    let client = context.connect().await?;
    let named = find_words(&client, &args.target).await?;
    let deleted = args.state == WaitState::Deleted;
    if !named.missing.is_empty() && !deleted {
        return Err(not_found(&named.missing));
    }
    let what = if named.scopes.is_empty() { args.target.join(" ") } else { short_names(&named.scopes) };
    let mut missing = "no news of it".to_owned();
    let waiting = follow(&client, &named.scopes, args.state, &what, &mut missing);
    match tokio::time::timeout(args.timeout.unsigned_abs(), waiting).await {
        Ok(done) => {
            let done = done?;
            let counted =
                if deleted { String::new() } else { format!(": {}", count(done as u64, "instance")) };
            context.terminal.done(&format!("{what} {}{counted}", word(args.state)))?;
            Ok(Exit::Done)
        }
        Err(_) => Err(Failure::TimedOut(format!(
            "{what} not {} within {:#}: {missing}\n`chassis describe` shows why",
            word(args.state),
            args.timeout
        ))),
    }
}

/// Returns how many instances are as they should be, once all are.
async fn follow(
    client: &Client,
    scopes: &[Scope],
    state: WaitState,
    what: &str,
    missing: &mut String,
) -> Result<usize, Failure> {
    if scopes.is_empty() {
        return Ok(0);
    }
    // Before the first look, so that nothing falls between the two.
    let mut events = client.event_follow(&event_query(client, scopes).await?).await?;
    loop {
        match verdict(state, &look(client, scopes).await?) {
            Verdict::Done(number) => return Ok(number),
            Verdict::Impossible(why) => {
                return Err(Failure::Failed(format!(
                    "{what} cannot get {} as things are:{why}",
                    word(state)
                )));
            }
            Verdict::Waiting(what) => *missing = what,
        }
        if let Ok(event) = tokio::time::timeout(REFRESH, events.next()).await {
            event.transpose()?.ok_or_else(|| {
                Failure::Failed(format!("the server ended while {what} was being waited for; wait again"))
            })?;
            tokio::time::sleep(BURST).await;
        }
    }
}

/// Everything from now on that may concern them.
async fn event_query(client: &Client, scopes: &[Scope]) -> Result<EventQuery, Failure> {
    let newest = client.event_list(&EventQuery { limit: Some(1), ..EventQuery::default() }).await?;
    let fleet = scopes.first().map(|scope| scope.fleet.clone());
    Ok(EventQuery {
        fleet: fleet.filter(|fleet| scopes.iter().all(|scope| scope.fleet == *fleet)),
        after: Some(newest.last().map_or(0, |event| event.id)),
        ..EventQuery::default()
    })
}

async fn look(client: &Client, scopes: &[Scope]) -> Result<Picture, Failure> {
    let query = ProgressQuery { scopes: scopes.to_vec() };
    let progress = client.progress(&query).await?.next().await.transpose()?;
    let progress = progress.ok_or_else(|| Failure::Failed("the server ended; wait again".to_owned()))?;
    let mut picture = Picture { left: 0, agents: Vec::new(), instances: Vec::new(), progress };
    for scope in scopes {
        let agents = match &scope.agent {
            Some(agent) => or_gone(client.agent_get(&scope.fleet, agent).await)?.into_iter().collect(),
            None => client.agent_list(Some(&scope.fleet)).await?,
        };
        let mut instances = client.instance_list(Some(&scope.fleet), scope.agent.as_ref()).await?;
        instances.retain(|instance| scope.number.is_none_or(|number| instance.number == number));
        let is_left = match (&scope.agent, scope.number) {
            (None, _) => or_gone(client.fleet_get(&scope.fleet).await)?.is_some(),
            (Some(_), None) => !agents.is_empty(),
            (Some(_), Some(_)) => !instances.is_empty(),
        };
        picture.left += usize::from(is_left);
        picture.agents.extend(agents);
        picture.instances.extend(instances);
    }
    Ok(picture)
}

fn or_gone<T>(answer: Result<T, chassis_client::Error>) -> Result<Option<T>, Failure> {
    match answer {
        Err(error) if error.is_not_found() => Ok(None),
        answer => Ok(Some(answer?)),
    }
}

fn verdict(state: WaitState, picture: &Picture) -> Verdict {
    let instances = &picture.instances;
    if state == WaitState::Deleted && picture.left == 0 {
        return Verdict::Done(0);
    }
    let missing: Vec<&Instance> = instances.iter().filter(|instance| !is_so(state, instance)).collect();
    if let Some(why) = impossible(state, picture, &missing) {
        return Verdict::Impossible(why);
    }
    let unready = match state {
        WaitState::Deleted => true,
        // Whether it is the present revision, and has not just crashed, only the server knows.
        WaitState::Ready => picture.progress.state != ProgressState::Done,
        WaitState::Running | WaitState::Healthy | WaitState::Stopped | WaitState::Completed => false,
    };
    if missing.is_empty() && !unready {
        return Verdict::Done(instances.len());
    }
    if missing.is_empty() && state != WaitState::Deleted {
        let Progress { ready, total, stuck, .. } = &picture.progress;
        let why =
            stuck.iter().map(|one| format!("\n  {}: {}", one.instance.short_name(), clean(&one.message)));
        return Verdict::Waiting(format!("{ready} of {} ready{}", count(*total, "instance"), listed(why)));
    }
    let named = missing.iter().map(|instance| {
        let why = instance.message.as_deref().map(|why| format!(": {}", clean(why))).unwrap_or_default();
        let health = instance.health.map(|health| format!(", {health:?}")).unwrap_or_default();
        format!("\n  {}-{} is {:?}{health}{why}", instance.agent, instance.number, instance.phase)
    });
    Verdict::Waiting(format!("{} missing{}", missing.len(), listed(named)))
}

fn is_so(state: WaitState, instance: &Instance) -> bool {
    match state {
        WaitState::Running | WaitState::Ready => instance.phase == Phase::Running,
        WaitState::Healthy => {
            instance.phase == Phase::Running && instance.health == Some(HealthState::Healthy)
        }
        WaitState::Stopped => matches!(instance.phase, Phase::Stopped | Phase::Completed | Phase::Failed),
        WaitState::Completed => instance.phase == Phase::Completed,
        WaitState::Deleted => false,
    }
}

/// Why nothing that is under way leads there, if that is so: behind a blank, or in lines of their own.
fn impossible(state: WaitState, picture: &Picture, missing: &[&Instance]) -> Option<String> {
    let runs = !matches!(state, WaitState::Stopped | WaitState::Deleted);
    if runs && picture.instances.is_empty() {
        return Some(" there is no instance; deploy or scale it first".to_owned());
    }
    if state == WaitState::Completed
        && let Some(agent) =
            picture.agents.iter().find(|one| one.spec.restart_policy == RestartPolicy::Always)
    {
        return Some(format!(
            " {} is started again whenever it ends, by its `restartPolicy: always`",
            agent.name
        ));
    }
    let ended = missing.iter().filter_map(|instance| {
        let name = format!("{}-{}", instance.agent, instance.number);
        match instance.phase {
            Phase::Running if state == WaitState::Healthy && is_unchecked(instance) => {
                Some(format!("\n  {name} has no health check; `--for ready` asks for none"))
            }
            Phase::Stopped if runs => {
                Some(format!("\n  {name} is stopped; `chassis start {name}` starts it"))
            }
            Phase::Completed if runs => {
                Some(format!("\n  {name} has ended, and its restart policy does not start it again"))
            }
            _ => None,
        }
    });
    let stuck = picture.progress.stuck.iter().filter(|stuck| {
        let key = &stuck.instance;
        // What runs may yet become healthy: to wait for that is what was asked for.
        picture.progress.state == ProgressState::Stuck
            && stuck.phase != Phase::Running
            && missing
                .iter()
                .any(|one| (&one.fleet, &one.agent, one.number) == (&key.fleet, &key.agent, key.number))
    });
    let stuck = stuck.map(|stuck| format!("\n  {}: {}", stuck.instance.short_name(), clean(&stuck.message)));
    let why = listed(ended.chain(stuck));
    (!why.is_empty()).then_some(why)
}

/// True if nothing asks after its health: known a moment after its start, when an image's own check has been found.
fn is_unchecked(instance: &Instance) -> bool {
    let runs_for = instance.started_at.map(|started_at| Timestamp::now().duration_since(started_at));
    instance.health.is_none() && runs_for.is_some_and(|time| time > SETTLED)
}

fn listed(lines: impl Iterator<Item = String>) -> String {
    let lines: Vec<String> = lines.collect();
    let mut text: String = lines.iter().take(MOST_NAMED).map(String::as_str).collect();
    if let Some(more) = lines.len().checked_sub(MOST_NAMED).filter(|more| *more > 0) {
        let _ = write!(text, "\n  and {}", count(more as u64, "more instance"));
    }
    text
}

fn word(state: WaitState) -> &'static str {
    match state {
        WaitState::Running => "running",
        WaitState::Ready => "ready",
        WaitState::Healthy => "healthy",
        WaitState::Stopped => "stopped",
        WaitState::Deleted => "deleted",
        WaitState::Completed => "completed",
    }
}
