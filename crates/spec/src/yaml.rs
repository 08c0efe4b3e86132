//! YAML text as a tree that knows where everything was written.
//!
//! serde-saphyr reads the text, under a budget that no alias bomb fits into, and refuses duplicate keys. The tree keeps
//! every scalar as it was written beside what YAML takes it for, because `1.10` may be text or a number.

use std::fmt;

use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_saphyr::{Location, Spanned};

use crate::fault::{Fault, FaultKind};

/// Where something was written: line and column count from 1, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) line: usize,
    pub(crate) column: usize,
    /// How many characters to underline.
    pub(crate) width: usize,
}

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) place: Place,
    pub(crate) content: Content,
}

#[derive(Debug)]
pub(crate) enum Content {
    Null,
    Scalar { written: String, kind: Scalar },
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

/// What YAML takes a scalar for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scalar {
    Text,
    Bool(bool),
    Integer(i128),
    Float,
}

#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) name: String,
    pub(crate) place: Place,
}

/// One part of the way from a document to something in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    Field(&'static str),
    Index(usize),
}

/// All documents of `text` but the empty ones.
pub(crate) fn documents(text: &str) -> Result<Vec<Node>, Fault> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: 32,
            max_aliases: 1_000,
            max_anchors: 1_000,
            max_merge_keys: 1_000,
            max_recorded_anchor_events: 20_000,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 20_000,
            max_replay_stack_depth: 8,
        },
        non_finite_float_policy: serde_saphyr::options::NonFiniteFloatPolicy::AsString,
        strict_booleans: true,
        reject_unsupported_tags: true,
        with_snippet: false,
    };
    let parsed: Vec<Spanned<Raw>> = serde_saphyr::from_multiple_with_options(text, options)
        .map_err(|error| Fault::from_yaml(&error, text))?;
    Ok(parsed.into_iter().map(|raw| raw_to_node(raw, text)).collect())
}

impl Node {
    /// The place of what `path` names, or of the nearest thing around it that was written.
    pub(crate) fn locate(&self, path: &[Step]) -> Place {
        let Some((step, rest)) = path.split_first() else { return self.place };
        match (step, &self.content) {
            (Step::Index(index), Content::List(items)) => {
                items.get(*index).map_or(self.place, |item| item.locate(rest))
            }
            (Step::Field(field), Content::Map(entries)) => {
                let Some((key, value)) = entries.iter().find(|(key, _)| same_field(&key.name, field)) else {
                    return self.place;
                };
                let composite = matches!(value.content, Content::List(_) | Content::Map(_) | Content::Null);
                if rest.is_empty() && composite { key.place } else { value.locate(rest) }
            }
            _ => self.place,
        }
    }

    pub(crate) fn has_field(&self, field: &str) -> bool {
        matches!(&self.content, Content::Map(entries) if entries.iter().any(|(key, _)| key.name == field))
    }
}

/// `mountPath` and `mount_path` are one field.
fn same_field(written: &str, canonical: &str) -> bool {
    let letters =
        |text: &str| text.chars().filter(|c| *c != '_').map(|c| c.to_ascii_lowercase()).collect::<String>();
    letters(written) == letters(canonical)
}

/// What serde-saphyr hands over, before scalars are looked up in the text.
enum Raw {
    Null,
    Scalar { value: String, kind: Scalar },
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<String>, Spanned<Raw>)>),
}

fn raw_to_node(raw: Spanned<Raw>, text: &str) -> Node {
    let place = place_of(&raw.referenced);
    let content = match raw.value {
        Raw::Null => Content::Null,
        Raw::Scalar { value, kind: Scalar::Text } => Content::Scalar { written: value, kind: Scalar::Text },
        Raw::Scalar { value, kind } => {
            Content::Scalar { written: written_at(&raw.defined, text).unwrap_or(value), kind }
        }
        Raw::List(items) => Content::List(items.into_iter().map(|item| raw_to_node(item, text)).collect()),
        Raw::Map(entries) => Content::Map(
            entries
                .into_iter()
                .map(|(key, value)| {
                    let key = Key { place: place_of(&key.referenced), name: key.value };
                    (key, raw_to_node(value, text))
                })
                .collect(),
        ),
    };
    let width = if matches!(content, Content::List(_) | Content::Map(_)) { 1 } else { place.width };
    Node { place: Place { width, ..place }, content }
}

