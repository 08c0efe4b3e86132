//! The OWASP API Security Top 10 of 2023, a test for each item that applies, named after it. They run the built binary, listening on
//! TCP, with simulated instances: what is asked here is who gets in, and that is decided before any runtime is.
//!
//! Of item 6, unrestricted access to sensitive business flows, there is none: nothing is sold or given away here, and what a role may
//! do it may do as a program. Of item 10, unsafe consumption of APIs, what is consumed is the Docker Engine and what it pulls;
//! `safety` and `any_image` show that their words steer neither server nor terminal.

#[path = "../../crates/cli/tests/common/mod.rs"]
mod common;
#[path = "../../crates/cli/tests/http/mod.rs"]
mod http;
mod network;

use std::io::Read;
use std::time::{Duration, Instant};

use common::wait_until;
use network::{Chassis, MASTER};
use serde_json::{Value, json};

#[test]
fn api1_broken_object_level_authorization() {
    let chassis = Chassis::start(&[]);
    chassis.fleets(&["own", "other"]);
    let key = chassis.key("bot --role admin --fleet own");
    for (method, path, body) in [
        ("GET", "/api/v1/fleets/{fleet}", Value::Null),
        ("GET", "/api/v1/fleets/{fleet}/agents/worker", Value::Null),
        ("GET", "/api/v1/fleets/{fleet}/agents/worker/instances/1", Value::Null),
        ("GET", "/api/v1/instances?fleet={fleet}", Value::Null),
        ("GET", "/api/v1/events?fleet={fleet}", Value::Null),
        ("GET", "/api/v1/secrets?fleet={fleet}", Value::Null),
        ("DELETE", "/api/v1/fleets/{fleet}", Value::Null),
        ("PUT", "/api/v1/secrets/{fleet}/token?replace=true", json!("mine now")),
        ("POST", "/api/v1/change", json!({ "scope": { "fleet": "{fleet}" }, "change": "stop" })),
        ("POST", "/api/v1/progress", json!({ "scopes": [{ "fleet": "own" }, { "fleet": "{fleet}" }] })),
        ("POST", "/api/v1/fleets", json!({ "name": "{fleet}" })),
    ] {
        for fleet in ["other", "absent", "%6fther"] {
            let body = serde_json::from_str::<Value>(&body.to_string().replace("{fleet}", fleet)).unwrap();
            let answer = chassis.ask(Some(&key), method, &path.replace("{fleet}", fleet), &body);
            // A name that is none is refused as such where it stands in a body.
            let malformed = fleet.contains('%') && !body.is_null() && answer.status == 422;
            assert!(
                answer.status == 403 || malformed,
                "{method} {path} of {fleet}: {} {}",
                answer.status,
                answer.body
            );
        }
    }
    assert_eq!(chassis.ask(Some(&key), "GET", "/api/v1/fleets/own", &Value::Null).status, 200);
    assert_eq!(chassis.ask(Some(MASTER), "GET", "/api/v1/fleets/other", &Value::Null).status, 200);
}

/// What an agent shares with another fleet takes a role there, by whichever way it would come to run.
#[test]
fn api1_broken_object_level_authorization_of_what_a_definition_opens() {
    let chassis = Chassis::start(&[]);
    chassis.fleets(&["own", "other"]);
    let operator = chassis.key("bot --role operator --fleet own");
    let agents = "/api/v1/fleets/own/agents";
    let volume = json!([{ "name": "v", "mountPath": "/v", "dockerVolume": { "name": "theirs" } }]);
    let network = json!({ "fleets": ["other"] });
    for (name, field, value) in [("near", "network", network), ("mounts", "volumes", volume)] {
        let post = |who: &str, path: &str, body: &Value| chassis.ask(Some(who), "POST", path, body);
        let refused = |path: &str, body: &Value| {
            let answer = post(&operator, path, body);
            assert_eq!(
                (answer.status, &answer.json()["code"]),
                (403, &json!("forbidden")),
                "{path} {body}: {}",
                answer.body
            );
        };
        let plain = json!({ "agents": [{ "name": name, "image": "acme/worker" }] });
        let mut opened = plain.clone();
        opened["agents"][0][field] = value;
        let apply = "/api/v1/fleets/own/apply";
        refused(apply, &opened);
        assert_eq!(post(MASTER, apply, &opened).status, 202);
        // Another image, and another meaning of the same name, are other programs in the same place.
        refused(&format!("{agents}/{name}/upgrade"), &json!({ "image": "acme/other" }));
        refused(&format!("{agents}/{name}/upgrade"), &json!({ "refresh": true }));
        assert_eq!(post(&operator, apply, &plain).status, 202, "less is allowed");
        for body in [json!({}), json!({ "toRevision": 1 }), json!({ "toRevision": 1, "dryRun": true })] {
            refused(&format!("{agents}/{name}/rollout/undo"), &body);
        }
        assert_eq!(
            chassis.ask(Some(MASTER), "GET", &format!("{agents}/{name}"), &Value::Null).json()["revision"],
            2
        );
        assert_eq!(
            post(&operator, &format!("{agents}/{name}/upgrade"), &json!({ "image": "acme/other" })).status,
            202
        );
        assert_eq!(
            post(MASTER, &format!("{agents}/{name}/rollout/undo"), &json!({ "toRevision": 1 })).status,
            202
        );
    }
    // A definition goes where it says, or nowhere.
    let elsewhere = json!({ "agents": [{ "name": "lost", "image": "acme/worker", "fleet": "other" }] });
    let answer = chassis.ask(Some(MASTER), "POST", "/api/v1/fleets/own/apply", &elsewhere);
    assert_eq!((answer.status, &answer.json()["code"]), (422, &json!("fleet_mismatch")), "{}", answer.body);
}

