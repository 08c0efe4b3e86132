//! What the documentation tells people to type is typed here, against real Docker, and what it shows is compared.
//!
//! In a `console` block a line that begins with `$ ` is a command, `> ` goes on with it, and other lines are its output:
//! standard output and error as they come. `[..]` stands for any text in a line, a line of `...` for any lines; a command
//! without output shown may print what it likes, but must succeed. A command with `# until Ctrl-C` must still be running
//! after two seconds, and is then interrupted. Each file is one session in an empty directory that holds `examples/`.
//! What changes the machine itself (installing, systemd) stands in `sh` blocks and is not run.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use chassis_testkit::{Chassis, Turn};

const BINARY: &str = env!("CARGO_BIN_EXE_chassis");

#[test]
fn readme() {
    Session::new().run_file("README.md");
}

#[test]
fn operations() {
    Session::new().run_file("docs/operations.md");
}

#[test]
fn api() {
    Session::new().run_file("docs/api.md");
}

#[test]
fn environments() {
    // Whatever it is for, their fleet has one name on the Engine.
    let _turn = Turn::take("environments");
    Session::new().run_file("docs/environments.md");
}

#[test]
fn nodes() {
    Session::new().run_file("docs/nodes.md");
}

#[test]
fn health() {
    Session::new().run_file("docs/health.md");
}

#[test]
fn observability() {
    Session::new().run_file("docs/observability.md");
}

#[test]
fn security() {
    Session::new().run_file("docs/security.md");
}

#[test]
fn access() {
    Session::new().run_file("docs/access.md");
}

#[test]
fn remote() {
    Session::new().run_file("docs/remote.md");
}

#[test]
fn rollouts() {
    Session::new().run_file("docs/rollouts.md");
}

#[test]
fn example_agents() {
    Session::new().run_file("docs/examples.md");
}

#[test]
fn demo() {
    let session = Session::new();
    let (ok, output) = session.bash(&format!("{} walk", repository().join("scripts/demo").display()));
    assert!(ok && output.contains("The demo is done."), "{output}");
}

/// A step of a document: what to type, and what is to be seen then.
#[derive(Debug, Default)]
struct Step {
    line: usize,
    command: String,
    shown: Vec<String>,
}

/// A chassis in an empty directory. The documents name the same fleets, so they take turns.
struct Session {
    chassis: Chassis,
    _turn: Turn,
}

impl Session {
    fn new() -> Self {
        let turn = Turn::take_documented_fleets();
        let chassis = Chassis::new(BINARY);
        symlink(repository().join("examples"), chassis.home().join("examples"))
            .expect("a link to the examples");
        let session = Session { chassis, _turn: turn };
        let (ok, output) = session.bash("examples/images.sh");
        assert!(ok, "no images to run: {output}");
        session
    }

    fn run_file(&self, name: &str) {
        let text = fs::read_to_string(repository().join(name)).expect(name);
        let steps = steps(&text);
        assert!(!steps.is_empty(), "{name} has no console block");
        for Step { line, command, shown } in steps {
            let (ok, output) = if command.contains("# until Ctrl-C") {
                self.bash(&format!("timeout -s INT 2 {command}\n[ $? = 124 ]"))
            } else {
                self.bash(&command)
            };
            assert!(ok, "{name}:{line}: `{command}` failed:\n{output}");
            let lines: Vec<&str> = output.lines().map(str::trim_end).collect();
            assert!(
                shown.is_empty() || lines_match(&shown, &lines),
                "{name}:{line}: `{command}` shows other than written:\n{output}"
            );
        }
        self.chassis.ok(&["ps"]);
        let (docker, label) = (self.chassis.docker(), self.chassis.label());
        assert_eq!(docker.labelled(&label).len(), 0, "{name} leaves containers behind");
        assert_eq!(docker.networks_labelled(&label).len(), 0, "{name} leaves networks behind");
    }

    /// Whether it succeeded, and all that it printed.
    fn bash(&self, script: &str) -> (bool, String) {
        let binary = Path::new(BINARY).parent().expect("a directory");
        let path = format!("{}:{}", binary.display(), std::env::var("PATH").expect("PATH"));
        let output = Command::new("bash")
            .arg("-c")
            .arg(format!("exec 2>&1\n{script}"))
            .current_dir(self.chassis.home())
            .env("PATH", path)
            .env("CHASSIS_DATA_DIR", self.chassis.data_dir())
            .env("CHASSIS_BIN_DIR", binary)
            .env("XDG_CONFIG_HOME", self.chassis.home().join("settings"))
            .env_remove("CHASSIS_SERVER")
            .env_remove("CHASSIS_CONTEXT")
            .env_remove("TOKEN_ENCRYPTION_KEY")
            .stdin(Stdio::null())
            .output()
            .expect("bash runs");
        // Notes which server it is, for what is left to be taken away if a command fails.
        self.chassis.run(&["server", "status"]);
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// The commands of the `console` blocks, in order.
fn steps(text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut inside = false;
    for (index, line) in text.lines().enumerate() {
        if line.starts_with("```") {
            inside = line == "```console";
        } else if !inside {
        } else if let Some(command) = line.strip_prefix("$ ") {
            steps.push(Step { line: index + 1, command: command.to_owned(), shown: Vec::new() });
        } else if let Some(step) = steps.last_mut() {
            match line.strip_prefix('>') {
                Some(more) if step.shown.is_empty() => {
                    step.command.push('\n');
                    step.command.push_str(more.strip_prefix(' ').unwrap_or(more));
                }
                _ => step.shown.push(line.to_owned()),
            }
        }
    }
    steps
}

fn lines_match(shown: &[String], lines: &[&str]) -> bool {
    match shown.split_first() {
        None => lines.is_empty(),
        Some((first, rest)) if first.trim() == "..." => {
            (0..=lines.len()).any(|skipped| lines_match(rest, &lines[skipped..]))
        }
        Some((first, rest)) => lines
            .split_first()
            .is_some_and(|(line, lines)| line_matches(first, line) && lines_match(rest, lines)),
    }
}

fn line_matches(shown: &str, line: &str) -> bool {
    match shown.split_once("[..]") {
        None => shown == line,
        Some((start, rest)) => line.strip_prefix(start).is_some_and(|line| {
            line.char_indices()
                .map(|(at, _)| at)
                .chain([line.len()])
                .any(|at| line_matches(rest, &line[at..]))
        }),
    }
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the repository")
}

#[test]
fn a_wrong_line_is_noticed() {
    let shown = ["a [..] c".to_owned(), "...".to_owned(), "z".to_owned()];
    assert!(lines_match(&shown, &["a b c", "x", "y", "z"]));
    assert!(!lines_match(&shown, &["a b d", "z"]));
    assert!(!lines_match(&shown, &["a b c", "y"]));
}
