//! A Docker that maps users: tier 1 and secret files belong to whom the agents really are.

use std::fs;
use std::os::unix::fs::MetadataExt;

use chassis_testkit::{Chassis, Dockerd, Image, MAPPED, SOON, eventually};

use crate::BINARY;

#[test]
fn directories_and_secrets_belong_to_mapped_users() {
    let Some(engine) = Dockerd::mapping_users() else { return };
    let docker = engine.docker();
    let options = docker.info()["SecurityOptions"].to_string();
    assert!(options.contains("name=userns"), "{options}");
    let chassis = Chassis::new(BINARY).on_docker(&docker);
    let busybox = Image::busybox().build_on(&docker);
    let _server = chassis.serve_with(&["--allow", "host-userns,host-pid"], &[]);
    let fleet = chassis.fleet("mapped");
    chassis.ok(&["create", "fleet", &fleet]);
    chassis.write("key.txt", "hush-hush");
    chassis.ok(&["secret", "create", &format!("{fleet}/key"), "--from-file", "key.txt"]);
    let script = "id -u; cat /run/key && echo; touch /data/mine && ls /data | wc -l; echo scratch > /data/cache/x; \
                  cat /proc/self/uid_map; echo done; exec sleep 99999";
    let deploy = |name: &str, more: &str| {
        let yaml = format!(
            "name: {name}\nfleet: {fleet}\nimage: {busybox}\nstop: {{grace: 1s}}\ncommand: [/bin/sh, -c]\nargs: ['{script}']\n\
             volumes:\n- {{name: data, mountPath: /data, scratch: [{{path: cache}}]}}\n\
             - {{name: key, mountPath: /run/key, secret: secret://{fleet}/key}}\n{more}"
        );
        chassis.deploy(&yaml)
    };
    let printed = |name: &str, times: usize| {
        eventually(SOON, || {
            let logs = chassis.run(&["logs", &format!("{fleet}/{name}-1")]);
            let printed = logs.stdout + &logs.stderr;
            if printed.matches("done").count() >= times { Ok(printed) } else { Err(printed) }
        })
    };
    let host = |name: &str| {
        let directory = chassis.data_dir().join(&fleet).join(format!("{name}-1/data"));
        let owner = |path| fs::metadata(path).map(|found| found.uid()).expect("it is there");
        assert_eq!(owner(directory.clone()), owner(directory.join("mine")));
        owner(directory)
    };
    for (name, yaml, user) in [
        ("nobody", "", MAPPED + 64646),
        ("root", "user: root\n", MAPPED),
        ("kept", "security: {userns: host}\n", 64646),
    ] {
        deploy(name, yaml).exits(0);
        let found = printed(name, 1);
        assert!(found.contains("hush-hush"), "{name}: {found}");
        assert_eq!(host(name), user, "{name}");
    }
    // Another start writes the secrets again, and the data is still there.
    chassis.ok(&["restart", &format!("{fleet}/nobody-1")]);
    let again = printed("nobody", 2);
    assert_eq!(again.matches("hush-hush").count(), 2, "{again}");
    chassis.ok(&["audit", &format!("{fleet}/nobody-1"), "--all"]).shows(&["5.31"]).hides("not in the host");
    chassis.run(&["audit", &format!("{fleet}/kept-1")]).exits(1).shows(&["5.31", "security.userns: host"]);

    // Docker would refuse it with words that help nobody.
    deploy("pids", "security: {hostPid: true}\n")
        .exits(1)
        .says(&["security.hostPid", "security.userns: host"]);
    deploy("pids", "security: {hostPid: true, userns: host}\n").exits(0);

    chassis.ok(&["delete", "fleet", &fleet, "--cleanup", &format!("--confirm={fleet}")]);
    assert!(!chassis.data_dir().join(&fleet).exists());
    assert!(chassis.secret_files().is_empty());
}
