//! Snapshots, restores and forks, on the simulation, whose instances have a little state: the files that they were given, and
//! how often they were started. The digest of a snapshot tells whether two states are the same.

use std::collections::BTreeSet;

use chassis_testkit::{Answer, SOON, eventually, expect};
use serde_json::{Value, json};

use crate::world::{World, error, parse};

pub(crate) fn take(world: &World, of: &str, body: &Value) -> Value {
    let answer = world.post(&format!("/v1/environments/{of}/snapshots"), body);
    assert_eq!(answer.status, 201, "{}", answer.body);
    let snapshot = parse(&answer);
    assert_eq!((&snapshot["state"], &snapshot["vm_id"]), (&json!("ready"), &json!(of)), "{snapshot}");
    snapshot
}

fn id(snapshot: &Value) -> &str {
    snapshot["id"].as_str().expect("an id")
}

fn restore(world: &World, snapshot: &Value) -> Answer {
    world.ask("POST", &format!("/v1/snapshots/{}?action=restore", id(snapshot)))
}

fn delete(world: &World, snapshot: &Value) -> Answer {
    world.ask("DELETE", &format!("/v1/snapshots/{}", id(snapshot)))
}

fn list(world: &World, query: &str) -> Vec<Value> {
    let page = parse(&world.ask("GET", &format!("/v1/snapshots?{query}")));
    page["snapshots"].as_array().cloned().unwrap_or_else(|| panic!("{page}"))
}

/// One start more than before.
fn restart(world: &World, instance: &str) {
    world.chassis.ok(&["stop", instance]);
    world.chassis.ok(&["start", instance]);
}

#[test]
fn a_restore_brings_back_what_was_and_a_fork_begins_there() {
    let world = World::sim(&[]);
    world.made("a", json!({ "files": { "/workspace/file": "aGVsbG8=" } }));
    let first = take(&world, "fuse-a", &json!({ "comment": "first", "metadata": { "name": "one" } }));
    assert_eq!(
        (&first["comment"], &first["name"], &first["kind"]),
        (&json!("first"), &json!("one"), &json!("disk"))
    );
    assert_eq!((&first["mode"], &first["tenant_id"]), (&json!("manual"), &json!("a")));
    assert_eq!(first["size_bytes"], 5 + 4);
    assert!(first["digest"].as_str().is_some_and(|digest| digest.len() == 64), "{first}");
    assert_eq!(first.get("parent_snapshot_id"), None);

    restart(&world, "fuse-a-1");
    let second = take(&world, "fuse-a", &json!({}));
    assert_ne!(second["digest"], first["digest"], "it was started once more");
    assert_eq!(second["parent_snapshot_id"], first["id"]);
    assert_eq!(restore(&world, &first).status, 204);
    let third = take(&world, "fuse-a", &json!({}));
    assert_eq!(third["digest"], first["digest"]);

    let body = json!({ "reuse_snapshot_id": second["id"] });
    let forked = world.post("/v1/environments/fuse-a?action=fork", &body);
    assert_eq!(forked.status, 201, "{}", forked.body);
    let forked = parse(&forked);
    let fork = forked["id"].as_str().expect("an id");
    assert!(fork.starts_with("fuse-fork-") && fork.len() == "fuse-fork-".len() + 32, "{fork}");
    assert_eq!(
        (&forked["state"], &forked["spec"]),
        (&json!("running"), &parse(&world.ask("GET", "/v1/environments/fuse-a"))["spec"])
    );
    assert_eq!(take(&world, fork, &json!({}))["digest"], second["digest"]);

    // Without a snapshot that is named, of what it is now.
    let now = parse(&world.post("/v1/environments/fuse-a?action=fork", &json!({ "comment": "now" })));
    let of_now = take(&world, now["id"].as_str().expect("an id"), &json!({}));
    assert_eq!(of_now["digest"], first["digest"]);

    // And one that is made for another task, with files of its own.
    let seeded = |task: &str, more: Value| {
        let mut request = json!({ "task_id": task, "seed_snapshot_id": second["id"] });
        request.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
        world.post("/v1/environments", &request)
    };
    assert_eq!(seeded("b", json!({})).status, 201);
    assert_eq!(take(&world, "fuse-b", &json!({}))["digest"], second["digest"]);
    assert_eq!(seeded("c", json!({ "files": { "/workspace/more": "aGk=" } })).status, 201);
    assert_eq!(take(&world, "fuse-c", &json!({}))["size_bytes"], 5 + 2 + 4);
    let both = seeded("d", json!({ "spec": { "image": "x" } }));
    error(&both, 400, "invalid_argument");

    let events = world.chassis.ok(&["events", "environments"]).stdout;
    assert!(events.contains(&format!("snapshot {} of fuse-a restored", id(&first))), "{events}");
}

