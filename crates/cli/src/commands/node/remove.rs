//! `chassis node remove`: forgets a node that has nothing, or one whose machine is gone for good.

use std::fmt::Write as _;

use chassis_api::{ENVIRONMENTS, NodeDetail, NodeInstance, NodeName, NodeState};

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
    let mut done = format!(
        "removed {name}, and all that it had: {} placed elsewhere, data of {} lost",
        count(to_move(&detail), "instance"),
        with_data(&detail).len()
    );
    let environments = environments(&detail);
    if !environments.is_empty() {
        let _ = write!(done, ", {} ended", count(environments.len() as u64, "environment"));
    }
    context.terminal.done(&done)?;
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
        count(to_move(detail), "instance"),
    );
    let environments = environments(detail);
    if !environments.is_empty() {
        let verb = if environments.len() == 1 { "ends" } else { "end" };
        let number = count(environments.len() as u64, "environment");
        let _ = write!(text, " {number} {verb}: {}.", named(&environments));
    }
    let data = with_data(detail);
    if data.is_empty() {
        text.push_str(" No instance has data on it.");
        return text;
    }
    let _ = write!(text, " The data of these is lost: {}.", named(&data));
    text
}

/// As many as a message names.
fn named(names: &[String]) -> String {
    let more = names.len().saturating_sub(NAMED);
    let mut text = names[..names.len() - more].join(", ");
    if more > 0 {
        let _ = write!(text, " and {more} more");
    }
    text
}

/// Environments are not made anew: they end with their machine.
fn environments(detail: &NodeDetail) -> Vec<String> {
    detail.held.iter().filter(|held| is_environment(held)).map(|held| held.agent.to_string()).collect()
}

fn is_environment(held: &NodeInstance) -> bool {
    held.fleet.as_str() == ENVIRONMENTS
}

/// Instances that are made anew elsewhere.
fn to_move(detail: &NodeDetail) -> u64 {
    let ending = detail.held.iter().filter(|held| is_environment(held) && !held.leaving);
    u64::from(detail.node.instances).saturating_sub(ending.count() as u64)
}

/// By name, those that are no more marked as such.
fn with_data(detail: &NodeDetail) -> Vec<String> {
    let held = detail.held.iter().filter(|held| held.data && !is_environment(held));
    let there = held.map(|held| format!("{}/{}-{}", held.fleet, held.agent, held.number));
    let others = detail.data_of.iter().map(|key| format!("{key} (not there now)"));
    there.chain(others).collect()
}
