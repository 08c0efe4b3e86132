//! The tables of `chassis ps`.

use std::collections::HashSet;

use chassis_api::{Agent, Fleet, Instance};
use chassis_spec::Labels;
use jiff::Timestamp;

use super::Picture;
use crate::commands::health;
use crate::output::{Cell, Color, Table, Terminal, age, place, reason, state};

/// The longest reason that is shown below an instance; `-o wide` and `describe` show all of it.
const LONGEST_REASON: usize = 120;

/// Everything: fleets, the agents in them, their instances.
pub(super) fn tree(terminal: Terminal, picture: &Picture, wide: bool) -> String {
    let mut header = vec!["NAME", "STATE", "HEALTH", "RESTARTS", "AGE", "NODE", "IMAGE"];
    if wide {
        header.extend(["REVISION", "CONTAINER", "REASON"]);
    }
    let mut tree = Tree { table: Table::new(terminal, &header), now: Timestamp::now(), wide };
    for fleet in &picture.fleets {
        let agents: Vec<&Agent> = picture.agents.iter().filter(|agent| agent.fleet == fleet.name).collect();
        tree.fleet(fleet, &picture.instances);
        for agent in agents {
            tree.agent(agent, &picture.instances);
        }
    }
    tree.table.render()
}

struct Tree {
    table: Table,
    now: Timestamp,
    wide: bool,
}

impl Tree {
    fn fleet(&mut self, fleet: &Fleet, instances: &[Instance]) {
        let own: Vec<&Instance> = instances.iter().filter(|one| one.fleet == fleet.name).collect();
        let restarts: u32 = own.iter().map(|one| one.restarts).sum();
        let state = match (fleet.deleting, fleet.agents) {
            (true, _) => Cell::colored("deleting", Color::Yellow),
            (false, 0) => Cell::colored("no agents", Color::Dim),
            (false, _) if fleet.wanted == 0 => Cell::colored("stopped", Color::Dim),
            (false, _) => running(fleet.running, fleet.wanted),
        };
        self.row([
            Cell::colored(fleet.name.as_str(), Color::Bold),
            state,
            health::of_all(&own),
            restarts.into(),
            age(fleet.created_at, self.now).into(),
            "-".into(),
            "-".into(),
        ]);
    }

    fn agent(&mut self, agent: &Agent, instances: &[Instance]) {
        let own: Vec<&Instance> =
            instances.iter().filter(|one| one.fleet == agent.fleet && one.agent == agent.name).collect();
        let state = match (agent.deleting, agent.replicas) {
            (true, _) => Cell::colored("deleting", Color::Yellow),
            (false, 0) => Cell::colored("scaled to 0", Color::Dim),
            (false, _) if agent.wanted == 0 => Cell::colored("stopped", Color::Dim),
            (false, _) => running(agent.running, agent.wanted),
        };
        let restarts: u32 = own.iter().map(|one| one.restarts).sum();
        self.row([
            format!("  {}", agent.name).into(),
            state,
            health::of_all(&own),
            restarts.into(),
            age(agent.created_at, self.now).into(),
            "-".into(),
            agent.spec.image.as_str().into(),
        ]);
        let mut said = HashSet::new();
        for instance in own {
            self.instance(instance, &mut said);
        }
    }

    /// A reason that an instance before it had already is not said again.
    fn instance(&mut self, instance: &Instance, said: &mut HashSet<String>) {
        let why = reason(instance, self.now, if self.wide { usize::MAX } else { LONGEST_REASON });
        let mut cells: Vec<Cell> = vec![
            format!(
                "    {}-{}{}",
                instance.agent,
                instance.number,
                if instance.extra { " (extra)" } else { "" }
            )
            .into(),
            state(instance),
            health::state(instance.health),
            instance.restarts.into(),
            age(instance.started_at.unwrap_or(instance.created_at), self.now).into(),
            place(&instance.node).into(),
            instance.image.as_str().into(),
        ];
        if self.wide {
            cells.push(instance.revision.map_or_else(|| "-".into(), Cell::from));
            let container = instance.container_id.as_deref().unwrap_or("-");
            cells.push(container.chars().take(12).collect::<String>().into());
            cells.push(why.unwrap_or_else(|| "-".to_owned()).into());
            self.table.row(cells);
            return;
        }
        self.table.row(cells);
        let message = instance.message.clone().unwrap_or_default();
        if let Some(why) = why
            && said.insert(message)
        {
            self.table.note(Cell::colored(format!("      {why}"), Color::Dim));
        }
    }

    fn row(&mut self, cells: [Cell; 7]) {
        let more = if self.wide { 3 } else { 0 };
        self.table.row(cells.into_iter().chain(std::iter::repeat_n("-".into(), more)));
    }
}

pub(super) fn fleets(terminal: Terminal, fleets: &[Fleet], wide: bool) -> String {
    let now = Timestamp::now();
    let mut header = vec!["FLEET", "AGENTS", "RUNNING", "AGE"];
    if wide {
        header.push("LABELS");
    }
    let mut table = Table::new(terminal, &header);
    for fleet in fleets {
        let mut cells: Vec<Cell> = vec![
            fleet.name.as_str().into(),
            fleet.agents.into(),
            format!("{}/{}", fleet.running, fleet.wanted).into(),
            age(fleet.created_at, now).into(),
        ];
        if wide {
            cells.push(labels(&fleet.labels).into());
        }
        table.row(cells);
    }
    table.render()
}

pub(super) fn agents(terminal: Terminal, agents: &[Agent], wide: bool) -> String {
    let now = Timestamp::now();
    let mut header = vec!["FLEET", "AGENT", "RUNNING", "REVISION", "DEPLOYED", "IMAGE"];
    if wide {
        header.push("LABELS");
    }
    let mut table = Table::new(terminal, &header);
    for agent in agents {
        let mut cells: Vec<Cell> = vec![
            agent.fleet.as_str().into(),
            agent.name.as_str().into(),
            format!("{}/{}", agent.running, agent.wanted).into(),
            agent.revision.into(),
            format!("{} ago", age(agent.deployed_at, now)).into(),
            agent.spec.image.as_str().into(),
        ];
        if wide {
            cells.push(labels(&agent.spec.labels).into());
        }
        table.row(cells);
    }
    table.render()
}

fn running(running: u32, wanted: u32) -> Cell {
    let text = format!("{running}/{wanted} running");
    Cell::colored(text, if running == wanted { Color::Green } else { Color::Yellow })
}

fn labels(labels: &Labels) -> String {
    if labels.is_empty() {
        return "-".to_owned();
    }
    labels.0.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}
