//! Nodes as people look after them: joined, listed, closed, opened and removed, by `chassis node` and as hosts of environments.

use chassis_testkit::api::Phase;
use chassis_testkit::{Chassis, Machine, SOON, Server, eventually, expect};
use serde_json::{Value, json};

const BINARY: &str = env!("CARGO_BIN_EXE_chassis");

/// A machine that simulates.
fn start(args: &[&str]) -> Machine {
    Machine::start(Chassis::new(BINARY), &[&["--runtime", "sim"], args].concat())
}

fn server(chassis: &Chassis) -> Server {
    chassis.serve_with(&["--runtime", "sim"], &[])
}

fn node(chassis: &Chassis, name: &str) -> Value {
    let shown = chassis.ok(&["node", "describe", name, "-o", "json"]);
    serde_json::from_str(&shown.stdout).expect("JSON")
}

#[test]
fn a_machine_is_joined_closed_opened_and_removed() {
    let chassis = Chassis::new(BINARY);
    let _server = server(&chassis);
    let own = chassis.ok(&["node", "list", "-o", "name"]).stdout.trim().to_owned();
    let alone = chassis.run(&["node", "drain", &own]).exits(1);
    assert!(alone.stderr.contains("there is no other node"), "{alone}");

    let capacity = ["--capacity", "cpus=4,memory=2Gi,slots=50", "--label", "disk=ssd"];
    let first = start(&[&["--name", "n1"], &capacity[..]].concat());
    let joined = first.join(&chassis, &["--region", "eu", "--label", "rack=7"]).exits(0);
    assert!(
        joined.stdout.starts_with(&format!("joined n1, at {}: 4 cores, 2Gi of memory", first.url)),
        "{joined}"
    );
    assert!(!format!("{joined}").contains(&first.token), "{joined}");

    let shown = node(&chassis, "n1");
    assert_eq!(
        (&shown["url"], &shown["region"], &shown["labels"], &shown["runtimes"]),
        (&json!(first.url), &json!("eu"), &json!({ "disk": "ssd", "rack": "7" }), &json!(["sim"]))
    );
    assert_eq!((&shown["capacity"]["slots"], &shown["held"]), (&json!(50), &json!([])));
    let listed = chassis.ok(&["node", "list", "-o", "name"]);
    let names: Vec<&str> = listed.stdout.lines().collect();
    assert!(names.contains(&"n1") && names.contains(&own.as_str()), "{listed}");
    let wide = chassis.ok(&["node", "list", "-o", "wide"]);
    assert!(wide.stdout.contains("disk=ssd,rack=7") && wide.stdout.contains(&first.url), "{wide}");

    // Again, with other words: it is the same node, and what was wanted of it stays.
    chassis.ok(&["node", "cordon", "n1"]);
    let again = first.join(&chassis, &["--region", "us"]).exits(0);
    assert!(again.stdout.starts_with("joined again n1"), "{again}");
    let shown = node(&chassis, "n1");
    assert_eq!((&shown["duty"], &shown["region"]), (&json!("cordoned"), &json!("us")));
    first.join(&chassis, &["--capacity", "slots=40"]).exits(0);
    first.join(&chassis, &[]).exits(0);
    let shown = node(&chassis, "n1");
    assert_eq!(
        (&shown["region"], &shown["labels"], &shown["capacity"]["slots"]),
        (&json!("us"), &json!({ "disk": "ssd", "rack": "7" }), &json!(40)),
        "what was chosen is kept until another is"
    );
    chassis.ok(&["node", "uncordon", "n1"]);
    assert_eq!(node(&chassis, "n1")["duty"], "open");
    let drained = chassis.ok(&["node", "drain", "n1", "--wait"]);
    assert_eq!(drained.stdout, "drained n1: it has nothing\n");

    // One machine is one node, and two machines are two.
    let other_name = first.join(&chassis, &["--name", "n2"]).exits(1);
    assert!(other_name.stderr.contains("is node `n1` already"), "{other_name}");
    let second = start(&["--name", "n1"]);
    let taken = second.join(&chassis, &[]).exits(1);
    assert!(taken.stderr.contains("another machine is node `n1`"), "{taken}");
    second.join(&chassis, &["--name", "n2"]).exits(0);
    let own_name = second.join(&chassis, &["--name", &own]).exits(1);
    assert!(own_name.stderr.contains("is the server's own"), "{own_name}");

    chassis.ok(&["node", "remove", "n1"]);
    let gone = chassis.run(&["node", "describe", "n1"]).exits(3);
    assert!(gone.stderr.contains("there is no node `n1`; did you mean `n2`?"), "{gone}");
    let events = chassis.ok(&["events", "--limit", "100"]);
    for line in ["node n1", "node registered", "node cordoned", "node open", "node removed"] {
        assert!(events.stdout.contains(line), "{line}: {events}");
    }
}

