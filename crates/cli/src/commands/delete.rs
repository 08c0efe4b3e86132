//! `chassis delete`: what is deleted keeps its data unless `--cleanup` says otherwise.

use chassis_api::Scope;
use chassis_client::Client;
use chassis_spec::FleetName;

use crate::args::{Delete, Wait};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output::{self, count};
use crate::progress::{self, GONE, Goal};
use crate::scope::{fleet_scope, instance_key, short_name};

pub(super) async fn run(context: &Context, delete: Delete) -> Result<Exit, Failure> {
    match delete {
        Delete::Agent { id, cleanup, wait } => {
            let client = context.connect().await?;
            let scope = client.resolve(&id, None).await?;
            match (&scope.agent, instance_key(&scope)) {
                (_, Some(instance)) => client.instance_delete(&instance, cleanup).await?,
                (Some(agent), None) => client.agent_delete(&scope.fleet, agent, cleanup).await?,
                (None, None) => {
                    return Err(Failure::Usage(format!(
                        "`{id}` is a fleet; use `chassis delete fleet {}`",
                        scope.fleet
                    )));
                }
            }
            finish(context, &client, scope, cleanup, &wait).await
        }
        Delete::Instance { id, cleanup, wait } => {
            let client = context.connect().await?;
            let scope = client.resolve(&id, None).await?;
            let Some(instance) = instance_key(&scope) else {
                let kind = if scope.agent.is_some() { "agent" } else { "fleet" };
                return Err(Failure::Usage(format!(
                    "`{id}` is not one instance, but a whole {kind}; to delete all of it: `chassis delete {kind} {}`",
                    short_name(&scope)
                )));
            };
            client.instance_delete(&instance, cleanup).await?;
            finish(context, &client, scope, cleanup, &wait).await
        }
        Delete::Fleet { name, cleanup, confirm, wait } => {
            check_confirmation(context, &name, cleanup, confirm.as_deref())?;
            let client = context.connect().await?;
            if confirm.is_none() {
                ask_for_name(&client, &name, cleanup).await?;
            }
            client.fleet_delete(&name, cleanup).await?;
            finish(context, &client, fleet_scope(&name), cleanup, &wait).await
        }
    }
}

async fn finish(
    context: &Context,
    client: &Client,
    scope: Scope,
    cleanup: bool,
    options: &Wait,
) -> Result<Exit, Failure> {
    let what = short_name(&scope);
    let fate = if cleanup { "with its data" } else { "its data is kept" };
    if options.no_wait {
        context.terminal.done(&format!("deleting {what}; {fate}"))?;
        return Ok(Exit::Done);
    }
    let goal = Goal { what: what.clone(), state: GONE };
    progress::wait(client, context.terminal, vec![scope], &goal, options).await?;
    let separator = if cleanup { " " } else { "; " };
    context.terminal.done(&format!("deleted {what}{separator}{fate}"))?;
    Ok(Exit::Done)
}

/// A whole fleet is deleted only by somebody who gives its name twice.
fn check_confirmation(
    context: &Context,
    name: &FleetName,
    cleanup: bool,
    confirmed: Option<&str>,
) -> Result<(), Failure> {
    match confirmed {
        Some(confirmed) if confirmed == name.as_str() => Ok(()),
        Some(other) => Err(not_the_name(other, name)),
        None if context.terminal.can_ask() => Ok(()),
        None => {
            let cleanup = if cleanup { " --cleanup" } else { "" };
            Err(Failure::Usage(format!(
                "deleting a fleet must be confirmed; type: chassis delete fleet {name}{cleanup} --confirm={name}"
            )))
        }
    }
}

async fn ask_for_name(client: &Client, name: &FleetName, cleanup: bool) -> Result<(), Failure> {
    let fleet = client.fleet_get(name).await?;
    let fate = if cleanup { "and all their data" } else { "but not their data" };
    let answer = output::ask(&format!(
        "This deletes fleet {name}, its {} and {}, {fate}. Type the fleet's name to go on:",
        count(fleet.agents, "agent"),
        count(fleet.wanted, "instance"),
    ))?;
    if answer == name.as_str() { Ok(()) } else { Err(not_the_name(&answer, name)) }
}

fn not_the_name(answer: &str, name: &FleetName) -> Failure {
    Failure::Usage(format!("`{answer}` is not the fleet's name, {name}; nothing was deleted"))
}
