//! Several servers on one Postgres, one Docker and one data directory: all of them answer, one acts.

mod outage;
mod support;
mod takeover;

use chassis_testkit::api::{Phase, ServerInfo};
use chassis_testkit::{Chassis, Postgres, SOON, eventually, expect};

use support::{BINARY, Servers, agent};

#[test]
fn what_one_is_told_all_show_and_one_does() {
    let Some(servers) = Servers::start() else { return };
    let (acting, other) = servers.acting_and_other();
    let fleet = acting.fleet("shared");
    other.ok(&["create", "fleet", &fleet]);
    other.deploy(&agent(&fleet, 2)).exits(0);
    let name = format!("{fleet}/a-2");
    for chassis in [acting, other] {
        chassis.until(&name, Phase::Running);
        chassis.ok(&["ps", "--fleets"]).shows(&[&fleet]);
        eventually(SOON, || {
            let said = chassis.run(&["logs", &name]).stdout;
            expect(said.contains("begin"), || format!("the logs show {said}"))
        });
        chassis.ok(&["exec", &name, "--", "cat", "/data/name"]).shows(&["a-2"]);
    }

    // A crash is seen by both, and counted once.
    let container = format!("chassis-{fleet}-a-2");
    let begun = acting.docker().runs_since(&container).expect("it runs");
    acting.docker().kill(&container);
    for chassis in [acting, other] {
        eventually(SOON, || {
            let found = chassis.instance(&name).instance;
            let again = found.phase == Phase::Running && found.restarts == 1;
            expect(again, || format!("{found:?}"))
        });
    }
    assert_ne!(acting.docker().runs_since(&container).expect("it runs again"), begun);
    let exits = other.ok(&["events", &name, "--kind", "Exited", "-o", "json"]).stdout;
    assert_eq!(exits.matches("\"Exited\"").count(), 1, "{exits}");

    // A secret that one was given serves an agent that another was given.
    let secret = format!("env: [{{name: KEY, valueFrom: 'secret://{fleet}/key'}}]\n");
    let yaml = agent(&fleet, 1).replace("name: a", "name: b") + &secret;
    other.write("key", "first");
    other.ok(&["secret", "create", &format!("{fleet}/key"), "--from-file", "key"]);
    acting.deploy(&yaml).exits(0);

    // The end of everything is seen by both too.
    other.ok(&["scale", "agent", &format!("{fleet}/a"), "1"]);
    eventually(SOON, || {
        expect(acting.docker().inspect(&container).is_none(), || "the second one is still there".to_owned())
    });
    other.ok(&["delete", "fleet", &fleet, "--confirm", &fleet]);
    for chassis in [acting, other] {
        eventually(SOON, || {
            let left = chassis.run(&["ps", "--fleets"]).stdout;
            expect(!left.contains(&fleet), || left)
        });
    }
    assert!(acting.docker().labelled(&acting.label()).is_empty());
}

#[test]
fn status_says_who_acts() {
    let Some(servers) = Servers::start() else { return };
    let (acting, other) = servers.acting_and_other();
    let (one, two): (ServerInfo, ServerInfo) =
        (acting.get("/api/v1/server").unwrap(), other.get("/api/v1/server").unwrap());
    assert_eq!(one.state.store, "postgres");
    assert!(one.state.acting && !two.state.acting);
    assert_eq!(two.state.lease_holder.as_ref(), Some(&one.state.server_name));
    assert_eq!(two.state.lease_epoch, one.state.lease_epoch);
    assert_eq!(two.state.servers.len(), 2, "{:?}", two.state.servers);
    other.ok(&["server", "status"]).shows(&["no; ", &one.state.server_name, "postgres"]);
}

#[test]
fn the_master_token_is_one_servers_and_a_key_is_everybodys() {
    let Some(postgres) = Postgres::start() else { return };
    let one = Chassis::new(BINARY)
        .with_env("DATABASE_URL", &postgres.database())
        .with_env("CHASSIS_NO_AUTOSTART", "1");
    let two = one.beside("two");
    let network = ["--runtime", "sim", "--listen", "127.0.0.1:0", "--tls", "off"];
    let (_first, mut second) = (one.serve_with(&network, &[]), two.serve_with(&network, &[]));
    assert!(second.log().contains("--master-token-file"), "{}", second.log());
    let asks_two = |token: &str| {
        let address = two.network_address();
        one.command(&["ps", "--server", &address])
            .env("CHASSIS_TOKEN", token)
            .output()
            .unwrap()
            .status
            .success()
    };
    let own = std::fs::read_to_string(one.master_token()).unwrap();
    assert!(!asks_two(own.trim()));
    let key = one.ok(&["api-key", "create", "bot", "--role", "viewer"]).stdout;
    assert!(asks_two(key.trim()));
    // What the documentation says to do.
    second.terminate();
    let file = one.master_token().display().to_string();
    let _second = two.serve_with(&[network.as_slice(), &["--master-token-file", &file]].concat(), &[]);
    assert!(asks_two(own.trim()));
}

#[test]
fn a_server_of_another_node_never_acts() {
    let Some(servers) = Servers::start() else { return };
    let stranger = Chassis::new(BINARY)
        .with_env("DATABASE_URL", &servers.url)
        .with_env("CHASSIS_NO_AUTOSTART", "1")
        .with_env("CHASSIS_SERVER_NAME", "stranger");
    let server = stranger.serve();
    eventually(SOON, || {
        let info: ServerInfo = stranger.get("/api/v1/server").map_err(|error| error.to_string())?;
        expect(info.state.refusal.is_some(), || format!("{:?}", info.state))
    });
    stranger.ok(&["server", "status"]).shows(&["never: ", "--claim-node"]);
    assert!(server.log().contains("another node"), "{}", server.log());
    let (status, body) = stranger.ask("GET", "/ready");
    assert_eq!(status, 503, "{body}");
    // It leaves the lease alone for good.
    let Servers { mut first, .. } = servers;
    first.terminate();
    let info: ServerInfo = stranger.get("/api/v1/server").unwrap();
    assert!(!info.state.acting, "{:?}", info.state);
}

#[test]
fn a_database_of_its_own_needs_the_directory_alone() {
    let chassis = Chassis::new(BINARY).with_env("CHASSIS_NO_AUTOSTART", "1");
    let _server = chassis.serve_with(&["--runtime", "sim"], &[]);
    let beside = chassis.beside("two");
    beside.run(&["serve", "--runtime", "sim"]).exits(1).says(&["another server uses", "DATABASE_URL"]);
}
