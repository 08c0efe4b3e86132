//! `chassis scale`: changes how many instances an agent has.

use chassis_api::{Scale as Request, Scope};
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
    let what = agent.as_ref().map_or_else(|| format!("fleet {fleet}"), ToString::to_string);
    let scaled = client.fleet_scale(&fleet, &Request { count, agent: agent.clone() }).await?;
    let mut running = None;
    if !options.no_wait {
        let scopes = vec![Scope { fleet: fleet.clone(), agent: agent.clone(), number: None }];
        let goal = Goal { what: what.clone(), state: "ready" };
        progress::wait(client, context.terminal, scopes, &goal, options).await?;
        running = Some(match &agent {
            Some(agent) => client.agent_get(&fleet, agent).await?.running,
            None => client.fleet_get(&fleet).await?.running,
        });
    }
    let result = match running {
        Some(running) => format!("scaled {what} to {}: {running} running", counted(count, "instance")),
        None => format!("scaled {what} to {}", counted(count, "instance")),
    };
    context.terminal.done(&result)?;
    if scaled.wanted == 0 || count == 0 {
        context.terminal.say("the data of all instances is kept; scale up and they find it again");
    }
    Ok(Exit::Done)
}
