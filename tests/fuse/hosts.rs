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
        let mut waiting = 0;
        for (task, priority) in [("plain", 0), ("urgent", 9), ("late", 0)] {
            scope.spawn(move || {
                let made = world.made(task, json!({ "wait": "60s", "priority": priority }));
                ran.lock().expect("nobody panicked").push(task);
                assert_eq!(made["state"], "running");
            });
            waiting += 1;
            eventually(SOON, || {
                let listed = parse(&world.ask("GET", "/v1/environments?state=provisioning"));
                let found = listed["environments"].as_array().map(Vec::len);
                let are_there = listed["environments"]
                    .as_array()
                    .is_some_and(|all| all.iter().all(|one| one["waiting"].is_object()));
                expect(found == Some(waiting) && are_there, || listed.to_string())
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
        std::thread::sleep(Duration::from_millis(300));
        assert!(!asked.is_finished(), "it was answered while the host was closed");
        world.chassis.ok(&["node", "uncordon", &own]);
        assert_eq!(asked.join().expect("no panic").status, 201);
    });
}
