//! Which of the nodes that can take an instance gets it.
//!
//! The score is how full a node would be in what it would have least of, then how full it would be in all; spread takes the
//! lowest, binpack the highest, and of equal ones the first by name. It is a plain walk over the nodes: a thousand of them
//! take some ten microseconds, which an index that is kept up to date does not make up for.

use std::cmp::Ordering;

use crate::key::InstanceKey;
use crate::node::{Amounts, Node};

use super::gates::gate;
use chassis_spec::Strategy;

use super::request::Demand;

/// The best of `nodes`, which are in the order of their names, for the instance; None if all have a gate closed to it.
pub(super) fn choose<'a>(
    nodes: impl Iterator<Item = &'a Node>,
    demand: &Demand,
    instance: &InstanceKey,
    strategy: Strategy,
) -> Option<&'a Node> {
    let mut best: Option<(&Node, Fill)> = None;
    for node in nodes.filter(|node| gate(node, demand, instance).is_none()) {
        let fill = Fill::of(node, demand.amounts);
        let is_better = best.as_ref().is_none_or(|(_, best)| match strategy {
            Strategy::Spread => fill.compare(best).is_lt(),
            Strategy::Binpack => fill.compare(best).is_gt(),
        });
        if is_better {
            best = Some((node, fill));
        }
    }
    best.map(|(node, _)| node)
}

/// How full a node would be with an instance more.
#[derive(Debug, Clone, Copy)]
struct Fill {
    most: f64,
    sum: f64,
}

impl Fill {
    fn of(node: &Node, amounts: Amounts) -> Fill {
        let shares = node.used.plus(amounts).shares(node.inverse);
        Fill { most: shares.into_iter().fold(0.0, f64::max), sum: shares.into_iter().sum() }
    }

    fn compare(&self, other: &Fill) -> Ordering {
        self.most.total_cmp(&other.most).then(self.sum.total_cmp(&other.sum))
    }
}
