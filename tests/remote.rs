//! A chassis that is reached from another machine: over TLS, with a token, as a person there does. The other machine is a
//! network namespace with a cable to ours; Docker and the server are here.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use chassis_testkit::api::{Certificate, ServerInfo};
use chassis_testkit::{Chassis, Image, Neighbour, Outcome, Pty, SOON, Server, eventually, expect};
use tempfile::TempDir;

const BINARY: &str = env!("CARGO_BIN_EXE_chassis");

/// A server here, and a person there who has nothing of it.
struct World {
    /// Commands that run there; ended first.
    children: Vec<Child>,
    chassis: Chassis,
    server: Server,
    address: String,
    there: TempDir,
    neighbour: Neighbour,
}

impl World {
    fn new(flags: &[&str]) -> World {
        let (chassis, neighbour) = (Chassis::new(BINARY), Neighbour::new());
        let listen = format!("{}:0", neighbour.our_address());
        let server = chassis.serve_with(&[&["--listen", &listen], flags].concat(), &[]);
        let address = chassis.network_address();
        let there = tempfile::tempdir().unwrap();
        World { children: Vec::new(), chassis, server, address, there, neighbour }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.neighbour.namespace().command(BINARY);
        command
            .args(args)
            .current_dir(self.there.path())
            .env_clear()
            .env("PATH", std::env::var("PATH").unwrap())
            .env("XDG_CONFIG_HOME", self.there.path().join("settings"))
            .env("CHASSIS_DATA_DIR", self.there.path().join("nothing"))
            .env("CHASSIS_NO_AUTOSTART", "1")
            .stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Outcome {
        let output = self.command(args).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Outcome {
            command: format!("there: chassis {}", args.join(" ")),
            code: output.status.code().unwrap_or(-1),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }

    fn ok(&self, args: &[&str]) -> Outcome {
        self.run(args).exits(0)
    }

    /// A command that goes on; what it prints is in the file.
    fn spawn(&mut self, args: &[&str]) -> PathBuf {
        let path = self.there.path().join(format!("output-{}", self.children.len()));
        let output = File::create(&path).unwrap();
        self.children.push(self.command(args).stdout(output).stderr(Stdio::null()).spawn().unwrap());
        path
    }

    fn certificate(&self) -> Certificate {
        let info: ServerInfo = self.chassis.get("/api/v1/server").unwrap();
        info.listening[1].certificate.clone().unwrap()
    }

    /// Carries the token over by hand.
    fn carry_token(&self) -> String {
        let file = self.there.path().join("token");
        fs::copy(self.chassis.master_token(), &file).unwrap();
        file.display().to_string()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn until_shown(output: &PathBuf, word: &str) {
    eventually(SOON, || {
        let text = fs::read_to_string(output).unwrap();
        expect(text.contains(word), || format!("no `{word}` in: {text}"))
    });
}

#[test]
fn everything_works_from_another_machine() {
    let mut world = World::new(&[]);
    let (address, fingerprint) = (world.address.clone(), world.certificate().fingerprint.to_string());
    let token = world.carry_token();

    // Somebody else's certificate, and nobody's token.
    let other = format!("sha256:{}", "ab".repeat(32));
    world.ok(&["context", "add", "wrong", "--server", &address, "--fingerprint", &other]);
    world.run(&["--context", "wrong", "ps"]).exits(1).says(&[&other, &fingerprint, "chassis login"]);
    world.run(&["login", &address, "--token-file", &token]).exits(1).says(&[&fingerprint, "--fingerprint"]);
    world.ok(&["context", "add", "far", "--server", &address, "--fingerprint", &fingerprint]);
    world.run(&["--context", "far", "ps"]).exits(1).says(&["chassis login"]);
    fs::write(world.there.path().join("guess"), "g".repeat(43)).unwrap();
    world.run(&["login", "far", "--token-file", "guess"]).exits(1).says(&["token"]);

    world.ok(&["login", "far", "--token-file", &token]);
    world.ok(&["context", "use", "far"]);
    let settings = fs::read_dir(world.there.path().join("settings/chassis")).unwrap();
    for file in settings.map(|entry| entry.unwrap()) {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{file:?}");
    }

    let fleet = world.chassis.fleet("far");
    let events = world.spawn(&["events", "--watch"]);
    world.ok(&["create", "fleet", &fleet]);
    until_shown(&events, &fleet);
    let yaml = format!(
        "name: a\nfleet: {fleet}\nimage: {}\nstop: {{grace: 1s}}\nvolumes: [{{name: data, mountPath: /data}}]\n\
         command: [/bin/sh, -c, 'echo hello from here; echo page > /data/index.html; exec httpd -f -p 8000 -h /data']\n",
        Image::busybox().build()
    );
    fs::write(world.there.path().join("agent.yaml"), yaml).unwrap();
    world.ok(&["deploy", "agent", "-f", "agent.yaml"]);
    let id = format!("{fleet}/a-1");
    world.ok(&["ps"]).shows(&["a-1", "Running"]);
    let logs = world.spawn(&["logs", "-f", &id]);
    until_shown(&logs, "hello from here");

    world.ok(&["exec", &id, "--", "cat", "/data/index.html"]).shows(&["page"]);
    let mut shell = Pty::spawn(&world.command(&["exec", "-it", &id, "--", "sh"]), 80, 24);
    eventually(SOON, || expect(shell.output().contains("$ "), || shell.output()));
    shell.type_keys("echo $((6 * 7))x\r");
    eventually(SOON, || expect(shell.output().contains("42x"), || shell.output()));
    shell.type_keys("exit 3\r");
    assert_eq!(shell.wait(SOON).and_then(|status| status.code()), Some(3));

    let large = vec![b'z'; 3 << 20];
    fs::write(world.there.path().join("large"), &large).unwrap();
    world.ok(&["cp", "large", &format!("{id}:/data/large")]);
    world.ok(&["cp", &format!("{id}:/data/large"), "back"]);
    assert!(fs::read(world.there.path().join("back")).unwrap() == large, "the file is another after its way");

    let forward = world.spawn(&["port", "forward", &id, "127.0.0.1:28473:8000"]);
    until_shown(&forward, "Forwarding");
    let page =
        world.neighbour.namespace().run(&["curl", "-sS", "--max-time", "10", "http://127.0.0.1:28473/"]);
    page.exits(0).shows(&["page"]);
    // Who may only look is told before anything listens.
    let viewer = world.chassis.ok(&["api-key", "create", "viewer", "--role", "viewer"]).stdout;
    let refused = world
        .command(&["port", "forward", &id, "127.0.0.1:28474:8000"])
        .env("CHASSIS_TOKEN", viewer.trim())
        .output();
    let refused = refused.unwrap();
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("operator") && refused.stdout.is_empty(), "{said}");
    world.ok(&["delete", "fleet", &fleet, "--cleanup", &format!("--confirm={fleet}")]);

    world.ok(&["logout"]);
    world.run(&["ps"]).exits(1).says(&["chassis login"]);
}

/// A certificate for the address, in `cert.pem` and `key.pem` of the server's home.
fn make_certificate(world_home: &std::path::Path, address: &str) {
    let line = format!(
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=chassis \
         -addext subjectAltName=IP:{address} -addext basicConstraints=critical,CA:FALSE -keyout key.pem -out cert.pem"
    );
    let mut command = Command::new("openssl");
    command.args(line.split_whitespace()).current_dir(world_home).stderr(Stdio::null());
    assert!(command.status().unwrap().success());
}

#[test]
fn a_new_certificate_is_shown_and_no_connection_ends() {
    let (chassis, neighbour) = (Chassis::new(BINARY), Neighbour::new());
    let (home, ours) = (chassis.home().to_owned(), neighbour.our_address().to_owned());
    make_certificate(&home, &ours);
    fs::copy(home.join("cert.pem"), home.join("old.pem")).unwrap();
    let listen = format!("{ours}:0");
    let flags = ["--listen", &listen, "--tls-cert", "cert.pem", "--tls-key", "key.pem"];
    let server = chassis.serve_with(&[&["--runtime", "sim"], flags.as_slice()].concat(), &[]);
    let address = chassis.network_address();
    let there = tempfile::tempdir().unwrap();
    let mut world = World { children: Vec::new(), chassis, server, address, there, neighbour };
    let (address, token) = (world.address.clone(), world.carry_token());
    let ca = home.join("old.pem").display().to_string();
    world.ok(&["login", &address, "--ca", &ca, "--token-file", &token, "--name", "far"]);
    let events = world.spawn(&["events", "--watch"]);
    world.ok(&["create", "fleet", "before"]);
    until_shown(&events, "before");

    let old = world.certificate().fingerprint;
    make_certificate(&home, &ours);
    world.server.hang_up();
    eventually(SOON, || expect(world.certificate().fingerprint != old, || "the old one is shown".to_owned()));
    let new = world.certificate().fingerprint.to_string();
    world.run(&["ps"]).exits(1).says(&[&new]);
    world.chassis.ok(&["create", "fleet", "after"]);
    until_shown(&events, "after");
    world.ok(&["login", "far", "--fingerprint", &new, "--token-file", &token]);
    world.ok(&["ps"]).shows(&["before", "after"]);

    // What cannot be shown is not: the one before stays.
    fs::write(home.join("cert.pem"), "no certificate").unwrap();
    eventually(SOON, || {
        expect(world.server.log().contains("keeping the certificate"), || world.server.log())
    });
    world.ok(&["ps"]);
}

#[test]
fn nothing_is_open_in_the_clear_by_mistake() {
    let chassis = Chassis::new(BINARY);
    let serve = |flags: &[&str]| chassis.run(&[&["serve", "--runtime", "sim", "--listen"], flags].concat());
    serve(&["0.0.0.0:0", "--tls", "off"]).exits(1).says(&["--tls-cert", "--insecure-listen"]);
    serve(&["[::]:0", "--tls", "off"]).exits(1).says(&["--insecure-listen"]);
    serve(&["7443"]).exits(2).says(&["0.0.0.0:7443"]);
    let flags = ["--runtime", "sim", "--listen", "127.0.0.1:0", "--tls", "off"];
    let _server = chassis.serve_with(&flags, &[]);
    let address = chassis.network_address();
    assert!(address.starts_with("http://127.0.0.1:"), "{address}");
    chassis.run(&["ps", "--server", &address]).exits(1).says(&["chassis login"]);
    let https = address.replace("http:", "https:");
    chassis.run(&["ps", "--server", &https]).exits(1).says(&["not with TLS"]);
    chassis.ok(&["login", &address, "--token-file", &chassis.master_token().display().to_string()]);
    chassis.ok(&["ps"]);
}

#[test]
fn a_person_is_asked_for_trust_and_token() {
    let chassis = Chassis::new(BINARY);
    let _server = chassis.serve_with(&["--runtime", "sim", "--listen", "127.0.0.1:0"], &[]);
    let address = chassis.network_address();
    let token = fs::read_to_string(chassis.master_token()).unwrap();
    let meet = |answer: &str| {
        let mut terminal = Pty::spawn(&chassis.command(&["login", &address]), 200, 24);
        eventually(SOON, || expect(terminal.output().contains("do you trust it?"), || terminal.output()));
        terminal.type_keys(answer);
        terminal
    };
    let mut refused = meet("no\r");
    assert_eq!(refused.wait(SOON).and_then(|status| status.code()), Some(1));

    let mut trusting = meet("yes\r");
    eventually(SOON, || expect(trusting.is_raw(), || trusting.output()));
    trusting.type_keys(&format!("wrong\u{15}{}x\u{7f}\r", token.trim()));
    let ended = trusting.wait(SOON).and_then(|status| status.code());
    assert_eq!(ended, Some(0), "{}", trusting.output());
    assert!(!trusting.output().contains(token.trim()), "the token is on the screen");
    chassis.ok(&["context", "list"]).shows(&["127.0.0.1", "stored"]).hides(token.trim());
    chassis.ok(&["context", "show", "-o", "json"]).shows(&["sha256:"]).hides(token.trim());
    chassis.ok(&["server", "status"]).shows(&["generated, valid until", &address]);

    // Two at once lose nothing.
    let add = |name: String| {
        let args = ["context", "add", &name, "--server", "https://far.example:7443"];
        chassis.command(&args).stdout(Stdio::null()).spawn().unwrap()
    };
    let children: Vec<Child> = (0..12).map(|number| add(format!("c{number}"))).collect();
    assert!(children.into_iter().all(|mut child| child.wait().unwrap().success()));
    assert_eq!(chassis.ok(&["context", "list", "-o", "name"]).stdout.lines().count(), 14);
    chassis.run(&["--context", "c1x", "ps"]).exits(3).says(&["c11"]);
    chassis.ok(&["--context", "local", "ps"]);
    chassis.ok(&["context", "remove", "127.0.0.1"]).shows(&["local"]);
}
