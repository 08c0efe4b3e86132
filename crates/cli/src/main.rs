//! The `chassis` binary: reads the command line, runs the command, and says in the exit code how it went.
//!
//! What holds: data goes to stdout and everything else to stderr; nothing waits for a person unless both are a terminal;
//! a reader that closes the pipe early is no error; commands that need no server start none.

mod args;
mod autostart;
mod commands;
mod config;
mod context;
mod failure;
mod input;
mod output;
mod parse;
mod progress;
mod rates;
mod scope;

use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Command};
use context::Context;
use failure::{Exit, Failure};
use output::Terminal;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help that nobody reads to its end is no failure.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage } else { Exit::Done }.into();
        }
    };
    let terminal = Terminal::new(cli.global.quiet, cli.global.no_color);
    let context = match Context::new(cli.global) {
        Ok(context) => context,
        Err(failure) => {
            terminal.error(&failure.text().unwrap_or_default());
            return failure.exit().into();
        }
    };
    let is_diff = matches!(cli.command, Command::Diff(_));
    match run(&context, cli.command) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            if let Some(text) = failure.text() {
                context.terminal.error(&text);
            }
            match failure.exit() {
                // 1 means that something differs.
                Exit::Failed if is_diff => Exit::Usage.into(),
                exit => exit.into(),
            }
        }
    }
}

fn run(context: &Context, command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Serve(serve) => return commands::serve::run(context, *serve),
        Command::Node(node) if node.command.is_none() => {
            return commands::node::serve::run(context, node.serve);
        }
        Command::Db(command) => return commands::db::run(context, command),
        Command::Validate(validate) => return commands::validate::run(context, &validate),
        Command::Schema => return commands::local::schema(),
        Command::Version(version) => return commands::local::version(&version),
        Command::Completion(completion) => return commands::local::completion(&completion),
        _ => {}
    }
    // One thread is enough for a client, and starts faster than several.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime
        .map_err(|source| Failure::Io { what: "cannot set up asynchronous I/O".to_owned(), source })?;
    runtime.block_on(commands::run(context, command))
}
