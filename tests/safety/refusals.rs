//! What the server's configuration must allow is refused before anything is changed.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use chassis_testkit::api::{Phase, Reason};
use chassis_testkit::{SOON, eventually, expect, not_tested};

use crate::Ground;

const SLEEP: &str = "exec sleep 99999";

/// What to write, the field that is named, and the word that allows it.
const OPENINGS: [(&str, &str, &str); 9] = [
    ("privileged: true", "security.privileged", "privileged"),
    ("hostNetwork: true", "security.hostNetwork", "host-network"),
    ("hostPID: true", "security.hostPid", "host-pid"),
    ("host_ipc: true", "security.hostIpc", "host-ipc"),
    ("seccomp: unconfined", "security.seccomp", "unconfined"),
    ("appArmor: unconfined", "security.appArmor", "unconfined"),
    ("capabilities: [NET_RAW, ALL]", "security.capabilities[1]", "all-capabilities"),
    ("capabilities: [SYS_ADMIN]", "security.capabilities[0]", "all-capabilities"),
    ("userns: host", "security.userns", "host-userns"),
];

#[test]
fn what_leaves_the_sandbox_needs_the_servers_permission() {
    let ground = Ground::new();
    let chassis = &ground.chassis;
    let mut server = chassis.serve();
    chassis.ok(&["create", "fleet", &ground.fleet]);
    ground.deploy("calm", SLEEP, "").exits(0);
    let before = chassis.instance(&format!("{}/calm-1", ground.fleet));
    for (yaml, field, word) in OPENINGS {
        let security = format!("security: {{{yaml}}}\n");
        let path = chassis.write("agent.yaml", &ground.yaml("calm", SLEEP, &security)).display().to_string();
        let asked = format!("--allow {word}");
        for command in [
            vec!["deploy", "agent", "-f", &path],
            vec!["deploy", "agent", "--dry-run", "-f", &path],
            vec!["apply", "-f", &path],
        ] {
            chassis.run(&command).exits(1).says(&["calm", field, &asked]);
        }
        // 1 says that something differs.
        chassis.run(&["diff", "-f", &path]).exits(2).says(&[field, &asked]);
    }
    // All that is wrong is said at once.
    let all = "security: {privileged: true, hostNetwork: true}\nvolumes: [{name: etc, mountPath: /host, hostPath: /etc}]\n";
    ground.deploy("calm", SLEEP, all).exits(1).says(&["privileged", "hostNetwork", "volumes.etc.hostPath"]);
    let after = chassis.instance(&format!("{}/calm-1", ground.fleet));
    assert_eq!((after.agent_revision, &after.instance.container_id), (1, &before.instance.container_id));
    chassis.run(&["serve", "--allow", "everything"]).exits(2).says(&["everything", "host-userns"]);
    server.terminate();

    // With permission it is what it says; from a flag or from the environment.
    let words = "privileged,host-network,host-pid,host-ipc";
    let env = [("CHASSIS_ALLOW", " unconfined, all-capabilities,host-userns")];
    let mut server = chassis.serve_with(&["--allow", words], &env);
    chassis.ok(&["server", "status"]).shows(&["host-network, host-pid", "unconfined"]);
    let open = "user: root\nsecurity: {hostNetwork: true, hostPid: true, hostIpc: true, userns: host, \
                seccomp: unconfined, appArmor: unconfined, capabilities: [SYS_ADMIN]}\n";
    let script = "grep -E \"^(CapEff|Seccomp):\" /proc/self/status; echo ready; exec sleep 99999";
    ground.deploy("open", script, open).exits(0);
    let printed = ground.printed("open", "ready");
    for state in ["Seccomp:\t0", "CapEff:\t0000000000200000"] {
        assert!(printed.contains(state), "{state} is not in: {printed}");
    }
    let host = host_config(&ground, "open");
    for field in ["NetworkMode", "PidMode", "IpcMode", "UsernsMode"] {
        assert_eq!(host[field], "host", "{field}");
    }
    // Where the tests run, Docker itself may lack a capability, and then cannot give all: it is not waited for.
    let all = chassis
        .write("all.yaml", &ground.yaml("all", SLEEP, "security: {privileged: true, capabilities: [ALL]}\n"));
    chassis.ok(&["deploy", "agent", "--no-wait", "-f", &all.display().to_string()]);
    eventually(SOON, || {
        let created = chassis.instance(&format!("{}/all-1", ground.fleet)).instance.container_id.is_some();
        expect(created, || "there is no container yet".to_owned())
    });
    let host = host_config(&ground, "all");
    assert_eq!((&host["Privileged"], &host["CapAdd"]), (&true.into(), &serde_json::json!(["ALL"])));
    for (agent, opened) in [("open", 1..9), ("all", 0..1)] {
        let fields: Vec<&str> =
            OPENINGS[opened].iter().map(|(_, field, _)| field.split('[').next().unwrap_or(field)).collect();
        chassis.ok(&["describe", &format!("{}/{agent}-1", ground.fleet)]).shows(&fields);
    }

    // A permission that is taken back stops nothing that runs, and is asked for again at the next start.
    server.terminate();
    let _server = chassis.serve();
    let name = format!("{}/open-1", ground.fleet);
    chassis.until(&name, Phase::Running);
    chassis.ok(&["stop", &name]);
    chassis.run(&["start", &name]).exits(1).says(&["security.capabilities[0]", "--allow all-capabilities"]);
    assert_eq!(chassis.instance(&name).instance.reason, Some(Reason::Rejected));
}

