//! From the database of one server to a Postgres: the same chassis, with the same containers.

use chassis_testkit::api::{Phase, ServerInfo};
use chassis_testkit::{Chassis, Image, Postgres, SOON, eventually, expect};

const BINARY: &str = env!("CARGO_BIN_EXE_chassis");
const VALUE: &str = "a-value-that-nobody-else-has";

fn agent(fleet: &str) -> String {
    format!(
        "name: a\nfleet: {fleet}\nimage: {}\nreplicas: 2\nstop: {{grace: 1s}}\n\
         command: [/bin/sh, -c]\nargs: ['echo $KEY > /data/key; echo run >> /data/runs; exec sleep 99999']\n\
         env: [{{name: KEY, valueFrom: 'secret://{fleet}/key'}}]\n\
         volumes: [{{name: data, mountPath: /data}}]\n",
        Image::busybox().build()
    )
}

#[test]
fn a_fleet_goes_to_postgres_without_noticing() {
    let Some(mut postgres) = Postgres::start() else { return };
    let url = postgres.database();
    let chassis = Chassis::new(BINARY).with_env("CHASSIS_NO_AUTOSTART", "1");
    let mut server = chassis.serve();
    let fleet = chassis.fleet("moved");
    chassis.ok(&["create", "fleet", &fleet]);
    chassis.write("key", VALUE);
    chassis.ok(&["secret", "create", &format!("{fleet}/key"), "--from-file", "key"]);
    chassis.deploy(&agent(&fleet)).exits(0);
    let containers = [1, 2].map(|number| format!("chassis-{fleet}-a-{number}"));
    let since = || containers.clone().map(|name| chassis.docker().runs_since(&name));
    let (begun, events) = (since(), chassis.ok(&["events", &fleet, "-o", "json"]).stdout);
    let before: ServerInfo = chassis.get("/api/v1/server").expect("it serves");
    let list = chassis.ok(&["ps", &fleet, "-o", "name"]).stdout;

    // Not under a running server, and not with a password for all to see.
    chassis.run(&["db", "copy", "--to", &url]).exits(1).says(&["a server uses", "chassis server stop"]);
    chassis
        .run(&["db", "copy", "--to", "postgres://me:hunter2@localhost/x"])
        .exits(2)
        .says(&["DATABASE_URL_FILE"])
        .hides("hunter2");
    server.terminate();
    chassis.ok(&["db", "migrate"]).shows(&["up to date"]);
    chassis.ok(&["db", "copy", "--to", &url]).shows(&["2 instances", "1 secrets"]).says(&["DATABASE_URL"]);
    chassis.run(&["db", "copy", "--to", &url]).exits(1).says(&["not empty"]);
    let everything = postgres.sql("test1", "SELECT string_agg(secrets::text, '') FROM secrets");
    assert!(!everything.contains(VALUE), "secrets stay encrypted");

    // The same chassis goes on where it was.
    chassis.write("url", &format!("{url}\n"));
    let env = [("DATABASE_URL_FILE", "url")];
    let server = chassis.serve_with(&[], &env);
    chassis.until(&format!("{fleet}/a-2"), Phase::Running);
    let after: ServerInfo = chassis.get("/api/v1/server").expect("it serves");
    assert_eq!((after.id, since()), (before.id, begun), "the same containers, never stopped");
    assert_eq!(chassis.ok(&["ps", &fleet, "-o", "name"]).stdout, list);
    let now = chassis.ok(&["events", &fleet, "-o", "json"]).stdout;
    assert!(now.starts_with(events.trim_end().trim_end_matches(']').trim_end()), "{events}\nnow: {now}");

    // It acts: what dies comes back, with its secret and its data.
    chassis.docker().kill(&containers[0]);
    let path = ["data", "runs"].join("/");
    eventually(SOON, || {
        let runs = chassis.read(&fleet, "a-1", &path);
        expect(runs == "run\nrun\n", || format!("it has run: {runs:?}"))
    });
    assert_eq!(chassis.read(&fleet, "a-1", "data/key").trim(), VALUE);
    chassis.ok(&["scale", "agent", &format!("{fleet}/a"), "3"]);
    assert!(!server.log().contains("host="), "the URL is in no log: {}", server.log());

    // Away and back: told what is wrong, and on.
    postgres.crash();
    let begun = since();
    chassis.run(&["create", "fleet", &chassis.fleet("other")]).says(&["database"]);
    postgres.begin();
    eventually(SOON, || {
        let outcome = chassis.run(&["create", "fleet", &chassis.fleet("later")]);
        expect(outcome.code == 0, || outcome.stderr)
    });
    assert_eq!(since(), begun, "agents do not notice");
    chassis.ok(&["delete", "fleet", &fleet, "--cleanup", &format!("--confirm={fleet}")]);
}

#[test]
fn a_database_that_cannot_be_used_is_refused_with_what_to_do() {
    let chassis = Chassis::new(BINARY).with_env("CHASSIS_NO_AUTOSTART", "1");
    let refused = |url: &str, words: &[&str]| {
        let chassis = Chassis::new(BINARY).with_env("DATABASE_URL", url).with_env("HOME", "/nonexistent");
        chassis.run(&["db", "migrate"]).exits(1).says(words).hides("hunter2");
        chassis.run(&["serve", "--runtime", "sim"]).exits(1).says(words).hides("hunter2");
    };
    refused("postgres://u:hunter2@127.0.0.1:1/x?connect_timeout=1", &["does not answer", "127.0.0.1:1"]);
    refused("mysql://u:hunter2@127.0.0.1/x", &["postgres://"]);
    refused("postgres://u:hunter2@127.0.0.1/x?sslmode=verified", &["sslmode", "verify-full"]);
    refused("postgres://u:hunter2@127.0.0.1/x?sslmode=verify-full&sslrootcert=/nowhere", &["/nowhere"]);
    chassis
        .run(&["db", "copy", "--from", "sqlite:nothing.db", "--to", "postgres:///x?host=/nowhere"])
        .exits(1);

    let Some(postgres) = Postgres::start() else { return };
    let url = postgres.database();
    postgres.sql("test1", "CREATE TABLE fleets (ours int)");
    refused(&url, &["not of chassis"]);
    refused(&postgres.url("none"), &["createdb"]);
    refused(&url.replace("user=chassis", "user=nobody"), &["user in DATABASE_URL"]);
}