/// What was there stays where it is; what is new has its place on the node that takes it; what is drained goes elsewhere, or
/// says why it cannot.
#[test]
fn who_joins_what_gets_little_is_told() {
    let chassis = Chassis::new(BINARY);
    let sims = server(&chassis);
    let docker = Machine::start(Chassis::new(BINARY), &["--name", "d1"]);
    let warned = docker.join(&chassis, &[]).exits(0);
    assert!(warned.stderr.contains("this server's agents run on sim: it gets nothing"), "{warned}");
    drop(sims);

    let chassis = Chassis::new(BINARY);
    let _server = chassis.serve();
    let own = chassis.ok(&["node", "list", "-o", "name"]).stdout.trim().to_owned();
    // More than once: it is not compared with itself.
    for _ in 0..2 {
        let warned = docker.join(&chassis, &[]).exits(0);
        let same = format!("its Docker Engine has the id of node {own}'s");
        assert!(warned.stderr.contains(&same) && !warned.stderr.contains("agents run on"), "{warned}");
    }
    let sim = start(&["--name", "n1"]);
    let warned = sim.join(&chassis, &[]).exits(0);
    assert!(warned.stderr.contains("it gets only those with `runtime: sim`"), "{warned}");
    assert!(!warned.stderr.contains("Engine"), "{warned}");

    let fleet = chassis.fleet("little");
    chassis.ok(&["create", "fleet", &fleet]);
    let yaml = format!(
        "name: web\nfleet: {fleet}\nimage: any\nruntime: sim\nvolumes: [{{name: data, mountPath: /data}}]\n"
    );
    chassis.deploy(&yaml).exits(0);
    let place = format!("{fleet}/web-1/data in the data directory of node n1");
    chassis.ok(&["describe", &format!("{fleet}/web-1")]).shows(&[&place]);
}

#[test]
fn instances_are_where_there_is_a_place() {
    let chassis = Chassis::new(BINARY);
    let _server = server(&chassis);
    let own = chassis.ok(&["node", "list", "-o", "name"]).stdout.trim().to_owned();
    let fleet = chassis.fleet("places");
    chassis.ok(&["create", "fleet", &fleet]);
    let yaml = format!("name: web\nfleet: {fleet}\nimage: any\nruntime: sim\nreplicas: 2\n");
    chassis.deploy(&yaml).exits(0);
    let machine = start(&["--name", "n1", "--capacity", "memory=2Gi,slots=50"]);
    machine.join(&chassis, &[]).exits(0);
    let has = |name: &str, state: &str, count: usize| {
        let shown = node(&chassis, name);
        let held = shown["held"].as_array().cloned().unwrap_or_default();
        let running = held.iter().filter(|one| one["phase"] == "Running").count();
        expect(shown["state"] == state && running == count && held.len() == count, || shown.to_string())
    };
    eventually(SOON, || has("n1", "active", 0));
    eventually(SOON, || has(&own, "active", 2));

    chassis.ok(&["node", "cordon", &own]);
    chassis.ok(&["scale", "fleet", &fleet, "4"]);
    eventually(SOON, || has("n1", "active", 2));
    has(&own, "cordoned", 2).expect("what it had");
    let in_use = chassis.run(&["node", "remove", "n1"]).exits(1);
    assert!(in_use.stderr.contains("still has 2 instances"), "{in_use}");
    let stuck = chassis.run(&["node", "drain", "n1", "--wait"]).exits(1);
    assert!(stuck.stderr.contains(&format!("{own} is cordoned")), "{stuck}");
    has("n1", "draining", 2).expect("they run on");

    chassis.ok(&["node", "uncordon", &own]);
    let drained = chassis.ok(&["node", "drain", "n1", "--wait"]);
    assert!(drained.stdout.starts_with("drained n1"), "{drained}");
    eventually(SOON, || has(&own, "active", 4));
    chassis.ok(&["node", "remove", "n1"]);
    let events = chassis.ok(&["events", "--limit", "200"]);
    assert!(
        events.stdout.contains("placed on node n1") && events.stdout.contains("placed on node "),
        "{events}"
    );
}

