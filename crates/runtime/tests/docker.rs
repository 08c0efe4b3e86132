//! What holds of instances on a real Docker Engine, seen from inside the sandbox and through the `docker` command.

#![allow(clippy::unwrap_used, reason = "a test fails where something is not as it must be")]

mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::time::{Duration, Instant};

use chassis_core::RunState;
use chassis_init::lease::{self, Writer};
use chassis_runtime::{
    DockerOptions, DockerRuntime, Error, InstanceConfig, InstanceSecrets, LogOptions, Runtime, SecretFile,
    lease_directory,
};
use futures_util::StreamExt;
use serde_json::{Value, json};
use support::{Docker, LocalImage, docker, exit_code, output, run, wait_for, wait_for_output};
use zeroize::Zeroizing;

fn no_secrets() -> InstanceSecrets {
    InstanceSecrets::default()
}

fn sh(image: &LocalImage, script: &str) -> Value {
    json!({ "image": image.name, "command": ["sh", "-c", script] })
}

/// A spec with more in it.
fn with(mut spec: Value, more: Value) -> Value {
    if let (Value::Object(spec), Value::Object(more)) = (&mut spec, more) {
        spec.extend(more);
    }
    spec
}

fn volume(docker: &Docker, config: &InstanceConfig, name: &str) -> std::path::PathBuf {
    docker.data_dir.join(config.key.fleet.as_str()).join(config.key.short_name()).join(name)
}

#[tokio::test]
async fn the_sandbox_is_closed_unless_the_spec_opens_it() {
    let image = LocalImage::busybox(&[], &[]);
    let node = Docker::new();
    let script = "exec 2>&1; id -u; id -g; grep -E '^(Cap(Eff|Prm|Bnd)|NoNewPrivs|Seccomp):' /proc/self/status; touch /x; \
                  ulimit -Hn; touch /tmp/x /tmpfs/x && echo memory; \
                  echo $HOME $USER $CHASSIS_FLEET/$CHASSIS_INSTANCE $CHASSIS_AGENT $CHASSIS_NUMBER; hostname; \
                  grep SigBlk /proc/self/status; touch /.chassis/x";
    let config = node.config(with(sh(&image, script), json!({ "resources": { "files": 4321 } }))).await;
    let (code, text) = node.run(&config, no_secrets()).await;
    let fleet = config.key.fleet.as_str();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[..2], ["64646", "64646"]);
    for closed in ["CapEff:\t0000000000000000", "CapPrm:\t0000000000000000", "CapBnd:\t0000000000000000"] {
        assert!(lines.contains(&closed), "{text}");
    }
    assert!(text.contains("NoNewPrivs:\t1") && text.contains("Seccomp:\t2"), "{text}");
    assert!(text.contains("touch: /x: Read-only file system"), "{text}");
    assert!(text.contains("touch: /.chassis/x: Read-only file system"), "{text}");
    assert!(text.contains("\n4321\nmemory\n"), "{text}");
    assert!(text.contains(&format!("/tmpfs chassis {fleet}/agent-1 agent 1\nagent-1\n")), "{text}");
    assert!(text.contains("SigBlk:\t0000000000000000"), "the agent starts with no signal blocked: {text}");
    assert_eq!(code, 1, "the last touch failed");

    let open =
        json!({ "user": "0", "security": { "writableRoot": true, "capabilities": ["NET_BIND_SERVICE"] } });
    let script = "touch /x && id -u; grep CapEff /proc/self/status";
    let config = node.config(with(sh(&image, script), open)).await;
    let (_, text) = node.run(&config, no_secrets()).await;
    assert_eq!(text, "0\nCapEff:\t0000000000000400\n");
}

