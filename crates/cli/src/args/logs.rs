//! Flags of `chassis logs`.

use chassis_api::LogLevel;
use clap::{Args, ValueEnum};
use jiff::Timestamp;

use super::show::Selector;
use crate::parse;

#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// Instance, agent or fleet
    pub(crate) id: String,
    /// Go on with what is written from now on
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// The run before the present one
    #[arg(short, long, conflicts_with_all = ["follow", "all"])]
    pub(crate) previous: bool,
    /// Also what containers wrote that are no more
    #[arg(long)]
    pub(crate) all: bool,
    /// Only what was written since: 10m, or 2026-11-22T12:00:00Z
    #[arg(long, value_name = "TIME", value_parser = parse::since)]
    pub(crate) since: Option<Timestamp>,
    /// Only what was written until then: 10m, or 2026-11-22T12:00:00Z
    #[arg(long, value_name = "TIME", value_parser = parse::since, conflicts_with = "follow")]
    pub(crate) until: Option<Timestamp>,
    /// Only lines that this regular expression matches
    #[arg(short, long, value_name = "REGEX")]
    pub(crate) grep: Option<String>,
    /// Do not tell capitals from small letters in --grep
    #[arg(short, long, requires = "grep")]
    pub(crate) ignore_case: bool,
    /// Only lines of at least this level (trace, debug, info, warn, error, fatal), and what belongs to them
    #[arg(long)]
    pub(crate) level: Option<LogLevel>,
    #[command(flatten)]
    pub(crate) selector: Selector,
    /// Only the last lines of each instance, of those that are wanted
    #[arg(short = 'n', long, value_name = "LINES")]
    pub(crate) tail: Option<u32>,
    /// Put the time in front of each line
    #[arg(short, long)]
    pub(crate) timestamps: bool,
    /// Leave out the names in front of the lines of several instances
    #[arg(long)]
    pub(crate) no_prefix: bool,
    /// How to print it
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub(crate) output: LogFormat,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Lines as they were written
    #[default]
    Text,
    /// An object to a line, with the fields of lines that are JSON themselves
    Json,
}