pub(crate) fn place_of(location: &Location) -> Place {
    let number = |n: u64| usize::try_from(n).unwrap_or(1).max(1);
    Place {
        line: number(location.line()),
        column: number(location.column()),
        width: number(location.span().len()),
    }
}

fn written_at(location: &Location, text: &str) -> Option<String> {
    let start = usize::try_from(location.span().byte_offset()?).ok()?;
    let end = start.checked_add(usize::try_from(location.span().byte_len()?).ok()?)?;
    let written = text.get(start..end)?.trim();
    (!written.is_empty()).then(|| written.trim_matches(['"', '\'']).to_owned())
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value")
    }

    fn visit_unit<E: Error>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Scalar { value: value.to_string(), kind: Scalar::Bool(value) })
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Raw, E> {
        self.visit_i128(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Raw, E> {
        self.visit_i128(value.into())
    }

    fn visit_i128<E: Error>(self, value: i128) -> Result<Raw, E> {
        Ok(Raw::Scalar { value: value.to_string(), kind: Scalar::Integer(value) })
    }

    fn visit_u128<E: Error>(self, value: u128) -> Result<Raw, E> {
        self.visit_i128(i128::try_from(value).unwrap_or(i128::MAX))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Raw, E> {
        Ok(Raw::Scalar { value: value.to_string(), kind: Scalar::Float })
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::Scalar { value: value.to_owned(), kind: Scalar::Text })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Raw, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Raw::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Raw::Map(entries))
    }
}

impl Fault {
    /// An error of the YAML reader itself: syntax, a duplicate key, or a budget.
    fn from_yaml(error: &serde_saphyr::Error, text: &str) -> Fault {
        use serde_saphyr::Error as Yaml;
        let place = error.location().map(|location| place_of(&location));
        let fault = |kind, message: String| Fault { kind, message, suggestion: None, place };
        match error.without_snippet() {
            Yaml::DuplicateMappingKey { key: Some(key), .. } => {
                fault(FaultKind::DuplicateKey, format!("{} is given twice", crate::text::quoted(key)))
            }
            Yaml::DuplicateMappingKey { key: None, .. } => {
                fault(FaultKind::DuplicateKey, "this key is given twice".to_owned())
            }
            Yaml::Budget { .. }
            | Yaml::AliasReplayLimitExceeded { .. }
            | Yaml::AliasExpansionLimitExceeded { .. }
            | Yaml::AliasReplayStackDepthExceeded { .. }
            | Yaml::AliasReplayCounterOverflow { .. } => Fault {
                suggestion: Some("use fewer aliases, less nesting, or several files".to_owned()),
                ..fault(FaultKind::TooLarge, "the document expands to too much".to_owned())
            },
            Yaml::UnknownAnchor { .. } => {
                fault(FaultKind::Syntax, "this alias names an anchor that is nowhere before it".to_owned())
            }
            Yaml::AliasError { error, .. } => Fault { place, ..Fault::from_yaml(error, text) },
            other => {
                let message = one_line(&other.render_with_formatter(&serde_saphyr::UserMessageFormatter));
                let line = place.and_then(|place| text.lines().nth(place.line - 1)).unwrap_or_default();
                Fault {
                    suggestion: syntax_hint(&message, line).map(str::to_owned),
                    ..fault(FaultKind::Syntax, message)
                }
            }
        }
    }
}

/// What is usually the cause.
fn syntax_hint(message: &str, line: &str) -> Option<&'static str> {
    let indent = &line[..line.len() - line.trim_start().len()];
    if indent.contains('\t') {
        Some("indent with spaces, not with tabs")
    } else if message.contains("quoted scalar") {
        Some("perhaps a quotation mark is left open above")
    } else if message.contains("mapping values") {
        Some("indent it like the lines it belongs to, and put text with a colon in quotes")
    } else if message.contains("unexpected character") {
        Some("put the text in quotes")
    } else {
        None
    }
}

/// The reader's own words, without the position that it puts into them.
fn one_line(message: &str) -> String {
    let message = message.lines().next().unwrap_or_default();
    let end = message.find(" at line ").unwrap_or(message.len());
    message[..end].trim_start_matches("error: ").to_owned()
}
