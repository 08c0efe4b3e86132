//! Which changes an agent's containers live through, field by field, and how much of an agent may be away.

#![expect(clippy::unwrap_used, reason = "a test says what went wrong by where it panics")]

use std::collections::BTreeSet;

use chassis_spec::{AgentSpec, RolloutSpec};
use serde_json::{Value, json};

/// Fields that need no new container, each with another value than the agent below has.
fn kept() -> Vec<(&'static str, Value)> {
    vec![
        ("fleet", json!("other")),
        ("clusterId", json!("berlin")),
        ("replicas", json!(7)),
        ("labels", json!({"team": "data"})),
        ("restartPolicy", json!("never")),
        ("healthCheck", json!({"tcp": {"port": 80}})),
        ("readinessCheck", json!({"tcp": {"port": 80}})),
        ("stop", json!({"drain": {"exec": {"command": ["/bin/drain"]}}})),
        ("rollout", json!({"maxUnavailable": 2, "deadline": "1m", "autoRollback": false})),
        ("logs", json!({"keep": "1d"})),
        ("placement", json!({"region": "eu"})),
        ("resources", json!({"cpu": 2, "memory": "1Gi", "pids": 9})),
    ]
}

/// Fields that are part of a container.
fn made_anew() -> Vec<(&'static str, Value)> {
    vec![
        ("name", json!("other")),
        ("image", json!("busybox:2")),
        ("runtime", json!("sim")),
        ("command", json!(["/bin/true"])),
        ("args", json!(["-x"])),
        ("user", json!("1000")),
        ("workingDir", json!("/data")),
        ("env", json!([{"name": "A", "value": "1"}])),
        ("envFrom", json!([{"secret": "secret://f/s"}])),
        ("volumes", json!([{"name": "data", "mountPath": "/data"}])),
        ("files", json!([{"path": "/tmpfs/a", "content": ""}])),
        ("startup", json!({"script": "true"})),
        ("tmpfs", json!({"size": "1Mi"})),
        ("resources", json!({"files": 99})),
        ("logs", json!({"maxFiles": 2})),
        ("ports", json!([{"containerPort": 80}])),
        ("network", json!("none")),
        ("stop", json!({"grace": "3s"})),
        ("stop", json!({"signal": "SIGINT"})),
        ("placement", json!({"whenNodeDown": "move"})),
        ("security", json!({"writableRoot": true})),
    ]
}

fn agent(field: Option<&(&str, Value)>) -> AgentSpec {
    let mut value = json!({"name": "a", "image": "busybox:1"});
    if let Some((field, changed)) = field {
        value.as_object_mut().unwrap().insert((*field).to_owned(), changed.clone());
    }
    serde_json::from_value(value).unwrap()
}

#[test]
fn what_docker_or_the_server_can_change_needs_no_new_container() {
    for change in kept() {
        assert!(agent(Some(&change)).same_container(&agent(None)), "{change:?}");
    }
}

#[test]
fn everything_else_needs_one() {
    for change in made_anew() {
        assert!(!agent(Some(&change)).same_container(&agent(None)), "{change:?}");
    }
}

#[test]
fn every_field_is_on_one_of_the_sides() {
    let schema = chassis_spec::schema();
    let fields: BTreeSet<&str> = schema["$defs"]["AgentSpec"]["properties"]
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .filter(|field| !field.contains('_'))
        .collect();
    let known: BTreeSet<&str> = kept().into_iter().chain(made_anew()).map(|(field, _)| field).collect();
    let missing: Vec<_> = fields.difference(&known).collect();
    assert!(missing.is_empty(), "decide in same.rs, and say here, what a change of {missing:?} needs");
}

#[test]
fn a_part_is_of_the_instances_that_should_run() {
    let rules = |value: Value| -> RolloutSpec { serde_json::from_value(value).unwrap() };
    for (written, wanted, away, extra) in [
        (json!({}), 8, 1, 0),
        (json!({"maxUnavailable": "25%"}), 8, 2, 0),
        (json!({"maxUnavailable": "25%"}), 11, 2, 0),
        (json!({"maxUnavailable": "25%"}), 3, 1, 0),
        (json!({"maxUnavailable": 0, "maxSurge": "25%"}), 3, 0, 1),
        (json!({"max_unavailable": "25%", "max_surge": 2}), 3, 0, 2),
        (json!({"maxUnavailable": "100%"}), 4, 4, 0),
    ] {
        let rules = rules(written.clone());
        assert_eq!((rules.unavailable_of(wanted), rules.surge_of(wanted)), (away, extra), "{written}");
    }
}
