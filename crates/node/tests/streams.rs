//! Commands and ports of a container on a node, through TLS: as on this machine, to the last byte and to the end.

#![allow(clippy::unwrap_used, reason = "a test fails where something is not as it must be")]

mod common;
#[path = "../../runtime/tests/support/mod.rs"]
mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use chassis_runtime::{
    Error, ExecOptions, InstanceSecrets, LogOptions, PlacedFile, Runtime, SecretFile, exec_run,
};
use common::Served;
use futures_util::StreamExt;
use serde_json::json;
use support::{Docker, LocalImage, docker, wait_for_output};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const ANSWER: &str = "#!/bin/sh\nread -r line; cat >/dev/null; echo \"heard $line\"\n";

struct Place {
    _image: LocalImage,
    _node: Docker,
    served: Served,
    id: String,
}

async fn place(command: &str, secrets: InstanceSecrets) -> Place {
    let image = LocalImage::busybox(&[("bin/answer", ANSWER), ("etc/app/beside", "")], &[]);
    let node = Docker::new();
    let served = Served::new(Arc::clone(&node.runtime) as Arc<dyn Runtime>);
    let mut spec = json!({ "image": image.name, "command": ["sh", "-c", command] });
    if !secrets.files.is_empty() {
        spec["env"] = json!([{ "name": "KEY", "valueFrom": "secret://f/key" }]);
        spec["files"] =
            json!([{ "path": "/data/run", "content": "as it is handed over", "executable": true }]);
        spec["volumes"] = json!([
            { "name": "data", "mountPath": "/data" },
            { "name": "token", "mountPath": "/etc/app/token", "secret": "secret://f/token" },
        ]);
    }
    let config = support::config(&*served.remote, support::unique("fleet"), spec).await;
    let id = served.remote.instance_create(&config).await.unwrap().id;
    served.remote.instance_start(&id, secrets).await.unwrap();
    served.remote.instance_started(&id).await.unwrap();
    Place { _image: image, _node: node, served, id: id.into() }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[tokio::test]
async fn a_command_is_run_on_a_node() {
    let Place { served, id, .. } = &place("sleep 999", InstanceSecrets::default()).await;
    let remote = &*served.remote;
    let line = words(&["sh", "-c", "echo out; echo err >&2; exit 3"]);
    let run = exec_run(remote, id, &line, Duration::from_secs(20), 1 << 10).await.unwrap();
    assert_eq!(run.exit_code, Some(3));
    let text = String::from_utf8_lossy(&run.output).into_owned();
    assert!(text.contains("out\n") && text.contains("err\n"), "{text}");

    let options = ExecOptions { command: words(&["wc", "-c"]), stdin: true, ..ExecOptions::default() };
    let mut exec = remote.exec(id, &options).await.unwrap();
    let mut input = exec.input.take().unwrap();
    input.write_all(&vec![7; 3_000_000]).await.unwrap();
    input.shutdown().await.unwrap();
    let mut output = Vec::new();
    while let Some(chunk) = exec.output.next().await {
        output.extend_from_slice(&chunk.unwrap().bytes);
    }
    assert_eq!(String::from_utf8_lossy(&output), "3000000\n");
    assert_eq!(exec.control.exit_code().await.unwrap(), 0);

    // Dropped, it ends on the node.
    let sleep = words(&["sleep", "987"]);
    let cut = exec_run(remote, id, &sleep, Duration::from_millis(700), 1 << 10).await.unwrap();
    assert_eq!(cut.exit_code, None);
    let deadline = Instant::now() + Duration::from_secs(20);
    while docker(&["top", id]).contains("sleep 987") {
        assert!(Instant::now() < deadline, "it was not ended");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    docker(&["stop", "-t", "0", id]);
    let refused = remote.exec(id, &options).await.unwrap_err();
    assert!(
        matches!(&refused, Error::Rejected { message, .. } if message.contains("does not run")),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_port_is_reached_on_a_node() {
    let place = place("exec nc -ll -p 7070 -e sh /bin/answer", InstanceSecrets::default()).await;
    let remote = &*place.served.remote;
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut stream = loop {
        match remote.port_connect(&place.id, 7070).await {
            Ok(stream) => break stream,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
    };
    stream.write_all(b"this\nand more").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "heard this\n");
    let refused = remote.port_connect(&place.id, 7071).await.err().unwrap();
    assert!(matches!(&refused, Error::Rejected { message, .. } if message.contains("7071")), "{refused:?}");
}

#[tokio::test]
async fn secrets_arrive_and_figures_come_back() {
    let value = "s3cret \"\u{fc}\n";
    let mut secrets = InstanceSecrets::default();
    secrets.env.push(("KEY".to_owned(), value.to_owned().into()));
    secrets
        .files
        .push(SecretFile { path: "/etc/app/token".parse().unwrap(), content: vec![0, 255, 10, 7].into() });
    secrets.placed.push(PlacedFile {
        path: "/data/run".parse().unwrap(),
        content: b"#!/bin/sh\necho placed\n".to_vec().into(),
        executable: true,
    });
    let command = "printf %s \"$KEY\" | od -An -tx1; od -An -tx1 /etc/app/token; /data/run; exec sleep 999";
    let Place { served, id, .. } = &place(command, secrets).await;
    let shown = wait_for_output(&*served.remote, id, "placed").await;
    let hexadecimal: String = shown.split_whitespace().collect();
    let expected = value.bytes().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
    assert!(hexadecimal.contains(&format!("{expected}00ff0a07placed")), "{shown}");

    let stats = served.remote.stats(&[id.as_str().into(), "no-such-container".into()]).await.unwrap();
    let usage = stats.iter().find(|(of, _)| **of == **id).unwrap().1.as_ref().unwrap();
    assert!(usage.memory_bytes > 0 && usage.processes > 0, "{usage:?}");
    assert!(stats.iter().all(|(of, usage)| **of == **id || usage.is_err()));
    served.remote.networks_check().await.unwrap();
}

#[tokio::test]
async fn a_follower_of_logs_that_goes_is_gone_on_the_node_too() {
    let place = place("while :; do echo tick; sleep 0.05; done", InstanceSecrets::default()).await;
    let follow = LogOptions { follow: true, ..LogOptions::default() };
    let mut slow = place.served.remote.logs(&place.id, &follow).await.unwrap();
    let mut quick = place.served.remote.logs(&place.id, &follow).await.unwrap();
    // One that is not read holds up no other.
    for _ in 0..20 {
        assert_eq!(quick.next().await.unwrap().unwrap().bytes, "tick\n");
    }
    assert_eq!(slow.next().await.unwrap().unwrap().bytes, "tick\n");
    drop((slow, quick));
    let Place { served, .. } = place;
    tokio::time::timeout(Duration::from_secs(10), served.server.end()).await.unwrap();
}