#[tokio::test]
async fn limits_reach_docker() {
    let image = LocalImage::busybox(&[], &[]);
    let node = Docker::new();
    let spec = json!({
        "resources": { "memory": "64Mi", "cpu": "500m", "pids": 33 }, "stop": { "signal": "SIGINT", "grace": 7 },
        "ports": [{ "containerPort": 80, "hostPort": 0, "name": "web" }, { "containerPort": 81 }],
        "labels": { "team": "x" }, "clusterId": "east", "tmpfs": { "size": "1Mi" },
    });
    let mut spec = with(sh(&image, "sleep 60"), spec);
    spec["ports"][0]["hostPort"] = json!(28_461);
    let config = node.config(spec).await;
    let id = node.start(&config, no_secrets()).await;
    let seen: Value = serde_json::from_str(&docker(&["inspect", &id])).unwrap();
    let (host, own) = (&seen[0]["HostConfig"], &seen[0]["Config"]);
    assert_eq!((&host["Memory"], &host["MemorySwap"]), (&json!(64 << 20), &json!(64 << 20)));
    assert_eq!((&host["NanoCpus"], &host["PidsLimit"]), (&json!(500_000_000), &json!(33)));
    assert_eq!((&own["StopSignal"], &own["StopTimeout"]), (&json!("SIGINT"), &json!(7)));
    assert_eq!(host["LogConfig"]["Config"]["max-size"], "10485760");
    let published = json!({ "80/tcp": [{ "HostIp": "127.0.0.1", "HostPort": "28461" }] });
    assert_eq!(host["PortBindings"], published);
    for (label, value) in [
        ("chassis.server", node.server_id.as_str()),
        ("chassis.fleet", config.key.fleet.as_str()),
        ("chassis.agent", "agent"),
        ("chassis.instance", "1"),
        ("chassis.revision", "1"),
        ("chassis.cluster", "east"),
        ("team", "x"),
    ] {
        assert_eq!(own["Labels"][label], value, "{label}");
    }
    // Its network knows it by the agent's name.
    let mut other = config.clone();
    other.key.number = 2;
    let spec = with(sh(&image, "ping -c 1 -W 5 agent >/dev/null; nslookup agent-1 | tail -n 2"), json!({}));
    other.spec = node.config(with(spec, json!({ "name": "agent" }))).await.spec;
    let (code, text) = node.run(&other, no_secrets()).await;
    assert_eq!(code, 0, "{text}");

    // The port is taken: Docker's reason, and what to do.
    let mut rival = config.clone();
    rival.key.number = 3;
    let rival = node.runtime.instance_create(&rival).await.unwrap().id;
    let refused = node.runtime.instance_start(&rival, no_secrets()).await.unwrap_err();
    assert!(matches!(refused, Error::Rejected { .. }), "{refused:?}");
    let text = refused.to_string();
    assert!(
        text.contains("Bind for 127.0.0.1:28461 failed: port is already allocated; choose another"),
        "{text}"
    );
    let state = node.runtime.instance_inspect(&rival).await.unwrap().unwrap().observed.state;
    assert_eq!(state, RunState::Created);
}

#[tokio::test]
async fn memory_is_gone_after_a_stop_and_volumes_stay_after_removal() {
    let image = LocalImage::busybox(&[], &[]);
    let node = Docker::new();
    let script = "ls /data /data/cache /tmpfs; echo kept > /data/file; echo lost | tee /data/cache/x > /tmpfs/x; \
                  grep -cE ' (/tmpfs|/tmp|/data/cache) tmpfs ' /proc/mounts; stat -c '%u %a' /data";
    let spec =
        json!({ "volumes": [{ "name": "data", "mountPath": "/data", "scratch": [{ "path": "cache" }] }] });
    let mut config = node.config(with(sh(&image, script), spec)).await;
    let id = node.start(&config, no_secrets()).await;
    exit_code(&*node.runtime, &id).await;
    let first = output(&*node.runtime, &id).await;
    assert_eq!(first, "/data:\ncache\n\n/data/cache:\n\n/tmpfs:\n3\n64646 700\n");
    node.runtime.instance_start(&id, no_secrets()).await.unwrap();
    exit_code(&*node.runtime, &id).await;
    let second = output(&*node.runtime, &id).await.replacen(&first, "", 1);
    assert!(second.starts_with("/data:\ncache\nfile\n\n/data/cache:\n\n/tmpfs:\n3\n"), "{second}");

    node.runtime.instance_remove(&id).await.unwrap();
    config.revision = 2;
    let (_, third) = node.run(&config, no_secrets()).await;
    assert!(third.contains("file"), "{third}");
    let directory = volume(&node, &config, "data");
    assert_eq!(fs::read_to_string(directory.join("file")).unwrap(), "kept\n");
    assert_eq!(fs::metadata(directory.parent().unwrap()).unwrap().mode() & 0o777, 0o700);

    // Another user in the YAML gets the data too, and links in it lead nowhere.
    let outside = tempfile::NamedTempFile::new().unwrap();
    symlink(outside.path(), directory.join("link")).unwrap();
    let mut spec = (*config.spec).clone();
    spec.user = Some("1234:1235".parse().unwrap());
    config.spec = spec.into();
    config.revision = 3;
    let (_, fourth) = node.run(&config, no_secrets()).await;
    assert!(fourth.ends_with("1234 700\n"), "{fourth}");
    let file = fs::metadata(directory.join("file")).unwrap();
    assert_eq!((file.uid(), file.gid()), (1234, 1235));
    assert_eq!(fs::metadata(outside.path()).unwrap().uid(), 0);

    let id = node.runtime.instance_create(&config).await.unwrap().id;
    node.runtime.instance_remove(&id).await.unwrap();
    node.runtime.data_remove(&config.key).await.unwrap();
    assert!(!directory.parent().unwrap().exists());
    assert!(outside.path().exists());
    node.runtime.fleet_remove(&config.key.fleet).await.unwrap();
    assert!(!directory.parent().unwrap().parent().unwrap().exists());
}

