//! Any image works, an agent gets what its YAML says and nothing more, and how it ends is told.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;

use chassis_testkit::api::Phase;
use chassis_testkit::{Chassis, Image, Outcome, SOON, eventually, expect};

const BINARY: &str = env!("CARGO_BIN_EXE_chassis");

/// A chassis with one fleet.
struct Ground {
    chassis: Chassis,
    fleet: String,
    busybox: String,
}

impl Ground {
    fn new() -> Ground {
        let chassis = Chassis::new(BINARY);
        let fleet = chassis.fleet("images");
        chassis.ok(&["create", "fleet", &fleet]);
        Ground { chassis, fleet, busybox: Image::busybox().build() }
    }

    /// Deploys an agent of the fleet: its name, its image, and lines of YAML.
    fn deploy(&self, name: &str, image: &str, yaml: &str) -> Outcome {
        let head = format!("name: {name}\nfleet: {}\nimage: {image}\nstop: {{grace: 1s}}\n", self.fleet);
        self.chassis.deploy(&(head + yaml))
    }

    /// Deploys a shell script on busybox.
    fn deploy_script(&self, name: &str, script: &str, yaml: &str) -> Outcome {
        let command = format!("command: [/bin/sh, -c]\nargs: ['{script}']\n");
        self.deploy(name, &self.busybox, &(command + yaml))
    }

    /// What the agent's first instance has printed, once it contains the word.
    fn printed(&self, name: &str, word: &str) -> String {
        eventually(SOON, || {
            let logs = self.chassis.run(&["logs", &format!("{}/{name}-1", self.fleet)]);
            let printed = logs.stdout + &logs.stderr;
            if printed.contains(word) { Ok(printed) } else { Err(format!("`{word}` is not in: {printed}")) }
        })
    }

    fn inspect(&self, name: &str) -> serde_json::Value {
        let container = format!("chassis-{}-{name}-1", self.fleet);
        self.chassis.docker().inspect(&container).expect("the container is there")
    }

    fn until(&self, name: &str, phase: Phase) -> chassis_testkit::api::InstanceDetail {
        self.chassis.until(&format!("{}/{name}-1", self.fleet), phase)
    }
}

