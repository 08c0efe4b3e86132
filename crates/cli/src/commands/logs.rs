//! `chassis logs`: what instances write, each stream to its own, with names in front if they are several.

use chassis_api::{LogLine, LogQuery};
use chassis_client::Client;
use futures_util::StreamExt;

use crate::args::Logs;
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output::{self, Color, Terminal};
use crate::scope::log_query;

/// Lines that have arrived are printed together, so that a long log costs few system calls.
const BATCH: usize = 256;

pub(super) async fn run(context: &Context, logs: Logs) -> Result<Exit, Failure> {
    let client = context.connect().await?;
    let scope = client.resolve(&logs.id, None).await?;
    let query = LogQuery { follow: logs.follow, since: logs.since, tail: logs.tail, ..log_query(scope) };
    let mut printer = Printer::new(context.terminal, &logs);
    if query.number.is_none() && !logs.no_prefix {
        printer.names = names(&client, &query).await?;
    }
    let mut batches = client.logs(&query).await?.ready_chunks(BATCH);
    while let Some(batch) = batches.next().await {
        for line in batch {
            match line {
                Ok(line) => printer.add(&line)?,
                Err(error) => {
                    printer.flush()?;
                    return Err(error.into());
                }
            }
        }
        printer.flush()?;
    }
    printer.end_line()?;
    printer.flush()?;
    Ok(Exit::Done)
}

/// The names of all instances, so that they can be aligned from the first line on.
async fn names(client: &Client, query: &LogQuery) -> Result<Vec<String>, Failure> {
    let instances = client.instance_list(Some(&query.fleet), query.agent.as_ref()).await?;
    Ok(instances.iter().map(|instance| format!("{}-{}", instance.agent, instance.number)).collect())
}

struct Printer {
    terminal: Terminal,
    timestamps: bool,
    prefix: bool,
    /// In the order in which they got their colors.
    names: Vec<String>,
    out: Vec<u8>,
    err: Vec<u8>,
    /// Whose line is not at its end yet: of which instance, on which stream.
    open: Option<(String, String)>,
}

impl Printer {
    fn new(terminal: Terminal, logs: &Logs) -> Printer {
        Printer {
            terminal,
            timestamps: logs.timestamps,
            prefix: !logs.no_prefix,
            names: Vec::new(),
            out: Vec::new(),
            err: Vec::new(),
            open: None,
        }
    }

    fn add(&mut self, line: &LogLine) -> Result<(), Failure> {
        let goes_on =
            self.open.as_ref().is_some_and(|(name, stream)| *name == line.instance && *stream == line.stream);
        let mut text = String::new();
        if !goes_on {
            self.end_line()?;
            if self.prefix && !self.names.is_empty() {
                text.push_str(&self.prefix_of(&line.instance));
            }
            if self.timestamps {
                text.push_str(&line.time.to_string());
                text.push(' ');
            }
        }
        text.push_str(&line.text);
        self.open = (!line.text.ends_with('\n')).then(|| (line.instance.clone(), line.stream.clone()));
        self.buffer(&line.stream)?.extend_from_slice(text.as_bytes());
        Ok(())
    }

    /// Ends a line that another one would otherwise run into.
    fn end_line(&mut self) -> Result<(), Failure> {
        if let Some((_, stream)) = self.open.take() {
            self.buffer(&stream)?.push(b'\n');
        }
        Ok(())
    }

    /// The buffer of a stream. Where both streams end in one terminal, what came before on the other is printed first.
    fn buffer(&mut self, stream: &str) -> Result<&mut Vec<u8>, Failure> {
        let is_stderr = stream == "stderr";
        let other = if is_stderr { &self.out } else { &self.err };
        if !other.is_empty() {
            self.flush()?;
        }
        Ok(if is_stderr { &mut self.err } else { &mut self.out })
    }

    fn prefix_of(&mut self, instance: &str) -> String {
        let index = self.names.iter().position(|name| name == instance).unwrap_or_else(|| {
            self.names.push(instance.to_owned());
            self.names.len() - 1
        });
        let width = self.names.iter().map(String::len).max().unwrap_or(0);
        let padded = format!("{instance:width$} |");
        if self.terminal.colored() { Color::of_index(index).paint(&padded) + " " } else { padded + " " }
    }

    fn flush(&mut self) -> Result<(), Failure> {
        output::data_on_stdout(&std::mem::take(&mut self.out))?;
        output::data_on_stderr(&std::mem::take(&mut self.err))
    }
}
