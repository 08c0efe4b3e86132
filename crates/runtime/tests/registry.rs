//! Pulling from a registry: one that wants to know who asks, and one whose tags move. Pulls with credentials are processes of
//! their own, because the Docker configuration is found through the environment.

#![allow(clippy::unwrap_used, reason = "a test fails where something is not as it must be")]

mod support;

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use base64::Engine as _;
use chassis_core::Pin;
use chassis_runtime::{Image, PullProgress, Runtime};
use serde_json::{Value, json};
use support::{Docker, LocalImage, PATIENCE, docker, run};

const USER: &str = "someone";
const PASSWORD: &str = "s3cr3t-pass";

/// Debian's `docker-registry`, for everybody or for one user.
struct Registry {
    process: Child,
    address: String,
    directory: tempfile::TempDir,
}

impl Registry {
    fn start(is_private: bool) -> Option<Registry> {
        if Command::new("docker-registry").arg("--version").stdout(Stdio::null()).status().is_err() {
            chassis_testkit::not_tested(
                "pulls from a registry; `apt-get install docker-registry`, and run it again",
            );
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let hash =
            run("perl", &["-e", &format!("print crypt('{PASSWORD}', '$2y$05$abcdefghijklmnopqrstuv')")]);
        let users = directory.path().join("htpasswd");
        fs::write(&users, format!("{USER}:{}\n", String::from_utf8(hash.stdout).unwrap())).unwrap();
        let config = directory.path().join("config.yml");
        let auth = if is_private {
            format!("auth: {{htpasswd: {{realm: test, path: {}}}}}\n", users.display())
        } else {
            String::new()
        };
        let text = format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}/store}}}}\nhttp: {{addr: '{address}'}}\n{auth}",
            directory.path().display(),
        );
        fs::write(&config, text).unwrap();
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let begun = Instant::now();
        while TcpStream::connect(&address).is_err() {
            assert!(begun.elapsed() < PATIENCE, "the registry does not listen");
            #[expect(clippy::disallowed_methods, reason = "nothing else runs here")]
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(Registry { process, address, directory })
    }

    /// Writes a Docker configuration and returns its directory.
    fn config(&self, name: &str, content: &Value) -> PathBuf {
        let directory = self.directory.path().join(name);
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("config.json"), content.to_string()).unwrap();
        directory
    }

    /// Puts an image into the registry, and away from the node.
    fn push(&self, image: &LocalImage, config: &Path) -> String {
        let name = format!("{}/{}", self.address, image.name);
        docker(&["tag", &image.name, &name]);
        docker(&["--config", config.to_str().unwrap(), "push", &name]);
        docker(&["rmi", &name]);
        docker(&["rmi", &image.name]);
        name
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_private_image_is_pulled_with_the_credentials_of_docker_login() {
    let Some(registry) = Registry::start(true) else { return };
    let encoded = base64::engine::general_purpose::STANDARD.encode(format!("{USER}:{PASSWORD}"));
    let wrong = base64::engine::general_purpose::STANDARD.encode(format!("{USER}:wrong"));
    let none = registry.config("none", &json!({}));
    let wrong = registry.config("wrong", &json!({ "auths": { &registry.address: { "auth": wrong } } }));
    let stored = registry.config("stored", &json!({ "auths": { &registry.address: { "auth": encoded } } }));
    let helped = registry.config("helped", &json!({ "credHelpers": { &registry.address: "chassis-test" } }));
    let program = registry.directory.path().join("docker-credential-chassis-test");
    let script =
        format!("#!/bin/sh\nread registry\necho '{{\"Username\":\"{USER}\",\"Secret\":\"{PASSWORD}\"}}'\n");
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();

    let image = LocalImage::busybox(&[], &[]);
    let name = registry.push(&image, &stored);
    let pull = |config: &Path| -> Value {
        let path = format!("{}:{}", registry.directory.path().display(), std::env::var("PATH").unwrap());
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "pull", "--ignored", "--nocapture"])
            .envs([("DOCKER_CONFIG", config.as_os_str()), ("PATH", path.as_ref()), (IMAGE, name.as_ref())])
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(!text.contains(PASSWORD) && !text.contains(&encoded), "{text}");
        let line = text.lines().find_map(|line| line.split_once(RESULT)).unwrap_or_else(|| panic!("{text}"));
        serde_json::from_str(line.1).unwrap()
    };
    for (config, advice) in [(&none, "sign in with `docker login`"), (&wrong, "sign in again")] {
        let refused = pull(config);
        assert_eq!(refused["code"], "image-unavailable", "{refused}");
        assert!(refused["message"].as_str().unwrap().contains(advice), "{refused}");
    }
    for config in [&stored, &helped] {
        let pulled = pull(config);
        assert!(pulled["digest"].as_str().unwrap().contains("@sha256:"), "{pulled}");
        assert_eq!((&pulled["layers"], &pulled["done"]), (&json!(1), &json!(1)), "{pulled}");
        docker(&["rmi", &name]);
    }
}

