//! The database is away for a while: `OUTAGE_SECONDS` (10); `make failover` lets it be a minute.

use std::time::{Duration, Instant};

use chassis_testkit::api::Phase;
use chassis_testkit::{SOON, eventually, expect, pause};
use serde_json::Value;

use crate::support::{Servers, agent};

const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn without_the_database_agents_go_on() {
    let Some(mut servers) = Servers::start() else { return };
    let seconds = std::env::var("OUTAGE_SECONDS")
        .map_or(10_u64, |text| text.parse().expect("OUTAGE_SECONDS is a number"));
    let fleet = servers.one.fleet("outage");
    servers.one.ok(&["create", "fleet", &fleet]);
    servers.one.deploy(&agent(&fleet, 2)).exits(0);
    let (healthy, crashing) = (format!("{fleet}/a-1"), format!("{fleet}/a-2"));
    let docker = servers.one.docker().clone();
    let begun = docker.runs_since(&format!("chassis-{fleet}-a-1"));

    servers.postgres.stop();
    let stopped = Instant::now();
    for chassis in [&servers.one, &servers.two] {
        let list = format!("/api/v1/instances?fleet={fleet}");
        let answer = eventually(SOON, || {
            let answer = chassis.exchange("GET", &list, b"", PATIENCE).map_err(|error| error.to_string())?;
            if answer.header("chassis-stale").is_some() { Ok(answer) } else { Err(answer.head) }
        });
        assert_eq!(answer.status, 200, "{}", answer.body);
        let instances: Value = serde_json::from_str(&answer.body).expect("JSON");
        let first = instances.get("items").unwrap_or(&instances)[0].clone();
        assert_eq!(first["phase"], "Running", "{first}");
        assert!(first["staleSeconds"].is_u64(), "{first}");
        chassis.ok(&["ps"]).shows(&[&fleet]).says(&["database"]);
        chassis.ok(&["ps", "--fleets"]).shows(&[&fleet]);
        chassis.ok(&["describe", &healthy]).shows(&["Running"]);
        chassis.ok(&["logs", &healthy]).shows(&["begin"]);
        let body = format!("{{\"name\": \"{fleet}-new\", \"labels\": {{}}}}");
        let refused =
            chassis.exchange("POST", "/api/v1/fleets", body.as_bytes(), PATIENCE).expect("an answer");
        assert_eq!(refused.status, 503, "{}", refused.body);
        assert!(refused.header("retry-after").is_some(), "{}", refused.head);
        assert!(refused.body.contains("database_unavailable"), "{}", refused.body);
    }

    // One crashes meanwhile: that is shown, and nothing is done that could not be written down.
    docker.kill(&format!("chassis-{fleet}-a-2"));
    for chassis in [&servers.one, &servers.two] {
        eventually(SOON, || {
            let phase = chassis.instance(&crashing).instance.phase;
            expect(phase == Phase::Backoff, || format!("{phase:?}"))
        });
    }
    // A command waits for the database, though not for ever, and then goes on.
    pause(Duration::from_secs(seconds.saturating_sub(5)).saturating_sub(stopped.elapsed()));
    let mut waiting = servers.two.spawn_discarding(&["create", "fleet", &format!("{fleet}-late")]);
    pause(Duration::from_secs(seconds).saturating_sub(stopped.elapsed()));
    assert!(docker.runs_since(&format!("chassis-{fleet}-a-2")).is_none(), "nobody may act");
    assert_eq!(docker.runs_since(&format!("chassis-{fleet}-a-1")), begun);

    servers.postgres.begin();
    let back = Instant::now();
    eventually(SOON, || {
        let found = servers.two.instance(&crashing).instance;
        let again = found.phase == Phase::Running && found.restarts == 1 && found.stale_seconds.is_none();
        expect(again, || format!("{found:?}"))
    });
    assert!(back.elapsed() < Duration::from_secs(15), "it took {:?}", back.elapsed());
    assert!(waiting.wait().expect("it ends").success(), "the command went on by itself");
    for chassis in [&servers.one, &servers.two] {
        chassis.ok(&["ps", "--fleets"]).shows(&[&format!("{fleet}-late")]).hides(&format!("{fleet}-new"));
    }
    assert_eq!(docker.runs_since(&format!("chassis-{fleet}-a-1")), begun, "agents never noticed");
}
