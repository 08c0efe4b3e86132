//! What is not understood is refused, and never passed over.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use chassis_api::route::ROUTES;
use serde_json::{Value, json};

use super::{filled, problem};
use crate::common::Server;
use crate::http::{PATIENCE, ask, ask_json};

#[test]
fn a_parameter_that_a_route_does_not_know_is_refused() {
    let server = Server::start();
    let native = ROUTES.iter().filter(|route| route.path.starts_with("/api/v1/"));
    for route in native {
        let answer = ask(&server, route.method, &format!("{}?nonsense=1", filled(route.path)), &[], b"");
        let told = problem(&answer, 400, "invalid_query");
        assert!(
            told["detail"].as_str().is_some_and(|detail| detail.contains("`nonsense`")),
            "{route:?}: {told}"
        );
    }
    ask_json(&server, "POST", "/api/v1/fleets", &json!({ "name": "web" }));
    for (method, path, hint) in [
        ("GET", "/api/v1/fleets?label=tier%3Dfront", "did you mean `labels`?"),
        ("DELETE", "/api/v1/fleets/web?clean=true", "did you mean `cleanup`?"),
        ("POST", "/api/v1/fleets/web/apply?dryRun=true", "a field of the body goes into the body"),
    ] {
        let body = json!({ "agents": [{ "name": "crawler", "image": "crawler:1" }] });
        let told = problem(&ask_json(&server, method, path, &body), 400, "invalid_query");
        assert!(told["detail"].as_str().is_some_and(|detail| detail.contains(hint)), "{told}");
    }
    let agents = ask(&server, "GET", "/api/v1/agents", &[], b"").json();
    assert_eq!(agents, json!([]), "nothing was deployed, and the fleet is there");
    assert_eq!(ask(&server, "GET", "/ready?nonce=1", &[], b"").status, 200, "probes add what they like");

    // What is too much is refused too.
    let labels = |count: u32| {
        json!((0..count).map(|n| (format!("l{n}"), json!("x"))).collect::<serde_json::Map<_, _>>())
    };
    let make = |count| {
        ask_json(&server, "POST", "/api/v1/fleets", &json!({ "name": "many", "labels": labels(count) }))
    };
    problem(&make(65), 422, "invalid_body");
    assert_eq!(make(64).status, 201);
    let agent = json!({ "agents": [{ "name": "a", "image": "b", "labels": labels(65) }] });
    problem(&ask_json(&server, "POST", "/api/v1/fleets/web/apply", &agent), 422, "invalid_body");
    let long = "x".repeat(33 << 10);
    problem(&ask(&server, "GET", "/api/v1/fleets", &[("X-Long", &long)], b""), 431, "head_too_large");
    assert_eq!(ask(&server, "GET", "/api/v1/fleets", &[("X-Long", &long[..31 << 10])], b"").status, 200);
}

#[test]
fn a_cursor_is_good_for_the_list_that_gave_it() {
    let server = Server::start();
    for name in ["a", "b"] {
        ask_json(&server, "POST", "/api/v1/fleets", &json!({ "name": name }));
    }
    let first = ask(&server, "GET", "/api/v1/fleets?limit=1", &[], b"");
    let next =
        first.header("link").and_then(|link| link.strip_prefix('<')?.split_once('>')).unwrap_or_default().0;
    assert_eq!(ask(&server, "GET", next, &[], b"").json()[0]["name"], "b");
    let cursor = next.split_once("cursor=").unwrap_or_default().1;
    for path in [
        "/api/v1/fleets?cursor=AAAA".to_owned(),
        "/api/v1/fleets?cursor=".to_owned(),
        format!("/api/v1/agents?cursor={cursor}"),
        format!("/api/v1/fleets?cursor={}", &cursor[..cursor.len() - 1]),
    ] {
        problem(&ask(&server, "GET", &path, &[], b""), 400, "invalid_cursor");
    }
}

#[test]
fn a_secret_that_is_sent_again_is_written_once() {
    let server = Server::start();
    ask_json(&server, "POST", "/api/v1/fleets", &json!({ "name": "web" }));
    let put = |key: &str, query: &str, value: &str| {
        ask(
            &server,
            "PUT",
            &format!("/api/v1/secrets/web/token{query}"),
            &[("Idempotency-Key", key)],
            value.as_bytes(),
        )
    };
    let first = put("k1", "", "hunter2");
    assert_eq!((first.status, first.header("idempotency-replayed")), (201, None), "{}", first.body);
    let again = put("k1", "", "hunter2");
    assert_eq!((again.status, again.header("idempotency-replayed")), (201, Some("true")), "{}", again.body);
    assert_eq!(again.body, first.body);
    problem(&put("k1", "", "hunter3"), 422, "idempotency_mismatch");
    problem(&put("k2", "", "hunter2"), 409, "secret_exists");
    let replaced = put("k3", "?replace=true", "hunter3");
    assert_eq!((replaced.status, &replaced.json()["version"]), (200, &json!(2)), "{}", replaced.body);
}

