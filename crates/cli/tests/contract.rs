//! The API as programs in any language meet it: over a real server whose instances are simulated.

mod common;
mod http;

use chassis_api::route::{ROUTES, Route};
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

/// A path with something in each place of a parameter.
fn filled(path: &str) -> String {
    let places = [
        ("fleet", "web"),
        ("agent", "crawler"),
        ("number", "1"),
        ("port", "80"),
        ("name", "key"),
        ("id", "x"),
    ];
    places.iter().fold(path.to_owned(), |path, (name, value)| path.replace(&format!("{{{name}}}"), value))
}

#[test]
fn the_server_has_every_route_of_its_description() {
    let server = Server::start();
    let document = ask(&server, "GET", "/api/v1/openapi.json", &[], b"");
    let committed = include_str!("../../../docs/openapi.json");
    assert_eq!(document.json(), serde_json::from_str::<Value>(committed).unwrap_or_default());
    // The one that ends the server ends the test.
    let (stop, others): (Vec<&Route>, _) = ROUTES.iter().partition(|route| route.operation == "server_stop");
    for route in others.into_iter().chain(stop) {
        let query = if route.operation == "event_list" { "?limit=1" } else { "" };
        let answer = ask(&server, route.method, &format!("{}{query}", filled(route.path)), &[], b"");
        let code = serde_json::from_str::<Value>(&answer.body).unwrap_or_default()["code"].clone();
        assert!(code != "no_route" && code != "no_method" && answer.status != 500, "{route:?}: {answer:?}");
    }
}

#[test]
fn the_page_runs_nothing_that_is_not_in_it() {
    let server = Server::start();
    let page = ask(&server, "GET", "/api/v1/docs", &[], b"");
    let policy = page.header("content-security-policy").unwrap_or_default();
    assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    assert!(!page.body.contains("http://") && !page.body.contains("https://"), "it loads from elsewhere");
}

#[test]
fn lists_come_in_parts_that_neither_double_nor_lose_anything() {
    let server = Server::start();
    let fleet = |name: &str| {
        let labels = json!({ "tier": if name < "m" { "front" } else { "back" } });
        let made = ask_json(&server, "POST", "/api/v1/fleets", &json!({ "name": name, "labels": labels }));
        assert_eq!(made.status, 201, "{}", made.body);
    };
    ["a", "b", "x", "y", "z"].iter().for_each(|name| fleet(name));
    let part = |path: &str| {
        let answer = ask(&server, "GET", path, &[], b"");
        assert_eq!(answer.status, 200, "{}", answer.body);
        let names: Vec<String> =
            answer.json().as_array().into_iter().flatten().map(|fleet| fleet["name"].to_string()).collect();
        let next = answer.header("link").and_then(|link| link.strip_prefix('<')?.split_once('>'));
        (names.join(" "), next.map(|(next, _)| next.to_owned()))
    };
    let (first, next) = part("/api/v1/fleets?limit=2");
    assert_eq!(first, r#""a" "b""#);
    // What comes to be before or after that place is given once or not at all, and moves nothing else.
    fleet("aa");
    fleet("w");
    let (second, next) = part(&next.unwrap_or_default());
    assert_eq!(second, r#""w" "x""#);
    assert_eq!(part(&next.unwrap_or_default()), (r#""y" "z""#.to_owned(), None));
    assert_eq!(part("/api/v1/fleets?labels=tier%3Dback&limit=5").0, r#""w" "x" "y" "z""#);
    assert_eq!(part("/api/v1/fleets?labels=tier!%3Dback,tier").0, r#""a" "aa" "b""#);
    for bad in ["limit=0", "limit=5001", "labels=%3Dx"] {
        problem(&ask(&server, "GET", &format!("/api/v1/fleets?{bad}"), &[], b""), 400, "invalid_query");
    }
    problem(&ask(&server, "GET", "/api/v1/fleets?cursor=%21", &[], b""), 400, "invalid_cursor");
}

#[test]
fn an_object_that_others_changed_is_left_alone() {
    let server = Server::start();
    ask_json(&server, "POST", "/api/v1/fleets", &json!({ "name": "web" }));
    let agent = json!({ "agents": [{ "name": "crawler", "image": "crawler:1" }] });
    assert_eq!(ask_json(&server, "POST", "/api/v1/fleets/web/apply", &agent).status, 200);
    let path = "/api/v1/fleets/web/agents/crawler";
    let seen = ask(&server, "GET", path, &[], b"");
    let tag = seen.header("etag").unwrap_or_default().to_owned();
    let other = json!({ "agents": [{ "name": "crawler", "image": "crawler:2" }] });
    assert_eq!(ask_json(&server, "POST", "/api/v1/fleets/web/apply", &other).status, 200);
    let changed = ask(&server, "GET", path, &[("If-None-Match", &tag)], b"");
    assert_eq!(changed.status, 200, "it is another one by now");
    let refused = ask(&server, "DELETE", path, &[("If-Match", &tag)], b"");
    problem(&refused, 412, "precondition_failed");
    problem(&ask(&server, "DELETE", path, &[("If-Match", "5")], b""), 400, "invalid_header");
    let fleet = ask(&server, "GET", "/api/v1/fleets/web", &[], b"");
    let tag = fleet.header("etag").unwrap_or_default().to_owned();
    let gone = ask(&server, "DELETE", "/api/v1/fleets/web", &[("If-Match", &tag)], b"");
    assert_eq!(gone.status, 202, "{}", gone.body);
}
