//! `chassis apply` and `chassis diff`: fleets as files declare them.

use chassis_api::{Applied, Apply as Declaration};
use chassis_client::Client;
use chassis_spec::{AgentSpec, Document, FleetName, Labels};

use crate::args::{Apply, Diff};
use crate::commands::{deploy, diff as difference};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::input;
use crate::scope::only_fleet;

pub(super) async fn run(context: &Context, apply: Apply) -> Result<Exit, Failure> {
    let documents = input::documents(context.terminal, &apply.files.file)?;
    let client = context.connect().await?;
    let applied = declare(&client, documents, apply.prune, apply.dry_run).await?;
    if apply.dry_run {
        difference::print(context.terminal, &applied)?;
    } else {
        deploy::finish(context, &client, &applied, &apply.wait).await?;
    }
    Ok(Exit::Done)
}

pub(super) async fn diff(context: &Context, diff: Diff) -> Result<Exit, Failure> {
    let documents = input::documents(context.terminal, &diff.files.file)?;
    let client = context.connect().await?;
    let applied = declare(&client, documents, diff.prune, true).await?;
    let differs = difference::print(context.terminal, &applied)?;
    Ok(if differs { Exit::Failed } else { Exit::Done })
}

/// Sends one declaration for each fleet: two for the same fleet would prune each other's agents.
async fn declare(
    client: &Client,
    documents: Vec<Document>,
    prune: bool,
    dry_run: bool,
) -> Result<Vec<Applied>, Failure> {
    let mut fleets: Vec<(FleetName, Declaration)> = Vec::new();
    for document in documents {
        let (fleet, labels, agents) = match document {
            Document::Fleet(fleet) => (fleet.name, fleet.labels, fleet.agents),
            Document::Agent(agent) => (fleet_of(client, &agent).await?, Labels::default(), vec![*agent]),
        };
        let index = fleets.iter().position(|(name, _)| *name == fleet).unwrap_or_else(|| {
            let labels = Labels::default();
            fleets.push((
                fleet.clone(),
                Declaration { create_fleet: true, labels, agents: vec![], prune, dry_run },
            ));
            fleets.len() - 1
        });
        let declaration = &mut fleets[index].1;
        declaration.labels.0.extend(labels.0);
        for agent in agents {
            if declaration.agents.iter().any(|other| other.name == agent.name) {
                return Err(Failure::Usage(format!(
                    "agent {} of fleet {fleet} is declared twice",
                    agent.name
                )));
            }
            declaration.agents.push(agent);
        }
    }
    send(client, fleets).await
}

/// Sends what was declared of each fleet. Of several, each is tried before the first is changed, so that what is refused
/// changes nothing; what fails all the same says which were changed.
pub(super) async fn send(
    client: &Client,
    fleets: Vec<(FleetName, Declaration)>,
) -> Result<Vec<Applied>, Failure> {
    if fleets.len() > 1 {
        for (fleet, declaration) in fleets.iter().filter(|(_, declaration)| !declaration.dry_run) {
            client.fleet_apply(fleet, &Declaration { dry_run: true, ..declaration.clone() }).await?;
        }
    }
    let mut applied: Vec<Applied> = Vec::new();
    for (fleet, declaration) in fleets {
        match client.fleet_apply(&fleet, &declaration).await {
            Ok(one) => applied.push(one),
            Err(error) if applied.is_empty() => return Err(error.into()),
            Err(source) => {
                let done: Vec<&str> = applied.iter().map(|applied| applied.fleet.as_str()).collect();
                let (done, failed) = (done.join(", "), fleet.to_string());
                return Err(Failure::Partly { done, failed, source: Box::new(source) });
            }
        }
    }
    Ok(applied)
}

async fn fleet_of(client: &Client, agent: &AgentSpec) -> Result<FleetName, Failure> {
    match &agent.fleet {
        Some(fleet) => Ok(fleet.clone()),
        None => only_fleet(client, "name one as `fleet:` in the YAML").await,
    }
}
