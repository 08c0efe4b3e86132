//! Whom agents reach, and whom they do not: real connections to listeners of the test's own.
//!
//! Each test has an Engine and a server in a network namespace of their own, and a second namespace behind it that plays
//! the cloud. Nothing is sent to any other address.

use chassis_testkit::api::Phase;
use chassis_testkit::{Chassis, Dockerd, Image, Listener, Namespace, OwnNamespace, SOON, eventually, expect};

const BINARY: &str = env!("CARGO_BIN_EXE_chassis");
const METADATA: &str = "169.254.169.254";
/// The host's address on the side of the cloud, and the cloud's.
const HOST: &str = "10.123.0.1";
const CLOUD: &str = "10.123.0.2";

/// A host with an Engine, and what is beyond it.
struct Ground {
    chassis: Chassis,
    dockerd: Dockerd,
    image: String,
    cloud: OwnNamespace,
}

impl Ground {
    fn new() -> Ground {
        let dockerd = Dockerd::networked();
        let image = Image::busybox().build_on(&dockerd.docker());
        let chassis = Chassis::new(BINARY).on_docker(&dockerd.docker()).in_namespace(dockerd.namespace());
        let ground = Ground { chassis, dockerd, image, cloud: OwnNamespace::new() };
        let cloud = ground.cloud.namespace();
        let (host, path) = (ground.host(), cloud.path().display().to_string());
        // `ip` takes a name below /run/netns, a process, or nothing: it is moved by its process.
        let pid = path.split('/').nth(2).expect("/proc/<pid>/ns/net").to_owned();
        for line in [
            &["ip", "link", "add", "cloud", "type", "veth", "peer", "name", "host"][..],
            &["ip", "link", "set", "host", "netns", &pid],
            &["ip", "addr", "add", &format!("{HOST}/24"), "dev", "cloud"],
            &["ip", "link", "set", "cloud", "up"],
            &["ip", "route", "add", &format!("{METADATA}/32"), "dev", "cloud"],
        ] {
            host.run(line).exits(0);
        }
        for line in [
            &["ip", "addr", "add", &format!("{CLOUD}/24"), "dev", "host"][..],
            &["ip", "addr", "add", &format!("{METADATA}/32"), "dev", "host"],
            &["ip", "link", "set", "host", "up"],
        ] {
            cloud.run(line).exits(0);
        }
        ground
    }

    fn host(&self) -> Namespace {
        self.dockerd.namespace()
    }

    /// Deploys an agent that serves its own name at port 80.
    fn deploy(&self, fleet: &str, agent: &str, more: &str) {
        let image = &self.image;
        let yaml = format!(
            "name: {agent}\nfleet: {fleet}\nimage: {image}\nuser: \"0\"\nstop: {{grace: 1s}}\n\
             command: [/bin/sh, -c]\n\
             args: ['echo {fleet}-{agent} > /tmp/index.html; exec httpd -f -p 8080 -h /tmp']\n{more}"
        );
        self.chassis.deploy(&yaml).exits(0);
    }

    fn inside(&self, fleet: &str, instance: &str) -> Namespace {
        Namespace::of_container(&self.dockerd.docker(), &format!("chassis-{fleet}-{instance}"))
    }

    /// The host's address in a network, and the listener that serves there.
    fn listen_at_gateway(&self, network: &str, port: u16) -> (String, Listener) {
        let found = self.dockerd.docker().inspect_network(network);
        let gateway = found["IPAM"]["Config"][0]["Gateway"].as_str().expect("a gateway");
        let gateway = gateway.split('/').next().expect("an address");
        let address = format!("{gateway}:{port}");
        let listener = self.host().listen(&address, "host");
        (address, listener)
    }
}

#[track_caller]
fn reaches(from: Namespace, address: &str, says: &str) {
    // A server that has just begun does not listen yet.
    eventually(SOON, || {
        let said = from.fetch(address)?;
        expect(said == says, || format!("{address} says {said:?}, not {says:?}"))
    });
}

#[track_caller]
fn refused(from: Namespace, address: &str) {
    let said = from.fetch(address).expect_err("nothing should come from there");
    assert!(said.contains("Failed to connect"), "{address} is not refused at once: {said}");
}

