//! `chassis node join`: has a machine run instances.

use std::path::Path;

use chassis_api::{Amounts, NodeJoin};
use zeroize::Zeroizing;

use super::say_if_away;
use crate::args::{Format, NodeJoinArgs};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::input;
use crate::output::{self, Terminal};

/// Where the token is, if it is not in a file: never in a flag, which everybody on a machine can read.
const TOKEN: &str = "CHASSIS_NODE_TOKEN";

pub(super) async fn run(context: &Context, join: NodeJoinArgs) -> Result<Exit, Failure> {
    let token = token(context.terminal, join.token_file.as_deref())?;
    let capacity = Amounts {
        cpu_millis: join.capacity.cpu_millis.unwrap_or_default(),
        memory_bytes: join.capacity.memory_bytes.unwrap_or_default(),
        disk_bytes: join.capacity.disk_bytes.unwrap_or_default(),
        slots: join.capacity.slots.unwrap_or_default(),
    };
    let asked = NodeJoin {
        url: join.url,
        fingerprint: join.fingerprint,
        token: token.to_string(),
        name: join.name,
        region: join.region,
        labels: join.labels.into_iter().collect(),
        capacity,
    };
    let joined = context.connect().await?.node_join(&asked).await?;
    for warning in &joined.warnings {
        context.terminal.say(&format!("warning: {}", output::clean(warning)));
    }
    let node = &joined.node;
    if !matches!(join.output.output, Format::Table | Format::Wide) {
        output::print(join.output.output, &joined, || vec![node.name.clone()], |_| String::new())?;
        return Ok(Exit::Done);
    }
    let what = if joined.again { "joined again" } else { "joined" };
    let at = node.url.as_deref().unwrap_or_default();
    context.terminal.done(&format!("{what} {}, at {at}: {}", node.name, node.capacity))?;
    if !joined.again {
        say_if_away(context, node);
    }
    Ok(Exit::Done)
}

fn token(terminal: Terminal, file: Option<&Path>) -> Result<Zeroizing<String>, Failure> {
    let text = match file {
        Some(file) => {
            let mut bytes = input::secret(terminal, file)?;
            let text = String::from_utf8(std::mem::take(&mut *bytes));
            Zeroizing::new(text.map_err(|_| Failure::Failed(format!("{} is no text", input::name(file))))?)
        }
        None => Zeroizing::new(std::env::var(TOKEN).unwrap_or_default()),
    };
    let token = text.trim();
    if token.is_empty() {
        return Err(Failure::Usage(format!(
            "the node's token is missing; `chassis node` prints it when it starts: give it in {TOKEN}, or in a file with \
             --token-file"
        )));
    }
    Ok(Zeroizing::new(token.to_owned()))
}
