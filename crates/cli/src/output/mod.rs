//! How results are printed: tables for people, JSON and YAML with the API's own field names for programs.

mod raw;
mod size;
mod state;
mod style;
mod table;
mod terminal;
mod time;

use serde::Serialize;

use crate::args::Format;
use crate::failure::Failure;

pub(crate) use raw::{RawMode, terminal_size};
pub(crate) use size::{percent, size};
pub(crate) use state::{exit_text, place, reason, state};
pub(crate) use style::Color;
pub(crate) use table::{Cell, Table};
pub(crate) use terminal::{Terminal, ask, data, data_on_stderr, data_on_stdout, tell};
pub(crate) use time::{age, until};

/// Prints a list or an object in the format that was asked for. Only what the format needs is made.
pub(crate) fn print<T: Serialize + ?Sized>(
    format: Format,
    value: &T,
    names: impl FnOnce() -> Vec<String>,
    table: impl FnOnce(bool) -> String,
) -> Result<(), Failure> {
    match format {
        Format::Table => self::data(&table(false)),
        Format::Wide => self::data(&table(true)),
        Format::Json => self::data(&json(value)?),
        Format::Yaml => self::data(&yaml(value)?),
        Format::Name => self::data(&names().into_iter().map(|name| name + "\n").collect::<String>()),
    }
}

pub(crate) fn json<T: Serialize + ?Sized>(value: &T) -> Result<String, Failure> {
    let mut text = serde_json::to_string_pretty(value).map_err(|error| unprintable(&error))?;
    text.push('\n');
    Ok(text)
}

/// JSON on one line, for streams.
pub(crate) fn json_line<T: Serialize + ?Sized>(value: &T) -> Result<String, Failure> {
    let mut text = serde_json::to_string(value).map_err(|error| unprintable(&error))?;
    text.push('\n');
    Ok(text)
}

pub(crate) fn yaml<T: Serialize + ?Sized>(value: &T) -> Result<String, Failure> {
    let mut text = serde_saphyr::to_string(&value).map_err(|error| unprintable(&error))?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}

/// Text from elsewhere (a registry, an agent, a daemon) on one line, without what could steer a terminal.
pub(crate) fn clean(text: &str) -> String {
    let visible = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().map(visible).collect::<String>().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A line from elsewhere as it was laid out, without what could steer a terminal.
pub(crate) fn visible(line: &str) -> String {
    line.chars().map(|c| if c.is_control() && c != '\t' { ' ' } else { c }).collect()
}

/// `1 instance`, `2 instances`.
pub(crate) fn count(number: impl Into<u64>, noun: &str) -> String {
    match number.into() {
        1 => format!("1 {noun}"),
        number => format!("{number} {noun}s"),
    }
}

fn unprintable(error: &dyn std::error::Error) -> Failure {
    Failure::Failed(format!("the result cannot be written in this format: {error}"))
}
