//! From a file's bytes to checked documents, or to an error that shows the line.

use std::fmt::Write as _;

use crate::check::InvalidSpec;
use crate::fault::{Fault, FaultKind};
use crate::profile::{ProfileList, check_named};
use crate::yaml::{self, Node, Place};
use crate::{AgentProfile, AgentSpec, FleetSpec};

/// More than any fleet needs, and read in a few milliseconds.
const LONGEST: usize = 1 << 20;

/// One YAML document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    Agent(Box<AgentSpec>),
    /// A document with the key `agents`.
    Fleet(FleetSpec),
}

/// What is wrong with a YAML file, and where. `Display` shows the line.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.render())]
pub struct ParseError(Box<Report>);

#[derive(Debug)]
struct Report {
    source_name: String,
    fault: Fault,
    /// The line that the fault is in.
    line: String,
}

/// Reads all documents of a file; `source_name` is what errors call it.
pub fn parse(source_name: &str, text: impl AsRef<[u8]>) -> Result<Vec<Document>, ParseError> {
    let write = "write at least `name` and `image`";
    read(source_name, text.as_ref(), write, |nodes| nodes.iter().map(document).collect())
}

/// Reads profiles of agents: each document is one, or has a list of them at its key `profiles`.
pub fn parse_profiles(source_name: &str, text: impl AsRef<[u8]>) -> Result<Vec<AgentProfile>, ParseError> {
    let write = "write at least `name` and `command`";
    read(source_name, text.as_ref(), write, |nodes| {
        let lists: Result<Vec<_>, Fault> = nodes.iter().map(profiles).collect();
        Ok(lists?.into_iter().flatten().collect())
    })
}

fn read<T>(
    source_name: &str,
    bytes: &[u8],
    suggestion: &str,
    documents: impl FnOnce(&[Node]) -> Result<T, Fault>,
) -> Result<T, ParseError> {
    let report = |fault: Fault, text: &str| {
        let line =
            fault.place.and_then(|place| text.lines().nth(place.line - 1)).unwrap_or_default().to_owned();
        ParseError(Box::new(Report { source_name: source_name.to_owned(), fault, line }))
    };
    if bytes.len() > LONGEST {
        let fault = Fault::new(FaultKind::TooLarge, "the file is larger than 1 MiB");
        return Err(report(fault.or_suggest(Some("split it into several files")), ""));
    }
    let text =
        std::str::from_utf8(bytes).map_err(|error| report(not_utf8(bytes, error.valid_up_to()), ""))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let read = || {
        let nodes = yaml::documents(text)?;
        if nodes.is_empty() {
            let fault = Fault::new(FaultKind::NoDocument, "there is no document in this file");
            return Err(fault.or_suggest(Some(suggestion)));
        }
        documents(&nodes)
    };
    read().map_err(|fault| report(fault, text))
}

fn profiles(node: &Node) -> Result<Vec<AgentProfile>, Fault> {
    if node.has_field("profiles") {
        let list: ProfileList = serde::Deserialize::deserialize(node)?;
        list.check().map_err(|invalid| located(invalid, node))?;
        return Ok(list.profiles);
    }
    let profile = AgentProfile::deserialize(node)?;
    check_named(&profile).map_err(|invalid| located(invalid, node))?;
    Ok(vec![profile])
}

/// The derived readers check each value; the rest is checked here, where an error still has a place.
fn document(node: &Node) -> Result<Document, Fault> {
    if node.has_field("agents") {
        let fleet = FleetSpec::deserialize(node)?;
        fleet.check().map_err(|invalid| located(invalid, node))?;
        return Ok(Document::Fleet(fleet));
    }
    let agent = AgentSpec::deserialize(node)?;
    agent.check().map_err(|invalid| located(invalid, node))?;
    Ok(Document::Agent(Box::new(agent)))
}

fn located(invalid: InvalidSpec, node: &Node) -> Fault {
    let place = node.locate(&invalid.path);
    Fault::new(FaultKind::InvalidValue, invalid.message).or_at(place)
}

fn not_utf8(bytes: &[u8], valid: usize) -> Fault {
    let before = String::from_utf8_lossy(&bytes[..valid]);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    Fault::new(FaultKind::Syntax, "this is not UTF-8 text")
        .or_at(Place { line, column, width: 1 })
        .or_suggest(Some("save the file as UTF-8"))
}

impl ParseError {
    /// Stable, for scripts: `unknown_field`, `missing_field`, `wrong_type`, `invalid_value`, `duplicate_key`,
    /// `yaml_syntax`, `yaml_too_large` or `yaml_empty`.
    pub fn code(&self) -> &'static str {
        self.0.fault.kind.code()
    }

    /// What the file was called.
    pub fn source_name(&self) -> &str {
        &self.0.source_name
    }

    /// Counts from 1; nothing if it is about the whole file.
    pub fn line(&self) -> Option<usize> {
        self.0.fault.place.map(|place| place.line)
    }

    /// Counts from 1, in characters.
    pub fn column(&self) -> Option<usize> {
        self.0.fault.place.map(|place| place.column)
    }

    /// What is wrong, in one line.
    pub fn message(&self) -> &str {
        &self.0.fault.message
    }

    /// What to do about it.
    pub fn suggestion(&self) -> Option<&str> {
        self.0.fault.suggestion.as_deref()
    }

    fn render(&self) -> String {
        let Report { source_name, fault, line } = self.0.as_ref();
        let mut shown = fault.message.clone();
        let gutter = fault.place.map_or(1, |place| place.line.to_string().len());
        // Writing to a string cannot fail.
        let _ = match fault.place {
            Some(place) => {
                write!(shown, "\n {:gutter$}--> {source_name}:{}:{}", "", place.line, place.column)
            }
            None => write!(shown, "\n {:gutter$}--> {source_name}", ""),
        };
        if let Some(place) = fault.place.filter(|_| !line.trim().is_empty()) {
            let (line, indent, width) = window(line, place);
            let _ = write!(
                shown,
                "\n {:gutter$} |\n {} | {line}\n {:gutter$} | {indent}{}",
                "",
                place.line,
                "",
                "^".repeat(width)
            );
        }
        if let Some(suggestion) = &fault.suggestion {
            let _ = write!(shown, "\n {:gutter$} = {suggestion}", "");
        }
        shown
    }
}

/// The part of a long line around the fault, the white space up to it, and how much of it to underline.
fn window(line: &str, place: Place) -> (String, String, usize) {
    const BEFORE: usize = 60;
    const SHOWN: usize = 100;
    let printable = |c: char| if c.is_control() && c != '\t' { char::REPLACEMENT_CHARACTER } else { c };
    let column = place.column - 1;
    let start = if column > SHOWN - 20 { column - BEFORE } else { 0 };
    let part: String = line.chars().skip(start).take(SHOWN).map(printable).collect();
    let indent: String =
        part.chars().take(column - start).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
    let after = part.trim_end().chars().count().saturating_sub(column - start);
    (part.trim_end().to_owned(), indent, place.width.clamp(1, after.max(1)))
}
