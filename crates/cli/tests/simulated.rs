//! Commands against a real server whose instances are simulated: what they print, and how they exit.

mod common;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::Duration;

use common::{Place, Ran, Server, pause, runs, wait_until};

const AGENT: &str = "\
name: data-collector
image: myrepo/collector:1.0
resources:
  memory: 128Mi
env:
  - name: API_KEY
    valueFrom: secret://collector/api-key
";

fn ran(code: i32, stdout: &str, stderr: &str) -> Ran {
    Ran { code, stdout: stdout.to_owned(), stderr: stderr.to_owned() }
}

/// A server with the fleet `collector` and its agent's secret.
fn collector() -> Server {
    let server = Server::start();
    server.place.write("agent.yaml", AGENT);
    server.place.write("key", "hunter2");
    server.place.ok("create fleet collector");
    server.place.ok("secret create collector/api-key --from-file key");
    server
}

#[test]
fn labels_choose_what_is_meant() {
    let server = Server::start();
    let place = &server.place;
    for (fleet, label) in [("one", "team=search"), ("two", "team=ads")] {
        place.ok(&format!("create fleet {fleet} --label {label}"));
        for (agent, tier) in [("web", "front"), ("core", "back")] {
            let name = format!("{fleet}-{agent}");
            place.write(
                "a.yaml",
                &format!("name: {name}\nimage: x:1\nreplicas: 2\nlabels: {{tier: {tier}}}\n"),
            );
            place.ok(&format!("deploy agent -f a.yaml --fleet {fleet}"));
        }
    }
    let running = |flags: &str| {
        let stats = place.ok(&format!("stats {flags} -o json"));
        let stats: Vec<serde_json::Value> = serde_json::from_str(&stats).unwrap();
        let running = stats.iter().filter(|row| row["phase"] == "Running");
        let name = |row: &serde_json::Value| format!("{}-{}", row["agent"].as_str().unwrap(), row["number"]);
        running.map(name).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(running("-l tier=front"), "one-web-1 one-web-2 two-web-1 two-web-2");
    assert_eq!(running("two -l tier=front"), "two-web-1 two-web-2");
    // An agent has the labels of its fleet.
    assert_eq!(place.ok("stop -l team=search -l tier=back"), "stopped one-core: 2 stopped\n");
    assert_eq!(running("-l team=search"), "one-web-1 one-web-2");
    assert_eq!(place.ok("stop fleet two -l tier=front"), "stopped two-web: 2 stopped\n");
    assert_eq!(place.ok("stop one-web-1 two-core-1 -l team=ads"), "stopped two-core-1\n");
    assert_eq!(running(""), "one-web-1 one-web-2 two-core-2");
    let none = place.run("restart fleet one -l team=ads");
    assert_eq!((none.code, none.stdout.as_str()), (3, ""), "{}", none.stderr);
    assert_eq!(place.run("stop").code, 2);
    let mut named: Vec<String> = place.ok("logs one -l tier=front").lines().map(first_words).collect();
    named.sort_unstable();
    assert_eq!(named, ["one-web-1 |", "one-web-2 |"]);
}

#[test]
fn a_fleet_from_its_creation_to_its_end() {
    let server = Server::start();
    let place = &server.place;
    place.write("agent.yaml", AGENT);
    assert_eq!(place.run("ps"), ran(0, "", "nothing here yet; begin with `chassis create fleet <name>`\n"));
    assert_eq!(
        place.run("deploy agent -f agent.yaml"),
        ran(1, "", "error: there is no fleet yet; create one with `chassis create fleet <name>`\n")
    );
    let label = place.run("create fleet collector --label chassis.fleet=other");
    assert_eq!((label.code, label.stdout.as_str()), (2, ""));
    assert!(label.stderr.contains("chassis.fleet"), "{}", label.stderr);
    assert_eq!(
        place.run("create fleet collector"),
        ran(0, "created fleet collector\n", "next: `chassis deploy agent -f <file.yaml>`\n")
    );
    let blocked = place.run("deploy agent -f agent.yaml");
    assert_eq!(blocked.code, 1);
    assert!(blocked.stderr.contains("collector/api-key"), "{}", blocked.stderr);
    assert_eq!(
        place.run_with_input("secret create api-key --from-file -", "hunter2"),
        ran(0, "created secret collector/api-key\n", "")
    );
    assert_eq!(
        place.ok("deploy agent -f agent.yaml"),
        "deployed data-collector revision 1 to fleet collector: 1 running\n"
    );
    assert_eq!(
        place.ok("deploy agent -f agent.yaml"),
        "data-collector in fleet collector is unchanged (revision 1): 1 running\n"
    );
    assert_eq!(
        place.run("scale fleet collector 3"),
        ran(0, "scaled data-collector from 1 to 3: 3 running\n", "")
    );
    assert_eq!(place.ok("stop data-collector-2"), "stopped data-collector-2\n");
    let lines: Vec<String> = place.ok("ps").lines().map(first_words).collect();
    assert_eq!(
        lines,
        [
            "NAME STATE",
            "collector 2/2",
            "data-collector 2/2",
            "data-collector-1 Running",
            "data-collector-2 Stopped",
            "data-collector-3 Running"
        ]
    );
    assert_eq!(place.ok("start instance data-collector-2"), "started data-collector-2\n");
    assert_eq!(place.ok("restart fleet collector"), "restarted fleet collector: 3 running\n");
    assert_eq!(place.ok("restart --no-wait agent data-collector"), "restarting data-collector\n");
    assert_eq!(place.ok("delete agent data-collector-3"), "deleted data-collector-3; its data is kept\n");
    assert_eq!(place.ok("ps -o name"), "collector/data-collector-1\ncollector/data-collector-2\n");
    assert_eq!(
        place.run("scale agent data-collector 1"),
        ran(
            0,
            "scaled data-collector from 2 to 1: 1 running\n",
            "the data of the others is kept; `chassis scale agent data-collector 2` brings them back to it\n"
        )
    );
    assert_eq!(
        place.run("secret delete collector/api-key"),
        ran(
            0,
            "deleted secret collector/api-key\n",
            "warning: data-collector uses it, and cannot be started again without it\n"
        )
    );
    assert_eq!(place.ok("delete agent data-collector --cleanup"), "deleted data-collector with its data\n");
    assert_eq!(
        place.ok("delete fleet collector --confirm=collector"),
        "deleted fleet collector; its data is kept\n"
    );
    // What was said to be deleted is: its name is free again.
    place.ok("create fleet collector");
}

/// The simulation uses nothing that could be shown, and says so.
#[test]
fn a_runtime_that_cannot_tell_what_is_used_is_no_failure() {
    let server = collector();
    server.place.ok("deploy agent -f agent.yaml");
    let stats = server.place.run("stats data-collector-1");
    assert_eq!(stats.code, 0);
    let row: Vec<&str> = stats.stdout.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(row[..5], ["data-collector-1", "Running", "-", "-", "-"]);
    assert!(
        stats.stderr.starts_with("warning: this runtime cannot tell what instances use"),
        "{}",
        stats.stderr
    );
    assert!(server.place.ok("top --once").contains("1 running"));
}

fn first_words(line: &str) -> String {
    line.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
}

#[test]
fn names_that_are_nothing_exit_3_with_a_suggestion() {
    let server = collector();
    server.place.ok("deploy agent -f agent.yaml");
    let suggestion = "error: there is nothing named `data-colector-1`; did you mean `data-collector-1`?\n";
    for command in ["logs", "describe", "stop", "delete agent", "ps", "events", "restart instance"] {
        assert_eq!(
            server.place.run(&format!("{command} data-colector-1")),
            ran(3, "", suggestion),
            "{command}"
        );
    }
    // A fleet that is not there is made by who wants something put into it, not by who wants to be rid of it.
    for (command, hint) in [
        ("delete fleet other --confirm=other", "`chassis ps --fleets` shows those that are there"),
        ("stop fleet other", "`chassis ps --fleets` shows those that are there"),
        ("deploy agent -f agent.yaml --fleet other", "make it with `chassis create fleet other`"),
    ] {
        let refused = format!("error: there is no fleet `other`; {hint}\n");
        assert_eq!(server.place.run(command), ran(3, "", &refused), "{command}");
    }
    let usage = [
        ("stop", "fleet", "which fleet? Write its name behind it"),
        ("stop", "fleets collector", "`fleets` is not a kind of thing; write fleet, agent or instance"),
        ("stop", "agent collector", "`collector` is a fleet, not an agent"),
        (
            "stop",
            "instance data-collector",
            "`data-collector` is an agent; name an instance of it, such as data-collector-1",
        ),
        ("delete agent", "collector", "`collector` is a fleet; use `chassis delete fleet collector`"),
    ];
    for (command, target, message) in usage {
        let line = format!("{command} {target}");
        assert_eq!(server.place.run(&line), ran(2, "", &format!("error: {message}\n")), "{line}");
    }
}

#[test]
fn deploy_finds_its_fleet() {
    let server = collector();
    let place = &server.place;
    place.ok("create fleet scanners");
    assert_eq!(
        place.run("deploy agent -f agent.yaml"),
        ran(
            2,
            "",
            "error: there are several fleets (collector, scanners); name one with --fleet, or as `fleet:` in the YAML\n"
        )
    );
    assert_eq!(
        place.ok("deploy agent -f agent.yaml --fleet collector --replicas 2"),
        "deployed data-collector revision 1 to fleet collector: 2 running\n"
    );
    let unknown = place.run("deploy agent -f agent.yaml --fleet colector");
    assert_eq!((unknown.code, unknown.stdout.as_str()), (3, ""), "deploy makes no fleet: {}", unknown.stderr);
    place.write("scanner.yaml", "name: scanner\nimage: scan:1\nfleet: scanners\n");
    assert_eq!(
        place.run("deploy agent -f scanner.yaml --dry-run"),
        ran(0, "+ agent scanners/scanner: replicas 1, image scan:1\n", "")
    );
    assert_eq!(place.ok("ps -o name"), "collector/data-collector-1\ncollector/data-collector-2\n");
}

#[test]
fn apply_makes_what_diff_shows() {
    let server = Server::start();
    let place = &server.place;
    let fleet = "fleet: scanners\nlabels: {tier: batch}\nagents:\n  - name: one\n    image: scan:1\n    replicas: 2\n  - name: two\n    image: scan:1\n";
    place.write("fleet.yaml", fleet);
    assert_eq!(
        place.run("diff -f fleet.yaml"),
        ran(
            1,
            "+ fleet scanners\n+ agent scanners/one: replicas 2, image scan:1\n+ agent scanners/two: replicas 1, image scan:1\n",
            ""
        )
    );
    assert_eq!(
        place.ok("apply -f fleet.yaml"),
        "created fleet scanners\ndeployed one revision 1 to fleet scanners: 2 running\ndeployed two revision 1 to fleet scanners: 1 running\n"
    );
    assert_eq!(place.run("diff -f fleet.yaml"), ran(0, "", "nothing would change\n"));

    place.write("changed.yaml", "fleet: scanners\nagents:\n  - name: one\n    image: scan:2\n    replicas: 3\n    env: [{name: LEVEL, value: debug}]\n");
    let changes =
        "~ agent scanners/one\n+     env.LEVEL: debug\n~     image: scan:1 → scan:2\n~     replicas: 2 → 3\n";
    assert_eq!(
        place.run("diff -f changed.yaml").stdout,
        format!("{changes}? agent scanners/two is not declared, and is left alone without --prune\n")
    );
    let pruned = format!("{changes}- agent scanners/two (its data is kept)\n");
    assert_eq!(place.run("diff --prune -f changed.yaml"), ran(1, &pruned, ""));
    assert_eq!(place.run("apply --prune --dry-run -f changed.yaml"), ran(0, &pruned, ""));
    assert_eq!(
        place.ok("apply --prune -f changed.yaml"),
        "deployed one revision 2 to fleet scanners: 3 running\ndeleted two from fleet scanners; its data is kept\n"
    );
    assert_eq!(place.run("diff --prune -f changed.yaml").code, 0);
    assert_eq!(place.run_with_input("diff -f -", "name: one").code, 2, "an error is no difference");
    // The fleet's label selects its agents' instances.
    assert_eq!(place.ok("ps -l tier=batch -o name").lines().count(), 3);
    assert_eq!(place.ok("ps -l tier=web -o name"), "");
}

#[test]
fn of_several_fleets_none_is_changed_if_one_is_refused() {
    let server = Server::start();
    let place = &server.place;
    let one = "fleet: one\nagents: [{name: a, image: scan:1}]\n";
    let two =
        "fleet: two\nagents: [{name: b, image: scan:1, env: [{name: K, valueFrom: 'secret://two/none'}]}]\n";
    place.write("both.yaml", &format!("{one}---\n{two}"));
    let refused = place.run("apply -f both.yaml");
    assert!(refused.code != 0 && refused.stderr.contains("two/none"), "{refused:?}");
    assert_eq!(place.ok("ps --fleets -o name"), "");
    place.write(
        "agents.yaml",
        "name: a\nfleet: one\nimage: scan:1\n---\nname: b\nfleet: two\nimage: scan:1\n",
    );
    place.ok("create fleet one");
    assert_eq!(place.run("deploy agent -f agents.yaml").code, 3);
    assert_eq!(place.ok("ps --agents -o name"), "");
}

#[test]
fn what_would_lose_a_key_or_look_elsewhere_is_refused() {
    let server = Server::start();
    let place = &server.place;
    let hidden = place.run("api-key create bot --role viewer -o name");
    assert!(hidden.code == 2 && hidden.stderr.contains("-o json"), "{hidden:?}");
    assert_eq!(place.ok("api-key list -o name"), "");
    let empty = place.run_with_input("login https://127.0.0.1:1 --name far", "");
    assert!(empty.code != 0 && !empty.stderr.contains("copy it again"), "{empty:?}");
    let noted = place.run("audit-log verify --noted foo");
    assert!(noted.code == 2 && noted.stderr.contains("17:3f"), "{noted:?}");
    let far = place.run("--server https://127.0.0.1:1 doctor");
    assert!(far.code == 2 && far.stderr.contains("run it there"), "{far:?}");
    let far = place.run("--server https://127.0.0.1:1 server status");
    assert!(far.code == 1 && !far.stderr.contains("starts it"), "{far:?}");
}

#[test]
fn what_is_listed_comes_in_every_format() {
    let server = collector();
    let place = &server.place;
    place.ok("deploy agent -f agent.yaml");
    for command in [
        "ps",
        "ps --fleets",
        "ps --agents",
        "secret list",
        "events",
        "describe data-collector-1",
        "server status",
    ] {
        let json: serde_json::Value = serde_json::from_str(&place.ok(&format!("{command} -o json"))).unwrap();
        let first = json.get(0).unwrap_or(&json);
        assert!(first.as_object().is_some_and(|fields| fields.len() > 3), "{command}: {json}");
        let name = place.ok(&format!("{command} -o name"));
        assert_eq!(name.split_whitespace().count(), name.lines().count(), "{command}: {name}");
        let wide = place.ok(&format!("{command} -o wide"));
        assert!(wide.lines().count() > 1 && !wide.contains('\x1b'), "{command}: {wide}");
        assert!(place.ok(&format!("{command} -o yaml")).contains(": "), "{command}");
    }
    let described = place.ok("describe data-collector-1");
    for part in [
        "chassis-collector-data-collector-1",
        "secret://collector/api-key",
        "/tmpfs",
        "nothing beyond the defaults",
    ] {
        assert!(described.contains(part), "{part} is missing:\n{described}");
    }
    assert!(!described.contains("hunter2"));
}

#[test]
fn logs_of_several_instances_have_names_in_front() {
    let server = collector();
    let place = &server.place;
    place.ok("deploy agent -f agent.yaml --replicas 10");
    assert_eq!(place.ok("logs data-collector-1"), "started\n");
    let all = place.ok("logs collector");
    assert_eq!(all.lines().count(), 10);
    assert!(
        all.contains("data-collector-1  | started\n") && all.contains("data-collector-10 | started\n"),
        "{all}"
    );
    assert_eq!(place.ok("logs collector --no-prefix --tail 1"), "started\n".repeat(10));
    let timed = place.ok("logs data-collector-1 --timestamps");
    let (time, text) = timed.split_once(' ').unwrap();
    assert!(time.parse::<jiff::Timestamp>().is_ok() && text == "started\n", "{timed}");
    assert_eq!(place.ok("logs data-collector-1 --since 2100-01-01T00:00:00Z"), "");
}

#[test]
fn watchers_see_what_happens_after_they_came() {
    let server = collector();
    let place = &server.place;
    place.ok("deploy agent -f agent.yaml");
    let spawn = |args: &[&str]| {
        let mut child = place.command(args).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        (child, lines.map(Result::unwrap))
    };
    let (mut events, mut event_lines) = spawn(&["events", "--watch", "--since-id", "0"]);
    let (mut logs, mut log_lines) = spawn(&["logs", "data-collector", "-f"]);
    assert!(event_lines.next().unwrap().ends_with("fleet created"));
    assert_eq!(log_lines.next().unwrap(), "data-collector-1 | started");
    place.ok("scale agent data-collector 2");
    assert_eq!(log_lines.next().unwrap(), "data-collector-2 | started");
    assert!(event_lines.any(|line| line.contains("collector/data-collector-2") && line.ends_with("started")));
    let (mut ps, mut pictures) = spawn(&["ps", "--agents", "--watch"]);
    assert!(pictures.any(|line| line.contains("2/2")));
    place.ok("stop data-collector-2");
    assert!(pictures.any(|line| line.contains("1/1")));
    for child in [&mut events, &mut logs, &mut ps] {
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

#[test]
fn commands_that_race_to_start_a_server_share_one() {
    let place = Place::new();
    let start = |line: &str| {
        let args: Vec<&str> = line.split_whitespace().collect();
        let mut command = place.command(&args);
        command.env_remove("CHASSIS_NO_AUTOSTART").env("CHASSIS_RUNTIME", "sim");
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let racers: Vec<_> = (0..6).map(|number| start(&format!("create fleet fleet-{number}"))).collect();
    let started = racers
        .into_iter()
        .map(|racer| place.ran(racer.wait_with_output().unwrap()))
        .inspect(|ran| assert_eq!(ran.code, 0, "{}", ran.stderr))
        .filter(|ran| ran.stderr.contains("started a server in the background"))
        .count();
    assert_eq!(started, 1);
    assert_eq!(place.ok("ps --fleets -o name").lines().count(), 6);
    let status: serde_json::Value = serde_json::from_str(&place.ok("server status -o json")).unwrap();
    assert_eq!(status["background"], true);
    let pid = status["pid"].to_string();
    assert!(runs(&pid));
    assert_eq!(place.ok("server stop"), format!("stopped the server (pid {pid}); agents go on running\n"));
    assert!(!runs(&pid), "the server outlives its stop");
}

#[test]
fn a_server_that_cannot_start_shows_its_log() {
    let place = Place::new();
    std::fs::create_dir_all(place.data_dir().join(".server")).unwrap();
    place.write("data/.server/chassis.db", &"this is no database ".repeat(100));
    // What an earlier server said is not why this one ended.
    place.write("data/.server/log", "error: an older trouble\n");
    let mut command = place.command(&["ps"]);
    let output = command.env_remove("CHASSIS_NO_AUTOSTART").env("CHASSIS_RUNTIME", "sim").output().unwrap();
    let ran = place.ran(output);
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""));
    assert!(ran.stderr.starts_with("error: the server that was started ended at once (exit status: 1); the end of its log, <dir>/data/.server/log:\n  error: "), "{}", ran.stderr);
    assert!(!ran.stderr.contains("an older trouble"), "{}", ran.stderr);
    let database = std::fs::read_to_string(place.data_dir().join(".server/chassis.db")).unwrap();
    assert!(database.starts_with("this is no database"), "what is there is never overwritten");
}

/// A server that is ending no longer answers, but has the data directory until those who follow it are gone.
#[test]
fn a_command_outlasts_a_server_that_is_ending() {
    let server = Server::start();
    let place = &server.place;
    place.ok("create fleet collector");
    let mut watcher = place.command(&["events", "--watch"]).stdout(Stdio::piped()).spawn().unwrap();
    BufReader::new(watcher.stdout.as_mut().unwrap()).read_line(&mut String::new()).unwrap();
    server.terminate();
    wait_until("it no longer answers", || {
        UnixStream::connect(place.data_dir().join(".server/socket")).is_err()
    });
    let mut command = place.command(&["ps", "-o", "json", "--fleets"]);
    command.env_remove("CHASSIS_NO_AUTOSTART").env("CHASSIS_RUNTIME", "sim");
    let ran = place.ran(command.output().unwrap());
    watcher.kill().unwrap();
    watcher.wait().unwrap();
    assert!(ran.code == 0 && ran.stdout.contains("collector"), "{ran:?}");
}

#[test]
fn another_runtime_is_refused() {
    let mut server = collector();
    server.place.ok("deploy agent -f agent.yaml");
    server.kill();
    let ran = server.place.run("serve --runtime docker");
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""));
    assert!(
        ran.stderr.contains("run on sim, not on docker; start it with `--runtime sim`"),
        "{}",
        ran.stderr
    );
    server.start_again();
    assert_eq!(server.place.ok("ps -o name"), "collector/data-collector-1\n");
}

