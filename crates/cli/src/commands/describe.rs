//! `chassis describe`: everything about an instance, an agent or a fleet.

use chassis_api::{Agent, Fleet, Instance, InstanceDetail};
use chassis_client::Client;
use jiff::Timestamp;
use serde::Serialize;

use crate::args::{Describe, Format};
use crate::commands::{events, health};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output::{
    self, Cell, Color, Table, Terminal, age, clean, exit_text, place, reason, state, visible,
};
use crate::scope::instance_key;

#[derive(Serialize)]
struct AgentDetail {
    #[serde(flatten)]
    agent: Agent,
    instances: Vec<Instance>,
}

#[derive(Serialize)]
struct FleetDetail {
    #[serde(flatten)]
    fleet: Fleet,
    agents: Vec<Agent>,
}

pub(super) async fn run(context: &Context, describe: Describe) -> Result<Exit, Failure> {
    let client = context.connect().await?;
    let scope = client.resolve(&describe.id, None).await?;
    let (terminal, format) = (context.terminal, describe.output.output);
    match (&scope.agent, instance_key(&scope)) {
        (_, Some(key)) => {
            let mut detail = client.instance_get(&key).await?;
            if describe.no_log {
                detail.exits.iter_mut().for_each(|exit| exit.log.clear());
            }
            output::print(format, &detail, || vec![key.to_string()], |_| instance(terminal, &detail))?;
        }
        (Some(name), None) => {
            let agent = client.agent_get(&scope.fleet, name).await?;
            let instances = client.instance_list(Some(&scope.fleet), Some(name)).await?;
            let detail = AgentDetail { agent, instances };
            let names = || vec![format!("{}/{name}", scope.fleet)];
            output::print(format, &detail, names, |_| self::agent(terminal, &detail))?;
        }
        (None, None) => describe_fleet(terminal, &client, format, &scope.fleet).await?,
    }
    Ok(Exit::Done)
}

async fn describe_fleet(
    terminal: Terminal,
    client: &Client,
    format: Format,
    name: &chassis_spec::FleetName,
) -> Result<(), Failure> {
    let detail =
        FleetDetail { fleet: client.fleet_get(name).await?, agents: client.agent_list(Some(name)).await? };
    output::print(format, &detail, || vec![name.to_string()], |_| fleet(terminal, &detail))
}

fn instance(terminal: Terminal, detail: &InstanceDetail) -> String {
    let now = Timestamp::now();
    let InstanceDetail { instance, container_name, spec, agent_revision, .. } = detail;
    let mut page = Page::new(terminal);
    page.field("Name", format!("{}/{}-{}", instance.fleet, instance.agent, instance.number));
    page.field("State", state(instance));
    if instance.health.is_some() {
        page.field("Health", health::state(instance.health));
    }
    page.optional("Reason", reason(instance, now, usize::MAX));
    page.field("Restarts", instance.restarts);
    page.field("Created", ago(instance.created_at, now));
    page.optional("Started", instance.started_at.map(|at| ago(at, now)));
    page.optional(
        "Last exit",
        instance.last_exit.map(|exit| format!("{}, {}", exit_text(exit), ago(exit.finished_at, now))),
    );
    page.field("Node", place(&instance.node));
    page.field("Image", instance.image.as_str());
    page.field("Revision", revision(instance.revision, *agent_revision));
    let id = instance.container_id.as_deref().map_or("none yet", |id| id.get(..12).unwrap_or(id));
    page.field("Container", format!("{container_name} ({id})"));
    exits(&mut page, detail, now);
    page.section("Mounts");
    page.table(
        ["PATH", "KIND", "SOURCE", "ACCESS"],
        detail.mounts.iter().map(|mount| {
            let access = if mount.read_only { "read only" } else { "read and write" };
            [
                mount.path.as_str().into(),
                mount.kind.as_str().into(),
                clean(&mount.source).into(),
                access.into(),
            ]
        }),
    );
    page.section("Open");
    if detail.open.is_empty() {
        page.line("nothing beyond the defaults");
    }
    for open in &detail.open {
        page.line(&clean(open));
    }
    page.section("Spec");
    page.yaml(spec);
    page.section("Events");
    page.table(
        ["TIME", "EVENT"],
        detail.events.iter().map(|event| [events::time(event).into(), clean(&event.kind.to_string()).into()]),
    );
    page.text
}

/// How its runs ended, and what the last of them said before.
fn exits(page: &mut Page, detail: &InstanceDetail, now: Timestamp) {
    let Some(last) = detail.exits.first() else { return };
    page.section("Last runs");
    page.table(
        ["ENDED", "RAN FOR", "REVISION", "HOW"],
        detail.exits.iter().map(|exit| {
            [
                ago(exit.finished_at, now).into(),
                age(exit.started_at, exit.finished_at).into(),
                exit.revision.map_or_else(|| "-".to_owned(), |revision| revision.to_string()).into(),
                exit.to_string().into(),
            ]
        }),
    );
    if !last.log.is_empty() {
        page.section(&format!("Last output of the run that ended {} ago", age(last.finished_at, now)));
        for line in &last.log {
            page.line(&visible(&line.text));
        }
    }
}

