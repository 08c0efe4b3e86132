//! `chassis rollout`: how far an agent's present revision is, what came before it, and the way back.

use std::fmt::Write as _;

use chassis_api::{
    AgentChange, Applied, Revision, RevisionOutcome, RolloutState, RolloutStatus, RolloutUndo, Scope,
};
use chassis_client::Client;
use chassis_spec::{AgentName, FleetName};
use jiff::Timestamp;

use crate::args::{Rollout, RolloutHistory, RolloutStatusArgs, RolloutUndoArgs, Wait};
use crate::commands::{deploy, diff};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output::{self, Cell, Color, Table, Terminal, age, clean, until};
use crate::progress::{self, Goal};
use crate::scope::resolve_words;

pub(super) async fn run(context: &Context, rollout: Rollout) -> Result<Exit, Failure> {
    match rollout {
        Rollout::Status(args) => status(context, args).await,
        Rollout::History(args) => history(context, args).await,
        Rollout::Undo(args) => undo(context, args).await,
        Rollout::Pause { target } => pause(context, &target.target, true).await,
        Rollout::Resume { target, wait } => resume(context, &target.target, &wait).await,
    }
}

/// The agent that the words name; one of its instances names it too.
pub(super) async fn resolve_agent(
    client: &Client,
    words: &[String],
) -> Result<(FleetName, AgentName), Failure> {
    let scopes = resolve_words(client, words).await?;
    match scopes.as_slice() {
        [Scope { fleet, agent: Some(agent), .. }] => Ok((fleet.clone(), agent.clone())),
        [Scope { fleet, .. }] => Err(Failure::Usage(format!("{fleet} is a fleet; name an agent of it"))),
        _ => Err(Failure::Usage("name one agent".to_owned())),
    }
}

async fn status(context: &Context, args: RolloutStatusArgs) -> Result<Exit, Failure> {
    let client = context.connect().await?;
    let (fleet, agent) = resolve_agent(&client, &args.target.target).await?;
    let mut status = client.rollout_get(&fleet, &agent).await?;
    let is_under_way = status.rollout.as_ref().is_some_and(chassis_api::Rollout::is_progressing);
    if is_under_way && status.wanted > 0 && !args.wait.no_wait {
        let revision = status.revision;
        await_end(context, &client, &fleet, &agent, &args.wait).await?;
        deploy::check_rolled_back(&client, &fleet, &agent, revision).await?;
        status = client.rollout_get(&fleet, &agent).await?;
    }
    let names = || vec![format!("{fleet}/{agent}")];
    output::print(args.output.output, &status, names, |_| describe(context.terminal, &status))?;
    let failed = status.rollout.as_ref().is_some_and(|rollout| rollout.state == RolloutState::Failed);
    Ok(if failed { Exit::Failed } else { Exit::Done })
}

async fn await_end(
    context: &Context,
    client: &Client,
    fleet: &FleetName,
    agent: &AgentName,
    wait: &Wait,
) -> Result<(), Failure> {
    let goal = Goal { what: agent.to_string(), state: "running" };
    let scope = Scope { fleet: fleet.clone(), agent: Some(agent.clone()), number: None };
    progress::wait(client, context.terminal, vec![scope], &goal, wait).await.map(drop)
}

fn describe(terminal: Terminal, status: &RolloutStatus) -> String {
    let now = Timestamp::now();
    let RolloutStatus { fleet, agent, revision, wanted, updated, ready, .. } = status;
    let mut table = Table::without_header(terminal);
    table.row(["agent:".into(), format!("{fleet}/{agent}").into()]);
    table.row(["revision:".into(), (*revision).into()]);
    let (word, color) = match status.rollout.as_ref().map(|rollout| rollout.state) {
        Some(RolloutState::Progressing) if *wanted == 0 => {
            ("waits for an instance that should run", Color::Dim)
        }
        Some(RolloutState::Progressing) => ("progressing", Color::Yellow),
        Some(RolloutState::Paused) => ("paused", Color::Yellow),
        Some(RolloutState::Failed) => ("failed", Color::Red),
        Some(RolloutState::RolledBack) => ("rolled back", Color::Yellow),
        Some(RolloutState::Complete) | None => ("complete", Color::Green),
    };
    table.row(["state:".into(), Cell::colored(word, color)]);
    let mut instances = format!("{ready} of {wanted} ready, {updated} updated");
    if status.extra > 0 {
        let _ = write!(instances, ", {} extra", status.extra);
    }
    table.row(["instances:".into(), instances.into()]);
    if let Some(rollout) = &status.rollout {
        table.row(["begun:".into(), format!("{} ago", age(rollout.started_at, now)).into()]);
        if let Some(undone) = &rollout.undoes {
            let from = format!("revision {}, back to revision {}", undone.revision, undone.to);
            table.row(["undid:".into(), from.into()]);
            table.row(["because:".into(), clean(&undone.why).into()]);
        } else if let Some(message) = &rollout.message {
            table.row(["because:".into(), clean(message).into()]);
        }
    }
    if let Some(at) = status.fails_at {
        table.row(["fails:".into(), format!("in {} without progress", until(at, now)).into()]);
    }
    table.render()
}