/// What no node will take is refused at once, what one will take later waits, and both say why; what is there already gets
/// more only where there is room for it.
#[test]
fn nobody_gets_what_is_not_there() {
    let chassis = Chassis::new(BINARY);
    let _server = server(&chassis);
    let own = chassis.ok(&["node", "list", "-o", "name"]).stdout.trim().to_owned();
    let fleet = chassis.fleet("room");
    chassis.ok(&["create", "fleet", &fleet]);
    let machine = start(&["--name", "n1", "--capacity", "memory=2Gi,slots=50", "--label", "disk=ssd"]);
    machine.join(&chassis, &[]).exits(0);
    eventually(SOON, || expect(node(&chassis, "n1")["state"] == "active", || "n1 is not there".to_owned()));
    let agent = |name: &str, memory: &str, more: &str| {
        format!(
            "name: {name}\nfleet: {fleet}\nimage: any\nruntime: sim\nresources: {{memory: {memory}}}\n{more}\n"
        )
    };
    let here = "placement: {node: n1}";
    let refuse = |more: &str, words: &[&str]| {
        chassis.deploy(&agent("wrong", "16Mi", more)).exits(1).says(words);
        chassis.ok(&["delete", "agent", &format!("{fleet}/wrong")]);
    };
    refuse("placement: {node: n7}", &["there is no node n7; did you mean n1?"]);
    refuse("placement: {labels: {disk: sdd}}", &["no node has label disk=sdd; did you mean ssd?"]);
    refuse("placement: {region: eu}", &["no node is in region eu"]);

    chassis.deploy(&agent("one", "1Gi", here)).exits(0);
    chassis.deploy(&agent("two", "512Mi", here)).exits(0);
    let yaml = chassis.write("three.yaml", &agent("three", "700Mi", here));
    let path = yaml.to_str().expect("a path");
    let late = chassis.run(&["deploy", "agent", "-f", path, "--timeout", "2s"]).exits(4);
    late.says(&["n1 lacks 188Mi of memory"]);
    chassis.ok(&["delete", "agent", &format!("{fleet}/three")]);

    // A revision that asks for more than there is leaves the one before running, and says so.
    let used = || node(&chassis, "n1")["used"]["memoryBytes"].as_u64().expect("a number") >> 20;
    assert_eq!(used(), 1536);
    let yaml = chassis.write("two.yaml", &agent("two", "1200Mi", here));
    let path = yaml.to_str().expect("a path");
    let late = chassis.run(&["deploy", "agent", "-f", path, "--timeout", "2s"]).exits(4);
    late.says(&["goes on as it was", "n1 lacks 176Mi of memory"]);
    assert_eq!((used(), chassis.instance(&format!("{fleet}/two-1")).instance.phase), (1536, Phase::Running));
    assert!(chassis.ok(&["ps", &fleet]).stdout.contains("goes on as it was"));
    chassis.deploy(&agent("one", "256Mi", here)).exits(0);
    eventually(SOON, || expect(used() == 1456, || format!("{} Mi are booked", used())));
    eventually(SOON, || {
        let shown = chassis.ok(&["ps", &fleet]).stdout;
        expect(!shown.contains("goes on as it was"), || shown.clone())
    });

    // Volumes that come later are at home where the instance is.
    chassis.ok(&["node", "cordon", &own]);
    chassis.deploy(&agent("two", "512Mi", "")).exits(0);
    assert_eq!(node(&chassis, "n1")["dataOf"], Value::Null);
    chassis.deploy(&agent("two", "512Mi", "volumes: [{name: data, mountPath: /data}]")).exits(0);
    let held = node(&chassis, "n1")["held"].clone();
    let two = held.as_array().and_then(|held| held.iter().find(|one| one["agent"] == "two"));
    assert!(two.is_some_and(|two| two["data"] == true), "{held}");
}

