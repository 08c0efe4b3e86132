//! A secret's value reaches the agent that is to have it, and nothing and nobody else.

use std::fs;
use std::path::Path;

use chassis_testkit::api::Phase;
use chassis_testkit::{Chassis, Image, SOON, Server, eventually, expect};

const BINARY: &str = env!("CARGO_BIN_EXE_chassis");
const VALUE: &str = "hush-5e1f0c77";
const OTHER: &str = "hush-again-91d2";

/// An agent that writes down what it was given: tier 1 belongs to it.
fn agent(image: &str, fleet: &str) -> String {
    format!(
        r#"
name: keeper
fleet: {fleet}
image: {image}
command: [/bin/sh, -c]
args: ['echo "$TOKEN" > /data/env; cat /run/token > /data/file; stat -c "%a %u" /run/token > /data/mode; echo ready; exec sleep 99999']
user: 1000:1000
stop: {{grace: 1s}}
volumes:
  - {{name: data, mountPath: /data}}
  - {{name: token, mountPath: /run/token, secret: "secret://{fleet}/token"}}
env:
  - {{name: TOKEN, valueFrom: "secret://{fleet}/token"}}
"#
    )
}

fn store(chassis: &Chassis, fleet: &str, value: &str, more: &[&str]) {
    let file = chassis.write("value", value).display().to_string();
    let name = format!("{fleet}/token");
    chassis.ok(&[&["secret", "create", &name, "--from-file", &file], more].concat()).hides(value);
    fs::remove_file(file).expect("the file was only for this");
}

/// Every byte of every file below a directory, the agents' own volumes excepted.
fn files_with(directory: &Path, word: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files_with(&path, word));
        } else if fs::read(&path).is_ok_and(|bytes| contains(&bytes, word)) {
            found.push(path.display().to_string());
        }
    }
    found
}

fn contains(bytes: &[u8], word: &str) -> bool {
    bytes.windows(word.len()).any(|window| window == word.as_bytes())
}

/// Processes that have the word in their arguments, and those but the agents that have it in their environment.
fn processes_with(word: &str, server: &Server) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("/proc").flatten() {
        if fs::read(entry.path().join("cmdline")).is_ok_and(|bytes| contains(&bytes, word)) {
            found.push(format!("arguments of {}", entry.file_name().display()));
        }
    }
    let environ = fs::read(format!("/proc/{}/environ", server.pid())).expect("the server runs");
    if contains(&environ, word) {
        found.push("the server's environment".to_owned());
    }
    found
}

#[test]
fn only_the_agent_sees_it() {
    let chassis = Chassis::new(BINARY);
    let server = chassis.serve();
    let (image, fleet) = (Image::busybox().build(), chassis.fleet("vault"));
    chassis.ok(&["create", "fleet", &fleet]);

    let refused = chassis.deploy(&agent(&image, &fleet)).exits(1);
    refused.says(&[&format!("{fleet}/token"), "chassis secret create"]);
    assert!(chassis.docker().labelled(&chassis.label()).is_empty(), "a blocked deploy starts nothing");

    store(&chassis, &fleet, VALUE, &[]);
    chassis.deploy(&agent(&image, &fleet)).exits(0).hides(VALUE);
    let kept = |file: &str| {
        eventually(SOON, || {
            let text = chassis.read(&fleet, "keeper-1", &format!("data/{file}"));
            if text.is_empty() { Err(format!("{file} is not there")) } else { Ok(text) }
        })
    };
    assert_eq!(kept("env").trim_end(), VALUE);
    assert_eq!(kept("file"), VALUE);
    assert_eq!(kept("mode").trim_end(), "400 1000");

    let container = format!("chassis-{fleet}-keeper-1");
    let inspected = chassis.docker().inspect(&container).expect("a container").to_string();
    assert!(!inspected.contains(VALUE), "docker inspect shows it");
    assert_eq!(processes_with(VALUE, &server), [""; 0]);
    assert!(!server.log().contains(VALUE), "the server's log shows it");
    for command in [
        &["events", "-o", "json"][..],
        &["describe", "keeper-1"],
        &["describe", "keeper-1", "-o", "json"],
        &["logs", &fleet],
        &["ps", "-o", "yaml"],
        &["secret", "list", "-o", "json"],
    ] {
        chassis.ok(command).hides(VALUE);
    }
    chassis.run(&["secret", "create", &format!("{fleet}/token"), VALUE]).exits(2).hides(VALUE);
    assert_eq!(files_with(&chassis.data_dir().join(".server"), VALUE), [""; 0]);

    // A new value comes with the next start, and the old one is in no page of the database.
    store(&chassis, &fleet, OTHER, &["--replace"]);
    chassis.ok(&["restart", "keeper-1"]);
    eventually(SOON, || {
        let text = chassis.read(&fleet, "keeper-1", "data/env");
        expect(text.trim_end() == OTHER, || format!("the agent has {text}"))
    });
    assert_eq!(files_with(&chassis.data_dir().join(".server"), OTHER), [""; 0]);
    chassis.ok(&["delete", "agent", "keeper"]);
    assert!(chassis.secret_files().is_empty(), "secret files are left in memory");
}

