//! Environments on several hosts, all of them simulated: who waits for a place, and what becomes of them when a host hangs.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use chassis_testkit::{Answer, Chassis, Machine, SOON, eventually, expect};
use serde_json::{Value, json};

use crate::world::{BINARY, World, error, parse};

/// What needs no host that is away takes no longer than that, whatever others wait for.
const AT_ONCE: Duration = Duration::from_secs(8);

/// A server that makes nothing on its own host, and hosts with so many slots.
pub(crate) fn hosts(slots: &[(&str, u32)]) -> (World, Vec<Machine>) {
    let world = World::sim(&[]);
    let own = world.chassis.ok(&["node", "list", "-o", "name"]).stdout.trim().to_owned();
    let start = |(name, slots): &(&str, u32)| {
        let capacity = format!("cpus=99,memory=99Gi,slots={slots}");
        let flags = ["--runtime", "sim", "--name", name, "--capacity", &capacity];
        Machine::start(Chassis::new(BINARY), &flags)
    };
    let machines: Vec<Machine> = slots.iter().map(start).collect();
    for machine in &machines {
        machine.join(&world.chassis, &[]).exits(0);
    }
    world.chassis.ok(&["node", "cordon", &own]);
    for (name, _) in slots {
        until_node_is(&world, name, "active");
    }
    (world, machines)
}

pub(crate) fn until_node_is(world: &World, name: &str, state: &str) {
    eventually(Duration::from_secs(40), || {
        let shown = world.chassis.ok(&["node", "describe", name, "-o", "json"]).stdout;
        let node: Value = serde_json::from_str(&shown).expect("JSON");
        expect(node["state"] == state, || shown)
    });
}

/// What each host lacked, of an answer that no host has room.
#[track_caller]
fn full(answer: &Answer) -> Value {
    let body = parse(answer);
    assert_eq!((answer.status, body["error"]["code"].as_str()), (503, Some("unavailable")), "{body}");
    let message = body["error"]["message"].as_str().unwrap_or_default();
    assert!(message.starts_with("no capacity: no node can take"), "{message}");
    body["error"]["details"].clone()
}

fn state(world: &World, id: &str) -> Value {
    parse(&world.ask("GET", &format!("/v1/environments/{id}")))
}