#[tokio::test]
async fn data_of_any_depth_is_removed_without_following_links() {
    let image = LocalImage::busybox(&[], &[]);
    let node = Docker::new();
    let config = node
        .config(with(sh(&image, "true"), json!({ "volumes": [{ "name": "data", "mountPath": "/data" }] })));
    let config = config.await;
    let id = node.runtime.instance_create(&config).await.unwrap().id;
    node.runtime.instance_remove(&id).await.unwrap();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("precious"), "").unwrap();
    let directory = volume(&node, &config, "data");
    symlink(outside.path(), directory.join("link")).unwrap();
    // Deeper than a path or a stack is long: built from the inside out.
    let (inner, outer) = (directory.join("inner"), directory.join("outer"));
    fs::create_dir(&inner).unwrap();
    for _ in 0..10_000 {
        fs::create_dir_all(outer.join("beside")).unwrap();
        fs::rename(&inner, outer.join("inner")).unwrap();
        fs::rename(&outer, &inner).unwrap();
    }
    node.runtime.data_remove(&config.key).await.unwrap();
    assert!(!directory.exists());
    assert_eq!(fs::read_dir(node.data_dir.join(".server/trash")).unwrap().count(), 0);
    assert!(outside.path().join("precious").exists());
}

#[tokio::test]
async fn a_directory_of_another_instance_is_refused() {
    let image = LocalImage::busybox(&[], &[]);
    let node = Docker::new();
    let spec = with(sh(&image, "echo ran"), json!({ "volumes": [{ "name": "data", "mountPath": "/data" }] }));
    let first = node.config(spec).await;
    let mut second = first.clone();
    second.key.number = 2;
    let mut ids = Vec::new();
    for config in [&first, &second] {
        ids.push(node.start(config, no_secrets()).await);
        exit_code(&*node.runtime, &ids[ids.len() - 1]).await;
    }
    let fleet = node.data_dir.join(first.key.fleet.as_str());
    for (from, to) in [("agent-1", "swap"), ("agent-2", "agent-1"), ("swap", "agent-2")] {
        fs::rename(fleet.join(from), fleet.join(to)).unwrap();
    }
    let refused = node.runtime.instance_start(&ids[0], no_secrets()).await.unwrap_err();
    assert!(matches!(refused, Error::Storage { .. }), "{refused:?}");
    let expected = format!("belongs to {0}/agent-2, not to {0}/agent-1", first.key.fleet);
    assert!(refused.to_string().contains(&expected), "{refused}");
    // init says so too, to whoever starts it by hand.
    docker(&["start", &ids[0]]);
    assert_eq!(exit_code(&*node.runtime, &ids[0]).await, 78);
    assert!(output(&*node.runtime, &ids[0]).await.contains(&expected));
}