/// What a server notes of a node after 99 s of silence, which is too long for a test.
fn is_down(chassis: &Chassis, node: &str) {
    let database =
        rusqlite::Connection::open(chassis.data_dir().join(".server/chassis.db")).expect("a store");
    let changed = database.execute("UPDATE nodes SET is_down = TRUE WHERE name = ?1", [node]);
    assert_eq!(changed.expect("a statement"), 1);
}

/// Its instances are made anew elsewhere without their data, which is said before and after; its environments end; and what
/// is still there if it comes back is removed.
#[test]
fn a_machine_that_is_gone_for_good_gives_up_what_it_had() {
    let chassis = Chassis::new(BINARY);
    let mut first = server(&chassis);
    let own = chassis.ok(&["node", "list", "-o", "name"]).stdout.trim().to_owned();
    let fleet = chassis.fleet("gone");
    chassis.ok(&["create", "fleet", &fleet]);
    let machine = start(&["--name", "n1", "--capacity", "memory=4Gi,slots=50"]);
    machine.join(&chassis, &[]).exits(0);
    chassis.ok(&["node", "cordon", &own]);
    eventually(SOON, || expect(node(&chassis, "n1")["state"] == "active", || "n1 is not there".to_owned()));
    let agent = |name: &str| format!("name: {name}\nfleet: {fleet}\nimage: any\nruntime: sim\n");
    chassis.deploy(&agent("web")).exits(0);
    chassis.deploy(&(agent("db") + "volumes: [{name: data, mountPath: /data}]\n")).exits(0);
    let ask = |method: &str, path: &str, body: &str| {
        chassis.exchange(method, path, body.as_bytes(), SOON).expect("an answer")
    };
    let made = ask("POST", "/v1/environments", r#"{"task_id": "job", "spec": {"image": "any"}}"#);
    assert_eq!(made.status, 201, "{made:?}");
    let alive = chassis.run(&["node", "remove", "n1", "--force", "--yes"]).exits(1);
    alive.says(&["n1 is active", "node drain n1"]);
    let (status, refused) = chassis.ask("DELETE", "/api/v1/nodes/n1?force=true");
    assert!(status == 409 && refused.contains("node_not_down"), "{status}: {refused}");

    machine.freeze();
    first.kill();
    is_down(&chassis, "n1");
    let mut second =
        chassis.serve_with(&["--runtime", "sim"], &[("CHASSIS_FAILPOINT", "node_abandon:after@1")]);
    chassis.ok(&["node", "uncordon", &own]);
    let drain = chassis.run(&["node", "drain", "n1", "--wait"]).exits(1);
    drain.says(&["n1 is down", "node remove n1 --force"]);
    let logs = chassis.run(&["logs", &format!("{fleet}/db")]).exits(1);
    logs.says(&["node n1 does not answer", "db-1"]);
    let page = chassis.ask("GET", "/metrics").1;
    assert!(page.contains(r#"chassis_nodes{state="down"} 1"#), "{page}");
    let unsure = chassis.run(&["node", "remove", "n1", "--force"]).exits(2);
    unsure.says(&[
        "n1 is down",
        "2 instances anew",
        "1 environment ends: fuse-job.",
        &format!("{fleet}/db-1"),
        "--yes",
    ]);
    chassis
        .run(&["node", "remove", "n1"])
        .exits(1)
        .says(&["still has 3 instances", "node remove n1 --force"]);
    // The server dies right behind what it stored, and the next one goes on.
    let cut = chassis.run(&["node", "remove", "n1", "--force", "--yes"]).exits(1);
    eventually(SOON, || expect(second.has_ended(), || format!("the server lives: {cut:?}")));
    let third = server(&chassis);
    chassis.run(&["node", "describe", "n1"]).exits(3);
    eventually(SOON, || {
        let running: Vec<_> =
            chassis.instances().into_iter().filter(|one| one.phase == Phase::Running).collect();
        let names: Vec<&str> = running.iter().map(|one| one.agent.as_str()).collect();
        expect(names == ["db", "web"] && running.iter().all(|one| one.node == own), || format!("{running:?}"))
    });
    eventually(SOON, || {
        let found = ask("GET", "/v1/environments/fuse-job", "");
        expect(found.status == 404, || format!("{found:?}"))
    });
    let events = chassis.ok(&["events", "--limit", "200"]).stdout;
    for line in [
        "gone for good",
        "data lost: it was on node n1",
        "environment fuse-job destroyed: the machine that it was on",
    ] {
        assert!(events.contains(line), "{line}: {events}");
    }

    machine.thaw();
    machine.join(&chassis, &[]).exits(0);
    eventually(SOON, || {
        let shown = node(&chassis, "n1");
        expect(shown["state"] == "active" && shown["held"] == json!([]), || shown.to_string())
    });
    // It had three; it counts once it has nothing that is not its own.
    let log = third.log();
    let there = log.lines().find(|line| line.contains("the node is there node=n1"));
    assert!(there.is_some_and(|line| line.contains("instances=0")), "{log}");
}

#[test]
fn who_cannot_be_asked_is_no_node() {
    let chassis = Chassis::new(BINARY);
    let _server = server(&chassis);
    let machine = start(&["--name", "n1"]);
    let nothing = chassis.run(&["node", "join", &machine.url]).exits(2);
    assert!(nothing.stderr.contains("CHASSIS_NODE_TOKEN"), "{nothing}");

    let mut wrong_token = start(&[]);
    wrong_token.token = "w".repeat(43);
    let refused = wrong_token.join(&chassis, &[]).exits(1);
    assert!(refused.stderr.contains("refuses the token"), "{refused}");
    let other = ["--fingerprint", &format!("sha256:{}", "0".repeat(64))];
    let mut stranger = vec!["node", "join", machine.url.as_str()];
    stranger.extend(other);
    let chassis_with = chassis.command(&stranger).env("CHASSIS_NODE_TOKEN", &machine.token).output();
    let told = String::from_utf8_lossy(&chassis_with.expect("chassis runs").stderr).into_owned();
    assert!(told.contains("another certificate"), "{told}");
    let address =
        chassis.command(&["node", "join", "https://127.0.0.1:9"]).env("CHASSIS_NODE_TOKEN", "x").output();
    let told = String::from_utf8_lossy(&address.expect("chassis runs").stderr).into_owned();
    assert!(told.contains("does not answer"), "{told}");
    let list = chassis.ok(&["node", "list", "-o", "name"]);
    assert_eq!(list.stdout.lines().count(), 1, "nothing is kept of them: {list}");
}

/// Fuse's hosts are the same nodes; what registers again keeps what it has, and its age.
#[test]
fn a_host_is_a_node() {
    let chassis = Chassis::new(BINARY);
    let _server = server(&chassis);
    let machine = start(&["--name", "n1", "--capacity", "cpus=4,memory=2Gi,disk=9Gi"]);
    let fingerprint = machine.more.get(1).expect("its certificate's").clone();
    let ask = |method: &str, path: &str, body: Value| {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let answer = chassis.exchange(method, path, body.as_bytes(), SOON).expect("an answer");
        let value: Value = serde_json::from_str(&answer.body).unwrap_or_default();
        (answer.status, value)
    };
    let asked = |capacity: Value| {
        let token = &machine.token;
        json!({ "id": "h1", "url": machine.url, "token": token, "fingerprint": fingerprint, "labels": { "a": "b" },
                "capacity": capacity })
    };
    let none = json!({ "cpus": 0, "ram_mb": 0, "storage_gb": 0, "vm_count": 0 });
    assert_eq!(ask("POST", "/v1/hosts", asked(none)).0, 400);
    let probed =
        json!({ "cpus": 0, "ram_mb": 0, "storage_gb": 0, "vm_count": 5, "gpus": 0, "gpu_devices": [] });
    let (status, made) = ask("POST", "/v1/hosts", asked(probed));
    assert_eq!(status, 201, "{made}");
    let capacity = &made["capacity"];
    assert_eq!(
        (&capacity["cpus"], &capacity["ram_mb"], &capacity["vm_count"]),
        (&json!(4), &json!(2048), &json!(5))
    );
    assert!(
        made["state"] == "active" && made["labels"]["a"] == "b" && !made.to_string().contains("null"),
        "{made}"
    );
    assert!(!made.to_string().contains(&machine.token), "{made}");

    assert_eq!(ask("POST", "/v1/hosts/h1?action=drain", Value::Null).0, 204);
    let declared = json!({ "cpus": 64, "ram_mb": 0, "storage_gb": 0, "vm_count": 5 });
    let (status, again) = ask("POST", "/v1/hosts", asked(declared));
    assert_eq!(
        (status, &again["state"], &again["created_at"]),
        (201, &json!("draining"), &made["created_at"])
    );
    assert_eq!(again["capacity"]["cpus"], 64, "what is declared counts");
    assert!(again["warnings"][0].as_str().is_some_and(|warning| warning.contains("core")), "{again}");

    let bad = |field: &str, value: Value| {
        let mut body = asked(json!({ "vm_count": 5 }));
        body[field] = value;
        ask("POST", "/v1/hosts", body)
    };
    assert_eq!(bad("capacity", json!({ "vm_count": 5, "arch": "mips" })).0, 400);
    for url in ["http://10.0.0.1:1", "https://a:b@c:1", "https://c:1/?q", "ftp://c"] {
        assert_eq!(bad("url", json!(url)).0, 400, "{url}");
    }
    let (status, refused) = bad("token", json!("w".repeat(43)));
    assert_eq!((status, &refused["error"]["code"]), (502, &json!("unauthorized")));
    let (status, refused) = bad("url", json!("https://127.0.0.1:9"));
    assert_eq!((status, &refused["error"]["code"]), (502, &json!("internal")));
    assert_eq!(ask("POST", "/v1/hosts/h1?action=dance", Value::Null).0, 400);

    let (_, listed) = ask("GET", "/v1/hosts?limit=1", Value::Null);
    assert_eq!(listed["hosts"].as_array().map(Vec::len), Some(1), "{listed}");
    let next = listed["next_cursor"].as_str().expect("there is another");
    let (_, rest) = ask("GET", &format!("/v1/hosts?limit=1&cursor={next}"), Value::Null);
    assert_eq!(
        (rest["hosts"].as_array().map(Vec::len), &rest["next_cursor"]),
        (Some(1), &Value::Null),
        "{rest}"
    );
    assert_eq!(node(&chassis, "h1")["url"], machine.url);
    assert_eq!(ask("DELETE", "/v1/hosts/h1", Value::Null).0, 204);
    assert_eq!(ask("DELETE", "/v1/hosts/h1", Value::Null).0, 404);
}