#[test]
fn api2_broken_authentication() {
    // The test says where its requests come from, as a proxy would.
    let chassis = Chassis::start(&["--trusted-proxy", "127.0.0.1"]);
    let key = chassis.key("bot --role viewer");
    let get = |headers: &[(&str, &str)], path: &str| chassis.send("GET", path, headers, "");
    let bearer = format!("Bearer {key}");
    assert_eq!(get(&[("Authorization", &bearer)], "/api/v1/fleets").status, 200);
    let (head, tail) = key.split_at(key.len() - 1);
    let near = format!("Bearer {head}{}", if tail == "A" { "E" } else { "A" });
    for headers in [
        vec![],
        vec![("Authorization", "")],
        vec![("Authorization", "Bearer ")],
        vec![("Authorization", "Bearer chs_")],
        vec![("Authorization", near.as_str())],
        vec![("Authorization", &bearer[.."Bearer ".len() + 12])],
        vec![("Authorization", "Basic cm9vdDpyb290")],
        vec![("Cookie", &*format!("token={key}"))],
        vec![("X-Api-Key", &*key)],
    ] {
        let answer = get(&headers, "/api/v1/fleets");
        assert_eq!(answer.status, 401, "{headers:?}: {}", answer.body);
        assert!(answer.header("www-authenticate").is_some_and(|challenge| challenge.starts_with("Bearer")));
    }
    assert_eq!(
        get(&[], &format!("/api/v1/fleets?token={key}")).status,
        401,
        "an address is in everybody's logs"
    );

    // Guessing is slowed for whoever guesses, and for nobody else.
    let from = |address: &str, token: &str| {
        get(&[("Authorization", token), ("X-Forwarded-For", address)], "/api/v1/fleets")
    };
    let attempts: Vec<u16> = (0..15).map(|_| from("203.0.113.9", "Bearer wrong").status).collect();
    assert_eq!(attempts.iter().filter(|status| **status == 401).count(), 10, "{attempts:?}");
    let slowed = from("203.0.113.9", &bearer);
    assert_eq!(slowed.status, 429, "also with the right one, or it could be guessed: {}", slowed.body);
    let wait: u64 = slowed.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=10).contains(&wait), "{wait}");
    assert_eq!(from("203.0.113.10", &bearer).status, 200);
    assert_eq!(from("2001:db8::1", &bearer).status, 200);

    // A key ends when it is revoked, with what it opened.
    let (status, mut stream) = chassis.open("/api/v1/events?follow=true", &bearer);
    assert_eq!(status, 200);
    chassis.server.place.ok("api-key revoke bot");
    let begin = Instant::now();
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
    // Whoever goes on asking with it does not guess, and takes nothing from others who come from there.
    for _ in 0..15 {
        let answer = from("203.0.113.11", &bearer);
        assert!(
            answer.status == 401 && answer.body.contains("was revoked or has expired"),
            "{}",
            answer.body
        );
    }
    assert_eq!(from("203.0.113.11", &format!("Bearer {MASTER}")).status, 200);
}

