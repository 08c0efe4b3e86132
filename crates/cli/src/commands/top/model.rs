//! What is shown: the last sample with its rates, a minute of history, and what the person at the keyboard has chosen.
//! No I/O.

use std::collections::{HashMap, VecDeque};

use chassis_api::{InstanceKey, InstanceStats, NodeStats, Stats, Usage};

use super::keys::Key;
use crate::rates::{Rates, busy_cores, rates};

/// Samples that a sparkline can show; one comes about each second.
const HISTORY: usize = 60;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    Cpu,
    Memory,
    Name,
    Restarts,
}

#[derive(Debug)]
pub(super) struct Model {
    pub(super) rows: Vec<Row>,
    pub(super) nodes: Vec<Node>,
    pub(super) sort: Sort,
    /// Only names that contain this are shown.
    pub(super) filter: String,
    /// Keys go to the filter.
    pub(super) typing: bool,
    /// Rows above the first that is shown.
    pub(super) offset: usize,
    /// Why the last sample is not a new one.
    pub(super) error: Option<String>,
    before: HashMap<InstanceKey, Before>,
    nodes_before: HashMap<String, NodeStats>,
}

#[derive(Debug)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) stats: InstanceStats,
    pub(super) rates: Option<Rates>,
    /// Its share of the processor time that it may have, newest last.
    pub(super) history: VecDeque<f64>,
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) stats: NodeStats,
    pub(super) busy_cores: Option<f64>,
}

#[derive(Debug, Default)]
struct Before {
    usage: Option<Usage>,
    history: VecDeque<f64>,
}

/// Whether to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Stay,
    Quit,
}

impl Model {
    pub(super) fn new() -> Model {
        Model {
            rows: Vec::new(),
            nodes: Vec::new(),
            sort: Sort::Cpu,
            filter: String::new(),
            typing: false,
            offset: 0,
            error: None,
            before: HashMap::new(),
            nodes_before: HashMap::new(),
        }
    }

    /// Takes a sample over. What is no longer in it is forgotten.
    pub(super) fn sample(&mut self, stats: Stats) {
        self.error = None;
        let nodes = stats.nodes.into_iter().map(|stats| {
            let before = self.nodes_before.get(&stats.name);
            Node { busy_cores: before.and_then(|before| busy_cores(before, &stats)), stats }
        });
        self.nodes = nodes.collect();
        self.nodes_before =
            self.nodes.iter().map(|node| (node.stats.name.clone(), node.stats.clone())).collect();
        let cores = self.nodes.iter().map(|node| node.stats.cores).max().unwrap_or(1);
        let several = stats.instances.windows(2).any(|pair| pair[0].instance.fleet != pair[1].instance.fleet);
        let mut earlier = std::mem::take(&mut self.before);
        let rows = stats.instances.into_iter().map(|stats| {
            let key = key(&stats);
            let Before { usage, mut history } = earlier.remove(&key).unwrap_or_default();
            let rates = usage.zip(stats.usage).and_then(|(before, after)| rates(&before, &after));
            let limit = stats.cpu_limit_cores.unwrap_or_else(|| f64::from(cores));
            history.push_back(rates.map_or(0.0, |rates| rates.cpu_cores / limit));
            if history.len() > HISTORY {
                history.pop_front();
            }
            self.before.insert(key.clone(), Before { usage: stats.usage, history: history.clone() });
            let name = if several { key.to_string() } else { key.short_name() };
            Row { name, stats, rates, history }
        });
        self.rows = rows.collect();
        self.arrange();
    }

    /// The rows that pass the filter, in order.
    pub(super) fn shown(&self) -> Vec<&Row> {
        let wanted = self.filter.to_lowercase();
        self.rows.iter().filter(|row| row.name.to_lowercase().contains(&wanted)).collect()
    }

    /// Does what a key asks for; `page` is how many rows are in sight.
    pub(super) fn press(&mut self, key: Key, page: usize) -> Step {
        if key == Key::Interrupt {
            return Step::Quit;
        }
        if self.typing {
            self.type_filter(key);
            return Step::Stay;
        }
        let last = self.shown().len().saturating_sub(page);
        match key {
            Key::Character('q') => return Step::Quit,
            Key::Character('c') => self.sort = Sort::Cpu,
            Key::Character('m') => self.sort = Sort::Memory,
            Key::Character('n') => self.sort = Sort::Name,
            Key::Character('r') => self.sort = Sort::Restarts,
            Key::Character('/') => self.typing = true,
            Key::Escape => self.filter.clear(),
            Key::Up | Key::Character('k') => self.offset = self.offset.saturating_sub(1),
            Key::Down | Key::Character('j') => self.offset = (self.offset + 1).min(last),
            Key::PageUp => self.offset = self.offset.saturating_sub(page),
            Key::PageDown => self.offset = (self.offset + page).min(last),
            Key::Home => self.offset = 0,
            Key::End => self.offset = last,
            _ => {}
        }
        self.arrange();
        Step::Stay
    }

    fn type_filter(&mut self, key: Key) {
        match key {
            Key::Character(character) => self.filter.push(character),
            Key::Backspace => {
                self.filter.pop();
            }
            Key::Enter => self.typing = false,
            Key::Escape => {
                self.typing = false;
                self.filter.clear();
            }
            _ => {}
        }
        self.offset = 0;
    }

    /// Most first, and by name among equals.
    fn arrange(&mut self) {
        let cpu = |row: &Row| row.rates.map_or(-1.0, |rates| rates.cpu_cores);
        let memory = |row: &Row| row.stats.usage.map(|usage| usage.memory_bytes);
        let restarts = |row: &Row| row.stats.instance.restarts;
        let sort = self.sort;
        // The server's order is by name; this one keeps it.
        self.rows.sort_by_cached_key(|row| {
            (row.stats.instance.fleet.clone(), row.stats.instance.agent.clone(), row.stats.instance.number)
        });
        match sort {
            Sort::Cpu => self.rows.sort_by(|one, two| cpu(two).total_cmp(&cpu(one))),
            Sort::Memory => self.rows.sort_by_key(|row| std::cmp::Reverse(memory(row))),
            Sort::Name => {}
            Sort::Restarts => self.rows.sort_by_key(|row| std::cmp::Reverse(restarts(row))),
        }
    }
}

fn key(stats: &InstanceStats) -> InstanceKey {
    let instance = &stats.instance;
    InstanceKey { fleet: instance.fleet.clone(), agent: instance.agent.clone(), number: instance.number }
}