#[test]
fn who_waits_gets_what_comes_free_and_who_does_not_hears_at_once_what_each_host_lacks() {
    let (world, _machines) = hosts(&[("h1", 1), ("h2", 1)]);
    // For two places that are asked for by six at the same moment: the booking decides, and nobody else is kept waiting.
    let began = Instant::now();
    let answers: Vec<Answer> = std::thread::scope(|scope| {
        let world = &world;
        let ask = |number| scope.spawn(move || world.create(&format!("a{number}"), json!({})));
        let asked: Vec<_> = (0..6).map(ask).collect();
        asked.into_iter().map(|asked| asked.join().expect("no panic")).collect()
    });
    assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
    let (made, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 201);
    assert_eq!(made.len(), 2, "{:?}", answers.iter().map(|answer| &answer.body).collect::<Vec<_>>());
    for answer in refused {
        let lacks = full(answer);
        assert_eq!((&lacks["h1"], &lacks["h2"]), (&json!("lacks 1 slot"), &json!("lacks 1 slot")), "{lacks}");
        assert_eq!(lacks.as_object().map(serde_json::Map::len), Some(3), "the own host too: {lacks}");
    }
    let listed = parse(&world.ask("GET", "/v1/environments"));
    assert_eq!(listed["environments"].as_array().map(Vec::len), Some(2), "{listed}");

    // In their order: who is more important, then who has waited longer.
    let first = parse(made[0])["id"].as_str().expect("an id").to_owned();
    let second = parse(made[1])["id"].as_str().expect("an id").to_owned();
    let ran = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        let (world, ran) = (&world, &ran);
        for (waiting, (task, priority)) in [("plain", 0), ("urgent", 9), ("late", 0)].into_iter().enumerate()
        {
            scope.spawn(move || {
                let made = world.made(task, json!({ "wait": "60s", "priority": priority }));
                ran.lock().expect("nobody panicked").push(task);
                assert_eq!(made["state"], "running");
            });
            eventually(SOON, || {
                let listed = parse(&world.ask("GET", "/v1/environments?state=provisioning"));
                let found = listed["environments"].as_array().map(Vec::len);
                let are_there = listed["environments"]
                    .as_array()
                    .is_some_and(|all| all.iter().all(|one| one["waiting"].is_object()));
                expect(found == Some(waiting + 1) && are_there, || listed.to_string())
            });
        }
        for (id, ahead) in [("fuse-urgent", 0), ("fuse-plain", 1), ("fuse-late", 2)] {
            let found = state(world, id);
            assert_eq!(
                (&found["state"], &found["waiting"]["ahead"]),
                (&json!("provisioning"), &json!(ahead)),
                "{found}"
            );
            assert_eq!(found["waiting"]["reasons"]["h1"], "lacks 1 slot", "{found}");
            assert_eq!(found.get("host_id"), None, "{found}");
        }
        let told = world.chassis.ok(&["describe", "fuse-plain-1"]).stdout;
        assert!(
            told.contains("waits for a place, with 1 before it") && told.contains("lacks 1 slot"),
            "{told}"
        );
        for (id, next) in [(&*first, "urgent"), (&*second, "plain"), ("fuse-urgent", "late")] {
            assert_eq!(world.ask("DELETE", &format!("/v1/environments/{id}")).status, 204);
            eventually(SOON, || {
                let ran = ran.lock().expect("nobody panicked");
                expect(ran.last() == Some(&next), || format!("{ran:?}"))
            });
        }
    });

    // It waits for as long as it was to, and leaves nothing.
    let began = Instant::now();
    let lacks = full(&world.create("b", json!({ "wait": 2 })));
    assert_eq!(lacks["h2"], "lacks 1 slot", "{lacks}");
    assert!((Duration::from_secs(2)..Duration::from_secs(2) + AT_ONCE).contains(&began.elapsed()));
    assert_eq!(world.ask("GET", "/v1/environments/fuse-b").status, 404);
    // Whoever asked for it may take it out of the queue.
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| world.create("c", json!({ "wait": "1m" })));
        eventually(SOON, || {
            expect(state(&world, "fuse-c")["waiting"].is_object(), || "it does not wait".to_owned())
        });
        assert_eq!(world.ask("DELETE", "/v1/environments/fuse-c").status, 204);
        let answer = asked.join().expect("no panic");
        assert!(error(&answer, 500, "internal").contains("destroyed"), "{}", answer.body);
    });
    for wait in [json!("soon"), json!(-1), json!("2h")] {
        error(&world.create("d", json!({ "wait": wait })), 400, "invalid_argument");
    }
    let told = error(&world.create("d", json!({ "priority": 300 })), 400, "invalid_argument");
    assert!(told.contains("at most 255"), "{told}");
    let told = error(&world.create("d", json!({})), 503, "unavailable");
    assert!(told.contains("environments/fuse-d-1"), "{told}");
}

#[test]
fn a_chassis_that_is_alone_waits_until_its_host_is_open_again() {
    let world = World::sim(&[]);
    let own = world.chassis.ok(&["node", "list", "-o", "name"]).stdout.trim().to_owned();
    world.chassis.ok(&["node", "cordon", &own]);
    error(&world.create("a", json!({})), 503, "unavailable");
    error(&world.create("a", json!({ "wait": 1 })), 503, "unavailable");
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| world.create("a", json!({ "wait": "1m" })));
        // By then it would have been refused.
        error(&world.create("b", json!({})), 503, "unavailable");
        assert!(!asked.is_finished(), "it was answered while the host was closed");
        world.chassis.ok(&["node", "uncordon", &own]);
        assert_eq!(asked.join().expect("no panic").status, 201);
    });
}

#[test]
fn one_host_that_is_away_stalls_nobody_and_what_was_asked_of_it_is_done_when_it_is_back() {
    let (world, machines) = hosts(&[("h1", 9), ("h2", 9)]);
    let on = |host: &str| json!({ "spec": { "host_id": host } });
    for (task, host) in [("a", "h1"), ("b", "h2")] {
        assert_eq!(world.made(task, on(host))["host_id"], host);
    }
    machines[0].freeze();
    // It has not been noticed yet: what is asked for meanwhile is placed on it at first, and then where somebody answers.
    let began = Instant::now();
    std::thread::scope(|scope| {
        let world = &world;
        let ask = |number| scope.spawn(move || world.made(&format!("new{number}"), json!({})));
        let asked: Vec<_> = (0..6).map(ask).collect();
        for made in asked {
            assert_eq!(made.join().expect("no panic")["host_id"], "h2");
        }
    });
    assert!(began.elapsed() < Duration::from_secs(40), "{:?}", began.elapsed());
    until_node_is(&world, "h1", "suspect");
    let began = Instant::now();
    let told = error(&world.ask("DELETE", "/v1/environments/fuse-a"), 503, "unavailable");
    assert!(
        told.contains("host h1 does not answer") && told.contains("gone when the host is back"),
        "{told}"
    );
    assert_eq!(state(&world, "fuse-a")["state"], "destroying");
    assert_eq!(world.ask("DELETE", "/v1/environments/fuse-b").status, 204);
    assert_eq!(world.made("c", json!({}))["host_id"], "h2");
    assert!(full(&world.create("d", on("h1")))["h1"].as_str().is_some_and(|said| said.contains("suspect")));
    assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
    machines[0].thaw();
    eventually(Duration::from_mins(1), || {
        let status = world.ask("GET", "/v1/environments/fuse-a").status;
        expect(status == 404, || format!("answered {status}"))?;
        let held = world.chassis.ok(&["node", "describe", "h1", "-o", "json"]).stdout;
        let held: Value = serde_json::from_str(&held).expect("JSON");
        expect(held["held"].as_array().is_none_or(Vec::is_empty), || held.to_string())
    });
}

