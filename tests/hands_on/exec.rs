//! `chassis exec`.

use std::process::Stdio;

use chassis_testkit::{Image, SOON, eventually, expect};
use rustix::process::{Signal, kill_process};

use crate::Ground;
use crate::forward::tcp_to;
use crate::pty::Pty;

#[test]
fn a_command_runs_beside_the_agent() {
    let ground = Ground::new("exec");
    let exec = |flags: &[&str], line: &[&str]| ground.exec(flags, line, b"");
    assert_eq!(exec(&[], &["echo", "hello"]).exits(0).stdout, "hello\n");
    // The agent's name is enough while it has one instance; without `--` too.
    let agent = format!("{}/a", ground.fleet);
    assert_eq!(ground.chassis.ok(&["exec", &agent, "echo", "-n", "x"]).stdout, "x");

    exec(&[], &["sh", "-c", "exit 3"]).exits(3);
    exec(&[], &["sh", "-c", "kill -9 $$"]).exits(137);
    exec(&[], &["no-such-program"]).exits(127).says(&["no-such-program was not found in PATH"]);
    exec(&[], &["/etc"]).exits(126).says(&["not executable"]);
    let both = exec(&[], &["sh", "-c", "echo out; echo err >&2"]).exits(0);
    assert_eq!((both.stdout.as_str(), both.stderr.as_str()), ("out\n", "err\n"));

    // As the agent, and with no more rights.
    let script = "id -u; grep -E '^(CapEff|NoNewPrivs)' /proc/self/status; touch /x 2>&1; echo $CHASSIS_INSTANCE $HOME";
    let seen = exec(&[], &["sh", "-c", script]).exits(0).stdout;
    assert_eq!(
        seen,
        "64646\nCapEff:\t0000000000000000\nNoNewPrivs:\t1\ntouch: /x: Read-only file system\na-1 /tmpfs\n"
    );
    assert_eq!(exec(&["-w", "/data", "-e", "K=a b"], &["sh", "-c", "pwd; echo $K"]).stdout, "/data\na b\n");
    exec(&["-w", "/nowhere"], &["true"]).exits(126).says(&["/nowhere"]);

    // Input, and its end.
    let input = vec![b'x'; 5_000_000];
    assert_eq!(ground.exec(&["-i"], &["wc", "-c"], &input).exits(0).stdout, "5000000\n");
    assert_eq!(ground.exec(&["-i"], &["cat"], b"to and fro").exits(0).stdout, "to and fro");
    assert_eq!(ground.exec(&["-i"], &["head", "-c", "3"], &input).exits(0).stdout, "xxx");
    // Without -i the input stays with whoever has it.
    assert_eq!(ground.exec(&[], &["cat"], b"not for it").exits(0).stdout, "");
    let much = exec(&[], &["head", "-c", "20000000", "/dev/zero"]).exits(0);
    assert_eq!(much.stdout.len(), 20_000_000);

    // Not over the server's own socket, too.
    let far = format!("http://127.0.0.1:{}", tcp_to(ground.chassis.socket()));
    let id = ground.id();
    let args = ["--server", &far, "exec", "-i", &id, "--", "sh", "-c", "wc -c; exit 5"];
    assert_eq!(ground.run(&args, &input).exits(5).stdout, "5000000\n");

    exec(&["-t"], &["true"]).exits(2).says(&["-t needs a terminal"]);
}

#[test]
fn a_command_that_cannot_be_run_says_what_to_do() {
    let ground = Ground::new("refuse");
    let chassis = &ground.chassis;
    chassis.run(&["exec", "a-7", "--", "true"]).exits(3).says(&["a-7"]);
    chassis.run(&["exec", &ground.fleet, "--", "true"]).exits(2).says(&["is a fleet"]);
    chassis.ok(&["scale", "fleet", &ground.fleet, "2"]);
    let agent = format!("{}/a", ground.fleet);
    chassis.run(&["exec", &agent, "--", "true"]).exits(2).says(&["several instances", "a-1, a-2"]);
    chassis.ok(&["stop", &ground.id()]);
    ground.exec(&[], &["true"], b"").exits(1).says(&["a-1 does not run (Stopped)", "chassis start a-1"]);
    chassis.run(&["exec", &ground.id()]).exits(2);
}

#[test]
fn an_image_without_anything_in_it_runs_its_own_program() {
    let image = Image::scratch().program("busybox").build();
    let ground = Ground::with("scratch", &image, "[/busybox, sleep, '99999']", "");
    assert_eq!(ground.exec(&[], &["/busybox", "echo", "hello"], b"").exits(0).stdout, "hello\n");
    ground.exec(&[], &["sh"], b"").exits(127).says(&["sh was not found"]);
}

#[test]
fn a_command_ends_with_whoever_asked_for_it() {
    let ground = Ground::new("gone");
    let processes = || {
        let seen = ground.exec(&[], &["ps", "-o", "args"], b"").exits(0).stdout;
        seen.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let id = ground.id();
    // One that neither reads nor writes, one that does not take its input, and one that ignores what is asked of it.
    let lines: [&[&str]; 3] = [
        &["exec", &id, "--", "sleep", "7771"],
        &["exec", "-i", &id, "--", "sleep", "7772"],
        &["exec", &id, "--", "sh", "-c", "trap '' TERM HUP; sleep 7773; sleep 7774"],
    ];
    let mut children: Vec<_> = lines
        .iter()
        .map(|line| {
            let zeros = std::fs::File::open("/dev/zero").unwrap();
            ground.chassis.command(line).stdin(zeros).stdout(Stdio::null()).spawn().unwrap()
        })
        .collect();
    eventually(SOON, || {
        let seen = processes();
        let all = ["7771", "7772", "7773"].iter().all(|word| seen.iter().any(|line| line.ends_with(word)));
        expect(all, || format!("they do not run: {seen:?}"))
    });
    for child in &mut children {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    eventually(SOON, || {
        let seen = processes();
        expect(!seen.iter().any(|line| line.contains("sleep 777")), || format!("they go on: {seen:?}"))
    });
    assert!(processes().iter().any(|line| line == "sleep 99999"), "the agent itself goes on");
}

#[test]
fn a_terminal_is_a_terminal() {
    let ground = Ground::new("tty");
    // A signal may interrupt `read`, which fails then.
    let inside = "stty size; trap 'stty size' WINCH; echo ready; \
                  until [ \"$line\" = end ]; do read -r line && echo \"got $line\"; done; exit 7";
    let pty = Pty::open(31, 101);
    let (mut child, _) = pty.spawn(&ground, &["exec", "-it", &ground.id(), "--", "sh", "-c", inside]);
    pty.until("31 101");
    pty.until("ready");
    pty.resize(41, 111);
    pty.until("41 111");
    pty.type_in(b"hello\r");
    pty.until("got hello");
    pty.type_in(b"end\r");
    assert_eq!(child.wait().unwrap().code(), Some(7));
    assert!(pty.is_cooked(), "the terminal is as it was");

    // Ctrl-C goes to the program, and a signal to chassis leaves the terminal as it was.
    let (mut child, pid) = pty.spawn(
        &ground,
        &[
            "exec",
            "-it",
            &ground.id(),
            "--",
            "sh",
            "-c",
            "trap 'echo caught' INT; echo again; while :; do sleep 1; done",
        ],
    );
    pty.until("again");
    assert!(!pty.is_cooked());
    pty.type_in(&[3]);
    pty.until("caught");
    kill_process(pid, Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(143));
    assert!(pty.is_cooked(), "the terminal is as it was");
}
