//! What is weak or missing in Fuse, item by item, and the test that shows that chassis is not like that. A test without a file is
//! here.
//!
//! | in Fuse | here |
//! |---|---|
//! | two orchestrators destroy each other's environments | [`two_servers_do_not_destroy_each_others_environments`] |
//! | a restart destroys what runs, if its state is in memory | `inside::environments_outlive_their_server` |
//! | writes in the background are lost at the end of the process | `survival_kill`: a server killed at every step of every change |
//! | events are not replayed | `inside::events_are_replayed_to_whoever_comes_back` |
//! | a rotated token works on until the agent is restarted | [`a_rotated_token_takes_the_place_of_the_old_one_at_once`] |
//! | a fork that cannot be is answered with 500 | `snapshots::what_cannot_be_now_is_a_conflict` |
//! | hosts cannot be drained | `hosts::the_drain_of_a_host_keeps_its_promise`; `core/tests/schedule`, `a_drain_holds_a_place_first_…` |
//! | who registers a host again loses what it has allocated | `hosts::who_registers_a_host_again_loses_nothing_of_what_it_has` |
//! | keys have no scopes | `access::keys_have_scopes` |
//! | nothing to back up with | `store/tests/postgres/copy`, and "Backups" in docs/operations.md |
//! | no requests from pages of another origin | the same here, on purpose: a page elsewhere has no business with a session, and a program needs no leave |
//! | deleting a snapshot leaves it on the disk | `runtime/tests/suite`, `a_snapshot_keeps_what_an_instance_is`; `survival_kill::snapshots` |
//! | what cannot be removed is tried in every round, for ever | `core::snapshot`, `a_removal_that_keeps_failing_ends`; `store/tests/store/snapshots` |
//! | one host that is away stops all healing, and nobody notices that it is | `hosts::one_host_that_is_away_stalls_nobody_…`; `faulty_hosts`; `core/tests/scheduling` |
//! | no room is an error at once, and no queue | `hosts::who_waits_gets_what_comes_free_…` |
//! | one host makes one environment at a time | [`one_that_is_slow_to_start_holds_up_no_other`] |
//! | a long command holds up snapshots and deletion | [`a_long_command_holds_up_neither_drain_nor_deletion`] |
//! | no command can take more than 300 s | [`a_command_may_take_longer_than_five_minutes`], by hand |
//! | a startup script that takes too long goes on, and holds up the cleaning | [`a_startup_script_that_took_too_long_is_ended`] |
//! | no isolation worth the name | `inside::environments_do_not_reach_one_another`, `tests/safety`; the jailer needs a microVM |
//! | the API of hosts is in the clear | `node/tests` |
//! | a port of a host may be somebody else's | `inside::a_port_that_somebody_else_has_by_then_gives_way_to_another` |
//! | `storage_gb` is ignored | [`storage_is_limited_or_refused`] |
//! | 255 and 124 may mean anything; output is mangled and unbounded | `inside::a_command_is_bounded_in_time_and_output_and_loses_no_byte` |
//! | quotas have no flag | `snapshots::what_cannot_be_now_is_a_conflict` |
//! | no logs, no figures, no streams, no files | [`logs_figures_and_streams_are_there`] |
//! | nobody looks at whose a snapshot is | [`what_one_key_built_is_not_there_for_another`] |
//! | no warm pool, no memory snapshots, at most 249 machines on a host | microVM |

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use chassis_testkit::api::ServerInfo;
use chassis_testkit::{Answer, Chassis, Image, Postgres, SOON, Turn, eventually, expect};
use serde_json::{Value, json};

use crate::access;
use crate::world::{BINARY, World, error, parse};

fn act(world: &World, id: &str, request: &Value) -> Answer {
    world.post(&format!("/v1/environments/{id}?action=exec"), request)
}

fn shell(world: &World, id: &str, line: &str) -> Value {
    let answer = act(world, id, &json!({ "shell": line }));
    assert_eq!(answer.status, 200, "{}", answer.body);
    parse(&answer)["stdout"].clone()
}

