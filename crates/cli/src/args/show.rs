//! Flags of the commands that only look.

use clap::{Args, ValueEnum};
use jiff::{SignedDuration, Timestamp};

use crate::parse;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    #[default]
    Table,
    /// A table with more columns
    Wide,
    Json,
    Yaml,
    /// Names only, one to a line
    Name,
}

#[derive(Debug, Args)]
pub(crate) struct Output {
    /// How to print it
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(crate) output: Format,
}

/// Which agents are meant, by their labels and those of their fleets.
#[derive(Debug, Args)]
pub(crate) struct Selector {
    /// Only what has this label; may be given several times
    #[arg(short = 'l', long = "selector", value_name = "KEY=VALUE", value_parser = parse::label)]
    pub(crate) labels: Vec<(String, String)>,
}

impl Selector {
    /// As the API takes it; none if there is none.
    pub(crate) fn query(&self) -> Option<String> {
        let labels: Vec<String> = self.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        (!labels.is_empty()).then(|| labels.join(","))
    }
}

#[derive(Debug, Args)]
pub(crate) struct Ps {
    /// Only this fleet, agent or instance
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) output: Output,
    #[command(flatten)]
    pub(crate) selector: Selector,
    /// Show it again whenever it changes
    #[arg(short, long)]
    pub(crate) watch: bool,
    /// Fleets only
    #[arg(long, conflicts_with = "agents")]
    pub(crate) fleets: bool,
    /// Agents only
    #[arg(long)]
    pub(crate) agents: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Describe {
    /// Instance, agent or fleet: data-collector-1, data-collector, collector/data-collector-1
    pub(crate) id: String,
    /// Leave out the last output of the run before
    #[arg(long)]
    pub(crate) no_log: bool,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct Health {
    /// Instance, agent or fleet
    pub(crate) id: String,
    /// Look now, without waiting for the interval
    #[arg(long)]
    pub(crate) now: bool,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct Events {
    /// Only of this fleet, agent or instance
    pub(crate) id: Option<String>,
    /// Go on with what happens from now on
    #[arg(short, long)]
    pub(crate) watch: bool,
    /// At most so many, the newest
    #[arg(long, default_value_t = 100)]
    pub(crate) limit: u32,
    /// Only what happened since: 10m, or 2026-11-22T12:00:00Z
    #[arg(long, value_name = "TIME", value_parser = parse::since)]
    pub(crate) since: Option<Timestamp>,
    /// Only events of these kinds, such as Exited,Lost; `-o json` shows the kinds
    #[arg(long, value_name = "KIND", value_delimiter = ',')]
    pub(crate) kind: Vec<String>,
    /// Only events after the one with this id
    #[arg(long, value_name = "ID")]
    pub(crate) since_id: Option<u64>,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct Audit {
    /// Only this fleet, agent or instance
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) output: Output,
    /// Show what passes too
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Stats {
    /// Only of this fleet, agent or instance
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) output: Output,
    #[command(flatten)]
    pub(crate) selector: Selector,
    /// Show it again and again
    #[arg(short, long)]
    pub(crate) watch: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Top {
    /// Only this fleet, agent or instance
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) selector: Selector,
    /// Print one picture as plain text; so does a pipe
    #[arg(long)]
    pub(crate) once: bool,
}

#[derive(Debug, Args)]
pub(crate) struct WaitFor {
    /// Fleets, agents or instances, as with `start`
    #[arg(value_name = "[KIND] NAME", required = true, num_args = 1..)]
    pub(crate) target: Vec<String>,
    /// What to wait for
    #[arg(long = "for", value_name = "STATE", value_enum, default_value = "ready")]
    pub(crate) state: WaitState,
    /// Give up after this time
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = parse::duration)]
    pub(crate) timeout: SignedDuration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum WaitState {
    /// Each runs
    Running,
    /// Each runs at the agent's present revision, is healthy if it has a check, and has not just crashed
    Ready,
    /// Each runs, and its health check succeeds
    Healthy,
    /// None runs, and none is about to
    Stopped,
    /// None is there any more
    Deleted,
    /// Each has ended well, and is not started again
    Completed,
}

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct Version {
    #[command(flatten)]
    pub(crate) output: Output,
}