#[test]
fn what_is_waited_for_is_what_was_applied() {
    let server = Server::start();
    let apply = |query: &str, agents: Value| {
        let body = json!({ "agents": agents, "createFleet": true });
        ask_json(&server, "POST", &format!("/api/v1/fleets/web/apply{query}"), &body)
    };
    assert_eq!(apply("?wait=30s", json!([{ "name": "old", "image": "old:1" }])).status, 200);
    // A rollout that is held up: it is stuck for as long as the test lasts.
    assert_eq!(ask(&server, "POST", "/api/v1/fleets/web/agents/old/rollout/pause", &[], b"").status, 200);
    let stuck = apply("?wait=1s", json!([{ "name": "old", "image": "old:2" }]));
    assert_eq!(stuck.status, 202, "{}", stuck.body);
    let new = apply(
        "?wait=30s",
        json!([{ "name": "new", "image": "new:1" }, { "name": "newer", "image": "new:1" }]),
    );
    assert_eq!(new.status, 200, "{}", new.body);
    let place = new.header("location").unwrap_or_default();
    assert_eq!(place, "/api/v1/progress?fleet=web&agent=new,newer");
    assert_eq!(ask(&server, "GET", place, &[], b"").json()["state"], "done");
    let other = stuck.header("location").unwrap_or_default();
    assert_eq!(ask(&server, "GET", other, &[], b"").json()["state"], "stuck");
}

#[test]
fn a_key_is_for_fleets_that_are_there() {
    let server = Server::start();
    let make = |name: &str| ask_json(&server, "POST", "/api/v1/fleets", &json!({ "name": name })).status;
    assert_eq!(make("web"), 201);
    let key = |name: &str, role: &str, fleet: &str| {
        ask_json(
            &server,
            "POST",
            "/api/v1/api-keys",
            &json!({ "name": name, "role": role, "fleets": [fleet] }),
        )
    };
    let told = problem(&key("slip", "viewer", "wbe"), 422, "fleets_wrong");
    assert!(told["detail"].as_str().is_some_and(|detail| detail.contains("did you mean `web`?")), "{told}");
    let token =
        |made: &crate::http::Answer| format!("Bearer {}", made.json()["token"].as_str().unwrap_or_default());
    let early = server.place.run("api-key create early --role admin --fleet later");
    assert!(early.code == 0 && early.stderr.contains("there is no fleet later yet"), "{}", early.stderr);
    server.place.ok("api-key revoke early");
    let (operator, admin) = (token(&key("bot", "operator", "web")), token(&key("boss", "admin", "web")));
    let sees = |who: &str| ask(&server, "GET", "/api/v1/fleets/web", &[("Authorization", who)], b"").status;
    assert_eq!((sees(&operator), sees(&admin)), (200, 200));
    assert_eq!(ask(&server, "DELETE", "/api/v1/fleets/web?wait=30s", &[], b"").status, 200);
    // Another fleet of the same name is another fleet. Whoever may make it keeps it.
    assert_eq!(make("web"), 201);
    assert_eq!((sees(&operator), sees(&admin)), (403, 200));
    let keys = ask(&server, "GET", "/api/v1/api-keys", &[], b"").json();
    assert_eq!(keys[0]["name"], "boss");
    assert_eq!((&keys[0]["fleets"], &keys[1]["fleets"]), (&json!(["web"]), &json!([])), "{keys}");
}

#[test]
fn whoever_breaks_the_protocol_of_a_command_is_told_how() {
    let server = Server::start();
    let body = json!({ "agents": [{ "name": "a", "image": "b" }], "createFleet": true });
    assert_eq!(ask_json(&server, "POST", "/api/v1/fleets/web/apply?wait=30s", &body).status, 200);
    for (kind, payload, code, why) in [
        (1, &b"ls"[..], 1003, "binary"),
        (2, b"\x00ls", 1002, "3 for JSON"),
        (2, b"", 1002, "3 for JSON"),
        (2, b"\x03{\"resize\":{\"columns\":1,\"rows\":1}}", 1002, "`start`"),
        (2, b"\x03{\"start\":{\"comand\":[\"ls\"]}}", 1007, "comand"),
    ] {
        let (told, reason) = close_frame(&server, kind, payload);
        assert!(told == code && reason.contains(why), "{payload:?}: {told} {reason}");
    }
}

/// Sends one message, and returns what the Close frame says that answers it.
fn close_frame(server: &Server, kind: u8, payload: &[u8]) -> (u16, String) {
    let mut stream = UnixStream::connect(server.place.data_dir().join(".server/socket")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = "GET /api/v1/fleets/web/agents/a/instances/1/exec HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
                Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let mut byte = [0];
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        answer.push(byte[0]);
    }
    assert!(answer.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&answer));
    // Masked with zeros, which is what is asked of a client.
    let mut frame = vec![0x80 | kind, 0x80 | u8::try_from(payload.len()).unwrap(), 0, 0, 0, 0];
    frame.extend_from_slice(payload);
    stream.write_all(&frame).unwrap();
    loop {
        let mut begin = [0; 2];
        stream.read_exact(&mut begin).unwrap();
        let mut content = vec![0; begin[1].into()];
        stream.read_exact(&mut content).unwrap();
        if begin[0] == 0x88 {
            let reason = String::from_utf8_lossy(&content[2..]).into_owned();
            return (u16::from_be_bytes([content[0], content[1]]), reason);
        }
    }
}
