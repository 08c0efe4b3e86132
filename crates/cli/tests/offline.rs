//! Commands that need no server, and everything that is wrong before one is asked.

mod common;

use common::{Place, Ran};

const AGENT: &str = "name: data-collector\nimage: myrepo/collector:1.0\n";

fn ran(code: i32, stdout: &str, stderr: &str) -> Ran {
    Ran { code, stdout: stdout.to_owned(), stderr: stderr.to_owned() }
}

#[test]
fn validate_tells_everything_that_is_wrong() {
    let place = Place::new();
    place.write("good.yaml", AGENT);
    place.write(
        "fleet.yaml",
        "fleet: scanners\nagents:\n  - name: one\n    image: scan\n  - name: two\n    image: scan\n",
    );
    place.write(
        "bad.yaml",
        "name: data-collector\nimage: myrepo/collector:1.0\nresources:\n  memroy: 128Mi\n",
    );
    assert_eq!(
        place.run("validate -f good.yaml -f bad.yaml fleet.yaml missing.yaml"),
        ran(
            1,
            "good.yaml: ok, agent data-collector\nfleet.yaml: ok, fleet scanners with 2 agents\n",
            "error: unknown field `memroy`\n  --> bad.yaml:4:3\n   |\n 4 |   memroy: 128Mi\n   |   ^^^^^^\n   = did you mean `memory`?\n\
             error: cannot read missing.yaml: No such file or directory (os error 2)\n",
        )
    );
    assert_eq!(
        place.run_with_input("validate -f -", AGENT),
        ran(0, "<stdin>: ok, agent data-collector\n", "")
    );
    assert_eq!(place.run("validate -q -f good.yaml"), ran(0, "", ""));
    // The same agent in two documents would be one deployed over the other.
    place.write("twice.yaml", &format!("{AGENT}---\n{AGENT}"));
    let twice = "agent data-collector is declared twice";
    assert_eq!(
        place.run("validate -f twice.yaml"),
        ran(1, "", &format!("error: twice.yaml: {twice}; leave one out or rename it\n"))
    );
    place.write("again.yaml", AGENT);
    assert_eq!(
        place.run("validate -q -f good.yaml -f again.yaml"),
        ran(1, "", &format!("error: again.yaml: {twice}, first in good.yaml; leave one out or rename it\n"))
    );
}

#[test]
fn wrong_usage_exits_2_and_says_what_is_right() {
    let place = Place::new();
    place.write("agent.yaml", &format!("{AGENT}fleet: collector\n"));
    place.write("fleet.yaml", "fleet: scanners\nagents:\n  - name: one\n    image: scan\n");
    let cases = [
        (
            "secret create collector/api-key hunter2",
            "error: a secret's value on the command line can be read by every process and stays in the shell's history; use \
             `chassis secret create collector/api-key --from-file <path>`, or `--from-file -` for standard input\n",
        ),
        (
            "secret create collector/api-key --from-literal=hunter2",
            "error: a secret's value on the command line can be read by every process and stays in the shell's history; use \
             `chassis secret create collector/api-key --from-file <path>`, or `--from-file -` for standard input\n",
        ),
        (
            "secret create collector/api-key",
            "error: where is the value? Add --from-file <path>, or --from-file - for standard input\n",
        ),
        (
            "delete fleet collector --cleanup",
            "error: deleting a fleet must be confirmed; type: chassis delete fleet collector --cleanup --confirm=collector\n",
        ),
        (
            "delete fleet collector --confirm=colector",
            "error: `colector` is not the fleet's name, collector; nothing was deleted\n",
        ),
        (
            "deploy agent -f agent.yaml --fleet scanners",
            "error: the YAML puts data-collector into fleet collector, and --fleet into scanners; leave one of them out\n",
        ),
        (
            "deploy agent -f fleet.yaml",
            "error: fleet scanners is a whole fleet, not an agent; use `chassis apply -f fleet.yaml`\n",
        ),
        (
            "ps --server tcp://127.0.0.1:2375",
            "error: invalid value 'tcp://127.0.0.1:2375' for '--server <ADDRESS>': `tcp://127.0.0.1:2375` is neither \
             unix:// nor https://; write unix:///path/to/socket or https://host:port\n\nFor more information, try '--help'.\n",
        ),
        (
            "logs a-1 --since yesterday",
            "error: invalid value 'yesterday' for '--since <TIME>': write 10m, 1h30m or 2026-11-22T12:00:00Z\n\n\
             For more information, try '--help'.\n",
        ),
    ];
    for (line, stderr) in cases {
        assert_eq!(place.run(line), ran(2, "", stderr), "{line}");
    }
    // What comes from the environment is no part of what was typed.
    let usage = place.run("scale fleet");
    assert!(usage.stderr.contains("Usage: chassis scale fleet <NAME> <COUNT>"), "{}", usage.stderr);
    assert!(place.ok("help").contains("Look for what stands in the way of agents"));
    assert!(place.ok("help deploy agent").contains("--replicas"));
    let misspelt = place.run("depoly agent -f agent.yaml");
    assert_eq!(misspelt.code, 2);
    assert!(misspelt.stderr.contains("unrecognized subcommand 'depoly'"), "{}", misspelt.stderr);
    assert!(
        misspelt.stderr.contains("some similar subcommands exist: 'apply', 'deploy'"),
        "{}",
        misspelt.stderr
    );
}

