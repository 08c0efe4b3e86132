//! The API as programs in any language meet it: over a real server whose instances are simulated.

mod common;
mod http;
#[path = "contract/strict.rs"]
mod strict;

use chassis_api::route::{Dialect, ROUTES, Route};
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
    let native = ROUTES.iter().filter(|route| route.dialect() == Dialect::Native);
    let (stop, others): (Vec<&Route>, _) = native.partition(|route| route.operation == "server_stop");
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
    for name in ["a", "b", "x", "y", "z"] {
        fleet(name);
    }
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
    assert_eq!(ask_json(&server, "POST", "/api/v1/fleets/web/apply", &agent).status, 202);
    let path = "/api/v1/fleets/web/agents/crawler";
    let seen = ask(&server, "GET", path, &[], b"");
    let tag = seen.header("etag").unwrap_or_default().to_owned();
    let other = json!({ "agents": [{ "name": "crawler", "image": "crawler:2" }] });
    assert_eq!(ask_json(&server, "POST", "/api/v1/fleets/web/apply", &other).status, 202);
    let changed = ask(&server, "GET", path, &[("If-None-Match", &tag)], b"");
    assert_eq!(changed.status, 200, "it is another one by now");
    let refused = ask(&server, "DELETE", path, &[("If-Match", &tag)], b"");
    problem(&refused, 412, "precondition_failed");
    problem(&ask(&server, "DELETE", path, &[("If-Match", "5")], b""), 400, "invalid_header");
    let fleet = ask(&server, "GET", "/api/v1/fleets/web", &[], b"");
    let tag = fleet.header("etag").unwrap_or_default().to_owned();
    let again = json!({ "agents": [{ "name": "other", "image": "other:1" }] });
    assert_eq!(ask_json(&server, "POST", "/api/v1/fleets/web/apply", &again).status, 202);
    let stale = ask(&server, "DELETE", "/api/v1/fleets/web", &[("If-Match", &tag)], b"");
    problem(&stale, 412, "precondition_failed");
    let fleet = ask(&server, "GET", "/api/v1/fleets/web", &[], b"");
    let tag = fleet.header("etag").unwrap_or_default().to_owned();
    let gone = ask(&server, "DELETE", "/api/v1/fleets/web", &[("If-Match", &tag)], b"");
    assert_eq!(gone.status, 202, "{}", gone.body);
}

/// The tag that an object has now.
fn tag_of(server: &Server, path: &str) -> String {
    let seen = ask(server, "GET", path, &[], b"");
    seen.header("etag").unwrap_or_else(|| panic!("{path} has no tag: {}", seen.body)).to_owned()
}