#[test]
fn no_agent_reaches_the_host_nor_its_metadata() {
    let ground = Ground::new();
    let (chassis, host, docker) = (&ground.chassis, ground.host(), ground.dockerd.docker());
    let fleet = chassis.fleet("web");
    chassis.ok(&["create", "fleet", &fleet]);
    ground.deploy(&fleet, "a", "ports: [{containerPort: 8080, hostPort: 8088}]\n");
    docker.create_network("plain");
    let plain = docker.run_in("plain", "plain", &ground.image, &["/bin/sleep", "99999"]);
    let (plain, agent) = (Namespace::of_container(&docker, &plain.id), ground.inside(&fleet, "a-1"));
    let network = format!("chassis-{fleet}");

    let (gateway, _listener) = ground.listen_at_gateway(&network, 7001);
    let (plain_gateway, _listener) = ground.listen_at_gateway("plain", 7001);
    let address = format!("{HOST}:7002");
    let _listener = host.listen(&address, "host");
    let metadata = format!("{METADATA}:80");
    let _listener = ground.cloud.namespace().listen(&metadata, "key");
    let beyond = format!("{CLOUD}:7003");
    let _listener = ground.cloud.namespace().listen(&beyond, "beyond");

    // The control: what an ordinary container reaches.
    for (address, says) in [
        (&plain_gateway, "host"),
        (&gateway, "host"),
        (&address, "host"),
        (&metadata, "key"),
        (&beyond, "beyond"),
    ] {
        reaches(plain, address, says);
    }
    for address in [&gateway, &plain_gateway, &address, &metadata] {
        refused(agent, address);
    }
    reaches(agent, &beyond, "beyond");

    // What goes to the agent, and its answers, pass.
    let found = docker.inspect(&format!("chassis-{fleet}-a-1")).expect("a container");
    let own =
        found["NetworkSettings"]["Networks"][&network]["IPAddress"].as_str().expect("an address").to_owned();
    reaches(host, &format!("{own}:8080"), &format!("{fleet}-a"));
    reaches(host, "127.0.0.1:8088", &format!("{fleet}-a"));
    chassis.ok(&["describe", &format!("{fleet}/a-1")]).hides("can be reached");

    // A firewall that was reloaded has forgotten the rules: the next full look sets them again.
    host.run(&["iptables", "-F", "CHASSIS-INPUT"]).exits(0);
    reaches(agent, &gateway, "host");
    chassis.ok(&["server", "stop"]);
    chassis.ok(&["ps"]);
    eventually(SOON, || match agent.fetch(&gateway) {
        Err(said) if said.contains("Failed to connect") => Ok(()),
        said => Err(format!("{gateway} still answers: {said:?}")),
    });

    // The last network takes the rules along, and nobody else's.
    assert!(host.run(&["iptables", "-S"]).stdout.contains("CHASSIS-INPUT"));
    chassis.ok(&["delete", "fleet", &fleet, &format!("--confirm={fleet}")]);
    let rules = host.run(&["iptables", "-S"]).stdout;
    assert!(!rules.contains("CHASSIS") && rules.contains("DOCKER-USER"), "{rules}");
    reaches(plain, &plain_gateway, "host");
}

#[test]
fn a_port_of_the_host_is_opened_by_name_for_one_agent() {
    let ground = Ground::new();
    let (chassis, docker) = (&ground.chassis, ground.dockerd.docker());
    let fleet = chassis.fleet("door");
    chassis.ok(&["create", "fleet", &fleet]);
    ground.deploy(&fleet, "a", "network: {hostPorts: [7001]}\n");
    ground.deploy(&fleet, "b", "");
    let (open, closed) = (ground.inside(&fleet, "a-1"), ground.inside(&fleet, "b-1"));
    let _listeners = [7001, 7002].map(|port| ground.host().listen(&format!("0.0.0.0:{port}"), "host"));
    reaches(open, "host.chassis.internal:7001", "host");
    refused(open, "host.chassis.internal:7002");
    let doors = docker.networks_labelled("chassis.host-ports");
    let gateway = doors[0]["IPAM"]["Config"][0]["Gateway"].as_str().expect("a gateway").to_owned();
    for address in [format!("{gateway}:7001"), format!("{HOST}:7001")] {
        refused(closed, &address);
    }
    chassis.ok(&["describe", &format!("{fleet}/a-1")]).shows(&["network.hostPorts: 7001 of the host"]);
    // It goes with the agent.
    chassis.ok(&["delete", "agent", &format!("{fleet}/a")]);
    assert_eq!(docker.networks_labelled("chassis.host-ports").len(), 0);
}