#[test]
fn without_a_server_commands_say_how_to_start_one() {
    let place = Place::new();
    let none = "error: no server runs on <dir>/data, and CHASSIS_NO_AUTOSTART forbids to start one; start one with `chassis serve`\n";
    assert_eq!(place.run("ps"), ran(1, "", none));
    assert!(!place.data_dir().exists(), "a command that starts nothing leaves nothing");
    assert_eq!(
        place.run("server status"),
        ran(
            1,
            "",
            "error: no server answers at unix://<dir>/data/.server/socket; a command that needs one starts it, and so does \
             `chassis serve`\n"
        )
    );
    assert_eq!(place.run("server stop"), ran(0, "no server runs at unix://<dir>/data/.server/socket\n", ""));
    let named = place.run("ps --server unix:///nowhere/socket");
    assert_eq!(
        named,
        ran(
            1,
            "",
            "error: no server answers at unix:///nowhere/socket; check that it runs and that you may reach it: \
             No such file or directory (os error 2)\n"
        )
    );
    // `diff` keeps 1 for a difference.
    place.write("agent.yaml", AGENT);
    assert_eq!(place.run("diff -f agent.yaml"), ran(2, "", none));
    let long = "x".repeat(100);
    let too_long = place.run(&format!("ps --data-dir /{long}"));
    assert_eq!(
        too_long,
        ran(
            2,
            "",
            &format!(
                "error: the data directory's path is too long: its socket /{long}/.server/socket has 116 bytes, and 100 fit; \
                 choose a shorter one with --data-dir or --server-dir\n"
            )
        )
    );
}

#[test]
fn secrets_that_cannot_be_stored_are_refused_before_a_server_is_asked() {
    let place = Place::new();
    place.write("large", &"x".repeat((64 << 10) + 1));
    assert_eq!(
        place.run("secret create f/s --from-file large"),
        ran(1, "", "error: large is larger than a secret may be: 64 KiB\n")
    );
    assert_eq!(
        place.run("secret create f/s --from-file -"),
        ran(1, "", "error: <stdin> is empty; a secret has a value\n")
    );
    assert_eq!(
        place.run_with_input("secret rotate-key --new-key-file -", "abc"),
        ran(1, "", "error: <stdin> holds no key; a key is 64 hex digits, as from `openssl rand -hex 32`\n")
    );
}

#[test]
fn schema_version_and_completion_need_nothing() {
    let place = Place::new();
    assert_eq!(place.ok("version"), format!("chassis {}\n", env!("CARGO_PKG_VERSION")));
    assert_eq!(
        place.ok("version -o json"),
        format!("{{\n  \"version\": \"{}\"\n}}\n", env!("CARGO_PKG_VERSION"))
    );
    assert!(place.ok("schema").contains("\"$schema\": \"https://json-schema.org/draft/2020-12/schema\""));
    for shell in ["bash", "zsh", "fish", "powershell"] {
        assert!(place.ok(&format!("completion {shell}")).contains("rotate-key"), "{shell}");
    }
    assert!(!place.data_dir().exists());
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let place = Place::new();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let status = place.command(&["schema"]).stdout(writer).output().unwrap();
    assert_eq!(place.ran(status), ran(0, "", ""));
}