#[test]
fn who_registers_a_host_again_loses_nothing_of_what_it_has() {
    let (world, machines) = hosts(&[("h1", 2)]);
    world.made("a", json!({ "spec": { "cpus": 2, "ram_mb": 100 } }));
    let before = parse(&world.ask("GET", "/v1/hosts/h1"));
    world.ask("POST", "/v1/hosts/h1?action=cordon");
    let request = json!({
        "id": "h1", "url": machines[0].url, "token": machines[0].token, "fingerprint": machines[0].fingerprint(),
        "capacity": { "vm_count": 2 }
    });
    let again = world.post("/v1/hosts", &request);
    assert_eq!(again.status, 201, "{}", again.body);
    let again = parse(&again);
    let allocated = &again["allocated"];
    assert_eq!(
        (&allocated["vm_count"], &allocated["cpus"], &allocated["ram_mb"]),
        (&json!(1), &json!(2), &json!(100)),
        "{again}"
    );
    assert_eq!(
        (&again["state"], &again["created_at"]),
        (&json!("cordoned"), &before["created_at"]),
        "{again}"
    );
    world.ask("POST", "/v1/hosts/h1?action=uncordon");
    until_node_is(&world, "h1", "active");
    world.made("b", json!({}));
    assert_eq!(full(&world.create("c", json!({})))["h1"], "lacks 1 slot", "nothing is given away twice");
    let refused = error(&world.ask("DELETE", "/v1/hosts/h1"), 409, "conflict");
    assert_eq!(refused, "host h1 still has vm fuse-a assigned");
}

/// An environment has a workspace, which is on its host: nothing takes it elsewhere.
#[test]
fn the_drain_of_a_host_keeps_its_promise() {
    let (world, _machines) = hosts(&[("h1", 9), ("h2", 9)]);
    world.made("a", json!({ "spec": { "host_id": "h1" } }));
    world.made("b", json!({ "spec": { "host_id": "h2" } }));
    assert_eq!(world.ask("POST", "/v1/hosts/h1?action=drain").status, 204);
    assert_eq!(parse(&world.ask("GET", "/v1/hosts/h1"))["state"], "draining");
    assert_eq!(world.made("c", json!({}))["host_id"], "h2", "nothing new is put there");
    assert!(full(&world.create("d", json!({ "spec": { "host_id": "h1" } })))["h1"].is_string());
    let stays = world.chassis.ok(&["node", "describe", "h1"]).stdout;
    assert!(stays.contains("fuse-a-1"), "{stays}");
    let found = state(&world, "fuse-a");
    assert_eq!((&found["state"], &found["host_id"]), (&json!("running"), &json!("h1")), "{found}");
    // With a deadline it is stopped then, and is there again with its host.
    assert_eq!(world.post("/v1/hosts/h1?action=drain", &json!({ "deadline": 1 })).status, 204);
    let found = eventually(SOON, || {
        let found = state(&world, "fuse-a");
        expect(found["waiting"].is_object(), || found.to_string())?;
        Ok::<_, String>(found)
    });
    assert!(found["waiting"]["reasons"]["h2"].is_string(), "{found}");
    assert_eq!(world.ask("POST", "/v1/hosts/h1?action=uncordon").status, 204);
    eventually(SOON, || {
        let found = state(&world, "fuse-a");
        expect(found.get("waiting").is_none() && found["host_id"] == "h1", || found.to_string())?;
        let shown = world.chassis.ok(&["ps", "environments"]).stdout;
        expect(shown.matches("Running").count() == 3, || shown)
    });
}