fn agent(terminal: Terminal, detail: &AgentDetail) -> String {
    let now = Timestamp::now();
    let agent = &detail.agent;
    let mut page = Page::new(terminal);
    page.field("Name", format!("{}/{}", agent.fleet, agent.name));
    page.field("State", counts(agent.running, agent.wanted, agent.deleting));
    page.field("Instances", agent.replicas);
    page.field("Revision", agent.revision);
    page.field("Created", ago(agent.created_at, now));
    page.field("Deployed", ago(agent.deployed_at, now));
    page.section("Spec");
    page.yaml(&agent.spec);
    page.section("Instances");
    page.table(
        ["NAME", "STATE", "HEALTH", "RESTARTS", "AGE", "NODE", "REASON"],
        detail.instances.iter().map(|instance| {
            [
                format!("{}-{}", instance.agent, instance.number).into(),
                state(instance),
                health::state(instance.health),
                instance.restarts.into(),
                age(instance.started_at.unwrap_or(instance.created_at), now).into(),
                place(&instance.node).into(),
                reason(instance, now, usize::MAX).unwrap_or_else(|| "-".to_owned()).into(),
            ]
        }),
    );
    page.text
}

fn fleet(terminal: Terminal, detail: &FleetDetail) -> String {
    let now = Timestamp::now();
    let fleet = &detail.fleet;
    let mut page = Page::new(terminal);
    page.field("Name", fleet.name.as_str());
    page.field("State", counts(fleet.running, fleet.wanted, fleet.deleting));
    page.field("Created", ago(fleet.created_at, now));
    for (key, value) in &fleet.labels.0 {
        page.field("Label", format!("{key}={value}"));
    }
    page.section("Agents");
    page.table(
        ["NAME", "RUNNING", "REVISION", "DEPLOYED", "IMAGE"],
        detail.agents.iter().map(|agent| {
            [
                agent.name.as_str().into(),
                format!("{}/{}", agent.running, agent.wanted).into(),
                agent.revision.into(),
                ago(agent.deployed_at, now).into(),
                agent.spec.image.as_str().into(),
            ]
        }),
    );
    page.text
}

fn counts(running: u32, wanted: u32, deleting: bool) -> String {
    let deleting = if deleting { ", being deleted" } else { "" };
    format!("{running}/{wanted} running{deleting}")
}

fn ago(time: Timestamp, now: Timestamp) -> String {
    format!("{} ago ({})", age(time, now), time.strftime("%Y-%m-%dT%H:%M:%SZ"))
}

fn revision(own: Option<u64>, newest: u64) -> String {
    match own {
        Some(own) if own == newest => own.to_string(),
        Some(own) => format!("{own}, will be {newest}"),
        None => format!("none yet, will be {newest}"),
    }
}

/// Names and values, then sections.
pub(super) struct Page {
    terminal: Terminal,
    pub(super) text: String,
}

impl Page {
    pub(super) fn new(terminal: Terminal) -> Page {
        Page { terminal, text: String::new() }
    }

    pub(super) fn field(&mut self, name: &str, value: impl Into<Cell>) {
        let mut table = Table::without_header(self.terminal);
        table.row([format!("{:<10}", format!("{name}:")).into(), value.into()]);
        self.text.push_str(&table.render());
    }

    pub(super) fn optional(&mut self, name: &str, value: Option<String>) {
        if let Some(value) = value {
            self.field(name, value);
        }
    }

    pub(super) fn section(&mut self, name: &str) {
        let title = format!("{name}:");
        self.text.push('\n');
        self.text.push_str(&if self.terminal.colored() { Color::Bold.paint(&title) } else { title });
        self.text.push('\n');
    }

    pub(super) fn line(&mut self, line: &str) {
        self.text.push_str("  ");
        self.text.push_str(line);
        self.text.push('\n');
    }

    pub(super) fn table<const N: usize>(&mut self, header: [&str; N], rows: impl Iterator<Item = [Cell; N]>) {
        let mut table = Table::new(self.terminal, &header);
        let mut empty = true;
        for row in rows {
            empty = false;
            table.row(row);
        }
        if empty {
            return self.line("none");
        }
        for line in table.render().lines() {
            self.line(line);
        }
    }

    pub(super) fn yaml(&mut self, value: &impl Serialize) {
        for line in output::yaml(value).unwrap_or_default().lines() {
            self.line(line);
        }
    }
}