#[tokio::test]
async fn a_volume_that_cannot_be_written_is_named() {
    let image = LocalImage::busybox(&[], &[]);
    let node = Docker::new();
    let volumes = json!({ "volumes": [{ "name": "data", "mountPath": "/data" }] });
    let config = node.config(with(sh(&image, "echo ran"), volumes)).await;
    let id = node.runtime.instance_create(&config).await.unwrap().id;
    std::os::unix::fs::chown(volume(&node, &config, "data"), Some(0), Some(0)).unwrap();
    docker(&["start", &id]);
    assert_eq!(exit_code(&*node.runtime, &id).await, 78);
    let text = output(&*node.runtime, &id).await;
    assert!(
        text.contains("volume data at /data cannot be written by user 64646: Permission denied"),
        "{text}"
    );
}

#[tokio::test]
async fn a_named_user_is_the_one_of_the_image() {
    let files = [("/etc/passwd", "app:x:1500:1501::/home/app:/bin/sh\n"), ("/etc/group", "staff:x:1600:\n")];
    let image = LocalImage::busybox(&files, &["USER app"]);
    let node = Docker::new();
    let spec = with(
        sh(&image, "id -u; id -g; echo $HOME; touch /data/x && echo written"),
        json!({ "volumes": [{ "name": "data", "mountPath": "/data" }] }),
    );
    let config = node.config(spec.clone()).await;
    assert_eq!(node.run(&config, no_secrets()).await.1, "1500\n1501\n/home/app\nwritten\n");
    let config = node.config(with(spec.clone(), json!({ "user": "app:staff" }))).await;
    assert_eq!(node.run(&config, no_secrets()).await.1, "1500\n1600\n/home/app\nwritten\n");
    let config = node.config(with(spec, json!({ "user": "nobody" }))).await;
    let refused = node.runtime.instance_create(&config).await.unwrap_err();
    assert!(matches!(refused, Error::Rejected { .. }), "{refused:?}");
    assert!(refused.to_string().contains("the image has no user nobody"), "{refused}");
}

#[tokio::test]
async fn secrets_reach_the_agent_and_nobody_else() {
    let image = LocalImage::busybox(&[("/etc/app/beside", "")], &[]);
    let node = Docker::new();
    let script = "exec 2>&1; echo -n $TOKEN | md5sum; echo -n \"$PLAIN\"; cat; ls /etc/app; stat -c '%a %u' /etc/app/key.pem; \
                  md5sum < /etc/app/key.pem; cat /proc/1/environ || echo hidden; sleep 0.3; exit 5";
    let spec = json!({
        "env": [{ "name": "TOKEN", "valueFrom": "secret://f/token" }, { "name": "PLAIN", "value": "plain\n" }],
        "volumes": [{ "name": "key", "mountPath": "/etc/app/key.pem", "secret": "secret://f/key" }],
    });
    let config = node.config(with(sh(&image, script), spec)).await;
    // Longer than a pipe and a socket hold.
    let secret = format!("s3cr3t{}", "x".repeat(100_000));
    let secrets = || InstanceSecrets {
        env: vec![("TOKEN".to_owned(), Zeroizing::new(secret.clone()))],
        files: vec![SecretFile {
            path: "/etc/app/key.pem".parse().unwrap(),
            content: Zeroizing::new(b"k3y\0binary".to_vec()),
        }],
        ..InstanceSecrets::default()
    };
    let sum = |bytes: &[u8]| {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), bytes).unwrap();
        let text = String::from_utf8(run("md5sum", &[file.path().to_str().unwrap()]).stdout).unwrap();
        text.split(' ').next().unwrap().to_owned()
    };
    let expected = format!(
        "{}  -\nplain\nbeside\nkey.pem\n400 64646\n{}  -\ncat: can't open '/proc/1/environ': Permission denied\nhidden\n",
        sum(secret.as_bytes()),
        sum(b"k3y\0binary"),
    );
    let id = node.start(&config, secrets()).await;
    assert_eq!(exit_code(&*node.runtime, &id).await, 5);
    assert_eq!(output(&*node.runtime, &id).await, expected);
    let inspected = docker(&["inspect", &id]);
    assert!(!inspected.contains("s3cr3t") && !inspected.contains("k3y"), "{inspected}");
    assert!(!format!("{:?}", secrets()).contains("s3cr3t"));
    // Again at every start, and as it is then.
    let mut changed = secrets();
    changed.env[0].1 = Zeroizing::new("new".to_owned());
    node.runtime.instance_start(&id, changed).await.unwrap();
    assert_eq!(exit_code(&*node.runtime, &id).await, 5);
    let again = expected.replace(&sum(secret.as_bytes()), &sum(b"new"));
    assert_eq!(output(&*node.runtime, &id).await, format!("{expected}{again}"));

    let mounts: Value =
        serde_json::from_str(&docker(&["inspect", "--format", "{{json .Mounts}}", &id])).unwrap();
    let mounts = mounts.as_array().unwrap().iter();
    let files: Vec<_> = mounts.filter(|mount| mount["Destination"] == "/etc/app/key.pem").collect();
    let file = Path::new(files[0]["Source"].as_str().unwrap());
    assert_eq!(fs::read(file).unwrap(), b"k3y\0binary");
    node.runtime.instance_stop(&id).await.unwrap();
    assert!(!file.exists());
    node.runtime.instance_start(&id, secrets()).await.unwrap();
    node.runtime.instance_remove(&id).await.unwrap();
    assert!(!file.parent().unwrap().exists());
    let on_disk = run("grep", &["-r", "s3cr3t\\|k3y", node.data_dir.to_str().unwrap()]);
    assert!(on_disk.stdout.is_empty());

    let id = node.runtime.instance_create(&config).await.unwrap().id;
    docker(&["start", &id]);
    assert_eq!(exit_code(&*node.runtime, &id).await, 78);
    let text = output(&*node.runtime, &id).await;
    assert!(text.contains("no secrets arrived: was this container started by hand?"), "{text}");
}

