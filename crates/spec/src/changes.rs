//! What differs between two specs, field by field: what `chassis diff` shows.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use crate::AgentSpec;

/// One field that differs. A field that is not there has no value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// `resources.memory`, `env.API_KEY`, `volumes.data.mountPath`, `args[0]`.
    pub path: String,
    pub old: Option<String>,
    pub new: Option<String>,
}

/// All fields in which two specs differ, by path. The order of named entries is no difference.
pub fn changes(old: &AgentSpec, new: &AgentSpec) -> Vec<Change> {
    let mut old = leaves_of(old);
    let mut found: Vec<Change> = leaves_of(new)
        .into_iter()
        .filter_map(|(path, new)| {
            let old = old.remove(&path);
            (old.as_ref() != Some(&new)).then_some(Change { path, old, new: Some(new) })
        })
        .collect();
    found.extend(old.into_iter().map(|(path, old)| Change { path, old: Some(old), new: None }));
    found.sort_by(|one, two| one.path.cmp(&two.path));
    found
}

fn leaves_of(agent: &AgentSpec) -> BTreeMap<String, String> {
    let mut leaves = BTreeMap::new();
    // A spec is made of strings, numbers, lists and maps with string keys: it always has a JSON form.
    if let Ok(value) = serde_json::to_value(agent) {
        collect(String::new(), &value, &mut leaves);
    }
    leaves
}

fn collect(path: String, value: &Value, leaves: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(fields) => {
            for (field, value) in fields {
                let path = if path.is_empty() { field.clone() } else { format!("{path}.{field}") };
                collect(path, value, leaves);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                match item.get("name").and_then(Value::as_str) {
                    Some(name) => collect_named(&format!("{path}.{name}"), item, leaves),
                    None => collect(format!("{path}[{index}]"), item, leaves),
                }
            }
        }
        Value::String(text) => {
            leaves.insert(path, text.clone());
        }
        other => {
            leaves.insert(path, other.to_string());
        }
    }
}

/// An entry with a name goes by it; a variable is nothing but its value, wherever that comes from.
fn collect_named(path: &str, item: &Value, leaves: &mut BTreeMap<String, String>) {
    let rest: Vec<_> = item.as_object().into_iter().flatten().filter(|(field, _)| *field != "name").collect();
    for (field, value) in rest {
        match field.as_str() {
            "value" | "valueFrom" => collect(path.to_owned(), value, leaves),
            _ => collect(format!("{path}.{field}"), value, leaves),
        }
    }
}
