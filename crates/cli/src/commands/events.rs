//! `chassis events`: what happened, and with `--watch` what happens.

use std::time::Duration;

use chassis_api::{Event, EventQuery};
use chassis_client::{Client, Error};
use futures_util::StreamExt;

use crate::args::{Events, Format};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output::{self, Cell, Table, Terminal, clean};

/// A server that is replaced is back within this time.
const AGAIN: Duration = Duration::from_millis(500);
const ATTEMPTS: u32 = 60;

pub(super) async fn run(context: &Context, events: Events) -> Result<Exit, Failure> {
    let client = context.connect().await?;
    let mut query = EventQuery {
        after: events.since_id,
        since: events.since,
        kinds: (!events.kind.is_empty()).then(|| events.kind.join(",")),
        limit: Some(events.limit),
        ..EventQuery::default()
    };
    if let Some(id) = &events.id {
        let scope = client.resolve(id, None).await?;
        query = EventQuery { fleet: Some(scope.fleet), agent: scope.agent, number: scope.number, ..query };
    }
    let format = events.output.output;
    if events.watch {
        return watch(context, &client, query, format).await;
    }
    let list = client.event_list(&query).await?;
    let names = || list.iter().map(|event| event.id.to_string()).collect();
    if list.is_empty() && matches!(format, Format::Table | Format::Wide) {
        context.terminal.say("no events");
        return Ok(Exit::Done);
    }
    output::print(format, &list, names, |_| table(context.terminal, &list))?;
    Ok(Exit::Done)
}

fn table(terminal: Terminal, events: &[Event]) -> String {
    let mut table = Table::new(terminal, &["ID", "TIME", "NAME", "EVENT"]);
    for event in events {
        let cells: [Cell; 4] = [
            event.id.into(),
            time(event).into(),
            subject(event).into(),
            clean(&event.kind.to_string()).into(),
        ];
        table.row(cells);
    }
    table.render()
}

/// Follows for as long as somebody watches, also over a restart of the server.
async fn watch(
    context: &Context,
    client: &Client,
    mut query: EventQuery,
    format: Format,
) -> Result<Exit, Failure> {
    let mut failures = 0;
    loop {
        match client.event_follow(&query).await {
            Ok(mut stream) => {
                failures = 0;
                while let Some(event) = stream.next().await {
                    let event = match event {
                        Err(Error::Broken { .. }) => break,
                        event => event?,
                    };
                    query.after = Some(event.id);
                    output::data(&line(&event, format)?)?;
                }
            }
            Err(Error::Unreachable { .. } | Error::Broken { .. }) if failures < ATTEMPTS => failures += 1,
            Err(error) => return Err(error.into()),
        }
        if failures == 0 {
            context.terminal.say("the server ended; waiting for the next one");
        }
        tokio::time::sleep(AGAIN).await;
    }
}

fn line(event: &Event, format: Format) -> Result<String, Failure> {
    match format {
        Format::Json => output::json_line(event),
        Format::Yaml => Ok(format!("---\n{}", output::yaml(event)?)),
        Format::Name => Ok(format!("{}\n", event.id)),
        // Columns that need not know what comes: the longest kinds of each are short.
        Format::Table | Format::Wide => Ok(format!(
            "{:<6} {}  {:<28} {}\n",
            event.id,
            time(event),
            subject(event),
            clean(&event.kind.to_string())
        )),
    }
}

pub(super) fn time(event: &Event) -> String {
    event.time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn subject(event: &Event) -> String {
    let Some(fleet) = &event.fleet else {
        return event.kind.node().map(|node| format!("node {node}")).unwrap_or_default();
    };
    match (&event.agent, event.number) {
        (Some(agent), Some(number)) => format!("{fleet}/{agent}-{number}"),
        (Some(agent), None) => format!("{fleet}/{agent}"),
        (None, _) => fleet.to_string(),
    }
}