#[test]
fn its_key_is_rotated() {
    let chassis = Chassis::new(BINARY);
    let mut server = chassis.serve();
    let (image, fleet) = (Image::busybox().build(), chassis.fleet("vault"));
    chassis.ok(&["create", "fleet", &fleet]);
    store(&chassis, &fleet, VALUE, &[]);
    let key_file = chassis.data_dir().join(".server/key");
    let key = fs::read_to_string(&key_file).expect("a key file");
    assert_eq!(key.trim_end().len(), 64);

    chassis.ok(&["secret", "rotate-key"]).shows(&["1 secret"]);
    let new_key = fs::read_to_string(&key_file).expect("a key file");
    assert_ne!(key, new_key);
    server.kill();
    let mut server = chassis.serve();
    chassis.deploy(&agent(&image, &fleet)).exits(0);
    eventually(SOON, || {
        let text = chassis.read(&fleet, "keeper-1", "data/env");
        expect(text.trim_end() == VALUE, || format!("the agent has {text}"))
    });

    // The wrong key is refused, whatever way it comes; with the right one everything is there again.
    server.terminate();
    fs::write(&key_file, &key).expect("the old key");
    let refused = chassis.run(&["serve"]).exits(1);
    assert!(refused.stderr.contains("key"), "{refused}");
    fs::write(&key_file, &new_key).expect("the new key");
    let _server = chassis.serve();
    chassis.until(&format!("{fleet}/keeper-1"), Phase::Running);
    chassis.ok(&["secret", "list"]).shows(&["token"]);
}

#[test]
fn its_key_comes_from_the_environment() {
    let (first, second) = ("1f".repeat(32), "2e".repeat(32));
    let chassis = Chassis::new(BINARY);
    let key = |key: &'static str| [("TOKEN_ENCRYPTION_KEY", key)];
    let (first, second): (&'static str, &'static str) = (first.leak(), second.leak());
    let mut server = chassis.serve_with(&[], &key(first));
    let fleet = chassis.fleet("vault");
    chassis.ok(&["create", "fleet", &fleet]);
    store(&chassis, &fleet, VALUE, &[]);
    assert!(!chassis.data_dir().join(".server/key").exists(), "a key file beside the environment's key");

    let file = chassis.write("new-key", &format!("{second}\n")).display().to_string();
    chassis.ok(&["secret", "rotate-key", "--new-key-file", &file]).hides(second);
    server.terminate();
    let refused =
        chassis.command(&["serve"]).env("TOKEN_ENCRYPTION_KEY", first).output().expect("chassis runs");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("TOKEN_ENCRYPTION_KEY") && !said.contains(first), "{said}");
    let server = chassis.serve_with(&[], &key(second));
    chassis.deploy(&agent(&Image::busybox().build(), &fleet)).exits(0);
    eventually(SOON, || {
        let text = chassis.read(&fleet, "keeper-1", "data/file");
        expect(text == VALUE, || format!("the agent has {text}"))
    });
    assert!(!server.log().contains(second), "the log shows the key");
}