/// A snapshot is on the host where it was taken, and so is what begins from it.
#[test]
fn snapshots_live_on_their_host() {
    let (world, machines) = hosts(&[("h1", 9), ("h2", 9)]);
    world.made("a", json!({ "spec": { "host_id": "h1" } }));
    world.made("b", json!({ "spec": { "host_id": "h2" } }));
    let taken = |of: &str| {
        let answer = world.post(&format!("/v1/environments/{of}/snapshots"), &json!({}));
        assert_eq!(answer.status, 201, "{}", answer.body);
        parse(&answer)["id"].as_str().expect("an id").to_owned()
    };
    let (one, two) = (taken("fuse-a"), taken("fuse-b"));
    for (task, seed, host) in [("c", &one, "h1"), ("d", &two, "h2"), ("e", &two, "h2")] {
        let seeded = world.post("/v1/environments", &json!({ "task_id": task, "seed_snapshot_id": seed }));
        assert_eq!((seeded.status, &parse(&seeded)["host_id"]), (201, &json!(host)), "{}", seeded.body);
    }
    let fork = |of: &str, from: &str| {
        world.post(&format!("/v1/environments/{of}?action=fork"), &json!({ "reuse_snapshot_id": from }))
    };
    let forked = fork("fuse-a", &one);
    assert_eq!((forked.status, &parse(&forked)["host_id"]), (201, &json!("h1")), "{}", forked.body);
    for id in [&one, &two] {
        let restored = world.ask("POST", &format!("/v1/snapshots/{id}?action=restore"));
        assert_eq!(restored.status, 204, "{}", restored.body);
    }

    // Its host is away: what needs it is told so at once, and what does not goes on.
    machines[0].freeze();
    until_node_is(&world, "h1", "suspect");
    let began = Instant::now();
    error(&fork("fuse-a", &one), 503, "unavailable");
    let seeded = json!({ "task_id": "f", "seed_snapshot_id": one });
    error(&world.post("/v1/environments", &seeded), 503, "unavailable");
    error(&world.ask("POST", &format!("/v1/snapshots/{one}?action=restore")), 503, "unavailable");
    assert_eq!(fork("fuse-b", &two).status, 201);
    let third = taken("fuse-b");
    assert_eq!(world.ask("DELETE", &format!("/v1/snapshots/{third}")).status, 204);
    assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
    machines[0].thaw();
    until_node_is(&world, "h1", "active");

    // Both are where they were, and keep their host from being removed.
    let left = parse(&world.ask("GET", "/v1/environments"))["environments"].clone();
    for left in left.as_array().expect("a list") {
        let id = left["id"].as_str().expect("an id");
        assert_eq!(world.ask("DELETE", &format!("/v1/environments/{id}")).status, 204);
    }
    for id in [&one, &two] {
        assert_eq!(parse(&world.ask("GET", &format!("/v1/snapshots/{id}")))["state"], "ready");
    }
    let refused = error(&world.ask("DELETE", "/v1/hosts/h1"), 409, "conflict");
    assert!(refused.contains("keeps 1 snapshots"), "{refused}");
    assert_eq!(world.ask("DELETE", &format!("/v1/snapshots/{one}")).status, 204);
    assert_eq!(world.ask("DELETE", "/v1/hosts/h1").status, 204);
}

/// A fork that finds no room leaves nothing of what was made for it.
#[test]
fn a_fork_without_room_leaves_no_snapshot() {
    let (world, _machines) = hosts(&[("h1", 1), ("h2", 1)]);
    world.made("a", json!({ "spec": { "host_id": "h2" } }));
    let parent = world.post("/v1/environments/fuse-a/snapshots", &json!({}));
    let parent = parse(&parent)["id"].as_str().expect("an id").to_owned();
    let refused = world.post("/v1/environments/fuse-a?action=fork", &json!({}));
    let told = error(&refused, 503, "unavailable");
    assert!(told.contains("is on h2: no node can take environments/fuse-fork-"), "{told}");
    assert!(
        told.contains("h1 does not hold the data, which is on h2") && told.contains("h2 lacks"),
        "{told}"
    );
    let listed = parse(&world.ask("GET", "/v1/snapshots"));
    assert_eq!(listed["snapshots"].as_array().map(Vec::len), Some(1), "{listed}");
    assert_eq!(world.ask("DELETE", &format!("/v1/snapshots/{parent}")).status, 204);
}