#[tokio::test]
async fn what_may_run_elsewhere_ends_with_the_lease_of_its_node() {
    let image = LocalImage::busybox(&[], &[]);
    let node = Docker::new();
    // One that listens to nobody.
    let mut config = node.config(sh(&image, "trap '' TERM; echo ran; while :; do sleep 1; done")).await;
    config.leased = true;
    let id = node.runtime.instance_create(&config).await.unwrap().id;
    node.runtime.instance_start(&id, no_secrets()).await.unwrap();
    assert_eq!(exit_code(&*node.runtime, &id).await, 80, "it runs without a lease");
    let text = output(&*node.runtime, &id).await;
    assert!(text.contains("may run elsewhere: it is not started") && !text.contains("ran"), "{text}");

    let writer = Writer::open(&lease_directory(&node.data_dir)).unwrap();
    let boot = lease::boot_id().unwrap();
    let until = |seconds| lease::since_boot() + Duration::from_secs(seconds);
    writer.write("another boot", until(3600)).unwrap();
    docker(&["start", &id]);
    assert_eq!(exit_code(&*node.runtime, &id).await, 80, "it runs on a lease of another boot");

    writer.write(&boot, until(3)).unwrap();
    node.runtime.instance_start(&id, no_secrets()).await.unwrap();
    wait_for_output(&*node.runtime, &id, "ran").await;
    let prolonged = until(5);
    writer.write(&boot, prolonged).unwrap();
    let ended = wait_for(&*node.runtime, &id, |state| matches!(state, RunState::Exited { .. })).await;
    let over = lease::since_boot();
    assert!(over > prolonged, "it ended before its lease");
    assert!(
        over < prolonged + lease::GRACE + Duration::from_secs(8),
        "{:?} after its lease",
        over.saturating_sub(prolonged)
    );
    let RunState::Exited { exit, .. } = ended.observed.state else { unreachable!() };
    assert!((exit.code, exit.unleased) == (80, true), "{exit:?}");
    let mounts = docker(&["inspect", "--format", "{{json .Mounts}}", &id]);
    assert!(
        mounts.contains("\"Destination\":\"/.chassis/lease\"") && !mounts.contains("\"RW\":true"),
        "{mounts}"
    );
    let posture = node.runtime.posture(&id, &config.spec).await.unwrap().unwrap();
    assert!(posture.mounts.is_empty(), "{posture:?}");

    // Where it need not end, it is another container.
    config.leased = false;
    let other = node.runtime.instance_create(&config).await.unwrap().id;
    assert_ne!(other, id);
    node.runtime.instance_start(&other, no_secrets()).await.unwrap();
    wait_for_output(&*node.runtime, &other, "ran").await;
}