#[test]
fn an_images_own_command_is_kept() {
    let ground = Ground::new();
    let scratch = Image::scratch()
        .program("busybox")
        .change(r#"ENTRYPOINT ["/busybox", "echo", "out of nothing"]"#)
        .build();
    ground.deploy("scratch", &scratch, "restart_policy: never\n").exits(0);
    ground.printed("scratch", "out of nothing");

    let both = Image::busybox()
        .change(r#"ENTRYPOINT ["/bin/echo", "entry"]"#)
        .change(r#"CMD ["command"]"#)
        .change("ENV GREETING=hello")
        .build();
    ground.deploy("kept", &both, "restart_policy: never\n").exits(0);
    ground.printed("kept", "entry command");
    ground.deploy("args", &both, "restart_policy: never\nargs: [other]\n").exits(0);
    ground.printed("args", "entry other");
    // As in Kubernetes, a command of one's own has nothing to do with the image's arguments.
    let own = "restart_policy: never\ncommand: [/bin/sh, -c, 'echo \"$GREETING from $(pwd) with $# left\"']\nworkingDir: /bin\n";
    ground.deploy("own", &both, own).exits(0);
    ground.printed("own", "hello from /bin with 0 left");

    let silent = Image::busybox().file("etc/motd", "nothing to run here\n").build();
    ground.deploy("silent", &silent, "").exits(1).says(&["command"]);
}

#[test]
fn users_own_their_data() {
    let ground = Ground::new();
    let script = "echo id $(id -u):$(id -g); touch /data/mine && echo wrote; exec sleep 99999";
    let volume = "volumes: [{name: data, mountPath: /data}]\n";
    let named =
        Image::busybox().file("etc/passwd", "app:x:1234:1235::/:/bin/sh\n").change("USER app").build();
    ground.deploy("named", &named, &format!("command: [/bin/sh, -c]\nargs: ['{script}']\n{volume}")).exits(0);
    ground.deploy_script("nobody", script, volume).exits(0);
    ground.deploy_script("chosen", script, &format!("user: 77:78\n{volume}")).exits(0);
    ground.deploy_script("root", script, &format!("user: root\n{volume}")).exits(0);
    for (name, user, group) in
        [("named", 1234, 1235), ("nobody", 64646, 64646), ("chosen", 77, 78), ("root", 0, 0)]
    {
        let printed = ground.printed(name, "wrote");
        assert!(printed.contains(&format!("id {user}:{group}")), "{name}: {printed}");
        let directory = ground.chassis.data_dir().join(&ground.fleet).join(format!("{name}-1/data"));
        for path in [directory.clone(), directory.join("mine")] {
            let found = fs::metadata(&path).expect("it is there");
            assert_eq!((found.uid(), found.gid()), (user, group), "{}", path.display());
        }
        assert_eq!(fs::metadata(&directory).expect("it is there").mode() & 0o777, 0o700);
    }
    ground.chassis.ok(&["describe", &format!("{}/root-1", ground.fleet)]).shows(&["runs as root"]);
    // Another user in the YAML: what is there becomes that user's.
    ground.deploy_script("chosen", script, &format!("user: 79:79\n{volume}")).exits(0);
    let mine = ground.chassis.data_dir().join(&ground.fleet).join("chosen-1/data/mine");
    assert_eq!(fs::metadata(mine).expect("it is there").uid(), 79);
    ground.deploy_script("stranger", script, "user: stranger\n").exits(1).says(&["stranger", "/etc/passwd"]);
}

#[test]
fn memory_is_gone_after_a_stop() {
    let ground = Ground::new();
    let script = "for d in /tmpfs /data/cache; do stat -f -c \"$d is %T\" $d; ls $d | wc -l; echo x > $d/x; done; \
                  touch /data/kept; touch /root-file 2>/dev/null || echo root is read-only; echo done; exec sleep 99999";
    let volume = "volumes: [{name: data, mountPath: /data, scratch: [{path: cache, size: 1Mi}]}]\n";
    ground.deploy_script("forgets", script, volume).exits(0);
    let first = ground.printed("forgets", "done");
    let name = format!("{}/forgets-1", ground.fleet);
    ground.chassis.ok(&["stop", &name]);
    let volume_directory = ground.chassis.data_dir().join(&ground.fleet).join("forgets-1/data");
    assert!(volume_directory.join("kept").exists() && !volume_directory.join("cache/x").exists());
    ground.chassis.ok(&["start", &name]);
    let again = eventually(SOON, || {
        let printed = ground.printed("forgets", "done");
        if printed.matches("done").count() == 2 {
            Ok(printed)
        } else {
            Err("it has not started again".to_owned())
        }
    });
    for expected in ["/tmpfs is tmpfs", "/data/cache is tmpfs", "root is read-only"] {
        assert_eq!(again.matches(expected).count(), 2, "{again}");
    }
    let empty = |printed: &str| printed.lines().filter(|line| line.ends_with(" 0") || *line == "0").count();
    assert_eq!((empty(&first), empty(&again)), (2, 4), "{again}");
}

#[test]
fn how_an_agent_ends_is_told() {
    let ground = Ground::new();
    let (chassis, fleet) = (&ground.chassis, &ground.fleet);
    ground.deploy_script("good", "echo fine", "restart_policy: on-failure\n").exits(0);
    assert_eq!(ground.until("good", Phase::Completed).instance.restarts, 0);
    let bad = |yaml: &str| ground.deploy_script("bad", "exit 3", yaml);
    bad("restart_policy: never\n");
    let ended = ground.until("bad", Phase::Failed).instance;
    assert_eq!((ended.last_exit.map(|exit| exit.code), ended.restarts), (Some(3), 0));
    bad("restart_policy: never\n").exits(1).says(&["code 3", "chassis start"]);
    let once = "test -e /data/once || { touch /data/once; exit 0; }; exec sleep 99999";
    ground.deploy_script("always", once, "volumes: [{name: data, mountPath: /data}]\n").exits(0);
    eventually(SOON, || {
        let always = ground.until("always", Phase::Running).instance;
        expect(always.restarts == 1, || format!("restarted {} times", always.restarts))
    });

    // Whoever asks while it runs hears that it runs; it is over soon enough.
    let loops =
        || ground.deploy_script("loops", "echo about to fail; exit 4", "restart_policy: on-failure\n");
    loops();
    eventually(SOON, || {
        let shown = chassis.ok(&["ps", fleet]).stdout;
        expect(shown.contains("Backoff: exit 4") && shown.contains("next try in"), || shown.clone())
    });
    assert!(chassis.instance(&format!("{fleet}/loops-1")).instance.restarts >= 1);
    loops().exits(1).says(&["loops-1", "code 4", "chassis describe loops-1", "keeps trying"]);

    let missing =
        || ground.deploy("missing", &ground.busybox, "restart_policy: never\ncommand: [/no/such/program]\n");
    missing();
    ground.until("missing", Phase::Failed);
    missing().exits(1).says(&["127"]);
    ground.printed("missing", "/no/such/program");
    let greedy = "restart_policy: never\nresources: {memory: 16Mi}\n";
    ground.deploy_script("greedy", "echo begins; exec tail /dev/zero", greedy);
    assert!(ground.until("greedy", Phase::Failed).instance.last_exit.is_some_and(|exit| exit.out_of_memory));
    chassis.ok(&["ps", fleet]).shows(&["Failed: out of memory"]);
    // SIGTERM is for the agent, and what it makes of it is its exit.
    let polite = "trap \"echo goodbye; exit 0\" TERM; echo ready; while :; do sleep 0.1; done";
    ground.deploy_script("polite", polite, "").exits(0);
    ground.printed("polite", "ready");
    chassis.ok(&["stop", &format!("{fleet}/polite")]);
    ground.printed("polite", "goodbye");
    assert_eq!(ground.until("polite", Phase::Stopped).instance.last_exit.map(|exit| exit.code), Some(0));
}

#[test]
fn an_agent_gets_what_its_yaml_says() {
    let ground = Ground::new();
    let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
    let yaml = format!(
        r"
resources: {{cpu: 250m, memory: 48Mi, pids: 33, files: 512}}
labels: {{team: night-shift}}
clusterId: east
env: [{{name: GREETING, value: hello}}]
tmpfs: {{size: 3Mi}}
ports: [{{containerPort: 8080, hostPort: {port}}}]
security: {{capabilities: [NET_BIND_SERVICE]}}
"
    );
    let script = "echo $GREETING from $CHASSIS_INSTANCE in $CHASSIS_FLEET > /tmpfs/index.html; exec httpd -f -p 8080 -h /tmpfs";
    ground.deploy_script("limited", script, &yaml).exits(0);
    let container = ground.inspect("limited");
    let host = &container["HostConfig"];
    assert_eq!(host["NanoCpus"], 250_000_000);
    assert_eq!((host["Memory"].as_u64(), host["MemorySwap"].as_u64()), (Some(48 << 20), Some(48 << 20)));
    assert_eq!(host["PidsLimit"], 33);
    assert_eq!(host["CapDrop"][0], "ALL");
    assert!(host["CapAdd"].to_string().contains("NET_BIND_SERVICE"), "{}", host["CapAdd"]);
    assert!(host["SecurityOpt"].to_string().contains("no-new-privileges"), "{}", host["SecurityOpt"]);
    assert_eq!(host["ReadonlyRootfs"], true);
    assert_eq!(host["Privileged"], false);
    assert!(
        host["Tmpfs"]["/tmpfs"].as_str().is_some_and(|options| options.contains("size=3145728")),
        "{host}"
    );
    assert_eq!(host["PortBindings"]["8080/tcp"][0]["HostIp"], "127.0.0.1");
    let labels = &container["Config"]["Labels"];
    assert_eq!((&labels["team"], &labels["chassis.cluster"]), (&"night-shift".into(), &"east".into()));
    assert_eq!(container["Config"]["User"], "64646:64646");
    let page = eventually(SOON, || {
        let mut page = String::new();
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        stream.read_to_string(&mut page)?;
        if page.contains("200") { Ok(page) } else { Err(std::io::Error::other(page)) }
    });
    assert!(page.contains(&format!("hello from limited-1 in {}", ground.fleet)), "{page}");
    ground.chassis.ok(&["describe", "limited-1"]).shows(&[&format!("127.0.0.1:{port}"), "NET_BIND_SERVICE"]);
    ground.chassis.ok(&["ps", "-l", "team=night-shift", "-o", "name"]).shows(&["limited-1"]);
}

#[test]
fn the_host_is_seen_only_where_the_server_allows_it() {
    let chassis = Chassis::new(BINARY);
    let shared = chassis.home().join("shared");
    fs::create_dir(&shared).expect("a directory");
    fs::write(shared.join("word"), "from the host\n").expect("a file");
    let mut server = chassis.serve();
    let fleet = chassis.fleet("host");
    chassis.ok(&["create", "fleet", &fleet]);
    let yaml = format!(
        "name: reader\nfleet: {fleet}\nimage: {}\ncommand: [/bin/sh, -c]\nargs: ['cat /shared/word; exec sleep 99999']\n\
         stop: {{grace: 1s}}\nvolumes: [{{name: shared, mountPath: /shared, readOnly: true, hostPath: {}}}]\n",
        Image::busybox().build(),
        shared.display()
    );
    chassis.deploy(&yaml).exits(1).says(&["--allow-host-path"]);
    assert!(chassis.instances().is_empty(), "what is refused changes nothing");
    server.terminate();
    let _server = chassis.serve_with(&["--allow-host-path", &shared.display().to_string()], &[]);
    chassis.deploy(&yaml).exits(0);
    eventually(SOON, || {
        let printed = chassis.ok(&["logs", "reader-1"]).stdout;
        expect(printed.contains("from the host"), || printed.clone())
    });
    chassis.ok(&["describe", "reader-1"]).shows(&["of the host at /shared"]);
}