/// Each kind of change, asked for by somebody who has seen what is there now, and by somebody who has not.
#[test]
fn every_change_can_be_held_to_a_version() {
    let server = Server::start();
    ask_json(&server, "POST", "/api/v1/fleets", &json!({ "name": "web" }));
    let declare = |image: &str| json!({ "agents": [{ "name": "crawler", "image": image, "replicas": 3 }] });
    assert_eq!(ask_json(&server, "POST", "/api/v1/fleets/web/apply", &declare("crawler:1")).status, 202);
    assert_eq!(ask_json(&server, "POST", "/api/v1/fleets/web/apply", &declare("crawler:2")).status, 202);
    let (fleet, agent) = ("/api/v1/fleets/web", "/api/v1/fleets/web/agents/crawler");
    let (first, third) = (format!("{agent}/instances/1"), format!("{agent}/instances/3"));
    let path = |rest: &str| format!("{agent}/{rest}");
    let change = |scope: Value, change: &str| json!({ "scope": scope, "change": change });
    let one = json!({ "fleet": "web", "agent": "crawler", "number": 1 });
    let cases = [
        (fleet, "POST", format!("{fleet}/apply"), declare("crawler:3")),
        (agent, "POST", path("upgrade"), json!({ "image": "crawler:4" })),
        (agent, "POST", path("rollout/undo"), json!({})),
        (agent, "POST", path("rollout/pause"), Value::Null),
        (agent, "POST", path("rollout/resume"), Value::Null),
        (&first, "POST", "/api/v1/change".to_owned(), change(one.clone(), "stop")),
        (&first, "POST", "/api/v1/change".to_owned(), change(one, "start")),
        (
            agent,
            "POST",
            "/api/v1/change".to_owned(),
            change(json!({ "fleet": "web", "agent": "crawler" }), "restart"),
        ),
        (fleet, "POST", "/api/v1/change".to_owned(), change(json!({ "fleet": "web" }), "restart")),
        (agent, "POST", format!("{fleet}/scale"), json!({ "agent": "crawler", "count": 4 })),
        (&third, "DELETE", third.clone(), Value::Null),
    ];
    let json = ("Content-Type", "application/json");
    // What follows it tells of how the instances are, which changes by itself.
    let version = |tag: &str| tag.split('-').next().map(str::to_owned);
    let mut stale = [tag_of(&server, fleet), tag_of(&server, agent)];
    for (seen, method, path, body) in &cases {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let send = |tag: &str| ask(&server, method, path, &[json, ("If-Match", tag)], body.as_bytes());
        // What somebody saw before the change that was made last.
        let old = &stale[usize::from(*seen != fleet)];
        if version(old) != version(&tag_of(&server, seen)) {
            problem(&send(old), 412, "precondition_failed");
        }
        problem(&send("\"999\""), 412, "precondition_failed");
        stale = [tag_of(&server, fleet), tag_of(&server, agent)];
        let made = send(&tag_of(&server, seen));
        assert!(matches!(made.status, 200 | 202), "{method} {path} {body}: {} {}", made.status, made.body);
        for (old, path) in stale.iter().zip([fleet, agent]) {
            assert_ne!(
                version(old),
                version(&tag_of(&server, path)),
                "{method} {path} {body} changed {path}"
            );
        }
    }

    let secret = "/api/v1/secrets/web/token";
    let put = |value: &[u8], tag: &str| {
        let headers: &[(&str, &str)] = if tag.is_empty() { &[] } else { &[("If-Match", tag)] };
        ask(&server, "PUT", &format!("{secret}?replace=true"), headers, value)
    };
    problem(&put(b"x", "\"1\""), 412, "precondition_failed");
    let written = put(b"one", "");
    let tag = written.header("etag").unwrap_or_default().to_owned();
    assert_eq!(put(b"two", &tag).status, 200);
    problem(&put(b"three", &tag), 412, "precondition_failed");
    problem(&ask(&server, "DELETE", secret, &[("If-Match", &tag)], b""), 412, "precondition_failed");
    assert_eq!(ask(&server, "DELETE", secret, &[("If-Match", "\"2\"")], b"").status, 200);
}

/// All lists but that of fleets, which has a test of its own: one at a time they are the same as at once.
#[test]
fn every_list_comes_in_parts() {
    let server = Server::start();
    ask_json(&server, "POST", "/api/v1/fleets", &json!({ "name": "web" }));
    for image in ["crawler:1", "crawler:2", "crawler:3"] {
        let agent = json!({ "name": "crawler", "image": image, "replicas": 3 });
        let other = json!({ "name": "other", "image": "other:1" });
        let apply = ask_json(
            &server,
            "POST",
            "/api/v1/fleets/web/apply?wait=30s",
            &json!({ "agents": [agent, other] }),
        );
        assert_eq!(apply.status, 200, "{}", apply.body);
    }
    for name in ["one", "two", "three"] {
        assert_eq!(
            ask_json(&server, "POST", "/api/v1/api-keys", &json!({ "name": name, "role": "viewer" })).status,
            201
        );
        assert_eq!(ask(&server, "PUT", &format!("/api/v1/secrets/web/{name}"), &[], b"x").status, 201);
    }
    for (path, least) in [
        ("/api/v1/nodes?", 1),
        ("/api/v1/agents?", 2),
        ("/api/v1/instances?", 4),
        ("/api/v1/fleets/web/agents/crawler/instances?", 3),
        ("/api/v1/fleets/web/agents/crawler/revisions?", 3),
        ("/api/v1/fleets/web/agents/crawler/instances/1/exits?", 2),
        ("/api/v1/secrets?", 3),
        ("/api/v1/api-keys?", 3),
        ("/api/v1/audit?", 4),
        ("/api/v1/events?after=0&", 10),
        ("/api/v1/audit-log?after=0&", 5),
    ] {
        let mut all = Vec::new();
        let mut next = Some(format!("{path}limit=1"));
        while let Some(path) = next {
            let answer = ask(&server, "GET", &path, &[], b"");
            let part = answer.json();
            let part = part.as_array().unwrap_or_else(|| panic!("{path}: {part}"));
            assert_eq!(part.len(), 1, "{path}");
            all.extend(part.clone());
            let link = answer.header("link").and_then(|link| link.strip_prefix('<')?.split_once('>'));
            next = link.map(|(next, _)| next.to_owned());
        }
        let whole = ask(&server, "GET", &format!("{path}limit=1000"), &[], b"").json();
        let name = |value: &Value| {
            let fields = ["id", "fleet", "agent", "name", "number", "revision", "container", "startedAt"];
            fields.map(|field| value[field].to_string()).join(" ")
        };
        let names = |list: &[Value]| list.iter().map(name).collect::<Vec<_>>();
        assert_eq!(names(&all), names(whole.as_array().unwrap()), "{path}");
        assert!(all.len() >= least, "{path} has {} items", all.len());
    }
}

