//! Who may do what: every route, asked by every sort of caller, on a real server whose instances are simulated.

mod common;
mod http;

use std::os::unix::fs::PermissionsExt;

use chassis_api::Role;
use chassis_api::route::{Dialect, ROUTES, Route};
use chassis_core::access::allows;
use chassis_core::{Grant, Need, Place, Reach};
use chassis_spec::FleetName;
use common::{Server, wait_until};
use http::{Answer, ask, send};
use serde_json::{Value, json};

/// A fleet that callers have a role in, and one that they have not.
const OWN: &str = "own";
const FOREIGN: &str = "zebra";

const AGENT: &str = "\
name: {agent}
image: {image}:1.0
env:
  - name: API_KEY
    valueFrom: secret://{fleet}/{secret}
";

/// A server with both fleets, an agent in each, and much that is foreign to tell of.
fn server() -> Server {
    let server = Server::start();
    let place = &server.place;
    place.write("value", "hunter2-hunter2");
    for (fleet, agent, secret, image) in
        [(OWN, "worker", "token", "acme/worker"), (FOREIGN, "quagga", "okapi", "hidden/image")]
    {
        place.ok(&format!("create fleet {fleet}"));
        place.ok(&format!("secret create {fleet}/{secret} --from-file value"));
        let yaml = AGENT.replace("{agent}", agent).replace("{image}", image);
        place.write("agent.yaml", &yaml.replace("{fleet}", fleet).replace("{secret}", secret));
        place.ok(&format!("deploy agent -f agent.yaml --fleet {fleet}"));
    }
    server
}

fn key(server: &Server, name: &str, role: Role, fleets: &[&str]) -> String {
    let mut command = format!("api-key create {name} --role {role}");
    for fleet in fleets {
        command += " --fleet ";
        command += fleet;
    }
    let token = server.place.ok(&command);
    token.trim().to_owned()
}