#[test]
fn two_servers_do_not_destroy_each_others_environments() {
    let Some(postgres) = Postgres::start() else { return };
    let _turn = Turn::take("environments");
    let image = Image::busybox().build();
    let one = Chassis::new(BINARY)
        .with_env("DATABASE_URL", &postgres.database())
        .with_env("CHASSIS_NO_AUTOSTART", "1");
    let mut first = one.serve();
    let acts = |chassis: &Chassis| {
        let info = chassis.get::<ServerInfo>("/api/v1/server").map_err(|error| error.to_string())?;
        expect(info.state.acting, || "it does not act".to_owned())
    };
    eventually(SOON, || acts(&one));
    let two = one.beside("two");
    let _second = two.serve();
    let ask = |chassis: &Chassis, method: &str, path: &str, body: &Value| {
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        chassis.exchange(method, path, &body, Duration::from_secs(70)).expect("the server answers")
    };
    for (chassis, task) in [(&one, "a"), (&two, "b")] {
        let request = json!({ "task_id": task, "spec": { "image": image } });
        let made = ask(chassis, "POST", "/v1/environments", &request);
        assert_eq!(made.status, 201, "{}", made.body);
    }
    let containers = || {
        let found = one.docker().labelled(&one.label());
        found.iter().map(|found| found["Id"].to_string()).collect::<BTreeSet<_>>()
    };
    let begun = containers();
    assert_eq!(begun.len(), 2);
    first.kill();
    eventually(SOON, || acts(&two));
    // It has looked at everything by now, as has the one that comes back.
    let _first = one.serve();
    for chassis in [&one, &two] {
        let found = parse(&ask(chassis, "GET", "/v1/environments?state=running", &Value::Null));
        assert_eq!(found["environments"].as_array().map(Vec::len), Some(2), "{found}");
    }
    assert_eq!(containers(), begun);
    for (chassis, id) in [(&one, "fuse-b"), (&two, "fuse-a")] {
        let gone = ask(chassis, "DELETE", &format!("/v1/environments/{id}"), &Value::Null);
        assert_eq!(gone.status, 204, "{}", gone.body);
    }
    assert_eq!(containers(), BTreeSet::new());
}

#[test]
fn a_rotated_token_takes_the_place_of_the_old_one_at_once() {
    let world = World::docker(&[]);
    world.made("a", json!({}));
    let token = || shell(&world, "fuse-a", "cat /fuse/auth-token");
    let old = token();
    assert_eq!(world.ask("POST", "/v1/environments/fuse-a?action=rotate-token").status, 204);
    let new = token();
    assert!(new != old && new.as_str().is_some_and(|new| new.len() > 20), "{new}");
    let old = old.as_str().unwrap_or_default();
    assert_eq!(shell(&world, "fuse-a", &format!("grep -rl {old} /fuse || echo none")), "none\n");
    // The next run has it too.
    world.chassis.ok(&["stop", "fuse-a-1"]);
    world.chassis.ok(&["start", "fuse-a-1"]);
    assert_eq!(token(), new);
}

#[test]
fn one_that_is_slow_to_start_holds_up_no_other() {
    let world = World::docker(&[]);
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| world.create("slow", json!({ "startup_script": "touch on; sleep 20" })));
        eventually(SOON, || {
            let found = world.ask("GET", "/v1/environments/fuse-slow").status;
            expect(found == 200, || format!("answered {found}"))
        });
        world.made("a", json!({}));
        let slow_is = parse(&world.ask("GET", "/v1/environments/fuse-slow"));
        assert_eq!(slow_is["state"], "provisioning", "the other was there first");
        assert_eq!(world.ask("DELETE", "/v1/environments/fuse-slow").status, 204);
        let answer = slow.join().expect("no panic");
        assert!(error(&answer, 500, "internal").contains("destroyed"), "{}", answer.body);
    });
}

#[test]
fn a_long_command_holds_up_neither_drain_nor_deletion() {
    let world = World::docker(&[]);
    for task in ["a", "b"] {
        world.made(task, json!({}));
    }
    std::thread::scope(|scope| {
        let long = json!({ "cmd": ["sleep", "600"], "timeout_ms": 60_000 });
        let began = Instant::now();
        let running = ["fuse-a", "fuse-b"].map(|id| {
            scope.spawn({
                let (world, long) = (&world, long.clone());
                move || act(world, id, &long)
            })
        });
        for id in ["fuse-a", "fuse-b"] {
            eventually(SOON, || {
                let found = shell(&world, id, "ps | grep -c '[s]leep 600'");
                expect(found == "1\n", || found.to_string())
            });
        }
        assert_eq!(world.ask("POST", "/v1/environments/fuse-a?action=drain").status, 200);
        // What asks for a snapshot hears at once that there is none.
        error(&world.post("/v1/environments/fuse-b/snapshots", &json!({})), 501, "unimplemented");
        assert_eq!(world.ask("DELETE", "/v1/environments/fuse-b").status, 204);
        for answer in running {
            let answer = answer.join().expect("no panic");
            assert!(matches!(answer.status, 200 | 409), "{}", answer.body);
        }
        assert!(began.elapsed() < Duration::from_secs(50), "nobody waited for the command");
    });
}

#[test]
#[ignore = "it takes five minutes: `cargo nextest run -p chassis-cli --test fuse --run-ignored only`"]
fn a_command_may_take_longer_than_five_minutes() {
    let world = World::docker(&[]);
    world.made("a", json!({}));
    let long = json!({ "shell": "sleep 305; echo done", "timeout_ms": 400_000 });
    let patience = Duration::from_secs(330);
    let path = "/v1/environments/fuse-a?action=exec";
    let answer = world.chassis.exchange("POST", path, long.to_string().as_bytes(), patience);
    assert_eq!(parse(&answer.expect("an answer"))["stdout"], "done\n");
}

