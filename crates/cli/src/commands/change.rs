//! `chassis start`, `stop` and `restart`, of one thing or several.

use chassis_api::{Change, ChangeKind};

use crate::args::ChangeArgs;
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::progress::{self, Goal};
use crate::scope::{resolve_words, select_words, short_names};

pub(super) async fn run(context: &Context, args: ChangeArgs, change: ChangeKind) -> Result<Exit, Failure> {
    let client = context.connect().await?;
    // All names before the first change: a typo in the last one must not leave the others changed.
    let scopes = match args.selector.query() {
        None => resolve_words(&client, &args.target).await?,
        Some(labels) => select_words(&client, &args.target, &labels).await?,
    };
    for scope in &scopes {
        client.change(&Change { scope: scope.clone(), change }).await?;
    }
    let what = short_names(&scopes);
    let (state, doing, done) = match change {
        ChangeKind::Start => ("running", "starting", "started"),
        ChangeKind::Stop => ("stopped", "stopping", "stopped"),
        ChangeKind::Restart => ("running", "restarting", "restarted"),
    };
    if args.wait.no_wait {
        context.terminal.done(&format!("{doing} {what}"))?;
        return Ok(Exit::Done);
    }
    let only_one = matches!(scopes.as_slice(), [scope] if scope.number.is_some());
    let goal = Goal { what: what.clone(), state };
    let progress = progress::wait(&client, context.terminal, scopes, &goal, &args.wait).await?;
    let counted = if only_one { String::new() } else { format!(": {} {state}", progress.ready) };
    context.terminal.done(&format!("{done} {what}{counted}"))?;
    Ok(Exit::Done)
}
