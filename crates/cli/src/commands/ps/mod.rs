//! `chassis ps`: fleets, agents and instances at a glance.

mod view;

use std::time::Duration;

use chassis_api::{Agent, EventQuery, Fleet, Instance, Scope};
use chassis_client::Client;
use futures_util::StreamExt;

use crate::args::{Format, Ps};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output;

/// On a terminal ages and waits move on; in a pipe only changes are printed.
const REFRESH: Duration = Duration::from_secs(1);
/// Events come in bursts; one picture is enough for each.
const BURST: Duration = Duration::from_millis(100);

/// What there is, as far as it was asked for.
#[derive(Debug, PartialEq, Eq)]
struct Picture {
    fleets: Vec<Fleet>,
    agents: Vec<Agent>,
    instances: Vec<Instance>,
}

pub(super) async fn run(context: &Context, ps: Ps) -> Result<Exit, Failure> {
    let client = context.connect().await?;
    let scope = match &ps.name {
        Some(name) => Some(client.resolve(name, None).await?),
        None => None,
    };
    if ps.watch {
        watch(context, &client, &ps, scope.as_ref()).await?;
    }
    let picture = look(&client, &ps, scope.as_ref()).await?;
    print(context, &ps, &picture)?;
    Ok(Exit::Done)
}

async fn look(client: &Client, ps: &Ps, scope: Option<&Scope>) -> Result<Picture, Failure> {
    let fleet = scope.map(|scope| &scope.fleet);
    let agent = scope.and_then(|scope| scope.agent.as_ref());
    let mut picture = Picture {
        fleets: match fleet {
            Some(fleet) => vec![client.fleet_get(fleet).await?],
            None => client.fleet_list().await?,
        },
        agents: match (fleet, agent) {
            (Some(fleet), Some(agent)) => vec![client.agent_get(fleet, agent).await?],
            _ => client.agent_list(fleet).await?,
        },
        instances: client.instance_list(fleet, agent).await?,
    };
    if let Some(number) = scope.and_then(|scope| scope.number) {
        picture.instances.retain(|instance| instance.number == number);
    }
    picture.sort();
    picture.select(&ps.selector.labels);
    Ok(picture)
}

async fn watch(context: &Context, client: &Client, ps: &Ps, scope: Option<&Scope>) -> Result<(), Failure> {
    // Only what happens from now on: the picture shows what happened before.
    let newest = client.event_list(&EventQuery { limit: Some(1), ..EventQuery::default() }).await?;
    let query = EventQuery {
        fleet: scope.map(|scope| scope.fleet.clone()),
        after: Some(newest.last().map_or(0, |event| event.id)),
        ..EventQuery::default()
    };
    let mut events = client.event_follow(&query).await?;
    let mut shown: Option<Picture> = None;
    loop {
        let picture = look(client, ps, scope).await?;
        if context.terminal.stdout {
            // To the top left, and what was there before is gone.
            output::data("\x1b[H\x1b[2J")?;
            print(context, ps, &picture)?;
        } else if shown.as_ref() != Some(&picture) {
            print(context, ps, &picture)?;
        }
        shown = Some(picture);
        if let Ok(event) = tokio::time::timeout(REFRESH, events.next()).await {
            event.transpose()?.ok_or_else(|| Failure::Failed("the server ended".to_owned()))?;
            tokio::time::sleep(BURST).await;
        }
    }
}

fn print(context: &Context, ps: &Ps, picture: &Picture) -> Result<(), Failure> {
    let terminal = context.terminal;
    let format = ps.output.output;
    if matches!(format, Format::Table | Format::Wide) && picture.fleets.is_empty() {
        terminal.say(if ps.selector.labels.is_empty() {
            "nothing here yet; begin with `chassis create fleet <name>`"
        } else {
            "nothing has these labels"
        });
        return Ok(());
    }
    if ps.fleets {
        let names = || picture.fleets.iter().map(|fleet| fleet.name.to_string()).collect();
        return output::print(format, &picture.fleets, names, |wide| {
            view::fleets(terminal, &picture.fleets, wide)
        });
    }
    if ps.agents {
        let names = || picture.agents.iter().map(|agent| format!("{}/{}", agent.fleet, agent.name)).collect();
        return output::print(format, &picture.agents, names, |wide| {
            view::agents(terminal, &picture.agents, wide)
        });
    }
    let name = |instance: &Instance| format!("{}/{}-{}", instance.fleet, instance.agent, instance.number);
    let names = || picture.instances.iter().map(name).collect();
    output::print(format, &picture.instances, names, |wide| view::tree(terminal, picture, wide))
}

impl Picture {
    fn sort(&mut self) {
        self.fleets.sort_by(|one, two| one.name.cmp(&two.name));
        self.agents.sort_by(|one, two| (&one.fleet, &one.name).cmp(&(&two.fleet, &two.name)));
        self.instances.sort_by(|one, two| {
            (&one.fleet, &one.agent, one.number).cmp(&(&two.fleet, &two.agent, two.number))
        });
    }

    /// Keeps the fleets that have all these labels, and the agents that have them, themselves or through their fleet.
    fn select(&mut self, labels: &[(String, String)]) {
        if labels.is_empty() {
            return;
        }
        let fleets = std::mem::take(&mut self.fleets);
        let label = |agent: &Agent, key: &str| {
            let fleet = fleets.iter().find(|fleet| fleet.name == agent.fleet);
            let own = agent.spec.labels.0.get(key);
            own.or_else(|| fleet.and_then(|fleet| fleet.labels.0.get(key))).cloned()
        };
        self.agents
            .retain(|agent| labels.iter().all(|(key, value)| label(agent, key).as_ref() == Some(value)));
        self.instances.retain(|instance| {
            self.agents.iter().any(|agent| agent.fleet == instance.fleet && agent.name == instance.agent)
        });
        let has_all =
            |fleet: &Fleet| labels.iter().all(|(key, value)| fleet.labels.0.get(key) == Some(value));
        self.fleets = fleets
            .into_iter()
            .filter(|fleet| has_all(fleet) || self.agents.iter().any(|agent| agent.fleet == fleet.name))
            .collect();
    }
}
