//! Which labels something must have: `tier=web,team!=core,canary`.

use std::str::FromStr;

use chassis_spec::Labels;

/// Conditions, all of which must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selector(Vec<Condition>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Condition {
    Is(String, String),
    /// Also met by what has no such label.
    IsNot(String, String),
    Has(String),
    HasNot(String),
}

/// Text that is no [`Selector`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` says nothing about a label; write name=value, name!=value, name or !name, separated by commas"
)]
pub struct BadSelector(String);

impl Selector {
    pub fn matches(&self, labels: &Labels) -> bool {
        let value = |name: &String| labels.0.get(name.as_str()).map(String::as_str);
        self.0.iter().all(|condition| match condition {
            Condition::Is(name, wanted) => value(name) == Some(wanted),
            Condition::IsNot(name, other) => value(name) != Some(other),
            Condition::Has(name) => value(name).is_some(),
            Condition::HasNot(name) => value(name).is_none(),
        })
    }
}

impl FromStr for Selector {
    type Err = BadSelector;

    fn from_str(text: &str) -> Result<Self, BadSelector> {
        let condition = |part: &str| {
            let condition = if let Some((name, value)) = part.split_once("!=") {
                Condition::IsNot(name.trim().to_owned(), value.trim().to_owned())
            } else if let Some((name, value)) = part.split_once('=') {
                // `==` as Kubernetes has it.
                let value = value.strip_prefix('=').unwrap_or(value);
                Condition::Is(name.trim().to_owned(), value.trim().to_owned())
            } else if let Some(name) = part.trim().strip_prefix('!') {
                Condition::HasNot(name.trim().to_owned())
            } else {
                Condition::Has(part.trim().to_owned())
            };
            let (Condition::Is(name, _)
            | Condition::IsNot(name, _)
            | Condition::Has(name)
            | Condition::HasNot(name)) = &condition;
            if name.is_empty() { Err(BadSelector(part.to_owned())) } else { Ok(condition) }
        };
        text.split(',').map(condition).collect::<Result<_, _>>().map(Selector)
    }
}
