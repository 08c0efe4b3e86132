//! `chassis node`: machines that run instances, for servers elsewhere.

mod drain;
mod join;
mod remove;
pub(crate) mod serve;
mod show;

use chassis_api::{Node, NodeState};

use crate::args::NodeCommand;
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output::{age, count};

pub(super) async fn run(context: &Context, command: NodeCommand) -> Result<Exit, Failure> {
    match command {
        NodeCommand::List { output } => show::list(context, output.output).await,
        NodeCommand::Describe { name, output } => show::describe(context, &name, output.output).await,
        NodeCommand::Join(join) => join::run(context, join).await,
        NodeCommand::Cordon { name } => {
            let node = context.connect().await?.node_cordon(&name).await?;
            let kept = match node.instances {
                0 => "it has nothing, and gets nothing new".to_owned(),
                held => format!("it keeps {} and gets nothing new", count(held, "instance")),
            };
            context.terminal.done(&format!("cordoned {name}: {kept}"))?;
            Ok(Exit::Done)
        }
        NodeCommand::Uncordon { name } => {
            let node = context.connect().await?.node_uncordon(&name).await?;
            context.terminal.done(&format!("uncordoned {name}"))?;
            say_if_away(context, &node);
            Ok(Exit::Done)
        }
        NodeCommand::Drain(drain) => drain::run(context, drain).await,
        NodeCommand::Remove { name, force, yes } => remove::run(context, &name, force, yes).await,
    }
}

/// `, silent for 3m`, if that is known.
fn since(node: &Node) -> String {
    let now = jiff::Timestamp::now();
    node.heard_at.map_or_else(String::new, |at| format!(", silent for {}", age(at, now)))
}

/// What was asked for is noted, and yet the node gets nothing.
fn say_if_away(context: &Context, node: &Node) {
    if matches!(node.state, NodeState::Suspect | NodeState::Down) {
        context.terminal.say(&format!(
            "{} is {}: it gets nothing before it is heard; `chassis node describe {}` shows more",
            node.name, node.state, node.name
        ));
    }
}
