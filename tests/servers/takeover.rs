//! The server that acts dies, is stopped for a while, or ends: another one goes on.

use std::time::Duration;

use chassis_testkit::api::Phase;
use chassis_testkit::{SOON, eventually, expect, pause};

use crate::support::{Servers, acts, agent, until_acting};

/// The lease's five seconds, and one to take over.
const TAKEOVER: Duration = Duration::from_secs(6);

#[test]
fn another_takes_over_from_one_that_was_killed() {
    let Some(mut servers) = Servers::start() else { return };
    let fleet = servers.one.fleet("killed");
    servers.one.ok(&["create", "fleet", &fleet]);
    servers.one.deploy(&agent(&fleet, 2)).exits(0);
    let containers = [1, 2].map(|number| format!("chassis-{fleet}-a-{number}"));
    let docker = servers.one.docker().clone();
    let runs = || containers.clone().map(|name| docker.runs_since(&name));
    let begun = runs();

    servers.first.kill();
    until_acting(&servers.two, TAKEOVER);
    let name = format!("{fleet}/a-1");
    servers.two.until(&name, Phase::Running);
    assert_eq!(runs(), begun, "nothing is restarted because of a server");
    assert_eq!(docker.labelled(&servers.two.label()).len(), 2, "nor made twice");

    docker.kill(&containers[0]);
    eventually(SOON, || {
        let found = servers.two.instance(&name).instance;
        expect(found.phase == Phase::Running && found.restarts == 1, || format!("{found:?}"))
    });
    // The one that comes back looks on.
    servers.first = servers.one.serve();
    assert!(!acts(&servers.one) && acts(&servers.two));
    assert_eq!(servers.one.instance(&name).instance.restarts, 1);
}

#[test]
fn one_that_was_stopped_acts_no_more() {
    let Some(servers) = Servers::start() else { return };
    let fleet = servers.one.fleet("stopped");
    servers.one.ok(&["create", "fleet", &fleet]);
    servers.one.deploy(&agent(&fleet, 1)).exits(0);

    servers.first.freeze();
    until_acting(&servers.two, TAKEOVER);
    let name = format!("{fleet}/a-1");
    let container = format!("chassis-{fleet}-a-1");
    servers.two.ok(&["stop", "instance", &name]);
    servers.two.docker().inspect(&container).expect("it is stopped, not gone");
    pause(Duration::from_secs(2));
    servers.first.thaw();

    // It believed that the instance should run.
    eventually(SOON, || {
        let found = servers.one.instance(&name).instance.phase;
        expect(found == Phase::Stopped && !acts(&servers.one), || format!("{found:?}"))
    });
    pause(Duration::from_secs(2));
    assert!(servers.one.docker().runs_since(&container).is_none(), "nothing was started");
    assert!(acts(&servers.two) && !acts(&servers.one));
    let starts = servers.two.ok(&["events", &name, "--kind", "Started", "-o", "json"]).stdout;
    assert_eq!(starts.matches("\"Started\"").count(), 1, "{starts}");
}

#[test]
fn one_that_ends_hands_over_at_once() {
    let Some(mut servers) = Servers::start() else { return };
    assert!(servers.first.terminate().success());
    let took = until_acting(&servers.two, Duration::from_secs(2));
    assert!(took < Duration::from_secs(2), "{took:?}");
}
