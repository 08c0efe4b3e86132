//! Commands beside an agent and connections into its sandbox, on a real Docker Engine.

#![allow(clippy::unwrap_used, reason = "a test fails where something is not as it must be")]

mod support;

use std::time::{Duration, Instant};

use chassis_runtime::{DockerOptions, DockerRuntime, Error, ExecOptions, InstanceSecrets, Runtime, exec_run};
use futures_util::StreamExt;
use serde_json::json;
use support::{Docker, LocalImage, docker};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, UnixStream};

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[tokio::test]
async fn a_command_is_run_as_the_agent_would_be() {
    let image = LocalImage::busybox(&[], &[]);
    let node = Docker::new();
    let config = node.config(json!({ "image": image.name, "command": ["sleep", "999"] })).await;
    let id = node.start(&config, InstanceSecrets::default()).await;
    let run = async |line: &[&str]| {
        exec_run(&*node.runtime, &id, &words(line), Duration::from_secs(20), 1 << 10).await.unwrap()
    };
    let shown =
        run(&["sh", "-c", "id -u; echo $CHASSIS_INSTANCE; grep -E 'CapEff|NoNew' /proc/self/status; exit 3"]);
    let shown = shown.await;
    let text = String::from_utf8_lossy(&shown.output).into_owned();
    assert_eq!(shown.exit_code, Some(3));
    assert_eq!(text, "64646\nagent-1\nCapEff:\t0000000000000000\nNoNewPrivs:\t1\n");

    let missing = run(&["nothing-of-this-name"]).await;
    assert_eq!(missing.exit_code, Some(127), "{missing:?}");
    assert!(String::from_utf8_lossy(&missing.output).contains("was not found"), "{missing:?}");
    assert_eq!(run(&["/etc"]).await.exit_code, Some(126));
    let much = run(&["sh", "-c", "yes | head -c 1000000"]).await;
    assert_eq!((much.exit_code, much.output.len()), (Some(0), 1 << 10));

    let began = Instant::now();
    let line = words(&["sh", "-c", "trap '' TERM HUP; sleep 987 & setsid sleep 986 & wait"]);
    let cut = exec_run(&*node.runtime, &id, &line, Duration::from_millis(500), 1 << 10).await.unwrap();
    assert_eq!(cut.exit_code, None);
    assert!(began.elapsed() < Duration::from_secs(10));
    // What was left is ended, but for what put itself into a session of its own.
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let processes = docker(&["top", &id]);
        if !processes.contains("sleep 987") {
            assert!(processes.contains("sleep 986"), "{processes}");
            break;
        }
        assert!(Instant::now() < deadline, "it was not ended: {processes}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn the_end_of_the_input_reaches_a_command() {
    let image = LocalImage::busybox(&[], &[]);
    let node = Docker::new();
    let config = node.config(json!({ "image": image.name, "command": ["sleep", "999"] })).await;
    let id = node.start(&config, InstanceSecrets::default()).await;
    let options = ExecOptions { command: words(&["wc", "-c"]), stdin: true, ..ExecOptions::default() };
    let mut exec = node.runtime.exec(&id, &options).await.unwrap();
    let mut input = exec.input.take().unwrap();
    input.write_all(&vec![7; 3_000_000]).await.unwrap();
    input.shutdown().await.unwrap();
    let mut output = Vec::new();
    while let Some(chunk) = exec.output.next().await {
        output.extend_from_slice(&chunk.unwrap().bytes);
    }
    assert_eq!(String::from_utf8_lossy(&output), "3000000\n");
    assert_eq!(exec.control.exit_code().await.unwrap(), 0);

    docker(&["stop", "-t", "0", &id]);
    let refused = node.runtime.exec(&id, &options).await.unwrap_err();
    assert!(
        matches!(&refused, Error::Rejected { message, .. } if message.contains("does not run")),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_port_of_a_sandbox_is_reached_though_nothing_is_published() {
    let image = LocalImage::busybox(
        &[("bin/answer", "#!/bin/sh\nread -r line; cat >/dev/null; echo \"heard $line\"\n")],
        &[],
    );
    let node = Docker::new();
    let command = "exec nc -ll -p 7070 -e sh /bin/answer";
    let config = node.config(json!({ "image": image.name, "command": ["sh", "-c", command] })).await;
    let id = node.start(&config, InstanceSecrets::default()).await;
    // Where the Engine may be on another machine, init relays.
    let far = DockerRuntime::connect(DockerOptions {
        docker_host: Some(format!("tcp://{}", far_engine().await)),
        data_dir: node.data_dir.clone(),
        server_id: node.server_id.clone(),
        allowed_host_paths: Vec::new(),
        seccomp_dir: "/etc/chassis/seccomp".into(),
    })
    .unwrap();
    for runtime in [&*node.runtime, &far] {
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut stream = loop {
            match runtime.port_connect(&id, 7070).await {
                Ok(stream) => break stream,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
        };
        stream.write_all(b"this\nand more").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "heard this\n");
        let refused = runtime.port_connect(&id, 7071).await.err().unwrap();
        assert!(
            matches!(&refused, Error::Rejected { message, .. } if message.contains("7071")),
            "{refused:?}"
        );
    }
    let left = docker(&["top", &id]);
    assert!(!left.contains("relay"), "a relay is left: {left}");
}

/// The machine's Engine at an address of the network.
async fn far_engine() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let mut engine = UnixStream::connect("/var/run/docker.sock").await.unwrap();
            tokio::spawn(async move { copy_bidirectional(&mut near, &mut engine).await });
        }
    });
    address
}
