//! `chassis node drain`: has what a node has go elsewhere, and shows how far it is, what stays and why.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use chassis_api::{Node, NodeDetail, NodeDrain, NodeInstance, NodeState};
use chassis_client::Client;

use super::since;
use crate::args::NodeDrainArgs;
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output::{clean, count};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(500);
/// What moves an instance is decided and written within this time.
const SETTLED: Duration = Duration::from_secs(2);
/// Instances that are named in a message.
const NAMED: usize = 5;

pub(super) async fn run(context: &Context, drain: NodeDrainArgs) -> Result<Exit, Failure> {
    let seconds = drain.deadline.map(|deadline| u32::try_from(deadline.as_secs()).unwrap_or(u32::MAX));
    let client = context.connect().await?;
    let asked = NodeDrain { deadline: seconds, parallelism: Some(drain.parallelism) };
    let node = client.node_drain(&drain.name, &asked).await?;
    if node.instances == 0 {
        context.terminal.done(&format!("drained {}: it has nothing", drain.name))?;
        return Ok(Exit::Done);
    }
    if node.state == NodeState::Down {
        return Err(Failure::Failed(away(&node)));
    }
    if drain.wait {
        return wait(context, &client, &drain).await;
    }
    context.terminal.done(&format!(
        "draining {}: {} to go",
        drain.name,
        count(node.instances, "instance")
    ))?;
    context.terminal.say(&format!("`chassis node describe {}` shows how far it is", drain.name));
    Ok(Exit::Done)
}

async fn wait(context: &Context, client: &Client, drain: &NodeDrainArgs) -> Result<Exit, Failure> {
    let began = Instant::now();
    let mut told = None;
    let interrupt = tokio::signal::ctrl_c();
    tokio::pin!(interrupt);
    loop {
        let detail = client.node_get(&drain.name).await?;
        let left = detail.held.len();
        if left == 0 {
            context.terminal.done(&format!("drained {}", drain.name))?;
            return Ok(Exit::Done);
        }
        if detail.node.state == NodeState::Down {
            return Err(Failure::Failed(away(&detail.node)));
        }
        let line = progress(&detail);
        if told.as_ref() != Some(&line) {
            context.terminal.say(&line);
            told = Some(line);
        }
        let is_stuck = drain.deadline.is_none() && detail.held.iter().all(|held| held.stays.is_some());
        if is_stuck && began.elapsed() > SETTLED {
            return Err(Failure::Failed(stuck(&detail)));
        }
        if began.elapsed() > drain.timeout.unsigned_abs() {
            return Err(Failure::TimedOut(format!(
                "{} still has {} after {:#}; it goes on being drained\n{}",
                drain.name,
                count(left as u64, "instance"),
                drain.timeout,
                reasons(&detail)
            )));
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            Ok(()) = &mut interrupt => {
                let text = format!(
                    "not waiting any longer; {} goes on being drained, and `chassis node uncordon {}` ends that",
                    drain.name, drain.name
                );
                return Err(Failure::Interrupted(text));
            }
        }
    }
}

/// Nobody can tell it to end anything.
fn away(node: &Node) -> String {
    let name = &node.name;
    format!(
        "{name} is down{}: what it has cannot be ended there, and stays its own. It is drained when it is back, unless `chassis node \
         uncordon {name}` ends that; if its machine is gone for good, `chassis node remove {name} --force` makes all of it anew \
         elsewhere, without its data",
        since(node)
    )
}

fn progress(detail: &NodeDetail) -> String {
    let number = |matches: fn(&&NodeInstance) -> bool| detail.held.iter().filter(matches).count() as u64;
    let mut line = format!("{}: {} to go", detail.node.name, count(detail.held.len() as u64, "instance"));
    for (count, what) in [
        (number(|held| held.leaving), "on the way"),
        (number(|held| held.stays.is_some()), "with no other place"),
    ] {
        if count > 0 {
            let _ = write!(line, ", {count} {what}");
        }
    }
    line
}

fn stuck(detail: &NodeDetail) -> String {
    let name = &detail.node.name;
    format!(
        "{name} cannot be emptied: what it still has has no other place\n{}\nmake room elsewhere, or have it stopped all \
         the same: `chassis node drain {name} --deadline 0s`",
        reasons(detail)
    )
}

/// What stays, by the reason.
fn reasons(detail: &NodeDetail) -> String {
    let mut by_reason: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for held in &detail.held {
        let why =
            if held.leaving { "on its way" } else { held.stays.as_deref().unwrap_or("waits for its turn") };
        by_reason.entry(why).or_default().push(format!("{}/{}-{}", held.fleet, held.agent, held.number));
    }
    let lines = by_reason.into_iter().map(|(why, names)| {
        let more = names.len().saturating_sub(NAMED);
        let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("  {}{rest}: {}", names[..names.len() - more].join(", "), clean(why))
    });
    lines.collect::<Vec<_>>().join("\n")
}