#[test]
fn a_startup_script_that_took_too_long_is_ended() {
    let world = World::docker(&[]);
    let slow = json!({ "startup_script": "sleep 1000 & sleep 1000", "startup_script_timeout_seconds": 1 });
    let began = Instant::now();
    error(&world.create("a", slow), 400, "invalid_argument");
    assert!(began.elapsed() < Duration::from_secs(40));
    // With its container go all its processes.
    eventually(SOON, || {
        let left = world.chassis.docker().labelled(&world.chassis.label());
        expect(left.is_empty(), || format!("{left:?}"))
    });
    world.made("a", json!({}));
}

#[test]
fn storage_is_limited_or_refused() {
    let world = World::docker(&[]);
    let answer = world.create("a", json!({ "spec": { "storage_gb": 1 } }));
    if answer.status != 201 {
        // The file system of this machine has nothing to limit directories with.
        let message = error(&answer, 400, "invalid_argument");
        assert!(message.contains("storage_gb") && message.contains("quota"), "{message}");
        assert_eq!(world.ask("GET", "/v1/environments/fuse-a").status, 404);
        return;
    }
    assert_eq!(parse(&answer)["spec"]["storage_gb"], 1);
    let write = "dd if=/dev/zero of=big bs=1M count=1100 2>/dev/null && echo all || echo refused";
    assert_eq!(shell(&world, "fuse-a", write), "refused\n");
}

#[test]
fn logs_figures_and_streams_are_there() {
    let world = World::docker(&[]);
    world.made("a", json!({ "startup_script": "echo a startup script was here" }));
    eventually(SOON, || {
        let said = world.chassis.run(&["logs", "fuse-a-1"]).stdout;
        expect(said.contains("a startup script was here"), || format!("the logs show {said:?}"))
    });
    let figures = world.chassis.ok(&["stats", "environments"]).stdout;
    assert!(figures.contains("fuse-a-1"), "{figures}");
    let streamed = world.chassis.ok(&["exec", "fuse-a-1", "--", "sh", "-c", "echo here"]).stdout;
    assert_eq!(streamed, "here\n");
}

#[test]
fn what_one_key_built_is_not_there_for_another() {
    let world = World::sim(&["--listen", "127.0.0.1:0", "--tls", "off"]);
    world.made("a", json!({}));
    let key = || parse(&world.post("/v1/api-keys", &json!({})));
    let (mine, other) = (key(), key());
    let ask = |key: &Value, method: &str, path: &str, body: &str| {
        let header = format!("Authorization: Bearer {}", key["key"].as_str().unwrap_or_default());
        let heard = access::ask(&world, method, path, &[&header], body);
        (heard.status, serde_json::from_str::<Value>(&heard.body).unwrap_or_default())
    };
    let body = json!({ "layer_key": "step" }).to_string();
    let (status, layer) = ask(&mine, "POST", "/v1/environments/fuse-a/snapshots", &body);
    assert_eq!((status, &layer["tenant_id"]), (201, &mine["id"]), "{layer}");
    let (_, plain) = ask(&mine, "POST", "/v1/environments/fuse-a/snapshots", "{}");
    let one = format!("/v1/snapshots/{}", layer["id"].as_str().expect("an id"));
    let resolve =
        format!("/v1/snapshots/resolve?layer_key=step&arch={}", layer["arch"].as_str().expect("one"));
    let seeded = json!({ "task_id": "b", "seed_snapshot_id": layer["id"] }).to_string();
    let forked = json!({ "reuse_snapshot_id": layer["id"] }).to_string();
    for (method, path, body) in [
        ("GET", one.clone(), ""),
        ("DELETE", one.clone(), ""),
        ("POST", format!("{one}?action=restore"), ""),
        ("POST", "/v1/environments".to_owned(), &*seeded),
        ("POST", "/v1/environments/fuse-a?action=fork".to_owned(), &*forked),
    ] {
        let (status, said) = ask(&other, method, &path, body);
        assert_eq!((status, &said["error"]["code"]), (404, &json!("not_found")), "{method} {path}");
    }
    let seen = |key: &Value| {
        let (_, list) = ask(key, "GET", "/v1/snapshots", "");
        let (_, found) = ask(key, "GET", &resolve, "");
        (list["snapshots"].as_array().map_or(0, Vec::len), found["found"].clone())
    };
    assert_eq!(seen(&other), (1, json!(false)), "only {plain}");
    assert_eq!(seen(&mine), (2, json!(true)));
    assert_eq!(parse(&world.ask("GET", "/v1/snapshots"))["snapshots"].as_array().map(Vec::len), Some(2));
    // One of the two rests on it: what is refused then is the deletion, not who asks.
    assert_eq!(ask(&mine, "DELETE", &one, "").0, 409);
}