/// Fuse's answers to these are 500.
#[test]
fn what_cannot_be_now_is_a_conflict() {
    let world = World::sim(&["--snapshot-quota", "2"]);
    world.made("a", json!({}));
    let snapshots = "/v1/environments/fuse-a/snapshots";
    let fork = "/v1/environments/fuse-a?action=fork";
    let first = take(&world, "fuse-a", &json!({}));
    let second = take(&world, "fuse-a", &json!({}));
    let quota = error(&world.post(snapshots, &json!({})), 409, "conflict");
    assert!(quota.contains("2 snapshots"), "{quota}");
    let children = error(&delete(&world, &first), 409, "conflict");
    assert!(children.contains("has children"), "{children}");

    for missing in ["/v1/environments/fuse-x/snapshots", "/v1/environments/fuse-x?action=fork"] {
        error(&world.post(missing, &json!({})), 404, "not_found");
    }
    error(&world.post(fork, &json!({ "reuse_snapshot_id": "nothing" })), 404, "not_found");
    world.made("b", json!({}));
    let of_a = json!({ "reuse_snapshot_id": first["id"] });
    error(&world.post("/v1/environments/fuse-b?action=fork", &of_a), 404, "not_found");
    error(&world.post(snapshots, &json!({ "retention_seconds": -1 })), 400, "invalid_argument");
    let live = error(&world.post(snapshots, &json!({ "live": true })), 501, "unimplemented");
    assert!(live.contains("without `live`"), "{live}");
    for unknown in ["", "?action=dance"] {
        let path = format!("/v1/snapshots/{}{unknown}", id(&first));
        error(&world.ask("POST", &path), 400, "invalid_argument");
    }
    error(&world.ask("POST", "/v1/snapshots/nothing?action=restore"), 404, "not_found");
    error(&world.ask("DELETE", "/v1/snapshots/nothing"), 404, "not_found");

    world.ask("POST", "/v1/environments/fuse-a?action=drain");
    error(&world.post(snapshots, &json!({})), 409, "conflict");
    error(&world.post(fork, &of_a), 409, "conflict");
    error(&restore(&world, &second), 409, "conflict");
    assert_eq!(world.ask("DELETE", "/v1/environments/fuse-a").status, 204);
    error(&world.post(snapshots, &json!({})), 404, "not_found");
    error(&restore(&world, &second), 409, "conflict");
    // They outlive what they are of.
    assert_eq!(list(&world, "vm_id=fuse-a").len(), 2);
    assert_eq!(parse(&world.ask("GET", &format!("/v1/snapshots/{}", id(&second))))["id"], second["id"]);
    assert_eq!(world.create("c", json!({ "spec": {} })).status, 201);
    for snapshot in [&second, &first] {
        assert_eq!(delete(&world, snapshot).status, 204);
        error(&delete(&world, snapshot), 404, "not_found");
    }
}

/// A seed cannot go before what began from it, and goes with nothing left behind.
#[test]
fn a_fork_keeps_its_seed_for_as_long_as_it_is_there() {
    let world = World::sim(&[]);
    world.made("a", json!({}));
    let seed = take(&world, "fuse-a", &json!({}));
    let body = json!({ "reuse_snapshot_id": seed["id"] });
    let forked = parse(&world.post("/v1/environments/fuse-a?action=fork", &body));
    let fork = forked["id"].as_str().expect("an id");
    let records = list(&world, &format!("vm_id={fork}"));
    assert_eq!(records.len(), 1, "{records:?}");
    let record = &records[0];
    assert_eq!(id(record), format!("fork-seed-{}", fork.trim_start_matches("fuse-fork-")));
    assert_eq!((&record["mode"], &record["parent_snapshot_id"]), (&json!("auto"), &seed["id"]));
    error(&delete(&world, &seed), 409, "conflict");
    let own = take(&world, fork, &json!({}));
    assert_eq!(own["parent_snapshot_id"], record["id"]);
    assert_eq!(world.ask("DELETE", &format!("/v1/environments/{fork}")).status, 204);
    error(&delete(&world, &seed), 409, "conflict");
    assert_eq!(delete(&world, &own).status, 204);
    // Nothing rests on the record any more.
    eventually(SOON, || {
        let left = delete(&world, &seed).status;
        expect(left == 204, || format!("answered {left}"))
    });
    assert_eq!(list(&world, ""), Vec::<Value>::new());
}

