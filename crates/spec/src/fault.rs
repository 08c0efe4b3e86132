//! What is wrong with a document, while it is still being read: the deserializer's error.

use std::fmt;

use serde::de::{Expected, Unexpected};

use crate::suggest;
use crate::text::quoted;
use crate::yaml::Place;

/// What kind of mistake it is; scripts see it as [`crate::ParseError::code`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FaultKind {
    Syntax,
    TooLarge,
    NoDocument,
    DuplicateKey,
    UnknownField,
    MissingField,
    WrongType,
    InvalidValue,
}

impl FaultKind {
    pub(crate) fn code(self) -> &'static str {
        match self {
            FaultKind::Syntax => "yaml_syntax",
            FaultKind::TooLarge => "yaml_too_large",
            FaultKind::NoDocument => "yaml_empty",
            FaultKind::DuplicateKey => "duplicate_key",
            FaultKind::UnknownField => "unknown_field",
            FaultKind::MissingField => "missing_field",
            FaultKind::WrongType => "wrong_type",
            FaultKind::InvalidValue => "invalid_value",
        }
    }
}

#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) kind: FaultKind,
    pub(crate) message: String,
    pub(crate) suggestion: Option<String>,
    /// Set by the innermost reader that knows one.
    pub(crate) place: Option<Place>,
}

impl Fault {
    pub(crate) fn new(kind: FaultKind, message: impl Into<String>) -> Fault {
        Fault { kind, message: message.into(), suggestion: None, place: None }
    }

    pub(crate) fn or_at(mut self, place: Place) -> Fault {
        self.place.get_or_insert(place);
        self
    }

    pub(crate) fn or_suggest(mut self, suggestion: Option<&str>) -> Fault {
        self.suggestion = self.suggestion.or_else(|| suggestion.map(str::to_owned));
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}

impl serde::de::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Fault {
        Fault::new(FaultKind::InvalidValue, message.to_string())
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Fault {
        Fault::new(FaultKind::WrongType, format!("expected {expected}, found {}", describe(found)))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Fault {
        Fault::new(FaultKind::InvalidValue, format!("expected {expected}, found {}", describe(found)))
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Fault {
        let allowed = suggest::words(expected);
        Fault {
            suggestion: suggest::closest(variant, &allowed).map(|near| format!("did you mean `{near}`?")),
            ..Fault::new(
                FaultKind::InvalidValue,
                format!("{} is not one of {}", quoted(variant), allowed.join(", ")),
            )
        }
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Fault {
        Fault {
            suggestion: Some(suggest::field(field, expected)),
            ..Fault::new(FaultKind::UnknownField, format!("unknown field {}", quoted(field)))
        }
    }

    fn missing_field(field: &'static str) -> Fault {
        Fault {
            suggestion: Some(format!("add `{field}: …`")),
            ..Fault::new(FaultKind::MissingField, format!("`{field}` is missing here"))
        }
    }

    fn duplicate_field(field: &'static str) -> Fault {
        Fault::new(FaultKind::DuplicateKey, format!("`{field}` is given twice"))
    }
}

fn describe(found: Unexpected<'_>) -> String {
    match found {
        Unexpected::Unit => "nothing".to_owned(),
        Unexpected::Bool(value) => format!("`{value}`"),
        Unexpected::Str(text) => format!("the text {}", quoted(text)),
        Unexpected::Seq => "a list".to_owned(),
        Unexpected::Map => "a mapping".to_owned(),
        other => other.to_string(),
    }
}
