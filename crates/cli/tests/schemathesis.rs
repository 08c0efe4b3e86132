//! The API against its own description: schemathesis makes requests out of `/api/v1/openapi.json`, those that fit and those
//! that do not, follows its links, and holds every answer against it. With all rights, and with a viewer's.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and tells what it did"
)]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use chassis_testkit::not_tested;
use common::Server;

/// What a program may rely on. `ignored_auth` asks again without a token and with a wrong one: nobody may succeed so.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
                      response_headers_conformance,response_schema_conformance,\
                      unsupported_method,use_after_free,ensure_resource_availability,ignored_auth";
/// Each operation by itself; links are followed in a run of their own, or there would be no time for them.
const EACH: &str = "examples,coverage,fuzzing";
/// Seconds for each run.
const TIME: &str = "45";

/// Of the links of the description, those that were followed: by chance, so not always the same.
const LINKS_FOLLOWED: usize = 16;

/// Each request from another address, as a proxy tells it: a wrong token must not lock out those that follow. And of what is
/// deployed and scaled, most as it could be meant: the links of an agent lead nowhere while there is none.
const HOOKS: &str = "\
import random
import schemathesis


@schemathesis.hook
def before_call(context, case, kwargs):
    case.headers['X-Forwarded-For'] = '.'.join(str(random.randint(1, 250)) for _ in range(4))


@schemathesis.hook.apply_to(operation_id='fleet_apply')
def map_body(context, body):
    size = len(str(body))
    if size % 4 == 0:
        return body
    agent = {'name': 'crawler', 'image': f'acme/crawler:{size % 3}', 'replicas': 2}
    return {'createFleet': True, 'agents': [agent]}


@schemathesis.hook.apply_to(operation_id='fleet_scale')
def map_body(context, body):
    size = len(str(body))
    return body if size % 4 == 0 else {'agent': 'crawler', 'count': size % 3}
";

/// `scripts/test` puts it there.
fn tool(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../tools/python/bin").join(name);
    if path.exists() {
        return Some(path);
    }
    not_tested(&format!(
        "{name} is missing: scripts/test fetches it from PyPI, then `cargo nextest run --test schemathesis`"
    ));
    None
}

#[test]
fn the_description_is_valid() {
    let Some(validator) = tool("openapi-spec-validator") else { return };
    let document = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");
    let checked = Command::new(validator).arg(document).output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
}

#[test]
fn the_server_keeps_to_its_description_for_who_may_do_everything() {
    let server = listening();
    let token = server.master_token();
    keep_to_it(&server, &token, EACH);
}

#[test]
fn what_is_made_is_where_its_links_lead() {
    let server = listening();
    let token = server.master_token();
    let Some(told) = keep_to_it(&server, &token, "stateful") else { return };
    let count = told.split("API Links:").nth(1).and_then(|rest| rest.split_whitespace().next());
    let followed: usize = count.and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("{told}"));
    assert!(followed >= LINKS_FOLLOWED, "only {followed} links were followed:\n{told}");
}

#[test]
fn the_server_keeps_to_its_description_for_a_viewer() {
    let server = listening();
    server.place.write("agent.yaml", "name: crawler\nimage: crawler:1\nreplicas: 2\n");
    server.place.ok("create fleet web");
    server.place.ok("deploy agent -f agent.yaml");
    let token = server.place.ok("api-key create seer --role viewer");
    keep_to_it(&server, token.trim(), EACH);
}

fn listening() -> Server {
    let network =
        ["--listen", "127.0.0.1:0", "--tls", "off", "--trusted-proxy", "127.0.0.1/32", "--rate-limit", "0"];
    Server::start_with(&network, &[])
}

/// What the tool said; none where it is missing.
fn keep_to_it(server: &Server, token: &str, phases: &str) -> Option<String> {
    let schemathesis = tool("schemathesis")?;
    // A change is not waited for longer than a test can wait, and what never ends is not followed.
    server
        .place
        .write("schemathesis.toml", "[parameters]\n\"query.follow\" = false\n\"query.wait\" = \"200ms\"\n");
    server.place.write("hooks.py", HOOKS);
    let url = server.url();
    let run = Command::new(schemathesis)
        .current_dir(server.place.dir.path())
        .envs([("SCHEMATHESIS_HOOKS", "hooks"), ("PYTHONPATH", ".")])
        .args(["run", &format!("{url}/api/v1/openapi.json"), "--url", &url])
        .args(["--header", &format!("Authorization: Bearer {token}")])
        .args(["--phases", phases, "--max-examples", if phases == EACH { "20" } else { "100" }])
        .args(["--checks", CHECKS, "--max-time", TIME, "--seed", "4"])
        // The one would end the server, the other have it connect to whatever addresses are made up here.
        .args(["--exclude-operation-id", "server_stop", "--exclude-operation-id", "node_join"])
        .args(["--request-timeout", "20", "--no-color", "--warnings", "off"])
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&run.stdout).into_owned();
    println!("{told}");
    assert!(run.status.success(), "{told}\n{}", String::from_utf8_lossy(&run.stderr));
    assert_eq!(server.place.run("server status").code, 0, "the server is gone:\n{told}");
    Some(told)
}
