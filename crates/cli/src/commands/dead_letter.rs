//! `chassis dead-letter`: environments that were given up.

use chassis_api::DeadLetter;
use chassis_client::Client;
use jiff::Timestamp;

use crate::args::{DeadLetterCommand, Format};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output::{self, Cell, Table, Terminal, age};

pub(super) async fn run(context: &Context, command: DeadLetterCommand) -> Result<Exit, Failure> {
    match command {
        DeadLetterCommand::List { output } => {
            let letters = context.connect().await?.dead_letter_list().await?;
            list(context.terminal, output.output, &letters)
        }
        DeadLetterCommand::Redrive { letter } => {
            let client = context.connect().await?;
            let (kind, environment) = find(&client, &letter).await?;
            let made = client.dead_letter_redrive(&kind, &environment).await?;
            context.terminal.done(&format!("environment {} runs again", made.environment))?;
            Ok(Exit::Done)
        }
        DeadLetterCommand::Delete { letter } => {
            let client = context.connect().await?;
            let (kind, environment) = find(&client, &letter).await?;
            client.dead_letter_delete(&kind, &environment).await?;
            context.terminal.done(&format!("deleted dead letter {kind}/{environment}"))?;
            Ok(Exit::Done)
        }
    }
}

/// The kind and environment that somebody means. One that is not there is the server's to tell.
async fn find(client: &Client, letter: &str) -> Result<(String, String), Failure> {
    let letters = client.dead_letter_list().await?;
    let mut of = letters.iter().filter(|found| found.environment == letter);
    match (of.next(), of.next()) {
        (Some(found), None) => Ok((found.kind.clone(), found.environment.clone())),
        (Some(_), Some(_)) => Err(Failure::Usage(format!(
            "environment {letter} has several dead letters; write `kind/{letter}`, as `chassis dead-letter list` shows them"
        ))),
        (None, _) => match letter.split_once('/') {
            Some((kind, environment)) => Ok((kind.to_owned(), environment.to_owned())),
            None => Err(Failure::NotFound(format!(
                "there is no dead letter of `{letter}`; `chassis dead-letter list` shows those that there are"
            ))),
        },
    }
}

fn list(terminal: Terminal, format: Format, letters: &[DeadLetter]) -> Result<Exit, Failure> {
    let name = |letter: &DeadLetter| format!("{}/{}", letter.kind, letter.environment);
    if letters.is_empty() && matches!(format, Format::Table | Format::Wide) {
        terminal.say("no dead letters: no environment was given up");
        return Ok(Exit::Done);
    }
    let names = || letters.iter().map(name).collect();
    output::print(format, letters, names, |wide| {
        let now = Timestamp::now();
        let mut header = vec!["LETTER", "AGE", "TIMES", "REDRIVEN", "REASON"];
        if wide {
            header.push("TASK");
        }
        let mut table = Table::new(terminal, &header);
        for letter in letters {
            let redriven =
                letter.redriven_at.map_or_else(|| "-".to_owned(), |at| format!("{} ago", age(at, now)));
            let mut cells: Vec<Cell> = vec![
                name(letter).into(),
                age(letter.last_seen_at, now).into(),
                (u64::from(letter.retry_count) + 1).into(),
                redriven.into(),
                (&letter.reason).into(),
            ];
            if wide {
                cells.push((&letter.task_id).into());
            }
            table.row(cells);
        }
        table.render()
    })?;
    Ok(Exit::Done)
}
