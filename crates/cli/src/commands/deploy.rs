//! `chassis deploy agent`: puts agents into a fleet and waits until they run.

use chassis_api::{AgentChange, AgentOutcome, Applied, Apply, Scope};
use chassis_client::Client;
use chassis_spec::{AgentName, AgentSpec, Document, FleetName, Labels};

use crate::args::{DeployAgent, Wait};
use crate::commands::{apply, diff};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::input;
use crate::output::clean;
use crate::progress::{self, Goal};
use crate::scope::only_fleet;

pub(super) async fn run(context: &Context, deploy: DeployAgent) -> Result<Exit, Failure> {
    let mut agents = agents(context, &deploy)?;
    for agent in &mut agents {
        agent.replicas = deploy.replicas.or(agent.replicas);
    }
    let client = context.connect().await?;
    let mut fleets: Vec<(FleetName, Vec<AgentSpec>)> = Vec::new();
    for agent in agents {
        let fleet = match (&agent.fleet, &deploy.fleet) {
            (Some(fleet), _) | (None, Some(fleet)) => fleet.clone(),
            (None, None) => match fleets.iter().find(|(_, agents)| agents[0].fleet.is_none()) {
                Some((fleet, _)) => fleet.clone(),
                None => only_fleet(&client, "name one with --fleet, or as `fleet:` in the YAML").await?,
            },
        };
        match fleets.iter_mut().find(|(other, _)| *other == fleet) {
            Some((_, agents)) => agents.push(agent),
            None => fleets.push((fleet, vec![agent])),
        }
    }
    let declarations = fleets.into_iter().map(|(fleet, agents)| {
        let (labels, dry_run) = (Labels::default(), deploy.dry_run);
        (fleet, Apply { create_fleet: false, labels, agents, prune: false, dry_run })
    });
    let applied = apply::send(&client, declarations.collect()).await?;
    if deploy.dry_run {
        diff::print(context.terminal, &applied)?;
        return Ok(Exit::Done);
    }
    finish(context, &client, &applied, &deploy.wait).await?;
    Ok(Exit::Done)
}

/// The agents of the files, which name no other fleet than the one that was asked for.
fn agents(context: &Context, deploy: &DeployAgent) -> Result<Vec<AgentSpec>, Failure> {
    let mut agents = Vec::new();
    for document in input::documents(context.terminal, &deploy.files.file)? {
        let agent = match document {
            Document::Agent(agent) => *agent,
            Document::Fleet(fleet) => {
                let files: Vec<String> =
                    deploy.files.file.iter().map(|file| format!("-f {}", file.display())).collect();
                return Err(Failure::Usage(format!(
                    "fleet {} is a whole fleet, not an agent; use `chassis apply {}`",
                    fleet.name,
                    files.join(" ")
                )));
            }
        };
        if let (Some(written), Some(asked)) = (&agent.fleet, &deploy.fleet)
            && written != asked
        {
            return Err(Failure::Usage(format!(
                "the YAML puts {} into fleet {written}, and --fleet into {asked}; leave one of them out",
                agent.name
            )));
        }
        agents.push(agent);
    }
    Ok(agents)
}

/// Waits for what was applied, unless that is not wanted, and says what was done.
pub(super) async fn finish(
    context: &Context,
    client: &Client,
    applied: &[Applied],
    options: &Wait,
) -> Result<(), Failure> {
    let changed: Vec<(&FleetName, &AgentOutcome)> = applied
        .iter()
        .flat_map(|applied| applied.agents.iter().map(|outcome| (&applied.fleet, outcome)))
        .filter(|(_, outcome)| outcome.change != AgentChange::Undeclared)
        .collect();
    for fleet in applied.iter().filter(|applied| applied.fleet_created) {
        context.terminal.done(&format!("created fleet {}", fleet.fleet))?;
    }
    let paused = paused(client, &changed).await?;
    for name in &paused {
        context.terminal.say(&format!(
            "rollouts of {name} are paused: instances stay as they are until `chassis rollout resume {name}`"
        ));
    }
    if options.no_wait || changed.is_empty() || !paused.is_empty() {
        for (fleet, outcome) in &changed {
            context.terminal.done(&what_was_done(fleet, outcome))?;
        }
        return Ok(());
    }
    let scopes = changed
        .iter()
        .map(|(fleet, outcome)| Scope {
            fleet: (*fleet).clone(),
            agent: Some(outcome.agent.clone()),
            number: None,
        })
        .collect();
    let what = match changed.as_slice() {
        [(_, outcome)] => outcome.agent.to_string(),
        several => format!("{} agents", several.len()),
    };
    let goal = Goal { what, state: "running" };
    let waited = progress::wait(client, context.terminal, scopes, &goal, options).await;
    for (fleet, outcome) in changed.iter().filter(|(_, outcome)| outcome.change == AgentChange::Updated) {
        check_rolled_back(client, fleet, &outcome.agent, outcome.revision).await?;
    }
    let progress = waited?;
    for (fleet, outcome) in &changed {
        let done = what_was_done(fleet, outcome);
        let running = match outcome.change {
            AgentChange::Deleted => {
                context.terminal.done(&done)?;
                continue;
            }
            // All instances of a new agent are wanted, so those that are ready run.
            AgentChange::Created if changed.len() == 1 => progress.ready,
            _ => client.agent_get(fleet, &outcome.agent).await?.running,
        };
        context.terminal.done(&format!("{done}: {running} running"))?;
    }
    Ok(())
}

/// The agents whose new revision waits until somebody lets it go on.
async fn paused(client: &Client, changed: &[(&FleetName, &AgentOutcome)]) -> Result<Vec<AgentName>, Failure> {
    let mut paused = Vec::new();
    for (fleet, outcome) in changed.iter().filter(|(_, outcome)| outcome.change == AgentChange::Updated) {
        let agent = client.agent_get(fleet, &outcome.agent).await?;
        if agent.rollout.is_some_and(|rollout| rollout.is_paused()) {
            paused.push(outcome.agent.clone());
        }
    }
    Ok(paused)
}

/// Fails if the revision was undone because it failed.
pub(super) async fn check_rolled_back(
    client: &Client,
    fleet: &FleetName,
    agent: &AgentName,
    revision: u64,
) -> Result<(), Failure> {
    let found = client.agent_get(fleet, agent).await?;
    let undone =
        found.rollout.and_then(|rollout| rollout.undoes).filter(|undone| undone.revision == revision);
    match undone {
        None => Ok(()),
        Some(undone) => Err(Failure::Failed(format!(
            "{agent} revision {revision} failed and was rolled back to revision {} (now revision {}): {}\n\
             see `chassis rollout history {agent}` and `chassis events {agent}`",
            undone.to,
            found.revision,
            clean(&undone.why)
        ))),
    }
}

fn what_was_done(fleet: &FleetName, outcome: &AgentOutcome) -> String {
    let AgentOutcome { agent, revision, replicas_before, replicas_after, .. } = outcome;
    match outcome.change {
        AgentChange::Created | AgentChange::Updated => {
            format!("deployed {agent} revision {revision} to fleet {fleet}")
        }
        AgentChange::Scaled => {
            format!("scaled {agent} in fleet {fleet} from {replicas_before} to {replicas_after}")
        }
        AgentChange::Unchanged => format!("{agent} in fleet {fleet} is unchanged (revision {revision})"),
        AgentChange::Deleted => format!("deleted {agent} from fleet {fleet}; its data is kept"),
        AgentChange::Undeclared => format!("left {agent} in fleet {fleet} alone"),
    }
}