#[test]
fn api3_broken_object_property_level_authorization() {
    let chassis = Chassis::start(&[]);
    chassis.fleets(&["own"]);
    let operator = chassis.key("bot --role operator --fleet own");
    // The machine and the agents of others are not for who has one fleet.
    chassis.fleets(&["other"]);
    let server = chassis.ask(Some(&operator), "GET", "/api/v1/server", &Value::Null).json();
    for hidden in ["pid", "dataDir", "allowedHostPaths", "listening"] {
        assert!(server.get(hidden).is_none(), "{server}");
    }
    assert!(chassis.ask(Some(MASTER), "GET", "/api/v1/server", &Value::Null).json()["dataDir"].is_string());
    let instances =
        |who| chassis.ask(Some(who), "GET", "/api/v1/nodes", &Value::Null).json()[0]["instances"].clone();
    assert_eq!((instances(&operator), instances(MASTER)), (json!(1), json!(2)));
    let value = "a-value-that-never-comes-back";
    let put = chassis.send(
        "PUT",
        "/api/v1/secrets/own/other",
        &[("Authorization", &format!("Bearer {operator}"))],
        value,
    );
    assert_eq!(put.status, 201, "{}", put.body);
    let keys = chassis.ask(Some(MASTER), "GET", "/api/v1/api-keys", &Value::Null);
    assert!(
        keys.body.contains("\"bot\"") && !keys.body.contains(&operator) && !keys.body.contains("hash"),
        "{}",
        keys.body
    );
    for path in [
        "/api/v1/secrets",
        "/api/v1/events",
        "/api/v1/agents",
        "/api/v1/instances",
        "/api/v1/fleets",
        "/api/v1/audit-log",
    ] {
        let answer = chassis.ask(Some(MASTER), "GET", path, &Value::Null);
        assert!(answer.status == 200 && !answer.body.contains(value), "{path}: {}", answer.body);
    }
    // What is not one's to say is refused, and not passed over.
    for (path, body) in [
        ("/api/v1/fleets", json!({ "name": "x", "version": 7, "deleting": true })),
        ("/api/v1/api-keys", json!({ "name": "x", "role": "viewer", "hash": "00", "createdBy": "me" })),
        ("/api/v1/fleets/own/apply", json!({ "agents": [{ "name": "a", "image": "b", "revision": 9 }] })),
    ] {
        let answer = chassis.ask(Some(MASTER), "POST", path, &body);
        assert_eq!(answer.status, 422, "{path}: {}", answer.body);
    }
}

#[test]
fn api4_unrestricted_resource_consumption() {
    let chassis = Chassis::start(&["--rate-limit", "5"]);
    let (fast, other) = (chassis.key("fast --role viewer"), chassis.key("other --role viewer"));
    let get = |key: &str, path: &str| chassis.ask(Some(key), "GET", path, &Value::Null);
    let answers: Vec<_> = (0..60).map(|_| get(&fast, "/api/v1/fleets")).collect();
    let refused =
        answers.iter().find(|answer| answer.status == 429).expect("a key that asks too often is refused");
    assert!(
        refused.header("retry-after").is_some_and(|wait| wait.parse::<u64>().is_ok_and(|wait| wait >= 1))
    );
    let taken = answers.iter().filter(|answer| answer.status == 200).count();
    assert!((25..60).contains(&taken), "{taken}");
    assert_eq!(get(&other, "/api/v1/fleets").status, 200, "nobody else is");
    let large = chassis.ask(Some(MASTER), "POST", "/api/v1/fleets", &json!({ "name": "x".repeat(5 << 20) }));
    assert_eq!(large.status, 413, "{}", large.body);
    let rows = chassis.ask(Some(MASTER), "GET", "/api/v1/audit-log?limit=4000000000", &Value::Null);
    assert_eq!(rows.status, 400, "{}", rows.body);
    // Being denied writes a row, and not one each time.
    for _ in 0..20 {
        chassis.ask(Some(&other), "DELETE", "/api/v1/fleets/nothing", &Value::Null);
    }
    let denied = || {
        let rows = chassis.ask(Some(MASTER), "GET", "/api/v1/audit-log", &Value::Null).json();
        rows.as_array().unwrap().iter().filter(|row| row["operation"] == "fleet_delete").count()
    };
    wait_until("the denial is written", || denied() > 0);
    assert_eq!(denied(), 1);
}