#[test]
fn the_hosts_files_are_shown_only_where_the_server_allows_it() {
    let ground = Ground::new();
    let chassis = &ground.chassis;
    let home = fs::canonicalize(chassis.home()).expect("a path");
    let at = |name: &str| home.join(name);
    fs::create_dir_all(at("shared/data")).expect("directories");
    fs::create_dir(at("private")).expect("a directory");
    for (link, target) in [("to-etc", "/etc"), ("to-private", "../private"), ("to-dev", "/dev/null")] {
        symlink(target, at("shared").join(link)).expect("a link");
    }
    let _socket = UnixListener::bind(at("shared/docker.sock")).expect("a socket");
    let server = |paths: &[&Path]| {
        let flags =
            paths.iter().flat_map(|path| ["--allow-host-path".to_owned(), path.display().to_string()]);
        let flags: Vec<String> = flags.collect();
        chassis.serve_with(&flags.iter().map(String::as_str).collect::<Vec<_>>(), &[])
    };
    let mut running = server(&[&at("shared")]);
    chassis.ok(&["create", "fleet", &ground.fleet]);
    let volume = |path: &Path| {
        format!("volumes: [{{name: host, mountPath: /host, readOnly: true, hostPath: {}}}]\n", path.display())
    };
    let refused = |path: &Path, why: &str| {
        let outcome = ground.deploy("reader", SLEEP, &volume(path));
        outcome.exits(1).says(&["agent `reader`", "volumes.host.hostPath", why, "--allow-host-path"]);
    };
    let not_allowed = "is not allowed by this server";
    refused(&at("shared/to-etc"), "which is /etc, is not allowed");
    for path in
        [at("shared/to-private"), at("shared/to-dev"), at("private"), PathBuf::from("/var/run/docker.sock")]
    {
        refused(&path, not_allowed);
    }
    refused(&at("shared/docker.sock"), "is a socket");
    let up = format!(
        "volumes: [{{name: host, mountPath: /host, hostPath: {}/../private}}]\n",
        at("shared").display()
    );
    ground.deploy("reader", SLEEP, &up).exits(1).says(&["leave out `.`, `..`"]);
    running.terminate();

    // A server that allows everything does not allow what holds the host together.
    let mut running = server(&[Path::new("/")]);
    for path in [
        "/etc/passwd",
        "/proc",
        "/sys/fs",
        "/dev",
        "/root",
        "/usr/lib",
        "/bin",
        "/run",
        "/var",
        "/var/lib/docker",
    ] {
        refused(Path::new(path), "is refused because it");
    }
    refused(&chassis.data_dir().join(".server"), "is refused because it is in");
    refused(&home, "is refused because it holds");
    refused(Path::new("/var/run/docker.sock"), "is refused because it is in");
    running.terminate();

    let data = at("shared/data");
    let _running = server(&[&at("shared"), Path::new("/etc/hostname")]);
    ground.deploy("host", "cat /host; exec sleep 99999", &volume(Path::new("/etc/hostname"))).exits(0);
    let script = "echo from the agent > /host/word && echo done; exec sleep 99999";
    let writable = volume(&data).replace("readOnly: true", "readOnly: false");
    fs::set_permissions(&data, std::os::unix::fs::PermissionsExt::from_mode(0o777)).expect("a mode");
    ground.deploy("writer", script, &writable).exits(0);
    ground.printed("writer", "done");
    let name = format!("{}/writer-1", ground.fleet);
    chassis.ok(&["stop", &name]);

    // An agent that shares the directory puts a link into the place of what was allowed: it is not followed.
    fs::rename(&data, at("shared/moved")).expect("a rename");
    symlink("/etc", &data).expect("a link");
    chassis.run(&["start", &name]).exits(1).says(&["shared/data", "is not allowed by this server"]);
    assert_eq!(chassis.instance(&name).instance.reason, Some(Reason::Rejected));
    fs::remove_file(&data).expect("a link");
    symlink("moved", &data).expect("a link");
    eventually(SOON, || {
        let message = chassis.instance(&name).instance.message.unwrap_or_default();
        expect(message.contains("has become"), || message)
    });
    fs::remove_file(&data).expect("a link");
    fs::rename(at("shared/moved"), &data).expect("a rename");
    chassis.until(&name, Phase::Running);
}

