//! `chassis doctor`: what stands in the way of agents on this machine, and what to do about it.
//!
//! Needs no server, starts none and changes nothing. What has to be asked for is asked for first ([`Facts`]); then each
//! check looks on a thread of its own and has so much time, because a file system that hangs must not hang the rest.

mod data;
mod docker;
mod facts;
mod host;
mod server;
mod space;

use std::sync::Arc;
use std::time::Duration;

use chassis_client::ServerAddress;
use serde::Serialize;
use tokio::sync::oneshot;

use crate::args::Doctor;
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output::{self, Cell, Color, Table, Terminal, clean, count};
use facts::Facts;

const PATIENCE: Duration = Duration::from_secs(5);

/// One thing that is looked at. To add one, write the function beside its like and put it into the list of its file.
struct Check {
    /// A word that scripts can match; it never changes.
    name: &'static str,
    look: fn(&Facts) -> Finding,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Ok,
    /// Works, and may surprise.
    Warning,
    /// Agents cannot run, or their data is in danger.
    Problem,
    /// Could not be looked at, or does not apply.
    Skipped,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Finding {
    level: Level,
    found: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
}

#[derive(Debug, Serialize)]
struct Named {
    check: &'static str,
    #[serde(flatten)]
    finding: Finding,
}

impl Finding {
    fn ok(found: impl Into<String>) -> Finding {
        Finding { level: Level::Ok, found: found.into(), fix: None }
    }

    fn warning(found: impl Into<String>, fix: impl Into<String>) -> Finding {
        Finding { level: Level::Warning, found: found.into(), fix: Some(fix.into()) }
    }

    fn problem(found: impl Into<String>, fix: impl Into<String>) -> Finding {
        Finding { level: Level::Problem, found: found.into(), fix: Some(fix.into()) }
    }

    fn skipped(why: impl Into<String>) -> Finding {
        Finding { level: Level::Skipped, found: why.into(), fix: None }
    }
}

pub(super) async fn run(context: &Context, args: Doctor) -> Result<Exit, Failure> {
    if context.given_address().is_some_and(|address| !matches!(address, ServerAddress::Unix(_))) {
        return Err(Failure::Usage(
            "doctor looks at the machine that it runs on: run it there; `chassis server status` looks at a server from afar"
                .to_owned(),
        ));
    }
    let facts = Arc::new(Facts::gather(&context.local(), PATIENCE).await?);
    let lists = [docker::CHECKS, host::CHECKS, data::CHECKS, server::CHECKS];
    // All are started before the first is waited for.
    let started: Vec<_> = lists.into_iter().flatten().map(|check| (check, start(check, &facts))).collect();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let mut findings = Vec::new();
    for (check, finding) in started {
        let finding = match tokio::time::timeout_at(deadline, finding).await {
            Ok(Ok(finding)) => finding,
            _ => Finding::problem(
                format!("no answer within {} s", PATIENCE.as_secs()),
                "look for a file system or a process that hangs: `dmesg | tail`, `ps -eo stat,pid,cmd | grep ^D`",
            ),
        };
        findings.push(Named { check: check.name, finding });
    }
    let names = || findings.iter().map(|named| named.check.to_owned()).collect();
    output::print(args.output.output, &findings, names, |_| table(context.terminal, &findings))?;
    let number = |level| findings.iter().filter(|named| named.finding.level == level).count() as u64;
    let problems = number(Level::Problem);
    context.terminal.say(&format!(
        "{}, {}, {} ok, {} skipped",
        count(problems, "problem"),
        count(number(Level::Warning), "warning"),
        number(Level::Ok),
        number(Level::Skipped)
    ));
    Ok(if problems == 0 { Exit::Done } else { Exit::Failed })
}

/// On a thread that nobody waits for when the command ends, unlike those of the asynchronous runtime.
fn start(check: &'static Check, facts: &Arc<Facts>) -> oneshot::Receiver<Finding> {
    let (sender, receiver) = oneshot::channel();
    let (look, facts) = (check.look, Arc::clone(facts));
    std::thread::spawn(move || {
        // The receiver has gone if this took too long.
        let _ = sender.send(look(&facts));
    });
    receiver
}

fn table(terminal: Terminal, findings: &[Named]) -> String {
    let mut table = Table::without_header(terminal);
    for Named { check, finding } in findings {
        let (word, color) = match finding.level {
            Level::Ok => ("ok", Color::Green),
            Level::Warning => ("warning", Color::Yellow),
            Level::Problem => ("PROBLEM", Color::Red),
            Level::Skipped => ("skipped", Color::Dim),
        };
        table.row([Cell::colored(word, color), (*check).into(), clean(&finding.found).into()]);
        if let Some(fix) = &finding.fix {
            table.note(Cell::colored(format!("         fix: {}", clean(fix)), Color::Bold));
        }
    }
    table.render()
}