#[test]
fn a_request_with_a_key_is_carried_out_once() {
    let server = Server::start();
    let json = "application/json";
    let ask = |key: &str, path: &str, body: &Value| {
        let headers = [("Content-Type", json), ("Idempotency-Key", key)];
        ask(&server, "POST", path, &headers, body.to_string().as_bytes())
    };
    let web = json!({ "name": "web" });
    let first = ask("k1", "/api/v1/fleets", &web);
    assert_eq!((first.status, first.header("idempotency-replayed")), (201, None), "{}", first.body);
    let again = ask("k1", "/api/v1/fleets", &web);
    assert_eq!((again.status, again.header("idempotency-replayed")), (201, Some("true")), "{}", again.body);
    assert_eq!(again.body, first.body);
    assert_eq!(again.header("content-type"), Some(json));
    problem(&ask("k1", "/api/v1/fleets", &json!({ "name": "other" })), 422, "idempotency_mismatch");
    problem(&ask("k1", "/api/v1/fleets/web/apply", &web), 422, "idempotency_mismatch");
    problem(&ask("k2", "/api/v1/fleets", &web), 409, "fleet_exists");
    problem(&ask("two words", "/api/v1/fleets", &web), 400, "invalid_header");
    // What was refused changed nothing, and may succeed later under the same key.
    let agents = json!({ "agents": [{ "name": "crawler", "image": "crawler:1" }] });
    problem(&ask("k3", "/api/v1/fleets/later/apply", &agents), 404, "fleet_not_found");
    assert_eq!(ask("k4", "/api/v1/fleets", &json!({ "name": "later" })).status, 201);
    assert_eq!(ask("k3", "/api/v1/fleets/later/apply", &agents).status, 202);
    let restart = json!({ "scope": { "fleet": "later" }, "change": "stop" });
    let restarts: Vec<Answer> = (0..2).map(|_| ask("k5", "/api/v1/change", &restart)).collect();
    assert!(restarts.iter().all(|answer| answer.status == 202 && answer.body.is_empty()), "{restarts:?}");
    let asked = ask_json(&server, "GET", "/api/v1/events?kinds=StopRequested", &Value::Null).json();
    assert_eq!(asked.as_array().map(Vec::len), Some(1), "{asked}");
}

