//! The JSON Schema that editors use, made from the types.

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::{AgentSpec, FleetSpec};

/// Draft 2020-12 for one document: an agent, or a fleet.
pub fn schema() -> Value {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let agent = generator.subschema_for::<AgentSpec>();
    let fleet = generator.subschema_for::<FleetSpec>();
    let mut definitions = Value::Object(generator.take_definitions(true));
    accept_second_spellings(&mut definitions);
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "https://chassis.dev/agent.schema.json",
        "title": "chassis",
        "description": "An agent, or a fleet of agents.",
        "if": { "required": ["agents"] },
        "then": fleet,
        "else": agent,
        "$defs": definitions,
    })
}

/// The reader takes `mount_path` for `mountPath` and `OnFailure` for `on-failure`; derived schemas know only the latter.
fn accept_second_spellings(value: &mut Value) {
    match value {
        Value::Object(object) => {
            add_snake_case(object);
            object.values_mut().for_each(accept_second_spellings);
        }
        Value::Array(items) => items.iter_mut().for_each(accept_second_spellings),
        _ => {}
    }
}

fn add_snake_case(object: &mut Map<String, Value>) {
    let Some(Value::Object(properties)) = object.get_mut("properties") else { return };
    let mut second: Vec<(String, Vec<String>)> = Vec::new();
    for name in properties.keys() {
        let others = other_spellings(name);
        if !others.is_empty() {
            second.push((name.clone(), others));
        }
    }
    for (name, others) in &second {
        let property = properties[name].clone();
        for other in others {
            properties.insert(other.clone(), property.clone());
        }
    }
    let mut either = Vec::new();
    if let Some(Value::Array(required)) = object.get_mut("required") {
        for (name, others) in second {
            if required.contains(&json!(name)) {
                required.retain(|field| *field != json!(name));
                let any: Vec<Value> =
                    others.iter().chain([&name]).map(|field| json!({ "required": [field] })).collect();
                either.push(json!({ "oneOf": any }));
            }
        }
    }
    if !either.is_empty() {
        object.insert("allOf".to_owned(), either.into());
    }
}

/// Every field of two words has an alias with `_`; a few fields have one more.
fn other_spellings(name: &str) -> Vec<String> {
    let mut others = Vec::new();
    if name.contains(|c: char| c.is_ascii_uppercase()) {
        let snake =
            |c: char| if c.is_ascii_uppercase() { format!("_{}", c.to_ascii_lowercase()) } else { c.into() };
        others.push(name.chars().map(snake).collect());
    }
    if name == "hostIp" {
        others.push("hostIP".to_owned());
    }
    others
}
