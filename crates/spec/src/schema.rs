//! The JSON Schema that editors use, made from the types.

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::{AgentSpec, FleetSpec};

/// Draft 2020-12 for one document: an agent, or a fleet.
pub fn schema() -> Value {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let agent = generator.subschema_for::<AgentSpec>();
    let fleet = generator.subschema_for::<FleetSpec>();
    let mut definitions = generator.take_definitions(true);
    for (name, definition) in &mut definitions {
        if let Value::Object(definition) = definition {
            accept_other_fields(name, definition);
            accept_other_words(name, definition);
        }
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "chassis",
        "description": "An agent, or a fleet of agents.",
        "if": { "required": ["agents"] },
        "then": fleet,
        "else": agent,
        "$defs": definitions,
    })
}

/// The reader takes `mount_path` for `mountPath`, which derived schemas do not know.
fn accept_other_fields(definition: &str, object: &mut Map<String, Value>) {
    let Some(Value::Object(properties)) = object.get_mut("properties") else { return };
    let doubled: Vec<(String, Vec<String>)> = properties
        .keys()
        .map(|field| (field.clone(), other_spellings(definition, field)))
        .filter(|(_, others)| !others.is_empty())
        .collect();
    for (field, others) in &doubled {
        let property = properties[field].clone();
        properties.extend(others.iter().map(|other| (other.clone(), property.clone())));
    }
    let Some(Value::Array(required)) = object.get_mut("required") else { return };
    let mut one_of_each = Vec::new();
    for (field, others) in doubled {
        if required.contains(&json!(field)) {
            required.retain(|name| *name != json!(field));
            let spellings = others.iter().chain([&field]);
            one_of_each.push(
                json!({ "oneOf": spellings.map(|name| json!({ "required": [name] })).collect::<Vec<_>>() }),
            );
        }
    }
    if !one_of_each.is_empty() {
        object.insert("allOf".to_owned(), one_of_each.into());
    }
}

/// Every field of two words has an alias with `_`; two fields have another one.
fn other_spellings(definition: &str, field: &str) -> Vec<String> {
    let mut others = Vec::new();
    if field.contains(|c: char| c.is_ascii_uppercase()) {
        let snake =
            |c: char| if c.is_ascii_uppercase() { format!("_{}", c.to_ascii_lowercase()) } else { c.into() };
        others.push(field.chars().map(snake).collect());
    }
    match (definition, field) {
        ("FleetSpec", "fleet") => others.push("name".to_owned()),
        ("Port", "hostIp") => others.push("hostIP".to_owned()),
        _ => {}
    }
    others
}

/// The words of Kubernetes and Compose that the reader takes for ours.
fn accept_other_words(definition: &str, object: &mut Map<String, Value>) {
    let (list, more) = match definition {
        "RestartPolicy" => (
            "oneOf",
            vec![json!({ "enum": ["Always", "OnFailure", "onFailure", "on_failure", "Never", "no"] })],
        ),
        "Protocol" => ("enum", vec![json!("TCP"), json!("UDP")]),
        _ => return,
    };
    if let Some(Value::Array(values)) = object.get_mut(list) {
        values.extend(more);
    }
}
