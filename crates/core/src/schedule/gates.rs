//! Whether a node can take an instance, and if not, why.
//!
//! [`gate`] is the decision: it stops at the first gate that is closed and costs nothing, because it is asked of every node.
//! [`unfit`] puts the same decision into words, when somebody is to read it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use chassis_spec::RuntimeKind;

use crate::key::InstanceKey;
use crate::node::{Amounts, Architecture, Node, NodeName, NodeState};

use super::request::Demand;

/// What a node is asked, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Gate {
    /// Is it the node that was asked for?
    Node,
    /// Does it have the instance's data?
    Data,
    Region,
    Architecture,
    Runtime,
    Labels,
    /// Could it take the instance if it were empty?
    Size,
    /// Does it take instances at all now?
    State,
    /// Is it kept free for another?
    Claim,
    /// Has it room now?
    Room,
}

/// Why a node cannot take an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unfit {
    OtherNode {
        wanted: NodeName,
    },
    NoData {
        on: NodeName,
    },
    Region {
        wanted: Box<str>,
        has: Option<Box<str>>,
    },
    Architecture {
        wanted: Architecture,
        has: Architecture,
    },
    Runtime {
        wanted: RuntimeKind,
    },
    Label {
        name: String,
        wanted: String,
        has: Option<String>,
    },
    /// It would not do if it were empty.
    TooSmall {
        missing: Amounts,
    },
    State(NodeState),
    /// It is kept free for a request that has waited longer.
    Claimed {
        by: InstanceKey,
    },
    Full {
        missing: Amounts,
    },
}

/// Why no node took an instance: what each of them lacked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    pub instance: InstanceKey,
    pub nodes: BTreeMap<NodeName, Unfit>,
}

/// The first gate of a node that is closed to the instance, if any is.
pub(super) fn gate(node: &Node, demand: &Demand, instance: &InstanceKey) -> Option<Gate> {
    if let Some(gate) = gate_when_empty(node, demand) {
        Some(gate)
    } else if node.state() != NodeState::Active {
        Some(Gate::State)
    } else if node.claimed_by.as_ref().is_some_and(|by| by != instance) {
        Some(Gate::Claim)
    } else if !node.free().covers(demand.amounts) {
        Some(Gate::Room)
    } else {
        None
    }
}

/// The first gate that would be closed if the node had nothing to do, and was there.
pub(super) fn gate_when_empty(node: &Node, demand: &Demand) -> Option<Gate> {
    let spec = &node.spec;
    if demand.node.as_ref().is_some_and(|wanted| *wanted != spec.name) {
        Some(Gate::Node)
    } else if demand.home().is_some_and(|on| *on != spec.name) {
        Some(Gate::Data)
    } else if demand.region.is_some() && demand.region != spec.region {
        Some(Gate::Region)
    } else if demand.architecture.is_some_and(|wanted| wanted != spec.architecture) {
        Some(Gate::Architecture)
    } else if !spec.runtimes.contains(&demand.runtime) {
        Some(Gate::Runtime)
    } else if missing_label(node, demand).is_some() {
        Some(Gate::Labels)
    } else if !spec.capacity.covers(demand.amounts) {
        Some(Gate::Size)
    } else {
        None
    }
}

/// Why the node cannot take the instance, for people to read.
pub(super) fn unfit(node: &Node, demand: &Demand, instance: &InstanceKey) -> Option<Unfit> {
    let spec = &node.spec;
    let reason = match gate(node, demand, instance)? {
        Gate::Node => Unfit::OtherNode { wanted: demand.node.clone()? },
        Gate::Data => Unfit::NoData { on: demand.home()?.clone() },
        Gate::Region => Unfit::Region { wanted: demand.region.clone()?, has: spec.region.clone() },
        Gate::Architecture => Unfit::Architecture { wanted: demand.architecture?, has: spec.architecture },
        Gate::Runtime => Unfit::Runtime { wanted: demand.runtime },
        Gate::Labels => {
            let (name, wanted) = missing_label(node, demand)?;
            Unfit::Label { name: name.clone(), wanted: wanted.clone(), has: spec.labels.get(name).cloned() }
        }
        Gate::Size => Unfit::TooSmall { missing: demand.amounts.minus(spec.capacity) },
        Gate::State => Unfit::State(node.state()),
        Gate::Claim => Unfit::Claimed { by: node.claimed_by.clone()? },
        Gate::Room => Unfit::Full { missing: demand.amounts.minus(node.free()) },
    };
    Some(reason)
}

fn missing_label<'a>(node: &Node, demand: &'a Demand) -> Option<(&'a String, &'a String)> {
    demand.labels.iter().find(|(name, value)| node.spec.labels.get(*name) != Some(value))
}

// === impl Unfit ===