#[test]
fn api5_broken_function_level_authorization() {
    let chassis = Chassis::start(&[]);
    chassis.fleets(&["own"]);
    let viewer = chassis.key("viewer --role viewer");
    let operator = chassis.key("operator --role operator");
    let scoped = chassis.key("scoped --role admin --fleet own");
    for (who, method, path, body) in [
        (&viewer, "POST", "/api/v1/fleets/own/scale", json!({ "count": 9 })),
        (&viewer, "DELETE", "/api/v1/fleets/own/agents/worker", Value::Null),
        (&viewer, "GET", "/api/v1/fleets/own/agents/worker/instances/1/exec", Value::Null),
        (&viewer, "PUT", "/api/v1/secrets/own/token", json!("x")),
        (&operator, "DELETE", "/api/v1/fleets/own", Value::Null),
        (&operator, "POST", "/api/v1/fleets", json!({ "name": "new" })),
        (&operator, "POST", "/api/v1/api-keys", json!({ "name": "mine", "role": "admin" })),
        (&operator, "GET", "/api/v1/audit-log", Value::Null),
        (&scoped, "POST", "/api/v1/api-keys", json!({ "name": "mine", "role": "admin" })),
        (&scoped, "GET", "/api/v1/api-keys", Value::Null),
        (&scoped, "DELETE", "/api/v1/api-keys/viewer", Value::Null),
        (&scoped, "POST", "/api/v1/server/stop", Value::Null),
        (&scoped, "POST", "/api/v1/secrets/rotate-key", json!({})),
        (&scoped, "GET", "/metrics", Value::Null),
    ] {
        let answer = chassis.ask(Some(who), method, path, &body);
        assert_eq!(answer.status, 403, "{method} {path}: {}", answer.body);
        assert!(answer.body.contains("this needs the role"), "{}", answer.body);
    }
    // Neither another spelling of the path nor a header makes another function of it.
    for (method, path, header) in [
        ("DELETE", "/api/v1/fleets/own/", ("Accept", "*/*")),
        ("DELETE", "//api/v1/fleets/own", ("Accept", "*/*")),
        ("DELETE", "/API/v1/fleets/own", ("Accept", "*/*")),
        ("DELETE", "/api/v1/../v1/fleets/own", ("Accept", "*/*")),
        ("GET", "/api/v1/fleets/own", ("X-HTTP-Method-Override", "DELETE")),
    ] {
        let bearer = format!("Bearer {viewer}");
        chassis.send(method, path, &[("Authorization", &bearer), header], "");
    }
    let fleet = chassis.ask(Some(MASTER), "GET", "/api/v1/fleets/own", &Value::Null);
    assert!(fleet.status == 200 && fleet.json()["deleting"] == false, "{}", fleet.body);
}

#[test]
fn api7_server_side_request_forgery() {
    // Nothing that a caller says makes the server connect to an address of the caller's choice.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let here = listener.local_addr().unwrap();
    let chassis = Chassis::start(&[]);
    chassis.fleets(&["own"]);
    let operator = chassis.key("bot --role operator --fleet own");
    let agent = |check: Value| json!({ "agents": [{ "name": "a", "image": "b", "healthCheck": check }] });
    for body in [
        agent(json!({ "http": { "url": format!("http://{here}/") } })),
        agent(json!({ "http": { "host": here.ip().to_string(), "port": here.port(), "path": "/" } })),
        agent(json!({ "tcp": { "host": here.ip().to_string(), "port": here.port() } })),
    ] {
        let answer = chassis.ask(Some(&operator), "POST", "/api/v1/fleets/own/apply", &body);
        assert_eq!(answer.status, 422, "{}", answer.body);
    }
    for path in [
        format!("/api/v1/fleets/own/agents/worker/instances/1/ports/{here}"),
        format!("/api/v1/fleets/own/agents/worker/instances/1/ports/{}@{here}", here.port()),
    ] {
        let answer = chassis.ask(Some(&operator), "GET", &path, &Value::Null);
        assert_eq!(answer.status, 400, "{path}: {}", answer.body);
    }
    let bearer = format!("Bearer {operator}");
    let proxied = format!("http://{here}/api/v1/fleets");
    chassis.send("GET", &proxied, &[("Authorization", &bearer), ("X-Forwarded-Host", &here.to_string())], "");
    assert!(listener.accept().is_err(), "somebody connected");
}