#[tokio::test]
async fn an_image_of_one_static_program_runs() {
    let image =
        LocalImage::make(&["ENTRYPOINT [\"/busybox\", \"echo\"]", "CMD [\"from\", \"scratch\"]"], |root| {
            fs::copy("/bin/busybox", root.join("busybox")).unwrap();
        });
    let node = Docker::new();
    for (spec, expected) in [
        (json!({ "image": image.name }), "from scratch\n"),
        (json!({ "image": image.name, "args": ["args"] }), "args\n"),
        (json!({ "image": image.name, "command": ["/busybox", "echo", "own"] }), "own\n"),
        (json!({ "image": image.name, "command": ["/busybox"], "args": ["echo", "both"] }), "both\n"),
    ] {
        assert_eq!(node.run(&node.config(spec).await, no_secrets()).await, (0, expected.to_owned()));
    }
}

#[tokio::test]
async fn an_image_without_a_command_is_refused() {
    let image = LocalImage::busybox(&[], &[]);
    let node = Docker::new();
    let config = node.config(json!({ "image": image.name })).await;
    let refused = node.runtime.instance_create(&config).await.unwrap_err();
    assert!(refused.to_string().contains("has no command; set `command:`"), "{refused}");
}

#[tokio::test]
async fn an_agent_that_cannot_start_says_why() {
    let image = LocalImage::busybox(&[("/etc/plain", "text"), ("/bin/script", "#!/nowhere/sh\n")], &[]);
    let node = Docker::new();
    for (command, code, reason) in [
        (json!(["nothing"]), 127, "nothing was not found in PATH="),
        (json!(["/bin/nothing"]), 127, "/bin/nothing was not found"),
        (json!(["/etc/plain"]), 126, "/etc/plain is not executable by user 64646"),
        (json!(["/etc"]), 126, "/etc is not executable"),
        (json!(["sh", "-c", "exit 3"]), 3, ""),
        (json!(["sh", "-c", "kill -SEGV $$"]), 139, ""),
    ] {
        let config = node.config(json!({ "image": image.name, "command": command })).await;
        let (exited, text) = node.run(&config, no_secrets()).await;
        assert_eq!(exited, code, "{command}: {text}");
        assert!(text.contains(reason), "{command}: {text}");
    }
}

#[tokio::test]
async fn signals_are_forwarded_and_orphans_reaped() {
    let image = LocalImage::busybox(&[], &[]);
    let node = Docker::new();
    let script = "for s in HUP INT USR1 USR2 WINCH QUIT; do trap \"echo got-$s\" $s; done; trap 'exit 9' TERM; \
                  i=0; while [ $i -lt 20 ]; do (sh -c 'sleep 0.1 &' &); i=$((i+1)); done; sleep 0.5; \
                  echo zombies: $(grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null | wc -l); echo ready; \
                  while :; do sleep 0.02; done";
    let config = node.config(sh(&image, script)).await;
    let id = node.start(&config, no_secrets()).await;
    let text = wait_for_output(&*node.runtime, &id, "ready").await;
    assert!(text.contains("zombies: 0"), "{text}");
    for signal in ["HUP", "INT", "USR1", "USR2", "WINCH", "QUIT"] {
        docker(&["kill", "--signal", signal, &id]);
        wait_for_output(&*node.runtime, &id, &format!("got-{signal}")).await;
    }
    node.runtime.instance_stop(&id).await.unwrap();
    assert_eq!(exit_code(&*node.runtime, &id).await, 9);
}