impl fmt::Display for Unfit {
    /// What comes after the node's name: `lacks 512Mi of memory`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unfit::OtherNode { wanted } => write!(formatter, "is not {wanted}, which was asked for"),
            Unfit::NoData { on } => write!(formatter, "does not hold the data, which is on {on}"),
            Unfit::Region { wanted, has: Some(has) } => write!(formatter, "is in region {has}, not {wanted}"),
            Unfit::Region { wanted, has: None } => write!(formatter, "is in no region, not in {wanted}"),
            Unfit::Architecture { wanted, has } => write!(formatter, "is {has}, not {wanted}"),
            Unfit::Runtime { wanted } => write!(formatter, "does not run {}", wanted.word()),
            Unfit::Label { name, wanted, has: Some(has) } => {
                write!(formatter, "has label {name}={has}, not {wanted}")
            }
            Unfit::Label { name, wanted, has: None } => write!(formatter, "lacks label {name}={wanted}"),
            Unfit::TooSmall { missing } => write!(formatter, "is too small by {missing}, even when empty"),
            Unfit::State(state) => write!(formatter, "is {state}"),
            Unfit::Claimed { by } => write!(formatter, "is kept free for {by}, which has waited longer"),
            Unfit::Full { missing } => write!(formatter, "lacks {missing}"),
        }
    }
}

// === impl Refused ===

impl Refused {
    /// True if no node would do if it had nothing and was there: only another node, or another wish, changes that.
    pub fn is_final(&self) -> bool {
        let for_now = |unfit: &Unfit| {
            matches!(
                unfit,
                Unfit::State(_) | Unfit::Claimed { .. } | Unfit::Full { .. } | Unfit::NoData { .. }
            )
        };
        !self.nodes.values().any(for_now)
    }

    /// What is wrong with the wish itself, if every node refuses it for the same thing: there is none of that name, region or
    /// label.
    fn misnamed(&self) -> Option<String> {
        let mut unfits = self.nodes.values();
        match unfits.next()? {
            Unfit::OtherNode { wanted } if !self.nodes.contains_key(wanted) => {
                let names = self.nodes.keys().map(NodeName::as_str);
                unfits
                    .all(|other| matches!(other, Unfit::OtherNode { .. }))
                    .then(|| format!("there is no node {wanted}{}", meant(wanted.as_str(), names)))
            }
            Unfit::Region { wanted, .. } => {
                let has = |unfit: &'_ Unfit| match unfit {
                    Unfit::Region { has, .. } => Some(has.clone()),
                    _ => None,
                };
                let all: Option<Vec<_>> = self.nodes.values().map(has).collect();
                let known: BTreeSet<Box<str>> = all?.into_iter().flatten().collect();
                let known = known.iter().map(AsRef::as_ref);
                Some(format!("no node is in region {wanted}{}", meant(wanted, known)))
            }
            Unfit::Label { name, wanted, .. } => {
                let has = |unfit: &'_ Unfit| match unfit {
                    Unfit::Label { name: other, has, .. } if other == name => Some(has.clone()),
                    _ => None,
                };
                let all: Option<Vec<_>> = self.nodes.values().map(has).collect();
                let known: BTreeSet<String> = all?.into_iter().flatten().collect();
                let known = known.iter().map(String::as_str);
                Some(format!("no node has label {name}={wanted}{}", meant(wanted, known)))
            }
            _ => None,
        }
    }
}

/// The name that was probably meant, or those that there are.
fn meant<'a>(wanted: &str, known: impl Iterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.collect();
    if let Some(near) = chassis_spec::closest(wanted, &known) {
        return format!("; did you mean {near}?");
    }
    match known.len() {
        0 => String::new(),
        count => {
            let more = if count > NAMED { ", …" } else { "" };
            format!("; there is {}{more}", known[..count.min(NAMED)].join(", "))
        }
    }
}

/// As many reasons as a message names; an answer of the API has all of them.
const NAMED: usize = 5;

impl fmt::Display for Refused {
    /// `no node can take web/api-1: n1 lacks 512Mi of memory (7 more too); n2 is cordoned`, the most frequent reason first.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Refused { instance, nodes } = self;
        if nodes.is_empty() {
            return write!(formatter, "no node can take {instance}: there is none; add one");
        }
        if let Some(misnamed) = self.misnamed() {
            return write!(formatter, "no node can take {instance}: {misnamed}");
        }
        let mut by_reason: BTreeMap<String, Vec<&NodeName>> = BTreeMap::new();
        for (name, unfit) in nodes {
            by_reason.entry(unfit.to_string()).or_default().push(name);
        }
        let mut reasons: Vec<_> = by_reason.into_iter().collect();
        reasons.sort_by_key(|(_, names)| std::cmp::Reverse(names.len()));
        write!(formatter, "no node can take {instance}: ")?;
        for (index, (reason, names)) in reasons.iter().take(NAMED).enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(formatter, "{separator}{} {reason}", names[0])?;
            if names.len() > 1 {
                write!(formatter, " ({} more too)", names.len() - 1)?;
            }
        }
        if reasons.len() > NAMED {
            let rest: usize = reasons[NAMED..].iter().map(|(_, names)| names.len()).sum();
            write!(formatter, "; {rest} more for other reasons")?;
        }
        Ok(())
    }
}
