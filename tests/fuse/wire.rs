//! What every answer has, and every error that is documented.

use serde_json::json;

use crate::world::{World, error, parse};

#[test]
fn every_answer_is_in_the_dialect() {
    let world = World::sim(&[]);
    let version = world.ask("GET", "/v1/version");
    assert_eq!(parse(&version)["service"], "fuse-orchestrator");
    assert!(version.header("server").is_some_and(|server| server.starts_with("fuse-orchestrator/")));
    let id = version.header("x-request-id").unwrap_or_default();
    assert!(id.len() == 36 && id.starts_with("req_"), "{id}");

    let nothing = world.ask("GET", "/v1/nothing");
    assert_eq!(error(&nothing, 404, "route_not_found"), "no such route: GET /v1/nothing");
    let method = world.ask("PUT", "/v1/environments");
    assert_eq!((method.status, method.body.as_str()), (405, ""));
    let unknown = error(&world.ask("GET", "/v1/environments/fuse-x"), 404, "not_found");
    assert!(unknown.contains("fuse-x"), "{unknown}");
    // Chassis's own dialect is what it was.
    let native = world.ask("GET", "/api/v1/nothing");
    assert_eq!(native.header("content-type"), Some("application/problem+json"));
}

#[test]
fn what_makes_no_sense_is_refused_before_anything_is_made() {
    let world = World::sim(&[]);
    let host = parse(&world.ask("GET", "/api/v1/nodes"))[0]["name"].as_str().unwrap_or_default().to_owned();
    let label = |key: &str, value: &str| json!({ "spec": { "labels": { key: value } } });
    let file = |path: &str| json!({ "files": { path: "aGk=" } });
    let check = |check: serde_json::Value| json!({ "healthcheck": check });
    let manifest = |text: &str| {
        use base64::Engine;
        json!({ "manifest_inline": base64::engine::general_purpose::STANDARD.encode(text) })
    };
    let bad = [
        json!({ "task_id": "" }),
        json!({ "task_id": "a\nb" }),
        json!({ "spec": { "gpus": -1 } }),
        json!({ "spec": { "gpus": 1, "gpu_profile": "8g.80gb" } }),
        json!({ "spec": { "gpu_profile": "1g.10gb" } }),
        json!({ "spec": { "gpus": 1, "gpu_profile": "1g.10gb", "gpu_kind": "Tesla-T4" } }),
        label("-a", "b"),
        label("a", "b/c"),
        json!({ "spec": { "arch": "mips" } }),
        json!({ "spec": { "idle_timeout_seconds": 59 } }),
        json!({ "spec": { "max_runtime_seconds": -1 } }),
        json!({ "spec": { "cpus": -1 } }),
        check(json!({})),
        check(json!({ "http": { "port": 80, "path": "/" }, "exec": ["true"] })),
        check(json!({ "http": { "port": 0, "path": "/" } })),
        check(json!({ "http": { "port": 80, "path": "x" } })),
        check(json!({ "exec": ["true"], "interval_seconds": 5, "timeout_seconds": 6 })),
        json!({ "desktop": { "width": 100, "height": 1000 } }),
        json!({ "startup_script_timeout_seconds": -1 }),
        json!({ "startup_script_timeout_seconds": 56 }),
        file("relative"),
        file("/a/../b"),
        file("/fuse/manifest.json"),
        json!({ "files": { "/a": "not base64!" } }),
        json!({ "expose": [{ "port": 0 }] }),
        json!({ "expose": [{ "port": 80 }, { "port": 80 }] }),
        json!({ "manifest_inline": "!" }),
        manifest("[]x"),
        manifest(r#"{"machine":{"env":{"A":{"secret":"missing"}}}}"#),
        json!({ "seed_snapshot_id": "s", "spec": { "image": "x" } }),
    ];
    for more in bad {
        let answer = world.create("bad", more.clone());
        assert_eq!(answer.status, 400, "{more}: {}", answer.body);
        error(&answer, 400, "invalid_argument");
    }
    error(&world.send("POST", "/v1/environments", b"{"), 400, "invalid_argument");
    error(&world.create("bad", json!({ "spec": { "host_id": "elsewhere" } })), 404, "not_found");
    error(&world.create("bad", json!({ "seed_snapshot_id": "nothing" })), 404, "not_found");
    for nowhere in [json!({ "gpus": 1 }), json!({ "labels": { "a": "b" } }), json!({ "region": "moon" })] {
        error(&world.create("bad", json!({ "spec": nowhere })), 503, "unavailable");
    }
    // What nothing here can do, of what there is and of what there is not.
    world.made("there", json!({}));
    for (id, status, code) in [("there", 501, "unimplemented"), ("not-there", 404, "not_found")] {
        let action = json!({ "action": "screenshot" });
        error(&world.post(&format!("/v1/environments/fuse-{id}/computer"), &action), status, code);
    }
    let large = json!({ "files": { "/a": "AAAA".repeat(180 << 10) } });
    error(&world.create("bad", large), 413, "payload_too_large");
    let larger = json!({ "startup_script": "x".repeat(1 << 20) });
    error(&world.create("bad", larger), 413, "payload_too_large");
    assert_eq!(world.ask("GET", "/v1/environments/fuse-bad").status, 404);
    // Unknown fields, null for what is not there, and zeros are all fine.
    let odd = json!({ "nonsense": 1, "files": null, "secrets": null, "healthcheck": null,
                      "spec": { "cpus": 0, "image": null, "host_id": host, "nonsense": [] } });
    world.made("odd", odd);
}