#[test]
fn an_agent_is_not_deleted_as_an_instance() {
    let server = collector();
    server.place.ok("deploy agent -f agent.yaml --replicas 2");
    let ran = server.place.run("delete instance data-collector --cleanup");
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.stderr.contains("`chassis delete agent data-collector`"), "{}", ran.stderr);
    server.place.ok("delete instance data-collector-2");
    assert_eq!(server.place.ok("ps -o name"), "collector/data-collector-1\n");
}

/// Whoever asks may be gone before the answer: what is stored is done all the same.
#[test]
fn a_change_is_carried_out_though_its_asker_has_gone() {
    let server = collector();
    let agents = 40;
    for number in 0..agents {
        let body = format!(r#"{{"agents":[{{"name":"a{number}","image":"any:1"}}]}}"#);
        let head = format!(
            "POST /api/v1/fleets/collector/apply HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        );
        let mut asker = UnixStream::connect(server.place.data_dir().join(".server/socket")).unwrap();
        asker.write_all(format!("{head}{body}").as_bytes()).unwrap();
        pause(Duration::from_micros(100 * number));
    }
    wait_until("all agents that are stored run", || {
        let stored = server.place.ok("events --limit 1000 -o json").matches("AgentDeployed").count();
        let running = server.place.ok("ps -o json").matches("\"Running\"").count();
        stored > 0 && stored == running
    });
}

#[test]
fn events_are_watched_across_a_restart_of_the_server() {
    let mut server = collector();
    let mut watcher = server.place.command(&["events", "--watch", "-o", "name"]);
    let mut watcher = watcher.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(watcher.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!((lines.next().unwrap(), lines.next().unwrap()), ("1".to_owned(), "2".to_owned()));
    server.kill();
    server.start_again();
    wait_until("the fleet is made", || server.place.run("create fleet scanners").code == 0);
    assert_eq!(lines.next().unwrap(), "3");
    watcher.kill().unwrap();
    watcher.wait().unwrap();
}
