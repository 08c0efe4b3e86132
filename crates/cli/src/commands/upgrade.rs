//! `chassis upgrade agent`: another image, or what the present one's name means by now.

use chassis_api::{AgentChange, Applied, Upgrade as Request};

use crate::args::UpgradeAgent;
use crate::commands::{deploy, rollout};
use crate::context::Context;
use crate::failure::{Exit, Failure};

pub(super) async fn run(context: &Context, args: UpgradeAgent) -> Result<Exit, Failure> {
    let client = context.connect().await?;
    let (fleet, agent) = rollout::resolve_agent(&client, std::slice::from_ref(&args.name)).await?;
    let request = Request { image: args.image.clone(), refresh: args.refresh };
    let upgraded = client.agent_upgrade(&fleet, &agent, &request).await?;
    let outcome = upgraded.outcome;
    if outcome.change == AgentChange::Unchanged {
        let image = outcome.new.as_ref().map_or_else(String::new, |spec| spec.image.to_string());
        let pin = upgraded.pin.and_then(|pin| pin.digest.or(pin.id));
        let pin = pin.map(|pin| format!(" ({pin})")).unwrap_or_default();
        context.terminal.done(&format!("{agent} is already current: {image}{pin}"))?;
        return Ok(Exit::Done);
    }
    if let Some(image) = &args.image {
        context.terminal.say(&format!(
            "write `image: {image}` into the agent's file too, or its next deploy goes back to the old one"
        ));
    }
    let applied = Applied { fleet, fleet_created: false, agents: vec![outcome] };
    deploy::finish(context, &client, &[applied], &args.wait).await?;
    Ok(Exit::Done)
}