#[tokio::test]
async fn a_moved_tag_is_seen_and_a_pinned_image_is_pulled_by_its_digest() {
    let Some(registry) = Registry::start(false) else { return };
    let nobody = registry.config("none", &json!({}));
    let name = format!("{}/moving:1", registry.address);
    let push = |content: &str| {
        let image = LocalImage::busybox(&[("/version", content)], &[]);
        docker(&["tag", &image.name, &name]);
        docker(&["--config", nobody.to_str().unwrap(), "push", &name]);
        docker(&["rmi", &name]);
        docker(&["rmi", &image.name]);
    };
    let node = Docker::new();
    let image = name.parse().unwrap();
    let prepare = || node.runtime.image_prepare(&image, &|_| {});
    let pin = |image: &Image| Pin { id: Some(image.id.clone()), digest: image.digest.clone() };

    push("one");
    let first = prepare().await.unwrap();
    assert_eq!(node.runtime.image_refresh(&image, Some(&pin(&first))).await.unwrap().digest, first.digest);
    push("two");
    let moved = node.runtime.image_refresh(&image, Some(&pin(&first))).await.unwrap();
    assert!(moved.digest.is_some() && moved.digest != first.digest, "{moved:?}");
    assert!(run("docker", &["image", "inspect", moved.digest.as_ref().unwrap()]).status.code() != Some(0));

    // Whatever the tag means by now, a pin means what it meant.
    run("docker", &["rmi", "-f", &first.id]);
    let again = node.runtime.image_pinned(&image, &pin(&first), &|_| {}).await.unwrap();
    assert_eq!(again.id, first.id);
    let second = node.runtime.image_pinned(&image, &moved, &|_| {}).await.unwrap();
    assert_ne!(second.id, first.id);
    for id in [&first.id, &second.id] {
        run("docker", &["rmi", "-f", id]);
    }
}

/// The image to pull.
const IMAGE: &str = "CHASSIS_TEST_IMAGE";
/// What stands before the result, on its line.
const RESULT: &str = "result: ";

#[tokio::test]
#[ignore = "run by the test above, with a Docker configuration"]
async fn pull() {
    let node = Docker::new();
    let seen = Mutex::new(None);
    let progress = |progress: PullProgress| *seen.lock().unwrap() = Some(progress);
    let image = std::env::var(IMAGE).unwrap().parse().unwrap();
    let pulled = node.runtime.image_prepare(&image, &progress).await;
    let seen = *seen.lock().unwrap();
    let result = match pulled {
        Ok(image) => json!({
            "digest": image.digest,
            "layers": seen.map(|progress| progress.layers),
            "done": seen.map(|progress| progress.layers_done),
        }),
        Err(error) => json!({ "code": error.code(), "message": error.to_string() }),
    };
    #[expect(clippy::print_stdout, reason = "the test that runs this reads it")]
    {
        println!("{RESULT}{result}");
    }
}
