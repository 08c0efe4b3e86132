//! The life of environments, seen from their API and from chassis's own.

use chassis_testkit::{SOON, eventually, expect};
use serde_json::{Value, json};

use crate::world::{World, error, parse};

/// What holds on every runtime.
fn a_life(world: &World) {
    let more = json!({ "spec": { "cpus": 1, "ram_mb": 64 }, "expose": [{ "port": 8080, "as": "web" }] });
    let made = world.made("job-1", more);
    assert_eq!((made["id"].as_str(), made["state"].as_str()), (Some("fuse-job-1"), Some("running")));
    assert_eq!((made["task_id"].as_str(), made["spec"]["cpus"].as_i64()), (Some("job-1"), Some(1)));
    assert_eq!(made["spec"].get("storage_gb"), None, "what is zero is left out: {made}");
    assert!(made["url"].as_str().is_some_and(|url| url.contains("://")), "{made}");
    let endpoint = &made["endpoints"][0];
    assert_eq!((endpoint["as"].as_str(), endpoint["port"].as_i64()), (Some("web"), Some(8080)), "{made}");
    assert!(endpoint["url"].as_str().is_some_and(|url| url.starts_with("127.0.0.1:")), "{made}");
    assert!(!made.to_string().contains("null"), "clients refuse null: {made}");

    let again = world.create("job-1", json!({}));
    assert!(error(&again, 409, "conflict").starts_with("task already assigned"), "{}", again.body);
    let shown = parse(&world.ask("GET", "/v1/environments/fuse-job-1"));
    assert_eq!(shown["id"], made["id"]);
    let listed = parse(&world.ask("GET", "/v1/environments?task_id=job-1&state=running"));
    assert_eq!(listed["environments"].as_array().map(Vec::len), Some(1), "{listed}");
    assert_eq!(listed.get("next_cursor"), None);

    // It is an instance like every other.
    let instances = world.chassis.ok(&["ps", "environments", "-o", "name"]);
    assert_eq!(instances.stdout.trim(), "environments/fuse-job-1-1");
    let events = world.chassis.ok(&["events", "environments"]).stdout;
    assert!(events.contains("environment fuse-job-1 running"), "{events}");

    let destroyed = world.ask("DELETE", "/v1/environments/fuse-job-1");
    assert_eq!((destroyed.status, destroyed.body.as_str()), (204, ""));
    error(&world.ask("GET", "/v1/environments/fuse-job-1"), 404, "not_found");
    error(&world.ask("DELETE", "/v1/environments/fuse-job-1"), 404, "not_found");
    assert!(!world.chassis.ok(&["ps", "-o", "name"]).stdout.contains("fuse-job-1-1"));
    world.made("job-1", json!({}));
    assert_eq!(world.ask("DELETE", "/v1/environments/fuse-job-1").status, 204);
}

#[test]
fn a_life_on_the_simulation() {
    a_life(&World::sim(&[]));
}

#[test]
fn a_life_on_docker() {
    a_life(&World::docker(&[]));
}

/// Stop, start and delete by chassis's own means are seen, and nobody deploys into the fleet.
#[test]
fn its_instance_is_chassis_own_to_stop_and_delete() {
    let world = World::sim(&[]);
    world.made("a", json!({}));
    let state = |id: &str| parse(&world.ask("GET", &format!("/v1/environments/{id}")))["state"].clone();
    world.chassis.ok(&["stop", "fuse-a-1"]);
    assert_eq!(state("fuse-a"), "running", "somebody who stops it may start it again");
    world.chassis.ok(&["start", "fuse-a-1"]);
    world.chassis.ok(&["delete", "agent", "fuse-a-1"]);
    eventually(SOON, || {
        let status = world.ask("GET", "/v1/environments/fuse-a").status;
        expect(status == 404, || format!("answered {status}"))
    });
    world.made("b", json!({}));
    // Their fleet is none to choose from: whoever has one fleet need not name it for the environments' sake.
    world.chassis.ok(&["create", "fleet", "own"]);
    let deployed = world.chassis.deploy("name: mine\nimage: busybox\n");
    assert_eq!(deployed.code, 0, "{}", deployed.stderr);
    assert!(world.chassis.ok(&["ps", "own", "-o", "name"]).stdout.contains("own/mine-1"));
    for refused in [
        world.chassis.run(&["scale", "fleet", "environments", "2"]),
        world.chassis.deploy("name: mine\nfleet: environments\nimage: busybox\n"),
    ] {
        assert_eq!(refused.code, 1, "{}", refused.stderr);
        assert!(refused.stderr.contains("/v1/environments"), "{}", refused.stderr);
    }
    world.chassis.ok(&["delete", "fleet", "environments", "--confirm=environments"]);
    assert_eq!(world.ask("GET", "/v1/environments/fuse-b").status, 404);
}

/// What cannot run is told, cleaned up, and may be tried again under the same name.
#[test]
fn one_that_cannot_start_is_told_and_cleaned_up() {
    let world = World::docker(&[]);
    let broken = json!({ "spec": { "image": "127.0.0.1:1/no/such:image" }, "secrets": { "KEY": "no/such" } });
    for _ in 0..2 {
        let message = error(&world.create("broken", broken.clone()), 500, "internal");
        assert!(message.contains("did not start") && !message.contains("no/such"), "{message}");
        assert!(message.contains("[REDACTED]"), "{message}");
        assert_eq!(world.ask("GET", "/v1/environments/fuse-broken").status, 404);
    }
    let message = error(&world.create("none", json!({ "spec": { "image": "" } })), 400, "invalid_argument");
    assert!(message.contains("--environment-image"), "{message}");
    let empty = parse(&world.ask("GET", "/v1/environments"));
    assert_eq!(empty, json!({ "environments": Value::Array(Vec::new()) }));
}

#[test]
fn lists_come_in_parts_of_at_most_two_hundred() {
    let world = World::sim(&[]);
    std::thread::scope(|scope| {
        for worker in 0..8 {
            let world = &world;
            scope.spawn(move || {
                for count in 0..64 {
                    world.made(&format!("{worker}-{count:03}x"), json!({}));
                }
            });
        }
    });
    let mut ids = Vec::new();
    let mut path = "/v1/environments?limit=1000".to_owned();
    for part in 0.. {
        let page = parse(&world.ask("GET", &path));
        let found = page["environments"].as_array().cloned().unwrap_or_default();
        ids.extend(found.iter().map(|found| found["id"].to_string()));
        let Some(cursor) = page["next_cursor"].as_str() else {
            assert_eq!((part, found.len()), (2, 512 - 400));
            break;
        };
        assert_eq!(found.len(), 200);
        path = format!("/v1/environments?limit=1000&cursor={cursor}");
    }
    assert!(ids.is_sorted() && ids.len() == 512, "{}", ids.len());
    let few = |query: &str| {
        let page = parse(&world.ask("GET", &format!("/v1/environments?{query}")));
        page["environments"].as_array().map_or(0, Vec::len)
    };
    for (query, count) in [("", 50), ("limit=0", 50), ("limit=x", 50), ("limit=-1", 50), ("limit=3", 3)] {
        assert_eq!(few(query), count, "{query}");
    }
    for (query, count) in
        [("state=draining", 0), ("state=nonsense", 0), ("host_id=elsewhere", 0), ("task_id=7-063x", 1)]
    {
        assert_eq!(few(query), count, "{query}");
    }
    error(&world.ask("GET", "/v1/environments?cursor=nonsense"), 400, "invalid_argument");
}
