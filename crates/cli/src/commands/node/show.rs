//! `chassis node list` and `chassis node describe`.

use std::collections::BTreeMap;

use chassis_api::{Amounts, Duty, Node, NodeDetail, NodeName, NodeState};
use jiff::Timestamp;

use crate::args::Format;
use crate::commands::describe::Page;
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output::{self, Cell, Color, Table, Terminal, age, clean, size, until};

pub(super) async fn list(context: &Context, format: Format) -> Result<Exit, Failure> {
    let nodes = context.connect().await?.node_list().await?;
    let names = || nodes.iter().map(|node| node.name.clone()).collect();
    output::print(format, &nodes, names, |wide| table(context.terminal, &nodes, wide))?;
    Ok(Exit::Done)
}

pub(super) async fn describe(context: &Context, name: &NodeName, format: Format) -> Result<Exit, Failure> {
    let detail = context.connect().await?.node_get(name).await?;
    output::print(format, &detail, || vec![name.to_string()], |_| page(context.terminal, &detail))?;
    Ok(Exit::Done)
}

fn table(terminal: Terminal, nodes: &[Node], wide: bool) -> String {
    let now = Timestamp::now();
    let mut header = vec!["NAME", "STATE", "RUNTIME", "INSTANCES", "CPU", "MEMORY", "HEARD"];
    if wide {
        header.extend(["DISK", "SLOTS", "ARCH", "REGION", "LABELS", "URL"]);
    }
    let mut table = Table::new(terminal, &header);
    for node in nodes {
        let mut cells: Vec<Cell> = vec![
            node.name.as_str().into(),
            state(node),
            runtimes(node).into(),
            format!("{}/{}", node.running, node.instances).into(),
            of(cores(node.used), cores(node.capacity)).into(),
            of(size(node.used.memory_bytes), size(node.capacity.memory_bytes)).into(),
            heard(node, now).into(),
        ];
        if wide {
            cells.extend([
                of(size(node.used.disk_bytes), size(node.capacity.disk_bytes)).into(),
                of(node.used.slots, node.capacity.slots).into(),
                node.architecture.into(),
                node.region.as_deref().map_or_else(|| "-".to_owned(), clean).into(),
                labels(&node.labels).into(),
                node.url.as_deref().unwrap_or("this server's own").into(),
            ]);
        }
        table.row(cells);
    }
    table.render()
}

fn page(terminal: Terminal, detail: &NodeDetail) -> String {
    let (node, now) = (&detail.node, Timestamp::now());
    let mut page = Page::new(terminal);
    page.field("Name", node.name.as_str());
    page.field("State", state(node));
    page.optional("Wanted", wanted(node.duty, now));
    page.field("URL", node.url.as_deref().unwrap_or("this server's own node"));
    page.optional("Certificate", node.fingerprint.clone());
    page.field("Heard", heard(node, now));
    page.optional("Joined", node.registered_at.map(|at| format!("{at:.0} ({} ago)", age(at, now))));
    let version = node.runtime_version.as_ref().map(|version| format!(" {version}")).unwrap_or_default();
    page.field("Runtime", format!("{}{version}", runtimes(node)));
    page.optional("Error", node.runtime_error.as_deref().map(clean));
    page.field("Machine", node.architecture);
    page.optional("Region", node.region.as_deref().map(clean));
    page.field("Labels", labels(&node.labels));
    page.section("Resources");
    let amounts = [
        ("processors", cores as fn(Amounts) -> String),
        ("memory", |amounts| size(amounts.memory_bytes)),
        ("disk", |amounts| size(amounts.disk_bytes)),
        ("slots", |amounts| amounts.slots.to_string()),
    ];
    page.table(
        ["WHAT", "CAPACITY", "USED", "FREE"],
        amounts.into_iter().map(|(what, amount)| {
            [what.into(), amount(node.capacity).into(), amount(node.used).into(), amount(node.free).into()]
        }),
    );
    page.section("Instances");
    page.table(
        ["NAME", "STATE", ""],
        detail.held.iter().map(|held| {
            let remark = match (held.leaving, &held.stays) {
                (true, _) => "leaving".to_owned(),
                (false, Some(why)) => format!("stays: {}", clean(why)),
                (false, None) if held.data => "its data is here".to_owned(),
                (false, None) if held.moves => "runs elsewhere when this node is down".to_owned(),
                (false, None) => String::new(),
            };
            let name = format!("{}/{}-{}", held.fleet, held.agent, held.number);
            [name.into(), format!("{:?}", held.phase).into(), remark.into()]
        }),
    );
    if !detail.data_of.is_empty() {
        page.section("Data of instances that are not here now");
        page.table(["NAME"], detail.data_of.iter().map(|key| [key.to_string().into()]));
    }
    page.text
}

fn state(node: &Node) -> Cell {
    let color = match node.state {
        NodeState::Active => Color::Green,
        NodeState::Cordoned | NodeState::Draining | NodeState::Suspect => Color::Yellow,
        NodeState::Down => Color::Red,
    };
    let is_drained = node.state == NodeState::Draining && node.instances == 0;
    Cell::colored(if is_drained { "drained" } else { node.state.word() }, color)
}

fn wanted(duty: Duty, now: Timestamp) -> Option<String> {
    match duty {
        Duty::Open => None,
        Duty::Cordoned => Some("nothing new is put on it".to_owned()),
        Duty::Draining(drain) => Some(match drain.deadline {
            None => format!("what it has goes elsewhere, {} at a time", drain.parallelism),
            Some(at) if at > now => format!(
                "what it has goes elsewhere, {} at a time; the rest is stopped in {}",
                drain.parallelism,
                until(at, now)
            ),
            Some(_) => "what it has is stopped, and waits for a place".to_owned(),
        }),
    }
}

fn heard(node: &Node, now: Timestamp) -> String {
    node.heard_at.map_or_else(|| "not yet".to_owned(), |at| format!("{} ago", age(at, now)))
}

fn runtimes(node: &Node) -> String {
    node.runtimes.iter().map(|runtime| runtime.word()).collect::<Vec<_>>().join(",")
}

fn labels(labels: &BTreeMap<String, String>) -> String {
    if labels.is_empty() {
        return "-".to_owned();
    }
    let labels = labels.iter().map(|(name, value)| clean(&format!("{name}={value}")));
    labels.collect::<Vec<_>>().join(",")
}

fn cores(amounts: Amounts) -> String {
    let (whole, rest) = (amounts.cpu_millis / 1000, amounts.cpu_millis % 1000);
    if rest == 0 { whole.to_string() } else { format!("{whole}.{:01}", rest / 100) }
}

fn of(used: impl std::fmt::Display, whole: impl std::fmt::Display) -> String {
    format!("{used}/{whole}")
}