#[test]
fn profiles_are_the_servers() {
    let ground = Ground::new();
    let chassis = &ground.chassis;
    let profiles = chassis.home().join("profiles");
    fs::create_dir(&profiles).expect("a directory");
    let no_mkdir = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls":
        [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}]}"#;
    fs::write(profiles.join("no-mkdir.json"), no_mkdir).expect("a file");
    fs::write(profiles.join("broken.json"), "{").expect("a file");
    fs::write(chassis.home().join("outside.json"), no_mkdir).expect("a file");
    let _server = chassis.serve_with(&["--seccomp-dir", &profiles.display().to_string()], &[]);
    chassis.ok(&["create", "fleet", &ground.fleet]);

    let script = "mkdir /tmp/x; echo made $?; touch /tmp/y && echo touched; exec sleep 99999";
    ground.deploy("default", script, "").exits(0);
    assert!(ground.printed("default", "touched").contains("made 0"));
    ground.deploy("confined", script, "security: {seccomp: no-mkdir}\n").exits(0);
    let printed = ground.printed("confined", "touched");
    assert!(printed.contains("Function not implemented") && printed.contains("made 1"), "{printed}");
    chassis.ok(&["describe", &format!("{}/confined-1", ground.fleet)]).shows(&["security.seccomp: no-mkdir"]);

    for (name, why) in [("broken", "is not JSON"), ("missing", "--seccomp-dir")] {
        let outcome = ground.deploy("confined", script, &format!("security: {{seccomp: {name}}}\n"));
        outcome.exits(1).says(&["security.seccomp", why]);
    }
    for name in ["../outside", "/etc/passwd"] {
        let outcome = ground.deploy("confined", script, &format!("security: {{seccomp: {name}}}\n"));
        outcome.exits(1).says(&["is not a name of a seccomp profile"]);
    }
    let options = chassis.docker().info()["SecurityOptions"].to_string();
    for (option, field, yaml) in [
        ("name=apparmor", "security.appArmor", "appArmor: docker-default"),
        ("name=selinux", "security.seLinux", "seLinux: {type: container_t}"),
    ] {
        let outcome = ground.deploy("confined", script, &format!("security: {{{yaml}}}\n"));
        if options.contains(option) {
            outcome.exits(0);
        } else {
            // Docker itself would run it unconfined and say nothing.
            not_tested(&format!(
                "that {field} confines, because this Docker has no {option}; where it has, run safety"
            ));
            outcome.exits(1).says(&[field, "this Docker does not have"]);
        }
    }
}

fn host_config(ground: &Ground, agent: &str) -> serde_json::Value {
    let container = format!("chassis-{}-{agent}-1", ground.fleet);
    ground.chassis.docker().inspect(&container).expect("it is there")["HostConfig"].clone()
}