#[test]
fn fleets_reach_each_other_only_if_the_yaml_says_so() {
    let ground = Ground::new();
    let (chassis, docker) = (&ground.chassis, ground.dockerd.docker());
    let (one, two) = (chassis.fleet("one"), chassis.fleet("two"));
    chassis.ok(&["create", "fleet", &one]);
    ground.deploy(&one, "a", "");
    ground.deploy(&one, "b", "");
    let yaml = "network: {fleets: [FLEET]}\n".replace("FLEET", &two);

    // Named before it is there: nothing starts, and it says why.
    let image = &ground.image;
    let guest = format!(
        "name: guest\nfleet: {one}\nimage: {image}\ncommand: [/bin/sleep, '99999']\nstop: {{grace: 1s}}\n{yaml}"
    );
    chassis
        .deploy(&guest)
        .exits(1)
        .says(&[&format!("the fleet {two}, which is not there"), "chassis create fleet"]);
    // One that runs already goes on as it is, and its agent goes back by itself.
    let begun =
        || docker.inspect(&format!("chassis-{one}-b-1")).expect("a container")["State"]["StartedAt"].clone();
    let before = begun();
    let moved = guest.replace("name: guest", "name: b");
    chassis.deploy(&moved).exits(1).says(&[&format!("the fleet {two}, which is not there")]);
    assert_eq!(begun(), before, "it was taken down for a fleet that is not there");

    chassis.ok(&["create", "fleet", &two]);
    ground.deploy(&two, "c", "");
    chassis.until(&format!("{one}/guest-1"), Phase::Running);

    let (a, guest) = (ground.inside(&one, "a-1"), ground.inside(&one, "guest-1"));
    let found = docker.inspect(&format!("chassis-{two}-c-1")).expect("a container");
    let address = found["NetworkSettings"]["Networks"][format!("chassis-{two}")]["IPAddress"].clone();
    let address = format!("{}:8080", address.as_str().expect("an address"));
    // The control: it is there, for those who may.
    for (from, name) in [(a, "b"), (a, "b-1"), (guest, "b"), (guest, "a-1")] {
        reaches(from, &format!("{name}:8080"), &format!("{one}-{}", &name[..1]));
    }
    for name in ["c", "c-1", address.trim_end_matches(":8080")] {
        reaches(guest, &format!("{name}:8080"), &format!("{two}-c"));
        let said = a.fetch(&format!("{name}:8080")).expect_err("another fleet is out of reach");
        assert!(!said.is_empty());
    }
    chassis.ok(&["describe", &format!("{one}/guest-1")]).shows(&[&format!("network.fleets: {two}")]);

    // A guest does not hold up the fleet's end, and finds its way back into one of the same name.
    chassis.ok(&["delete", "fleet", &two, &format!("--confirm={two}")]);
    reaches(guest, "b:8080", &format!("{one}-b"));
    chassis.ok(&["create", "fleet", &two]);
    ground.deploy(&two, "c", "");
    reaches(guest, "c:8080", &format!("{two}-c"));
}

#[test]
fn an_agent_without_network_has_none() {
    let ground = Ground::new();
    let chassis = &ground.chassis;
    let fleet = chassis.fleet("none");
    chassis.ok(&["create", "fleet", &fleet]);
    ground.deploy(&fleet, "a", "network: none\n");
    ground.deploy(&fleet, "b", "");
    let (alone, other) = (ground.inside(&fleet, "a-1"), ground.inside(&fleet, "b-1"));
    let links = alone.run(&["ip", "-o", "link"]).exits(0).stdout;
    assert!(links.lines().all(|line| line.contains(" lo:")), "{links}");
    reaches(alone, "127.0.0.1:8080", &format!("{fleet}-a"));
    assert!(other.fetch("a:8080").is_err());
    // A changed network makes a new container.
    ground.deploy(&fleet, "a", "network: fleet\n");
    reaches(other, "a:8080", &format!("{fleet}-a"));
}

#[test]
fn a_container_that_was_taken_out_of_its_network_comes_back() {
    let ground = Ground::new();
    let (chassis, docker) = (&ground.chassis, ground.dockerd.docker());
    let fleet = chassis.fleet("lost");
    chassis.ok(&["create", "fleet", &fleet]);
    ground.deploy(&fleet, "a", "");
    ground.deploy(&fleet, "b", "");
    let (container, network) = (format!("chassis-{fleet}-a-1"), format!("chassis-{fleet}"));
    let runs = docker.runs_since(&container);
    docker.disconnect(&network, &container);
    reaches(ground.inside(&fleet, "b-1"), "a-1:8080", &format!("{fleet}-a"));
    assert_eq!(docker.runs_since(&container), runs, "it was not restarted for that");
}

#[test]
fn a_foreign_container_in_the_way_of_a_fleet_s_end_is_named() {
    let ground = Ground::new();
    let (chassis, docker) = (&ground.chassis, ground.dockerd.docker());
    let fleet = chassis.fleet("end");
    chassis.ok(&["create", "fleet", &fleet]);
    let network = format!("chassis-{fleet}");
    let foreign = docker.run_in(&network, "intruder", &ground.image, &["/bin/sleep", "99999"]);
    chassis.run(&["delete", "fleet", &fleet, &format!("--confirm={fleet}")]).exits(1).says(&[
        "the container intruder, which chassis did not make",
        &format!("docker network disconnect -f {network} intruder"),
    ]);
    drop(foreign);
    eventually(SOON, || {
        let fleets = chassis.ok(&["ps", "--fleets", "-o", "name"]).stdout;
        expect(!fleets.contains(&fleet), || format!("it is still there: {fleets}"))
    });
}

#[test]
fn what_cannot_be_closed_is_told() {
    let ground = Ground::new();
    // A server that is elsewhere than the bridges.
    let elsewhere =
        Chassis::new(BINARY).on_docker(&ground.dockerd.docker()).in_namespace(ground.cloud.namespace());
    let fleet = elsewhere.fleet("far");
    elsewhere.ok(&["create", "fleet", &fleet]);
    let image = &ground.image;
    let yaml = format!(
        "name: a\nfleet: {fleet}\nimage: {image}\ncommand: [/bin/sleep, '99999']\nstop: {{grace: 1s}}\n"
    );
    elsewhere.deploy(&yaml).exits(0);
    elsewhere.ok(&["describe", &format!("{fleet}/a-1")]).shows(&[
        "the host's own services and 169.254.169.254 can be reached",
        "run the server where Docker's networks are",
    ]);
}
