//! Who may do what: without a token, with a browser's session, with keys that have a scope.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use chassis_api::route::{Dialect, ROUTES};
use chassis_core::Need;
use serde_json::{Value, json};

use crate::world::World;

/// An answer over TCP: its status, its head in small letters, and its body.
pub(crate) struct Heard {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Heard {
    #[track_caller]
    fn is_refused(&self, status: u16, code: &str, message: &str) {
        let body: Value = serde_json::from_str(&self.body).unwrap_or_default();
        let error = &body["error"];
        assert_eq!((self.status, error["code"].as_str()), (status, Some(code)), "{}", self.body);
        assert!(error["message"].as_str().is_some_and(|said| said.contains(message)), "{}", self.body);
    }
}

pub(crate) fn ask(world: &World, method: &str, path: &str, headers: &[&str], body: &str) -> Heard {
    let address = world.chassis.network_address();
    let mut stream = TcpStream::connect(address.trim_start_matches("http://")).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a time limit");
    let more = headers.iter().fold(String::new(), |more, header| more + header + "\r\n");
    let length = body.len();
    let head =
        format!("{method} {path} HTTP/1.0\r\nHost: localhost\r\nContent-Length: {length}\r\n{more}\r\n");
    stream.write_all(format!("{head}{body}").as_bytes()).expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    Heard { status, head: head.to_lowercase(), body: body.to_owned() }
}

fn world() -> (World, String) {
    let world = World::sim(&["--listen", "127.0.0.1:0", "--tls", "off"]);
    let token = std::fs::read_to_string(world.chassis.master_token()).expect("a token");
    (world, token.trim().to_owned())
}

#[test]
fn nobody_is_let_in_who_says_nothing() {
    let (world, _) = world();
    let none = ask(&world, "GET", "/v1/environments", &[], "");
    none.is_refused(401, "unauthorized", "missing or malformed credentials");
    let malformed = ask(&world, "GET", "/v1/environments", &["Authorization: Basic eA=="], "");
    malformed.is_refused(401, "unauthorized", "missing or malformed credentials");
    let wrong = ask(&world, "GET", "/v1/environments", &["Authorization: Bearer x"], "");
    wrong.is_refused(401, "unauthorized", "invalid token");
    let nowhere = ask(&world, "GET", "/v1/nothing", &[], "");
    nowhere.is_refused(404, "route_not_found", "no such route: GET /v1/nothing");
    assert_eq!(ask(&world, "GET", "/v1/version", &[], "").status, 200);
    assert_eq!(ask(&world, "DELETE", "/v1/environments", &[], "").status, 405);
}

/// As `every_route_lets_in_whom_the_table_says` of the native API: nobody without a token, and a key for another fleet nowhere.
#[test]
fn every_route_asks_who_it_is() {
    let (world, token) = world();
    let body = json!({ "name": "foreign", "role": "admin", "fleets": ["other"] }).to_string();
    let headers = [&*format!("Authorization: Bearer {token}"), "Content-Type: application/json"];
    let made = ask(&world, "POST", "/api/v1/api-keys", &headers, &body);
    let made: Value = serde_json::from_str(&made.body).unwrap_or_default();
    let foreign = format!("Authorization: Bearer {}", made["token"].as_str().expect("a key"));
    let mut asked = 0;
    for route in ROUTES.iter().filter(|route| route.dialect() == Dialect::Fuse && route.need != Need::Nothing)
    {
        let path = route.path.replace("{id}", "x").replace("{kind}", "y");
        ask(&world, route.method, &path, &[], "").is_refused(401, "unauthorized", "credentials");
        ask(&world, route.method, &path, &[&foreign], "").is_refused(403, "unauthorized", "key foreign");
        asked += 1;
    }
    assert!(asked >= 25, "{asked}");
}

/// Whoever comes from elsewhere hears nothing else, not even what there is.
#[test]
fn addresses_come_before_everything() {
    let world = World::sim(&["--listen", "127.0.0.1:0", "--tls", "off", "--allow-from", "10.0.0.0/8"]);
    for path in ["/v1/version", "/v1/environments", "/v1/nothing"] {
        ask(&world, "GET", path, &[], "").is_refused(403, "forbidden", "127.0.0.1");
    }
}

/// One environment, however often a client asks that did not hear the answer.
#[test]
fn a_request_with_a_key_is_carried_out_once() {
    let (world, token) = world();
    let (bearer, key) = (format!("Authorization: Bearer {token}"), "Idempotency-Key: once");
    let body = json!({ "task_id": "a" }).to_string();
    let create = |body: &str| ask(&world, "POST", "/v1/environments", &[&bearer, key], body);
    let (first, again) = (create(&body), create(&body));
    assert_eq!((first.status, &first.body), (201, &again.body), "{}", again.body);
    assert!(again.status == 201 && again.head.contains("idempotency-replayed: true"), "{}", again.head);
    create(r#"{"task_id":"b"}"#).is_refused(400, "invalid_argument", "another request");
}

/// The cookie is no token: it ends with the session, and opens nothing beside this dialect.
#[test]
fn a_browser_has_a_session() {
    let (world, master) = world();
    let login = |token: &str| ask(&world, "POST", "/login", &[], &json!({ "token": token }).to_string());
    login("wrong").is_refused(401, "unauthorized", "invalid token");
    ask(&world, "POST", "/login", &[], "{").is_refused(400, "invalid_argument", "JSON");
    ask(&world, "POST", "/login", &[], &"x".repeat(5000)).is_refused(413, "payload_too_large", "4096");
    let opened = login(&master);
    assert_eq!((opened.status, opened.body.as_str()), (204, ""));
    let cookie = opened.head.lines().find(|line| line.starts_with("set-cookie: ")).expect("a cookie");
    for part in ["fuse_session=", "path=/", "max-age=604800", "httponly", "samesite=lax"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    assert!(!cookie.contains(&master.to_lowercase()), "{cookie}");
    // Small letters were only for reading: the word itself is as it was sent.
    let session = format!("Cookie: a=b; fuse_session={}", session_word(&world, &master));
    assert_eq!(ask(&world, "GET", "/v1/environments", &[&session], "").status, 200);
    assert_eq!(ask(&world, "GET", "/api/v1/fleets", &[&session], "").status, 401);
    let both = ask(&world, "GET", "/v1/environments", &[&session, "Authorization: Bearer x"], "");
    both.is_refused(401, "unauthorized", "invalid token");
    assert_eq!(ask(&world, "POST", "/logout", &[&session], "").status, 204);
    ask(&world, "GET", "/v1/environments", &[&session], "").is_refused(401, "unauthorized", "invalid token");
}

fn session_word(world: &World, token: &str) -> String {
    let answer = world.send("POST", "/login", json!({ "token": token }).to_string().as_bytes());
    let cookie = answer.header("set-cookie").expect("a cookie").to_owned();
    cookie.trim_start_matches("fuse_session=").split(';').next().expect("a word").to_owned()
}

/// Fuse's weakness: keys have no scopes there, and every one may all but enter.
#[test]
fn keys_have_scopes() {
    let (world, _) = world();
    world.made("a", json!({}));
    let key = |role: &str| {
        let made = world.post("/v1/api-keys", &json!({ "role": role, "expires_in_seconds": 600 }));
        assert_eq!(made.status, 201, "{}", made.body);
        let made: Value = serde_json::from_str(&made.body).unwrap_or_default();
        format!("Authorization: Bearer {}", made["key"].as_str().unwrap_or_default())
    };
    let (viewer, operator, admin) = (key("viewer"), key("operator"), key("admin"));
    let exec = json!({ "cmd": ["true"] }).to_string();
    let status =
        |key: &str, method: &str, path: &str, body: &str| ask(&world, method, path, &[key], body).status;
    for key in [&viewer, &operator, &admin] {
        assert_eq!(status(key, "GET", "/v1/environments/fuse-a", ""), 200);
        assert_eq!(status(key, "GET", "/v1/hosts", ""), 200);
        assert_eq!(status(key, "GET", "/v1/api-keys", ""), 403);
        assert_eq!(status(key, "GET", "/api/v1/secrets?fleet=other", ""), 403);
    }
    let act = "/v1/environments/fuse-a?action=exec";
    ask(&world, "POST", act, &[&viewer], &exec).is_refused(403, "unauthorized", "operator of environments");
    ask(&world, "POST", act, &[&operator], &exec).is_refused(403, "unauthorized", "may not run commands");
    // Who may enter hears that there is nothing to enter in a simulation.
    ask(&world, "POST", act, &[&admin], &exec).is_refused(501, "unimplemented", "");
    // The other dialect is no way around that.
    let native = "/api/v1/fleets/environments/agents/fuse-a/instances/1/exec";
    assert_eq!((status(&viewer, "GET", native, ""), status(&operator, "GET", native, "")), (403, 403));
    assert_ne!(status(&admin, "GET", native, ""), 403);
    assert_eq!(status(&viewer, "DELETE", "/v1/environments/fuse-a", ""), 403);
    assert_eq!(status(&operator, "DELETE", "/v1/environments/fuse-a", ""), 204);
}