#[test]
fn lists_are_filtered_and_come_in_parts_the_newest_first() {
    let world = World::sim(&[]);
    world.made("a", json!({}));
    world.made("b", json!({}));
    let mut made = Vec::new();
    for number in 0..7 {
        let layer =
            json!({ "mode": "build", "layer_key": "key", "metadata": { "name": format!("n{number}") } });
        let (of, body) = if number % 2 == 0 { ("fuse-a", layer) } else { ("fuse-b", json!({})) };
        made.push(take(&world, of, &body)["id"].clone());
    }
    made.reverse();
    let ids = |found: &[Value]| found.iter().map(|found| found["id"].clone()).collect::<Vec<_>>();
    assert_eq!(ids(&list(&world, "")), made);
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = parse(&world.ask("GET", &format!("/v1/snapshots?limit=3&cursor={cursor}")));
        seen.extend(ids(page["snapshots"].as_array().expect("a list")));
        let Some(next) = page["next_cursor"].as_str() else { break };
        next.clone_into(&mut cursor);
    }
    assert_eq!(seen, made);
    let arch = list(&world, "")[0]["arch"].as_str().expect("an architecture").to_owned();
    for (query, count) in [
        ("vm_id=fuse-a".to_owned(), 4),
        ("task_id=b".to_owned(), 3),
        ("tenant_id=a".to_owned(), 4),
        ("state=ready".to_owned(), 7),
        ("state=creating".to_owned(), 0),
        ("state=nonsense".to_owned(), 0),
        ("mode=build".to_owned(), 4),
        ("name=n2".to_owned(), 1),
        ("layer_key=key".to_owned(), 4),
        (format!("arch={arch}"), 7),
        ("arch=other".to_owned(), 0),
    ] {
        assert_eq!(list(&world, &query).len(), count, "{query}");
    }
    error(&world.ask("GET", "/v1/snapshots?cursor=nonsense"), 400, "invalid_argument");

    for missing in ["", "?layer_key=key", "?arch=amd64"] {
        error(&world.ask("GET", &format!("/v1/snapshots/resolve{missing}")), 400, "invalid_argument");
    }
    let found = parse(&world.ask("GET", &format!("/v1/snapshots/resolve?layer_key=key&arch={arch}")));
    assert_eq!((&found["found"], &found["snapshot"]["id"]), (&json!(true), &made[0]));
    let miss = parse(&world.ask("GET", "/v1/snapshots/resolve?layer_key=other&arch=amd64"));
    assert_eq!(miss, json!({ "found": false }));
}

/// Only what nothing rests on goes, and never the newest of what runs.
#[test]
fn what_was_kept_for_long_enough_goes_by_itself() {
    let world = World::sim(&[]);
    world.made("a", json!({}));
    let soon = |mode: &str| take(&world, "fuse-a", &json!({ "mode": mode, "retention_seconds": 1 }));
    let (build, parent, newest) = (soon("build"), soon("auto"), soon("auto"));
    assert!(newest["retention_until"].is_string(), "{newest}");
    world.made("b", json!({}));
    take(&world, "fuse-b", &json!({ "retention_seconds": 1 }));
    let leaf = take(&world, "fuse-b", &json!({ "retention_seconds": 1 }));
    // Of those of `a` each rests on the one before, and the last is the newest of what runs; so are those of `b`.
    let ids = || list(&world, "").iter().map(|found| found["id"].to_string()).collect::<BTreeSet<_>>();
    assert_eq!(ids().len(), 5);
    assert_eq!(world.ask("DELETE", "/v1/environments/fuse-b").status, 204);
    let left: BTreeSet<_> = [&build, &parent, &newest].iter().map(|left| left["id"].to_string()).collect();
    eventually(SOON, || {
        let found = ids();
        expect(found == left, || format!("{found:?} and not without {leaf}"))
    });
    assert_eq!(world.ask("DELETE", "/v1/environments/fuse-a").status, 204);
    eventually(SOON, || {
        let found = ids();
        expect(found == [build["id"].to_string()].into(), || format!("{found:?}"))
    });
}

/// Docker's containers have a memory that nobody can keep: that is said, and nothing is left of the attempt.
#[test]
fn docker_says_that_it_takes_none() {
    let world = World::docker(&[]);
    world.made("a", json!({}));
    for path in ["/v1/environments/fuse-a/snapshots", "/v1/environments/fuse-a?action=fork"] {
        let message = error(&world.post(path, &json!({})), 501, "unimplemented");
        assert!(message.contains("docker") && message.contains("microVM"), "{message}");
    }
    assert_eq!(list(&world, ""), Vec::<Value>::new());
    assert_eq!(world.ask("DELETE", "/v1/environments/fuse-a").status, 204);
}