fn ask_as(server: &Server, token: &str, method: &str, path: &str, body: &Value) -> Answer {
    let bearer = format!("Bearer {token}");
    let mut headers = vec![("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
    // What is to be there for the next question is not really deleted.
    headers.extend((method == "DELETE").then_some(("If-Match", "\"999\"")));
    let body = if body.is_null() { String::new() } else { body.to_string() };
    ask(server, method, path, &headers, body.as_bytes())
}

/// Those of the native API; `tests/fuse` has the others.
fn native() -> impl Iterator<Item = &'static Route> {
    ROUTES.iter().filter(|route| route.dialect() == Dialect::Native)
}

/// A request to a route that names `fleet` wherever one can be named, and that changes nothing that the test needs.
fn request(route: &Route, fleet: &str) -> (String, Value) {
    let path = route.path.replace("{fleet}", fleet).replace("{agent}", "nobody").replace("{number}", "1");
    let path = path.replace("{port}", "80").replace("{name}", "nothing").replace("{node}", "nothing");
    let path = path.replace("{profile}", "nothing").replace("{kind}", "stuck_task");
    let path = path.replace("{environment}", "nothing");
    let scope = json!({ "fleet": fleet, "agent": "nobody" });
    match route.operation {
        "name_resolve" => (format!("{path}?name={fleet}/nobody"), Value::Null),
        "fleet_create" => (path, json!({ "name": fleet })),
        "instance_change" => (path, json!({ "scope": scope, "change": "restart" })),
        "progress_follow" => (path, json!({ "scopes": [scope] })),
        "secret_write" => (path, json!("value")),
        // They are of no fleet, or all of one.
        "profile_list" | "profile_get" | "letter_list" => (path, Value::Null),
        _ if route.method == "GET" && matches!(route.need, Need::Role(_, Place::Fleets)) => {
            (format!("{path}?fleet={fleet}"), Value::Null)
        }
        _ if route.method == "GET" || route.method == "DELETE" => (path, Value::Null),
        _ => (path, json!({})),
    }
}

#[test]
fn every_route_lets_in_whom_the_table_says() {
    let server = server();
    let own: FleetName = OWN.parse().unwrap();
    let foreign: FleetName = FOREIGN.parse().unwrap();
    let environments = chassis_core::environment::fleet();
    let mut wrong = Vec::new();
    let mut asked = 0;
    let (stop, routes): (Vec<&Route>, Vec<&Route>) =
        native().partition(|route| route.operation == "server_stop");
    let mut full = None;
    for role in Role::ALL {
        let everywhere = Grant { role, reach: Reach::All };
        let here = Grant { role, reach: Reach::Fleets([own.clone()].into()) };
        let tokens = [
            (key(&server, &format!("{role}-all"), role, &[]), everywhere),
            (key(&server, &format!("{role}-own"), role, &[OWN]), here),
        ];
        for (token, grant) in &tokens {
            for route in routes.iter().chain(stop.iter().filter(|stop| !allows(grant, stop.need, None))) {
                for fleet in [&own, &foreign] {
                    let (path, body) = request(route, fleet.as_str());
                    let named = match route.need {
                        // What no fleet is named to shows what the grant reaches, and is not a matter of fleets.
                        Need::Role(_, Place::Fleets)
                            if matches!(
                                route.operation,
                                "server_get"
                                    | "node_list"
                                    | "node_get"
                                    | "fleet_list"
                                    | "profile_list"
                                    | "profile_get"
                                    | "letter_list"
                            ) =>
                        {
                            None
                        }
                        Need::Role(_, Place::Server) => None,
                        _ if route.operation.starts_with("letter_") => Some(&environments),
                        _ => Some(fleet),
                    };
                    let answer = ask_as(&server, token, route.method, &path, &body);
                    let allowed = allows(grant, route.need, named);
                    asked += 1;
                    if allowed == matches!(answer.status, 401 | 403) || (!allowed && answer.status != 403) {
                        let told = format!("{} {path} as {grant}", route.method);
                        wrong.push(format!("{told}: {} though allowed is {allowed}", answer.status));
                    }
                    if !allowed && !answer.body.contains("forbidden") {
                        wrong.push(format!("{} {path} as {grant}: {}", route.method, answer.body));
                    }
                }
            }
        }
        full = Some(tokens[0].0.clone());
    }
    for route in routes {
        for (who, header) in [("nobody", "Bearer chs_wrong"), ("no bearer", "Basic cm9vdDpyb290")] {
            let (path, body) = request(route, OWN);
            let headers = [("Authorization", header), ("Content-Type", "application/json")];
            let answer = ask(&server, route.method, &path, &headers, body.to_string().as_bytes());
            let expected = if route.need == Need::Nothing {
                answer.status < 400 || answer.status == 503
            } else {
                answer.status == 401
            };
            asked += 1;
            if !expected {
                wrong.push(format!("{} {path} as {who}: {}", route.method, answer.status));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {asked} are wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(asked, (2 * 3 * 2 + 2) * (native().count() - 1) + 2 * 5);
    let stopped = ask_as(&server, &full.unwrap(), "POST", stop[0].path, &Value::Null);
    assert_eq!(stopped.status, 202, "{}", stopped.body);
}

#[test]
fn a_route_that_is_not_in_the_table_is_refused() {
    let server = Server::start();
    let admin = key(&server, "admin", Role::Admin, &[]);
    for (method, path, status) in [
        ("GET", "/api/v1/nothing", 404),
        ("GET", "/", 404),
        ("PUT", "/api/v1/fleets", 405),
        ("OPTIONS", "/api/v1/fleets", 405),
        ("TRACE", "/api/v1/server", 405),
    ] {
        assert_eq!(ask_as(&server, &admin, method, path, &Value::Null).status, status, "{method} {path}");
        let unknown = ask_as(&server, "chs_wrong", method, path, &Value::Null);
        assert_eq!(unknown.status, 401, "{method} {path}: who is not known learns nothing");
        assert!(unknown.header("www-authenticate").is_some_and(|challenge| challenge.starts_with("Bearer")));
    }
}

/// What must not be in any answer to somebody who has a role in [`OWN`] only.
fn foreign_words(answer: &str) -> Vec<&'static str> {
    let words = [FOREIGN, "quagga", "okapi", "hidden/image"];
    words.into_iter().filter(|word| answer.contains(word)).collect()
}

#[test]
fn answers_have_nothing_of_other_fleets() {
    let server = server();
    let admin = key(&server, "scoped", Role::Admin, &[OWN]);
    let everywhere = key(&server, "everywhere", Role::Viewer, &[]);
    let nodes = ask_as(&server, &admin, "GET", "/api/v1/nodes", &Value::Null).json();
    let node = nodes[0]["name"].as_str().unwrap();
    let mut shows_all = 0;
    for route in native() {
        let lists = route.method == "GET" && matches!(route.need, Need::Role(_, Place::Fleets));
        if !lists || matches!(route.operation, "name_resolve" | "log_read" | "progress_get" | "profile_get") {
            continue;
        }
        let path = route.path.replace("{node}", node);
        let answer = ask_as(&server, &admin, "GET", &path, &Value::Null);
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        assert_eq!(foreign_words(&answer.body), [""; 0], "{path}: {}", answer.body);
        let all = ask_as(&server, &everywhere, "GET", &path, &Value::Null);
        shows_all += usize::from(!foreign_words(&all.body).is_empty());
    }
    assert!(shows_all >= 6, "the test looks at lists that have something foreign: {shows_all}");

    let get = |path: &str| ask_as(&server, &admin, "GET", path, &Value::Null);
    for path in [
        "/api/v1/resolve?name=quagg",
        "/api/v1/resolve?name=quagga",
        "/api/v1/resolve?name=quagga-1&kept=true",
        "/api/v1/resolve?name=zebr",
        "/api/v1/resolve?name=zebra",
    ] {
        let answer = get(path);
        assert_eq!(answer.status, 404, "{path}: {}", answer.body);
        let asked_for = path.split("name=").nth(1).unwrap().split('&').next().unwrap();
        let told = answer.body.replace(asked_for, "");
        assert_eq!(foreign_words(&told), [""; 0], "{path}: {}", answer.body);
    }
    // A fleet that is there and one that is not are the same to somebody who has no role in them.
    for path in ["/api/v1/fleets/{fleet}", "/api/v1/events?fleet={fleet}", "/api/v1/logs?fleet={fleet}"] {
        let told = |fleet: &str| {
            let answer = get(&path.replace("{fleet}", fleet));
            let mut problem = answer.json();
            problem["request_id"] = Value::Null;
            (answer.status, problem.to_string().replace(fleet, "{fleet}"))
        };
        assert_eq!(told(FOREIGN), told("absent"), "{path}");
        assert_eq!(told(FOREIGN).0, 403);
    }
    // Containers of the agent `x` of the fleet `own-quagga` would be called as those of `quagga-x` of `own`.
    server.place.ok("create fleet own-quagga");
    server.place.write("agent.yaml", "name: x\nimage: hidden/image\n");
    server.place.ok("deploy agent -f agent.yaml --fleet own-quagga");
    let spec = json!({ "name": "quagga-x", "image": "acme/worker" });
    let collides = ask_as(&server, &admin, "POST", "/api/v1/fleets/own/apply", &json!({ "agents": [spec] }));
    assert_eq!(collides.status, 409, "{}", collides.body);
    assert!(!collides.body.contains("own-quagga"), "{}", collides.body);
    // Nor can an agent be put into the network of a fleet that is not theirs, or be given its data.
    let volume =
        json!({ "name": "data", "mountPath": "/data", "dockerVolume": { "name": "zebra-shared-data" } });
    let spec = json!({ "name": "thief", "image": "acme/worker", "volumes": [volume] });
    let steals = ask_as(&server, &admin, "POST", "/api/v1/fleets/own/apply", &json!({ "agents": [spec] }));
    assert_eq!(steals.status, 403, "{}", steals.body);
    let spec = json!({ "name": "spy", "image": "acme/worker", "network": { "fleets": [FOREIGN] } });
    let spies = ask_as(&server, &admin, "POST", "/api/v1/fleets/own/apply", &json!({ "agents": [spec] }));
    assert_eq!(spies.status, 403, "{}", spies.body);
}

#[test]
fn streams_have_nothing_of_other_fleets_and_end_with_their_key() {
    use std::io::Read;
    let server = server();
    let token = key(&server, "watcher", Role::Viewer, &[OWN]);
    let bearer = format!("Bearer {token}");
    let headers = [("Authorization", bearer.as_str())];
    let mut stream = send(&server, "GET", "/api/v1/events?follow=true&after=0", &headers, b"");
    server.place.ok("scale agent zebra/quagga 2");
    server.place.ok("scale agent own/worker 2");
    let mut told = String::new();
    let mut piece = [0; 4096];
    while !told.contains("worker") || !told.contains("Scaled") {
        let count = stream.read(&mut piece).unwrap();
        assert!(count > 0, "{told}");
        told.push_str(&String::from_utf8_lossy(&piece[..count]));
    }
    server.place.ok("api-key revoke watcher");
    let begin = std::time::Instant::now();
    while let Ok(count @ 1..) = stream.read(&mut piece) {
        told.push_str(&String::from_utf8_lossy(&piece[..count]));
    }
    assert!(begin.elapsed().as_secs() < 3, "the stream ends at once: {:?}", begin.elapsed());
    assert_eq!(foreign_words(&told), [""; 0], "{told}");
    let refused = ask_as(&server, &token, "GET", "/api/v1/fleets", &Value::Null);
    assert_eq!(refused.status, 401, "{}", refused.body);
}

#[test]
fn a_key_is_shown_once_and_ends_when_it_says() {
    let server = server();
    let place = &server.place;
    let token = key(&server, "deploy-bot", Role::Operator, &[OWN]);
    assert!(token.starts_with("chs_") && token.len() == 47, "{token}");
    let again = place.run("api-key create deploy-bot --role viewer");
    assert!(again.code == 1 && again.stderr.contains("api-key revoke deploy-bot"), "{}", again.stderr);
    assert_eq!(ask_as(&server, &token, "GET", "/api/v1/fleets", &Value::Null).status, 200);
    wait_until("its use is written down", || place.ok("api-key list -o json").contains("lastUsedAt"));
    let listed = place.ok("api-key list -o wide");
    assert!(
        listed.contains("deploy-bot") && listed.contains(&token[..12]) && !listed.contains(&token),
        "{listed}"
    );
    // Neither the key nor a secret is anywhere in what the server keeps.
    for entry in std::fs::read_dir(place.data_dir().join(".server")).unwrap() {
        let path = entry.unwrap().path();
        let kept = if path.is_file() { std::fs::read(&path).unwrap() } else { Vec::new() };
        for hidden in [token.as_str(), "hunter2-hunter2"] {
            let found = kept.windows(hidden.len()).any(|window| window == hidden.as_bytes());
            assert!(!found, "{} has {hidden}", path.display());
        }
    }
    let short = place.ok("api-key create short --role viewer --expires 1s");
    let short = short.trim();
    assert_eq!(ask_as(&server, short, "GET", "/api/v1/fleets", &Value::Null).status, 200);
    wait_until("it has expired", || {
        ask_as(&server, short, "GET", "/api/v1/fleets", &Value::Null).status == 401
    });
    assert!(place.ok("api-key list").contains("expired"));
    let past = json!({ "name": "past", "role": "viewer", "expiresAt": "2020-01-01T00:00:00Z" });
    let admin = key(&server, "admin", Role::Admin, &[]);
    assert_eq!(ask_as(&server, &admin, "POST", "/api/v1/api-keys", &past).status, 422);
    // An operator's flag does not make the fleet that only an admin may make.
    let body = json!({ "createFleet": true, "agents": [{ "name": "a", "image": "b" }] });
    server.place.ok("create fleet fresh");
    let scoped = key(&server, "new-fleet", Role::Operator, &["fresh"]);
    server.place.ok("delete fleet fresh --confirm fresh");
    let refused = ask_as(&server, &scoped, "POST", "/api/v1/fleets/fresh/apply", &body);
    // Until the server has read its keys again it is a fleet that is not there.
    assert!(matches!(refused.status, 403 | 404), "{}", refused.body);
    let scoped = key(&server, "new-fleet-admin", Role::Admin, &["fresh"]);
    let made = ask_as(&server, &scoped, "POST", "/api/v1/fleets/fresh/apply", &body);
    assert!(matches!(made.status, 200 | 202), "{}", made.body);
}

#[test]
fn the_audit_log_has_who_did_what_and_shows_when_it_was_changed() {
    let server = server();
    let place = &server.place;
    let token = key(&server, "deploy-bot", Role::Operator, &[OWN]);
    let body = json!({ "scope": { "fleet": OWN, "agent": "worker" }, "change": "restart" });
    assert_eq!(ask_as(&server, &token, "POST", "/api/v1/change", &body).status, 202);
    for _ in 0..5 {
        assert_eq!(ask_as(&server, &token, "GET", "/api/v1/fleets/zebra", &Value::Null).status, 403);
        assert_eq!(ask_as(&server, "chs_wrong", "GET", "/api/v1/fleets", &Value::Null).status, 401);
    }
    let rows =
        || -> Vec<Value> { serde_json::from_str(&place.ok("audit-log --limit 1000 -o json")).unwrap() };
    wait_until("denials are written", || rows().iter().filter(|row| row["step"] == "denied").count() >= 2);
    let rows = rows();
    let of = |operation: &str, step: &str| -> Vec<&Value> {
        rows.iter().filter(|row| row["operation"] == operation && row["step"] == step).collect()
    };
    let [intent] = of("instance_change", "intent")[..] else { panic!("{rows:?}") };
    let [result] = of("instance_change", "result")[..] else { panic!("{rows:?}") };
    assert_eq!((&result["of"], &result["status"]), (&intent["id"], &json!(202)));
    assert_eq!(result["detail"], "restart own/worker");
    assert!(result["who"].as_str().unwrap().starts_with("key deploy-bot (chs_"), "{result}");
    assert_eq!(result["from"], "this machine");
    assert!(result["requestId"].as_str().unwrap().len() == 36, "{result}");
    let denied = of("fleet_get", "denied");
    assert_eq!(denied.len(), 1, "five denials of one sort are one row until they are counted: {denied:?}");
    assert_eq!(of("secret_write", "result").len(), 2);
    let text = place.ok("audit-log");
    assert!(text.contains("restart own/worker") && text.contains("somebody unknown"), "{text}");
    for hidden in ["hunter2", &token] {
        assert!(!text.contains(hidden) && !rows.iter().any(|row| row.to_string().contains(hidden)));
    }

    let fine = place.run("audit-log verify");
    assert_eq!(fine.code, 0, "{}", fine.stderr);
    let head = fine.stdout.trim().rsplit(' ').next().unwrap().to_owned();
    assert_eq!(place.run(&format!("audit-log verify --noted {head}")).code, 0);
    let forged = format!("{}:{}", head.split_once(':').unwrap().0, "0".repeat(64));
    assert_eq!(place.run(&format!("audit-log verify --noted {forged}")).code, 1);

    let database = rusqlite::Connection::open(place.data_dir().join(".server/chassis.db")).unwrap();
    database.busy_timeout(std::time::Duration::from_secs(5)).unwrap();
    let change = |sql: &str| database.execute(sql, []).unwrap();
    let is_broken = |id: u64, why: &str| {
        let ran = place.run("audit-log verify");
        assert_eq!(ran.code, 1, "{}", ran.stdout);
        assert!(
            ran.stderr.contains(&format!("row {id} of the audit log")) && ran.stderr.contains(why),
            "{}",
            ran.stderr
        );
    };
    let id = intent["id"].as_u64().unwrap();
    change(&format!("UPDATE audit_log SET entry = replace(entry, 'deploy-bot', 'somebody') WHERE id = {id}"));
    is_broken(id, "not as it was written");
    change(&format!("UPDATE audit_log SET entry = replace(entry, 'somebody', 'deploy-bot') WHERE id = {id}"));
    assert_eq!(place.run("audit-log verify").code, 0);
    change(&format!("UPDATE audit_log SET time = time + 1 WHERE id = {id}"));
    is_broken(id, "not as it was written");
    change(&format!("UPDATE audit_log SET time = time - 1 WHERE id = {id}"));
    let newest = head.split_once(':').unwrap().0.parse::<u64>().unwrap();
    change(&format!("DELETE FROM audit_log WHERE id >= {newest}"));
    is_broken(newest, "missing");
    change("DELETE FROM audit_log WHERE id = 2");
    is_broken(2, "missing");
    change("DELETE FROM audit_log WHERE id < 4");
    is_broken(1, "missing");
}

#[test]
fn old_rows_of_the_audit_log_go_and_the_rest_still_holds() {
    let mut server = Server::start();
    server.place.ok("create fleet first");
    server.place.ok("create fleet second");
    let rows = |server: &Server| -> Vec<Value> {
        serde_json::from_str(&server.place.ok("audit-log --limit 1000 -o json")).unwrap()
    };
    let before = rows(&server);
    let old = before.last().unwrap()["id"].as_u64().unwrap();
    assert_eq!(before[0]["id"], 1);
    let head = server.place.ok("audit-log verify").trim().rsplit(' ').next().unwrap().to_owned();
    server.kill();
    // Two days go by.
    let path = server.place.data_dir().join(".server/chassis.db");
    let database = rusqlite::Connection::open(&path).unwrap();
    database.execute("UPDATE audit_log SET time = time - 172800000000", []).unwrap();
    drop(database);
    server.start_again_with(&["--audit-log-keep", "1d"]);
    wait_until("they are gone", || rows(&server).is_empty());
    server.place.ok("create fleet third");
    let after = rows(&server);
    let first = after[0]["id"].as_u64().unwrap();
    assert_eq!((first, after.len()), (old + 1, 2), "{after:?}");
    let place = &server.place;
    place.ok("audit-log verify");
    place.ok(&format!("audit-log verify --noted {head}"));

    let database = rusqlite::Connection::open(place.data_dir().join(".server/chassis.db")).unwrap();
    database.busy_timeout(std::time::Duration::from_secs(5)).unwrap();
    let is_broken = |sql: &str, id: u64, why: &str| {
        database.execute(sql, []).unwrap();
        let ran = place.run("audit-log verify");
        assert!(
            ran.code == 1 && ran.stderr.contains(&format!("row {id} of the audit log")),
            "{}",
            ran.stderr
        );
        assert!(ran.stderr.contains(why), "{}", ran.stderr);
    };
    is_broken("UPDATE audit_log SET entry = replace(entry, 'uid', 'pid')", first, "not as it was written");
    database.execute("UPDATE audit_log SET entry = replace(entry, 'pid', 'uid')", []).unwrap();
    place.ok("audit-log verify");
    // What is taken away by hand is no retention.
    is_broken("DELETE FROM audit_log WHERE id = (SELECT min(id) FROM audit_log)", first, "missing");
}

#[test]
fn members_of_a_group_have_its_role_on_a_socket_of_their_own() {
    if !rustix::process::geteuid().is_root() {
        return chassis_testkit::not_tested("--socket-group; run `cargo nextest run --test access` as root");
    }
    let place = common::Place::new();
    let unknown = place.run("serve --runtime sim --socket-group nobody-has-this-group");
    assert!(
        unknown.code == 1 && unknown.stderr.contains("groupadd nobody-has-this-group"),
        "{}",
        unknown.stderr
    );
    assert_eq!(place.run("serve --runtime sim --socket-group daemon=king").code, 2);

    let mut server = Server::start_with(&["--socket-group", "daemon"], &[]);
    let socket = server.place.data_dir().join(".server.socket");
    let opened = |path: &std::path::Path| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    opened(server.place.dir.path());
    let program = server.place.dir.path().join("chassis");
    std::fs::copy(env!("CARGO_BIN_EXE_chassis"), &program).unwrap();
    // `daemon` is group 1 everywhere.
    let run = |place: &common::Place, groups: &[&str], line: &str| {
        let mut command = std::process::Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534"]).args(groups).arg(&program);
        command.args(line.split_whitespace()).env_clear().env("HOME", "/nowhere");
        command.env("CHASSIS_SERVER", format!("unix://{}", socket.display()));
        place.ran(command.output().unwrap())
    };
    let (member, other) = (["--groups", "1"], ["--clear-groups"]);
    server.place.ok("create fleet web");
    let shown = run(&server.place, &member, "ps --fleets");
    assert!(shown.code == 0 && shown.stdout.contains("web"), "{}{}", shown.stdout, shown.stderr);
    let refused = run(&server.place, &member, "delete fleet web --confirm web");
    assert!(refused.code == 1 && refused.stderr.contains("uid 65534 is viewer"), "{}", refused.stderr);
    let outside = run(&server.place, &other, "ps");
    assert!(outside.code == 1 && outside.stderr.contains("you may reach it"), "{}", outside.stderr);
    assert!(server.place.ok("server status").contains(".server.socket"));
    // The server's own user is no less there.
    let own = format!("--server unix://{} create fleet more", socket.display());
    assert_eq!(server.place.run(&own).code, 0);

    server.terminate();
    server.wait_for_end();
    assert!(!socket.exists(), "nobody answers there");
    server.start_again_with(&["--socket-group", "1=operator"]);
    opened(server.place.dir.path());
    server.place.write("agent.yaml", "name: worker\nimage: acme/worker\nfleet: web\n");
    let agent = server.place.dir.path().join("agent.yaml");
    let deploys = run(&server.place, &member, &format!("deploy agent -f {}", agent.display()));
    assert_eq!(deploys.code, 0, "{}", deploys.stderr);
    let log = server.place.ok("audit-log");
    assert!(log.contains("uid 65534"), "{log}");
    let refused = run(&server.place, &member, "api-key create mine --role admin");
    assert!(refused.code == 1 && refused.stderr.contains("uid 65534 is operator"), "{}", refused.stderr);
}
