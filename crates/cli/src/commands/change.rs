//! `chassis start`, `stop` and `restart`.

use chassis_api::{Change, ChangeKind};

use crate::args::ChangeArgs;
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::progress::{self, Goal};
use crate::scope::{resolve_words, short_name};

pub(super) async fn run(context: &Context, args: ChangeArgs, change: ChangeKind) -> Result<Exit, Failure> {
    let client = context.connect().await?;
    let scope = resolve_words(&client, &args.target).await?;
    client.change(&Change { scope: scope.clone(), change }).await?;
    let what = short_name(&scope);
    let (state, doing, done) = match change {
        ChangeKind::Start => ("running", "starting", "started"),
        ChangeKind::Stop => ("stopped", "stopping", "stopped"),
        ChangeKind::Restart => ("running", "restarting", "restarted"),
    };
    if args.wait.no_wait {
        context.terminal.done(&format!("{doing} {what}"))?;
        return Ok(Exit::Done);
    }
    let goal = Goal { what: what.clone(), state };
    let progress = progress::wait(&client, context.terminal, vec![scope.clone()], &goal, &args.wait).await?;
    let counted =
        if scope.number.is_some() { String::new() } else { format!(": {} {state}", progress.ready) };
    context.terminal.done(&format!("{done} {what}{counted}"))?;
    Ok(Exit::Done)
}
