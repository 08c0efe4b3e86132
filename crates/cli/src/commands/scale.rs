//! `chassis scale`: changes how many instances an agent has.

use chassis_api::{Agent, Scale as Request, Scope};
use chassis_client::Client;
use chassis_spec::{AgentName, FleetName};

use crate::args::{Scale, Wait};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output::count as counted;
use crate::progress::{self, Goal};

pub(super) async fn run(context: &Context, scale: Scale) -> Result<Exit, Failure> {
    let client = context.connect().await?;
    match scale {
        Scale::Fleet { name, count, agent, wait } => {
            scale_agent(context, &client, name, agent, count, &wait).await
        }
        Scale::Agent { name, count, wait } => {
            let Scope { fleet, agent, number } = client.resolve(&name, None).await?;
            if number.is_some() {
                return Err(Failure::Usage(format!("`{name}` is one instance; scale its agent")));
            }
            let agent = agent.ok_or_else(|| {
                Failure::Usage(format!("`{name}` is a fleet; use `chassis scale fleet {name} {count}`"))
            })?;
            scale_agent(context, &client, fleet, Some(agent), count, &wait).await
        }
    }
}

async fn scale_agent(
    context: &Context,
    client: &Client,
    fleet: FleetName,
    agent: Option<AgentName>,
    count: u32,
    options: &Wait,
) -> Result<Exit, Failure> {
    let before = agent_before(client, &fleet, agent.as_ref()).await?;
    client.fleet_scale(&fleet, &Request { count, agent }).await?;
    // The server took it, so it was clear which agent was meant; but somebody may have deployed it just now.
    let Some(before) = before else {
        context.terminal.done(&format!("scaled fleet {fleet} to {}", counted(count, "instance")))?;
        return Ok(Exit::Done);
    };
    let Agent { name, replicas, .. } = before;
    let result = format!("scaled {name} from {replicas} to {count}");
    if options.no_wait {
        context.terminal.done(&result)?;
    } else {
        let scopes = vec![Scope { fleet: fleet.clone(), agent: Some(name.clone()), number: None }];
        let goal = Goal { what: name.to_string(), state: "ready" };
        progress::wait(client, context.terminal, scopes, &goal, options).await?;
        let running = client.agent_get(&fleet, &name).await?.running;
        context.terminal.done(&format!("{result}: {running} running"))?;
    }
    if count < replicas {
        context.terminal.say(&format!(
            "the data of the others is kept; `chassis scale agent {name} {replicas}` brings them back to it"
        ));
    }
    Ok(Exit::Done)
}

/// The agent that is meant: the named one, or the only one there is.
async fn agent_before(
    client: &Client,
    fleet: &FleetName,
    agent: Option<&AgentName>,
) -> Result<Option<Agent>, Failure> {
    let mut agents = client.agent_list(Some(fleet)).await?;
    agents.retain(|one| agent.is_none_or(|name| one.name == *name));
    Ok(if agents.len() == 1 { agents.pop() } else { None })
}
