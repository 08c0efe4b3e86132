//! `chassis node remove`: forgets a node that has nothing, or one whose machine is gone for good.

use std::fmt::Write as _;

use chassis_api::{NodeDetail, NodeName, NodeState};

use super::since;
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output::{self, count};

/// Instances that are named in a message.
const NAMED: usize = 10;

pub(super) async fn run(context: &Context, name: &NodeName, force: bool, yes: bool) -> Result<Exit, Failure> {
    let client = context.connect().await?;
    if !force {
        client.node_remove(name, false).await?;
        context.terminal.done(&format!("removed {name}"))?;
        return Ok(Exit::Done);
    }
    let detail = client.node_get(name).await?;
    if detail.node.url.is_some() && detail.node.state != NodeState::Down {
        return Err(Failure::Failed(format!(
            "{name} is {}, and only a node that is down can be gone for good; `chassis node drain {name} --wait` sends \
             elsewhere what it has{}",
            detail.node.state,
            if detail.node.state == NodeState::Suspect {
                ", or wait: it is down after 99 s of silence"
            } else {
                ""
            }
        )));
    }
    let lost = losses(&detail);
    if !yes {
        if !context.terminal.can_ask() {
            return Err(Failure::Usage(format!(
                "{lost}\nthat must be confirmed; type: chassis node remove {name} --force --yes"
            )));
        }
        let answer = output::ask(&format!("{lost}\nType the node's name to go on:"))?;
        if answer != name.as_str() {
            return Err(Failure::Usage(format!(
                "`{answer}` is not the node's name, {name}; nothing was changed"
            )));
        }
    }
    client.node_remove(name, true).await?;
    context.terminal.done(&format!(
        "removed {name}, and all that it had: {} placed elsewhere, data of {} lost",
        count(u64::from(detail.node.instances), "instance"),
        with_data(&detail).len()
    ))?;
    context.terminal.say(
        "if the machine ever comes back, join it again before anything else: what it still runs is removed then",
    );
    Ok(Exit::Done)
}

/// What goes with the node.
fn losses(detail: &NodeDetail) -> String {
    let node = &detail.node;
    let mut text = format!(
        "{} is down{}. Removing it for good makes its {} anew on other nodes; if the machine still runs, so does what is on it, \
         twice.",
        node.name,
        since(node),
        count(u64::from(node.instances), "instance"),
    );
    let data = with_data(detail);
    if data.is_empty() {
        text.push_str(" No instance has data on it.");
        return text;
    }
    let more = data.len().saturating_sub(NAMED);
    let _ = write!(text, " The data of these is lost: {}", data[..data.len() - more].join(", "));
    if more > 0 {
        let _ = write!(text, " and {more} more");
    }
    text.push('.');
    text
}

/// By name, those that are no more marked as such.
fn with_data(detail: &NodeDetail) -> Vec<String> {
    let held = detail.held.iter().filter(|held| held.data);
    let there = held.map(|held| format!("{}/{}-{}", held.fleet, held.agent, held.number));
    let others = detail.data_of.iter().map(|key| format!("{key} (not there now)"));
    there.chain(others).collect()
}