async fn history(context: &Context, args: RolloutHistory) -> Result<Exit, Failure> {
    let client = context.connect().await?;
    let (fleet, agent) = resolve_agent(&client, &args.target.target).await?;
    let revisions = client.revision_list(&fleet, &agent).await?;
    if let Some(wanted) = args.revision {
        let found = revisions.iter().find(|one| one.revision == wanted).ok_or_else(|| {
            Failure::NotFound(format!(
                "{agent} has no revision {wanted}; `chassis rollout history {agent}` shows those that it has"
            ))
        })?;
        output::data(&output::yaml(&found.spec)?)?;
        return Ok(Exit::Done);
    }
    let names = || revisions.iter().map(|one| one.revision.to_string()).collect();
    output::print(args.output.output, &revisions, names, |wide| table(context.terminal, &revisions, wide))?;
    Ok(Exit::Done)
}

fn table(terminal: Terminal, revisions: &[Revision], wide: bool) -> String {
    let now = Timestamp::now();
    let mut header = vec!["REVISION", "DEPLOYED", "OUTCOME", "IMAGE", "CAUSE"];
    if wide {
        header.extend(["CONTAINERS", "PINNED"]);
    }
    let mut table = Table::new(terminal, &header);
    for one in revisions {
        let outcome = match (one.outcome, one.present) {
            (Some(RevisionOutcome::Complete), true) => Cell::colored("complete, present", Color::Green),
            (Some(RevisionOutcome::Complete), false) => "complete".into(),
            (Some(RevisionOutcome::Failed), _) => Cell::colored("failed", Color::Red),
            (None, true) => Cell::colored("present", Color::Yellow),
            (None, false) => Cell::colored("superseded", Color::Dim),
        };
        let mut cells: Vec<Cell> = vec![
            one.revision.into(),
            format!("{} ago", age(one.deployed_at, now)).into(),
            outcome,
            one.spec.image.as_str().into(),
            clean(&one.cause).into(),
        ];
        if wide {
            let pin = one.pin.as_ref().and_then(|pin| pin.digest.clone().or_else(|| pin.id.clone()));
            cells.push(format!("as of {}", one.template).into());
            cells.push(pin.unwrap_or_else(|| "-".to_owned()).into());
        }
        table.row(cells);
    }
    table.render()
}

async fn undo(context: &Context, args: RolloutUndoArgs) -> Result<Exit, Failure> {
    let client = context.connect().await?;
    let (fleet, agent) = resolve_agent(&client, &args.target.target).await?;
    let undo = RolloutUndo { to_revision: args.to_revision, dry_run: args.dry_run };
    let outcome = client.rollout_undo(&fleet, &agent, &undo).await?;
    let applied = Applied { fleet, fleet_created: false, agents: vec![outcome] };
    if args.dry_run {
        diff::print(context.terminal, &[applied])?;
        return Ok(Exit::Done);
    }
    if applied.agents[0].change == AgentChange::Unchanged {
        context.terminal.say("it is what the present revision has already");
    } else {
        context
            .terminal
            .say("the agent's file says something else now: change it too, or its next deploy undoes this");
    }
    deploy::finish(context, &client, &[applied], &args.wait).await?;
    Ok(Exit::Done)
}

async fn pause(context: &Context, words: &[String], paused: bool) -> Result<Exit, Failure> {
    let client = context.connect().await?;
    let (fleet, agent) = resolve_agent(&client, words).await?;
    let changed = client.rollout_pause(&fleet, &agent, paused).await?.changed;
    let done = match (paused, changed) {
        (true, true) => {
            format!("paused {agent}: no instance is replaced until `chassis rollout resume {agent}`")
        }
        (true, false) => format!("{agent} is paused already"),
        (false, true) => format!("resumed {agent}"),
        (false, false) => format!("{agent} is not paused"),
    };
    context.terminal.done(&done)?;
    Ok(Exit::Done)
}

async fn resume(context: &Context, words: &[String], wait: &Wait) -> Result<Exit, Failure> {
    pause(context, words, false).await?;
    if wait.no_wait {
        return Ok(Exit::Done);
    }
    let client = context.connect().await?;
    let (fleet, agent) = resolve_agent(&client, words).await?;
    let revision = client.rollout_get(&fleet, &agent).await?.revision;
    await_end(context, &client, &fleet, &agent, wait).await?;
    deploy::check_rolled_back(&client, &fleet, &agent, revision).await?;
    Ok(Exit::Done)
}