#[test]
fn a_key_that_was_shown_once_is_not_made_again() {
    let server = Server::start();
    let headers = [("Content-Type", "application/json"), ("Idempotency-Key", "one")];
    let make = |body: &str| ask(&server, "POST", "/api/v1/api-keys", &headers, body.as_bytes());
    let bot = r#"{"name":"bot","role":"viewer"}"#;
    let first = make(bot);
    assert_eq!(first.status, 201, "{}", first.body);
    let token = first.json()["token"].as_str().unwrap_or_default().to_owned();
    assert!(token.starts_with("chs_"), "{}", first.body);
    let again = make(bot);
    let told = problem(&again, 409, "idempotency_not_kept");
    assert!(told["detail"].as_str().is_some_and(|detail| detail.contains("carried out")), "{told}");
    assert!(!again.body.contains(&token));
    problem(&make(r#"{"name":"bot","role":"admin"}"#), 422, "idempotency_mismatch");
    let keys = ask(&server, "GET", "/api/v1/api-keys", &[], b"").json();
    assert_eq!(keys.as_array().map(Vec::len), Some(1), "{keys}");
    // The one that was made is the one that was shown.
    let bearer = format!("Bearer {token}");
    let known = ask(&server, "GET", "/api/v1/fleets", &[("Authorization", &bearer)], b"");
    assert_eq!(known.status, 200, "{}", known.body);
}

#[test]
fn of_many_that_ask_the_same_at_once_one_is_carried_out() {
    let server = Server::start();
    let headers = [("Content-Type", "application/json"), ("Idempotency-Key", "same")];
    let answers: Vec<Answer> = std::thread::scope(|scope| {
        let ask = || ask(&server, "POST", "/api/v1/fleets", &headers, br#"{"name":"web"}"#);
        let asking: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
        asking.into_iter().filter_map(|asked| asked.join().ok()).collect()
    });
    let fresh = answers
        .iter()
        .filter(|answer| answer.status == 201 && answer.header("idempotency-replayed").is_none());
    assert_eq!(fresh.count(), 1, "{answers:?}");
    for answer in answers.iter().filter(|answer| answer.status != 201) {
        problem(answer, 409, "idempotency_in_flight");
        assert_eq!(answer.header("retry-after"), Some("1"));
    }
}

#[cfg(feature = "failpoints")]
#[test]
fn a_crash_leaves_a_change_and_its_key_in_agreement() {
    for (point, made) in [("fleet_create:before@1", false), ("fleet_create:stored@1", true)] {
        let mut server = Server::start_with(&[], &[("CHASSIS_FAILPOINT", point)]);
        let headers = [("Content-Type", "application/json"), ("Idempotency-Key", "one")];
        // No answer: the server is dead. Who hangs up before may have asked for nothing.
        let asked = http::send(&server, "POST", "/api/v1/fleets", &headers, br#"{"name":"web"}"#);
        server.wait_for_end();
        drop(asked);
        server.start_again();
        let there = ask(&server, "GET", "/api/v1/fleets/web", &[], b"").status == 200;
        assert_eq!(there, made, "{point}");
        let again = || ask(&server, "POST", "/api/v1/fleets", &headers, br#"{"name":"web"}"#);
        if made {
            problem(&again(), 409, "idempotency_in_flight");
            let mut last = again();
            common::wait_until("the first is known to be dead", || {
                last = again();
                !last.body.contains("idempotency_in_flight")
            });
            problem(&last, 409, "idempotency_unknown");
        } else {
            assert_eq!(again().status, 201, "{point}");
        }
    }
}

#[test]
fn who_comes_back_gets_the_events_that_were_missed() {
    let server = Server::start();
    for name in ["a", "b", "c", "d"] {
        ask_json(&server, "POST", "/api/v1/fleets", &json!({ "name": name }));
    }
    let events = ask(&server, "GET", "/api/v1/events?kinds=FleetCreated", &[], b"").json();
    let ids: Vec<u64> =
        events.as_array().into_iter().flatten().filter_map(|event| event["id"].as_u64()).collect();
    assert_eq!(ids.len(), 4, "{events}");
    let headers = [("Last-Event-ID", &*ids[1].to_string())];
    let stream = http::send(&server, "GET", "/api/v1/events?follow=true&kinds=FleetCreated", &headers, b"");
    let mut seen: Vec<u64> = Vec::new();
    for line in std::io::BufRead::lines(std::io::BufReader::new(stream)).map_while(Result::ok) {
        if let Some(id) = line.strip_prefix("id: ").or_else(|| line.strip_prefix("id:")) {
            seen.push(id.trim().parse().unwrap_or_default());
            if seen.len() == 2 {
                // One more, while the stream is open.
                ask_json(&server, "POST", "/api/v1/fleets", &json!({ "name": "e" }));
            }
        }
        if seen.len() == 3 {
            break;
        }
    }
    assert_eq!(seen[..2], ids[2..], "neither lost nor doubled");
    assert!(seen[2] > seen[1], "{seen:?}");
    let unknown = [("Last-Event-ID", "999999")];
    problem(&ask(&server, "GET", "/api/v1/events?follow=true", &unknown, b""), 410, "events_gone");
}

#[test]
fn slow_work_is_waited_for_if_that_is_asked() {
    let server = Server::start();
    let agent = json!({ "createFleet": true, "agents": [{ "name": "crawler", "image": "crawler:1", "replicas": 2 }] });
    let noted = ask_json(&server, "POST", "/api/v1/fleets/web/apply", &agent);
    let place = noted.header("location").unwrap_or_default().to_owned();
    assert_eq!(
        (noted.status, place.as_str()),
        (202, "/api/v1/progress?fleet=web&agent=crawler"),
        "{}",
        noted.body
    );
    common::wait_until("all is as wanted", || {
        ask(&server, "GET", &place, &[], b"").json()["state"] == "done"
    });
    let scale = json!({ "agent": "crawler", "count": 4 });
    let done = ask_json(&server, "POST", "/api/v1/fleets/web/scale?wait=20s", &scale);
    assert_eq!((done.status, done.header("preference-applied")), (200, Some("wait=20s")), "{}", done.body);
    let running = ask(&server, "GET", "/api/v1/fleets/web/agents/crawler/instances", &[], b"").json();
    let phases: Vec<&str> =
        running.as_array().into_iter().flatten().filter_map(|one| one["phase"].as_str()).collect();
    assert_eq!(phases, ["Running"; 4], "it said that all is as wanted");
    problem(&ask_json(&server, "POST", "/api/v1/fleets/web/scale?wait=long", &scale), 400, "invalid_query");
    let gone = ask(&server, "DELETE", "/api/v1/fleets/web?wait=20s", &[], b"");
    assert_eq!(gone.status, 200, "{}", gone.body);
    problem(&ask(&server, "GET", "/api/v1/fleets/web", &[], b""), 404, "fleet_not_found");
}
