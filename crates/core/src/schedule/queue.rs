//! Who waits for a place, and whose turn it is.
//!
//! Those that ask for the same, for the same tenant and with the same priority, are one line: if its first does not fit, none
//! does. Among the lines that may fit the turn goes to the highest priority, then to the tenant with the smallest share of the
//! nodes (the dominant one, over the tenant's weight), then to whoever has waited longest. One turn in [`OLDEST_EVERY`] goes to
//! whoever has waited longest, whatever the priority and share, so that a line which is never the best is served too.
//!
//! What fits nowhere while smaller ones take whatever comes free is helped by a claim: see [`super::claims`].

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;

use jiff::Timestamp;

use crate::key::InstanceKey;

use super::request::{Demand, Request, Wait};

/// How often the oldest is served first.
const OLDEST_EVERY: u64 = 8;

/// All that wait.
#[derive(Debug, Clone, Default)]
pub(super) struct Queue {
    lines: BTreeMap<Line, BTreeMap<u64, Entry>>,
    /// Where each of them stands.
    entries: BTreeMap<InstanceKey, (Line, u64)>,
    give_up: BTreeSet<(Timestamp, InstanceKey)>,
    next: u64,
    /// Turns that were given, so that every so many is the oldest's.
    turns: u64,
}

/// What makes requests alike.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Line {
    pub(super) tenant: Arc<str>,
    pub(super) priority: u8,
    pub(super) demand: Arc<Demand>,
}

/// One that waits.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) instance: InstanceKey,
    pub(super) since: Timestamp,
    until: Option<Timestamp>,
}

/// One pass over the lines: each is tried until its first does not fit.
#[derive(Debug)]
pub(super) struct Round {
    by_rank: BinaryHeap<Ranked>,
    by_age: BTreeMap<u64, Line>,
}

#[derive(Debug)]
struct Ranked {
    share: f64,
    number: u64,
    line: Line,
}

// === impl Queue ===

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// True if one that asks for just the same waits already.
    pub(super) fn has_line(&self, request: &Request) -> bool {
        !self.lines.is_empty() && self.lines.contains_key(&Line::of(request))
    }

    pub(super) fn add(&mut self, request: &Request, now: Timestamp) {
        let until = match request.wait {
            Wait::Until(until) => Some(until),
            Wait::No | Wait::Always => None,
        };
        let (line, number) = (Line::of(request), self.next);
        self.next += 1;
        let instance = request.instance.clone();
        if let Some(until) = until {
            self.give_up.insert((until, instance.clone()));
        }
        self.entries.insert(instance.clone(), (line.clone(), number));
        self.lines.entry(line).or_default().insert(number, Entry { instance, since: now, until });
    }

    pub(super) fn remove(&mut self, instance: &InstanceKey) {
        let Some((line, number)) = self.entries.remove(instance) else { return };
        let Some(entries) = self.lines.get_mut(&line) else { return };
        if let Some(until) = entries.remove(&number).and_then(|entry| entry.until) {
            self.give_up.remove(&(until, instance.clone()));
        }
        if entries.is_empty() {
            self.lines.remove(&line);
        }
    }

    /// How many of higher priority wait, and of the same for longer.
    pub(super) fn ahead(&self, instance: &InstanceKey) -> Option<usize> {
        let (line, number) = self.entries.get(instance)?;
        let before = self.lines.iter().map(|(other, entries)| match other.priority.cmp(&line.priority) {
            Ordering::Greater => entries.len(),
            Ordering::Equal => entries.range(..number).count(),
            Ordering::Less => 0,
        });
        Some(before.sum())
    }

    /// The first of every line, the oldest first.
    pub(super) fn heads(&self) -> Vec<(&Line, &Entry)> {
        let mut heads: Vec<_> = self
            .lines
            .iter()
            .filter_map(|(line, entries)| {
                entries.first_key_value().map(|(number, entry)| (number, line, entry))
            })
            .collect();
        heads.sort_by_key(|(number, ..)| **number);
        heads.into_iter().map(|(_, line, entry)| (line, entry)).collect()
    }

    /// Those that give up by `now`.
    pub(super) fn overdue(&self, now: Timestamp) -> Vec<InstanceKey> {
        self.give_up.iter().take_while(|(until, _)| *until <= now).map(|(_, key)| key.clone()).collect()
    }

    /// When the next one gives up.
    pub(super) fn gives_up_at(&self) -> Option<Timestamp> {
        self.give_up.first().map(|(until, _)| *until)
    }

    pub(super) fn round(&self, share: impl Fn(&str) -> f64) -> Round {
        let mut round = Round { by_rank: BinaryHeap::new(), by_age: BTreeMap::new() };
        for (line, entries) in &self.lines {
            if let Some((number, _)) = entries.first_key_value() {
                round.add(line.clone(), *number, share(&line.tenant));
            }
        }
        round
    }

    /// The line whose turn it is. It takes no part in the round any more until [`Queue::again`].
    pub(super) fn turn(&mut self, round: &mut Round, share: impl Fn(&str) -> f64) -> Option<Line> {
        if (self.turns + 1).is_multiple_of(OLDEST_EVERY) {
            let (_, line) = round.by_age.pop_first()?;
            return Some(line);
        }
        while let Some(ranked) = round.by_rank.pop() {
            if !round.by_age.contains_key(&ranked.number) {
                continue;
            }
            // A share only grows in a round, by what was placed in it: whoever has become worse stands back.
            let share = share(&ranked.line.tenant);
            if share > ranked.share {
                round.by_rank.push(Ranked { share, ..ranked });
                continue;
            }
            round.by_age.remove(&ranked.number);
            return Some(ranked.line);
        }
        None
    }

    /// The first of a line.
    pub(super) fn head(&self, line: &Line) -> Option<&Entry> {
        self.lines.get(line)?.values().next()
    }

    /// Notes that the first of the line has got a place, and lets the line take part again.
    pub(super) fn again(&mut self, round: &mut Round, line: Line, share: f64) {
        self.turns += 1;
        if let Some((number, _)) = self.lines.get(&line).and_then(BTreeMap::first_key_value) {
            round.add(line, *number, share);
        }
    }
}

// === impl Line ===

impl Line {
    fn of(request: &Request) -> Line {
        let Request { tenant, priority, demand, .. } = request;
        Line { tenant: tenant.clone(), priority: *priority, demand: demand.clone() }
    }
}

// === impl Round ===

impl Round {
    fn add(&mut self, line: Line, number: u64, share: f64) {
        self.by_age.insert(number, line.clone());
        self.by_rank.push(Ranked { share, number, line });
    }
}

// === impl Ranked ===

impl Ranked {
    fn compare(&self, other: &Ranked) -> Ordering {
        self.line
            .priority
            .cmp(&other.line.priority)
            .then(other.share.total_cmp(&self.share))
            .then(Reverse(self.number).cmp(&Reverse(other.number)))
    }
}

impl PartialEq for Ranked {
    fn eq(&self, other: &Self) -> bool {
        self.compare(other).is_eq()
    }
}

impl Eq for Ranked {}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> Ordering {
        self.compare(other)
    }
}