#[test]
fn api8_security_misconfiguration() {
    let place = common::Place::new();
    for args in [
        vec!["serve", "--runtime", "sim", "--listen", "0.0.0.0:0", "--tls", "off"],
        vec!["serve", "--runtime", "sim", "--allow-from", "10.1.2.3/8"],
    ] {
        let ran = place.ran(place.command(&args).output().unwrap());
        assert_ne!(ran.code, 0, "{args:?}");
    }
    // What would do nothing, or take everything away, is a slip.
    for args in [
        &["--audit-log-keep", "0"][..],
        &["--audit-log-keep", "23h"],
        &["--max-connections", "0"],
        &["--max-connections-per-address", "0"],
        &["--listen", "127.0.0.1:0", "--insecure-listen"],
        &["--tls", "off"],
        &["--tls", "off", "--insecure-listen"],
    ] {
        let ran =
            place.ran(place.command(&[&["serve", "--runtime", "sim"], args].concat()).output().unwrap());
        assert_eq!(ran.code, 2, "{args:?}: {}", ran.stderr);
    }
    let weak = place
        .command(&["serve", "--runtime", "sim"])
        .env("CHASSIS_MASTER_TOKEN", "hunter2")
        .output()
        .unwrap();
    let weak = place.ran(weak);
    assert!(weak.code != 0 && weak.stderr.contains("openssl rand -hex 32"), "{}", weak.stderr);
    assert!(!weak.stderr.contains("hunter2"), "{}", weak.stderr);

    let chassis = Chassis::start(&[
        "--allow-from",
        "127.0.0.1",
        "--allow-from",
        "192.0.2.0/24",
        "--trusted-proxy",
        "127.0.0.1",
    ]);
    let bearer = format!("Bearer {MASTER}");
    let from = |address: &str| {
        chassis.send("GET", "/api/v1/fleets", &[("Authorization", &bearer), ("X-Forwarded-For", address)], "")
    };
    assert_eq!(from("192.0.2.17").status, 200);
    assert_eq!(from("198.51.100.1").status, 403);
    assert_eq!(
        from("192.0.2.17, 198.51.100.1").status,
        403,
        "what stands left of the client is its own invention"
    );
    let answer = chassis.send(
        "GET",
        "/api/v1/fleets",
        &[("Authorization", &bearer), ("Origin", "https://evil.example")],
        "",
    );
    assert!(answer.header("access-control-allow-origin").is_none(), "a page of another site reads nothing");
    assert_eq!(chassis.send("TRACE", "/api/v1/fleets", &[("Authorization", &bearer)], "").status, 405);
    let broken = chassis.send(
        "POST",
        "/api/v1/fleets",
        &[("Authorization", &bearer), ("Content-Type", "application/json")],
        "{",
    );
    for inner in ["src/", ".rs", "panicked", "thread"] {
        assert!(broken.status == 400 && !broken.body.contains(inner), "{}", broken.body);
    }
    // Nobody else of this machine comes in by the socket, not even where its mode was opened.
    let socket = chassis.server.place.data_dir().join(".server/socket");
    assert!(network::as_nobody(&socket, "/api/v1/fleets").is_none_or(|status| status == 403));
}

#[test]
fn api9_improper_inventory_management() {
    let chassis = Chassis::start(&[]);
    for path in [
        "/",
        "/api",
        "/api/v1",
        "/api/v2/fleets",
        "/fleets",
        "/debug",
        "/debug/pprof",
        "/livez",
        "/readyz",
        "/swagger",
        "/api/v1/internal",
        "/.env",
        "/admin",
    ] {
        assert_eq!(
            chassis.ask(None, "GET", path, &Value::Null).status,
            401,
            "{path}: who is not known learns nothing"
        );
        assert_eq!(chassis.ask(Some(MASTER), "GET", path, &Value::Null).status, 404, "{path}");
    }
    // Fuse's clients are told what there is not before they are asked who they are; its routes are no secret.
    assert_eq!(chassis.ask(None, "GET", "/v1/fleets", &Value::Null).status, 404);
    for path in ["/health", "/ready"] {
        let answer = chassis.ask(None, "GET", path, &Value::Null);
        assert!(matches!(answer.status, 200 | 503), "{path}: {}", answer.status);
    }
    for route in chassis_api::route::ROUTES {
        let is_open = matches!(route.need, chassis_core::Need::Nothing);
        let path = route.path.replace("{number}", "1").replace("{port}", "80").replace(['{', '}'], "");
        let status = chassis.ask(None, route.method, &path, &Value::Null).status;
        assert_eq!(status == 401, !is_open, "{} {path} without a token: {status}", route.method);
        let is_named = ["/api/v1/", "/v1/", "/metrics"].iter().any(|known| route.path.starts_with(known));
        assert!(is_open || is_named, "{}", route.path);
    }
}
