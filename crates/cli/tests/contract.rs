//! The API as programs in any language meet it: over a real server whose instances are simulated.

mod common;
mod http;

use common::Server;
use http::{Answer, ask, ask_json};
use serde_json::{Value, json};

/// Every error is a problem with a code, a request id that its header repeats, and nothing else.
fn problem(answer: &Answer, status: u16, code: &str) -> Value {
    let problem: Value = serde_json::from_str(&answer.body).unwrap_or_default();
    assert_eq!((answer.status, problem["code"].as_str()), (status, Some(code)), "{}", answer.body);
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    assert_eq!(problem["status"], status);
    assert_eq!(answer.header("x-request-id"), problem["request_id"].as_str());
    assert!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{}", answer.body);
    problem
}

#[test]
fn every_error_is_a_problem_that_says_to_which_request_it_belongs() {
    let server = Server::start();
    let ask = |method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]| {
        ask(&server, method, path, headers, body)
    };
    let json = [("Content-Type", "application/json")];
    problem(&ask("GET", "/api/v1/nothing", &[], b""), 404, "no_route");
    problem(&ask("PATCH", "/api/v1/fleets", &[], b""), 405, "no_method");
    problem(&ask("GET", "/api/v1/fleets/Not_A_Name", &[], b""), 400, "invalid_path");
    problem(&ask("GET", "/api/v1/fleets/a/agents/b/instances/x", &[], b""), 400, "invalid_path");
    problem(&ask("GET", "/api/v1/agents?fleet=Not_A_Name", &[], b""), 400, "invalid_query");
    problem(&ask("DELETE", "/api/v1/fleets/a?cleanup=perhaps", &[], b""), 400, "invalid_query");
    problem(&ask("POST", "/api/v1/fleets", &[], b"{}"), 415, "not_json");
    problem(&ask("POST", "/api/v1/fleets", &json, b"{"), 400, "invalid_body");
    problem(&ask("POST", "/api/v1/fleets", &json, br#"{"name":"a","nome":1}"#), 422, "invalid_body");
    let deep = [vec![b'['; 100_000], vec![b']'; 100_000]].concat();
    problem(&ask("POST", "/api/v1/fleets", &json, &deep), 422, "invalid_body");
    let large = format!(r#"{{"name":"{}"}}"#, "x".repeat(5 << 20));
    problem(&ask("POST", "/api/v1/fleets", &json, large.as_bytes()), 413, "body_too_large");
    problem(&ask("PUT", "/api/v1/secrets/a/b", &[], &vec![b'x'; 5 << 20]), 413, "body_too_large");
    problem(&ask("GET", "/api/v1/fleets/a/agents/b/instances/1/exec", &[], b""), 404, "instance_not_found");
    problem(&ask("GET", "/api/v1/fleets/a", &[], b""), 404, "fleet_not_found");

    let own = ask("GET", "/api/v1/nothing", &[("X-Request-Id", "build-17.2")], b"");
    let told = problem(&own, 404, "no_route");
    assert_eq!(told["request_id"], "build-17.2");
    assert!(told["hint"].as_str().is_some_and(|hint| hint.contains("openapi.json")), "{told}");
    let forged = ask("GET", "/api/v1/nothing", &[("X-Request-Id", "a b\"")], b"");
    let made = problem(&forged, 404, "no_route")["request_id"].as_str().unwrap_or_default().to_owned();
    assert_eq!((made.len(), &made[14..15]), (36, "7"), "{made}");
    let fine = ask("GET", "/api/v1/fleets", &[], b"");
    assert!(fine.status == 200 && fine.header("x-request-id").is_some_and(|id| id != made));
}

#[test]
fn a_fleet_by_hand() {
    let server = Server::start();
    let made = ask_json(&server, "POST", "/api/v1/fleets", &json!({ "name": "web" }));
    assert_eq!(made.status, 201, "{}", made.body);
    let again = ask_json(&server, "POST", "/api/v1/fleets", &json!({ "name": "web" }));
    problem(&again, 409, "fleet_exists");
}
