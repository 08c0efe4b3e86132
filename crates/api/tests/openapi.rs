//! The description that is in the repository is the one that the server gives, and says of every route what it is.

use std::collections::BTreeSet;

use chassis_api::openapi;
use chassis_api::route::{Dialect, ROUTES, Route};
use serde_json::Value;

/// Fuse's dialect has a contract of its own.
fn native() -> impl Iterator<Item = &'static Route> {
    ROUTES.iter().filter(|route| route.dialect() == Dialect::Native)
}

#[test]
fn the_committed_description_is_the_present_one() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");
    let committed: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let same = committed == openapi();
    assert!(
        same,
        "run `cargo run -p chassis-api --example openapi > docs/openapi.json`, and look at what changed"
    );
}

#[test]
fn it_has_every_route_and_no_other() {
    let document = openapi();
    let paths = document["paths"].as_object().unwrap();
    let described = paths.iter().flat_map(|(path, methods)| {
        methods.as_object().unwrap().iter().map(move |(method, operation)| {
            let id = operation["operationId"].as_str().unwrap_or_default();
            format!("{} {path} {id}", method.to_uppercase())
        })
    });
    let described: BTreeSet<String> = described.collect();
    let routes = native().map(|route| format!("{} {} {}", route.method, route.path, route.operation));
    assert_eq!(described, routes.collect());
}

#[test]
fn every_operation_says_who_may_and_how_it_fails() {
    let document = openapi();
    for route in native() {
        let operation = &document["paths"][route.path][route.method.to_lowercase()];
        let name = route.operation;
        assert!(operation["summary"].as_str().is_some_and(|summary| summary.len() > 10), "{name}");
        let is_open = operation["security"] == serde_json::json!([]);
        assert_eq!(is_open, operation["x-role"].is_null(), "{name}");
        let responses = operation["responses"].as_object().unwrap();
        assert!(responses.keys().any(|status| status.starts_with(['1', '2'])), "{name}");
        assert!(is_open || responses.contains_key("401") && responses.contains_key("403"), "{name}");
        for answer in responses.values() {
            for link in answer["links"].as_object().into_iter().flatten() {
                let target = link.1["operationId"].as_str().unwrap();
                assert!(native().any(|route| route.operation == target), "{name} leads to {target}");
            }
        }
    }
}