#[tokio::test]
async fn what_ignores_its_stop_signal_is_killed_after_the_grace_period() {
    let image = LocalImage::busybox(&[], &[]);
    let node = Docker::new();
    let spec = with(
        sh(&image, "trap 'echo ignored' INT; echo ready; while :; do sleep 0.02; done"),
        json!({ "stop": { "signal": "INT", "grace": 1 } }),
    );
    let config = node.config(spec).await;
    let id = node.start(&config, no_secrets()).await;
    wait_for_output(&*node.runtime, &id, "ready").await;
    let begun = Instant::now();
    node.runtime.instance_stop(&id).await.unwrap();
    assert!((1.0..5.0).contains(&begun.elapsed().as_secs_f64()), "{:?}", begun.elapsed());
    assert_eq!(exit_code(&*node.runtime, &id).await, 137);
    assert!(output(&*node.runtime, &id).await.contains("ignored"));
}

#[tokio::test]
async fn too_much_memory_is_seen_as_such() {
    let image = LocalImage::busybox(&[], &[]);
    let node = Docker::new();
    let spec = with(sh(&image, "tail /dev/zero"), json!({ "resources": { "memory": "16Mi" } }));
    let config = node.config(spec).await;
    let id = node.start(&config, no_secrets()).await;
    let owned = wait_for(&*node.runtime, &id, |state| matches!(state, RunState::Exited { .. })).await;
    let RunState::Exited { exit, .. } = owned.observed.state else { unreachable!("it was waited for") };
    assert!(exit.out_of_memory, "{exit:?}");
}

