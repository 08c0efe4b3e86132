//! `chassis logs`: what instances write, each stream to its own, with names in front if they are several.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use chassis_api::{LogLine, LogQuery, Phase};
use chassis_client::{Client, Error, LogContent, LogItem};
use futures_util::StreamExt;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::args::{LogFormat, Logs};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output::{self, Color, Terminal, age};
use crate::scope::log_query;

/// Lines that have arrived are printed together, so that a long log costs few system calls.
const BATCH: usize = 256;
/// A server that is replaced is back within this time.
const AGAIN: Duration = Duration::from_millis(500);
const ATTEMPTS: u32 = 60;
/// A connection that holds for so long is that of a server that is there.
const STEADY: Duration = Duration::from_secs(10);

pub(super) async fn run(context: &Context, logs: Logs) -> Result<Exit, Failure> {
    let client = context.connect().await?;
    let scope = client.resolve_logs(&logs.id).await?;
    let query = LogQuery {
        follow: logs.follow,
        since: logs.since,
        until: logs.until,
        tail: logs.tail,
        previous: logs.previous,
        all: logs.all,
        grep: logs.grep.clone(),
        ignore_case: logs.ignore_case,
        level: logs.level,
        whole: logs.output == LogFormat::Json,
        labels: logs.selector.query(),
        ..log_query(scope)
    };
    let mut printer = Printer::new(context.terminal, &logs);
    printer.prefix = query.number.is_none() && !logs.no_prefix;
    if printer.prefix {
        printer.names = names(&client, &query).await?;
    }
    if logs.follow {
        follow(context, &client, query, &mut printer).await?;
    } else {
        print(&client, &query, &mut printer, &mut Place::default()).await?;
        printer.end_line()?;
        printer.flush()?;
        check_silent(context, &client, &query).await?;
        return Ok(Exit::Done);
    }
    printer.end_line()?;
    printer.flush()?;
    Ok(Exit::Done)
}

/// What was printed is not all if a node does not answer: its instances write on, and nobody can read that here.
async fn check_silent(context: &Context, client: &Client, query: &LogQuery) -> Result<(), Failure> {
    let mut instances = client.instance_list(Some(&query.fleet), query.agent.as_ref()).await?;
    instances
        .retain(|one| one.phase == Phase::Unknown && query.number.is_none_or(|number| number == one.number));
    if instances.is_empty() {
        return Ok(());
    }
    let nodes = client.node_list().await.unwrap_or_default();
    let now = Timestamp::now();
    let mut silent: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for one in &instances {
        silent.entry(&one.node).or_default().push(format!("{}-{}", one.agent, one.number));
    }
    // The server's own comes back with the server.
    silent.retain(|name, _| nodes.iter().any(|node| node.name == *name && node.url.is_some()));
    for (name, instances) in &silent {
        let heard = nodes.iter().find(|node| node.name == *name).and_then(|node| node.heard_at);
        let since = heard.map_or_else(String::new, |at| format!(" (last heard {} ago)", age(at, now)));
        context.terminal.say(&format!(
            "node {name} does not answer{since}: what {} printed there is shown when it is back",
            instances.join(", ")
        ));
    }
    match silent.first_key_value() {
        None => Ok(()),
        Some((name, _)) => {
            Err(Failure::Failed(format!("not all output could be read, as node {name} is away")))
        }
    }
}

/// How far output came.
#[derive(Default)]
struct Place {
    /// Names it for the server.
    id: Option<String>,
    newest: Option<Timestamp>,
    lines: u64,
}

/// Prints what follows a place.
async fn print(
    client: &Client,
    query: &LogQuery,
    printer: &mut Printer,
    place: &mut Place,
) -> Result<(), Failure> {
    let mut batches = client.logs(query, place.id.as_deref()).await?.ready_chunks(BATCH);
    while let Some(batch) = batches.next().await {
        for item in batch {
            let LogItem { id, content } = match item {
                Ok(item) => item,
                Err(error) => {
                    printer.flush()?;
                    return Err(error.into());
                }
            };
            match content {
                LogContent::Line(line) => {
                    printer.add(&line)?;
                    place.newest = place.newest.max(Some(line.time));
                    place.lines += 1;
                }
                LogContent::Gone(gone) => {
                    printer.flush()?;
                    printer.terminal.say(&format!("output of {} is lost: it was not kept", gone.instance));
                }
                LogContent::Nothing => {}
            }
            if id.is_some() {
                place.id = id;
            }
        }
        printer.flush()?;
    }
    Ok(())
}

/// Goes on when the server that answered ends and another one takes its place.
async fn follow(
    context: &Context,
    client: &Client,
    mut query: LogQuery,
    printer: &mut Printer,
) -> Result<(), Failure> {
    let mut place = Place::default();
    let mut failures = 0;
    loop {
        let (began, before) = (Instant::now(), place.lines);
        match print(client, &query, printer, &mut place).await {
            Err(Failure::Client(Error::Unreachable { .. } | Error::Broken { .. })) if failures < ATTEMPTS => {
            }
            Err(Failure::Client(Error::Problem(problem))) if problem.code == "logs_gone" => {
                context
                    .terminal
                    .say("output is lost: what followed was not kept; going on with what is there");
                query.since = place.newest.or(query.since);
                place.id = None;
                continue;
            }
            ended => return ended,
        }
        if place.lines > before || began.elapsed() > STEADY {
            failures = 0;
        }
        if failures == 0 {
            context.terminal.say("the server ended; waiting for the next one");
        }
        failures += 1;
        tokio::time::sleep(AGAIN).await;
    }
}

/// The names of all instances, so that they can be aligned from the first line on.
async fn names(client: &Client, query: &LogQuery) -> Result<Vec<String>, Failure> {
    let instances = client.instance_list(Some(&query.fleet), query.agent.as_ref()).await?;
    Ok(instances.iter().map(|instance| format!("{}-{}", instance.agent, instance.number)).collect())
}

/// A line as a program wants it: whatever stream it was written to, it comes on standard output.
#[derive(Serialize)]
struct JsonLine<'a> {
    instance: &'a str,
    time: Timestamp,
    stream: &'a str,
    text: &'a str,
    /// Of a line that is a JSON object itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    fields: Option<Map<String, Value>>,
}

impl JsonLine<'_> {
    fn new(line: &LogLine) -> JsonLine<'_> {
        let text = line.text.trim_end_matches(['\r', '\n']);
        let is_object = text.trim_start().starts_with('{');
        JsonLine {
            instance: &line.instance,
            time: line.time,
            stream: &line.stream,
            text,
            fields: if is_object { serde_json::from_str(text).ok() } else { None },
        }
    }
}

struct Printer {
    terminal: Terminal,
    format: LogFormat,
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
            format: logs.output,
            timestamps: logs.timestamps,
            prefix: false,
            names: Vec::new(),
            out: Vec::new(),
            err: Vec::new(),
            open: None,
        }
    }

    fn add(&mut self, line: &LogLine) -> Result<(), Failure> {
        if self.format == LogFormat::Json {
            self.out.extend_from_slice(output::json_line(&JsonLine::new(line))?.as_bytes());
            return Ok(());
        }
        let goes_on =
            self.open.as_ref().is_some_and(|(name, stream)| *name == line.instance && *stream == line.stream);
        let mut text = String::new();
        if !goes_on {
            self.end_line()?;
            if self.prefix {
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
