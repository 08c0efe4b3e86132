//! Fuse's own client, as it is published, and unchanged: it drives a life (`client.py`) against this server.

use std::path::{Path, PathBuf};
use std::process::Command;

use chassis_testkit::not_tested;

use crate::golden;
use crate::world::World;

/// `scripts/test` puts it there.
fn python() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../tools/fuse-client/bin/python");
    if path.exists() {
        return Some(path);
    }
    not_tested(
        "folsom-fuse is missing: scripts/test fetches it from PyPI, then `cargo nextest run --test fuse`",
    );
    None
}

fn drive(world: &World, runtime: &str) {
    let Some(python) = python() else { return };
    let token = std::fs::read_to_string(world.chassis.master_token()).expect("a token");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fuse/client.py");
    let recorded = world.chassis.home().join("recorded.json");
    let mut command = Command::new(python);
    // Nothing is left in the source tree.
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    command.arg(script).arg(world.chassis.network_address()).args([token.trim(), &world.image, runtime]);
    let ran = command.arg(&recorded).output().expect("python runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&ran.stdout), text(&ran.stderr));
    assert!(ran.status.success() && out.trim() == "the life is over", "{out}{err}");
    golden::check(&recorded, runtime);
}

const LISTEN: [&str; 4] = ["--listen", "127.0.0.1:0", "--tls", "off"];

#[test]
fn the_published_client_on_the_simulation() {
    drive(&World::sim(&LISTEN), "sim");
}

#[test]
fn the_published_client_on_docker() {
    drive(&World::docker(&LISTEN), "docker");
}