#[tokio::test]
async fn only_allowed_host_paths_are_mounted() {
    let image = LocalImage::busybox(&[], &[]);
    let (allowed, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(allowed.path().join("file"), "from the host\n").unwrap();
    fs::write(other.path().join("file"), "forbidden\n").unwrap();
    symlink(other.path(), allowed.path().join("link")).unwrap();
    for path in [allowed.path(), other.path()] {
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    let node = Docker::allowing(&[allowed.path()]);
    let spec = |path: &Path| {
        let volume = json!({ "name": "host", "mountPath": "/host", "hostPath": path, "readOnly": true });
        with(sh(&image, "cat /host/file; touch /host/x"), json!({ "volumes": [volume] }))
    };
    let (_, text) = node.run(&node.config(spec(allowed.path())).await, no_secrets()).await;
    // Docker copies the two streams separately, so that their lines come in any order.
    assert!(text.contains("from the host\n") && text.contains("Read-only file system"), "{text}");
    for path in [other.path(), &allowed.path().join("link"), &allowed.path().join("..")] {
        let mut config = node.config(spec(allowed.path())).await;
        let mut changed = (*config.spec).clone();
        let Ok(path) = path.to_str().unwrap().parse() else { continue };
        changed.volumes[0].host_path = Some(path);
        config.spec = changed.into();
        let refused = node.runtime.instance_create(&config).await.unwrap_err();
        assert!(matches!(refused, Error::Rejected { .. }), "{refused:?}");
        assert!(refused.to_string().contains("--allow-host-path"), "{refused}");
    }
}

#[tokio::test]
async fn a_network_that_somebody_removed_is_made_again() {
    let image = LocalImage::busybox(&[], &[]);
    let node = Docker::new();
    let config = node.config(sh(&image, "echo ran")).await;
    let id = node.runtime.instance_create(&config).await.unwrap().id;
    let network = format!("chassis-{}", config.key.fleet);
    docker(&["network", "rm", &network]);
    node.runtime.instance_start(&id, no_secrets()).await.unwrap();
    assert_eq!(exit_code(&*node.runtime, &id).await, 0);
    node.runtime.instance_remove(&id).await.unwrap();
    docker(&["network", "rm", &network]);
    assert_eq!(node.run(&config, no_secrets()).await, (0, "ran\n".to_owned()));

    node.runtime.instance_remove(&node.runtime.instance_list().await.unwrap()[0].observed.id).await.unwrap();
    docker(&["network", "rm", &network]);
    let foreign = docker(&["network", "create", &network]);
    let taken = node.runtime.fleet_prepare(&config.key.fleet).await;
    node.runtime.fleet_remove(&config.key.fleet).await.unwrap();
    docker(&["network", "rm", &foreign]);
    assert!(matches!(taken, Err(Error::NameTaken { .. })), "{taken:?}");
}

#[tokio::test]
async fn concurrent_preparations_make_one_network_and_many_instances() {
    let image = LocalImage::busybox(&[], &[]);
    let node = Docker::new();
    let config = node.config(sh(&image, "sleep 60")).await;
    let created = futures_util::future::join_all((1..=8).map(|number| {
        let mut config = config.clone();
        config.key.number = number;
        let node = &node;
        async move { node.runtime.instance_create(&config).await.unwrap().id }
    }))
    .await;
    let networks =
        docker(&["network", "ls", "-q", "--filter", &format!("label=chassis.server={}", node.server_id)]);
    assert_eq!(networks.lines().count(), 1);
    assert_eq!(created.len(), 8);
    assert_eq!(node.runtime.fleet_list().await.unwrap(), std::slice::from_ref(&config.key.fleet));
}

#[tokio::test]
async fn a_followed_log_is_close_behind_the_agent() {
    let image = LocalImage::busybox(&[], &[]);
    let node = Docker::new();
    let config = node.config(sh(&image, "trap 'exit 0' TERM; while :; do sleep 0.05; echo line; done")).await;
    let id = node.start(&config, no_secrets()).await;
    let mut log =
        node.runtime.logs(&id, &LogOptions { follow: true, ..LogOptions::default() }).await.unwrap();
    let mut delays = Vec::new();
    for _ in 0..20 {
        let chunk = log.next().await.unwrap().unwrap();
        let delay = jiff::Timestamp::now().duration_since(chunk.time);
        delays.push(Duration::try_from(delay).unwrap_or_default());
    }
    delays.sort();
    assert!(delays[10] < Duration::from_millis(10), "{delays:?}");
}

/// A socket in front of Docker's that can go away.
struct Proxy {
    path: std::path::PathBuf,
    tasks: tokio::task::JoinHandle<()>,
}

impl Proxy {
    fn start(path: &Path) -> Proxy {
        let _ = fs::remove_file(path);
        let listener = tokio::net::UnixListener::bind(path).unwrap();
        let tasks = tokio::spawn(async move {
            // Dropped with this task, and so aborted.
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((mut client, _)) = listener.accept().await {
                connections.spawn(async move {
                    let mut docker = tokio::net::UnixStream::connect("/var/run/docker.sock").await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut docker).await;
                });
            }
        });
        Proxy { path: path.to_owned(), tasks }
    }

    async fn stop(self) {
        self.tasks.abort();
        let _ = self.tasks.await;
        fs::remove_file(&self.path).unwrap();
    }
}

#[tokio::test]
async fn docker_may_go_and_come_back() {
    let image = LocalImage::busybox(&[], &[]);
    let node = Docker::new();
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("docker.sock");
    let runtime = DockerRuntime::connect(DockerOptions {
        docker_host: Some(format!("unix://{}", socket.display())),
        data_dir: node.data_dir.clone(),
        server_id: node.server_id.clone(),
        allowed_host_paths: Vec::new(),
        seccomp_dir: "/etc/chassis/seccomp".into(),
    })
    .unwrap();
    let is_unavailable = async || matches!(runtime.instance_list().await, Err(Error::Unavailable { .. }));
    assert!(is_unavailable().await, "there was no Docker yet");

    let proxy = Proxy::start(&socket);
    let config = node.config(sh(&image, "sleep 60")).await;
    let id = runtime.instance_create(&config).await.unwrap().id;
    runtime.instance_start(&id, no_secrets()).await.unwrap();
    let events = runtime.events().await.unwrap();
    proxy.stop().await;
    let events = tokio::time::timeout(support::PATIENCE, events.collect::<Vec<_>>()).await;
    let last = events.expect("the stream ends with the connection").pop();
    assert!(matches!(last, None | Some(Err(Error::Unavailable { .. }))), "{last:?}");
    assert!(is_unavailable().await);

    let _proxy = Proxy::start(&socket);
    let owned = runtime.instance_inspect(&id).await.unwrap().unwrap();
    assert!(matches!(owned.observed.state, RunState::Running { .. }), "the agent kept running");
}
