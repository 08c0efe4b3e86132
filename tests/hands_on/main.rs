//! Reaching into instances by hand: commands, files, ports; through the binary, as a person or a script does.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod ended;
mod exec;
mod files;
mod forward;
mod pty;

use std::io::Write;
use std::process::Stdio;

use chassis_testkit::{Chassis, Image, Outcome};

const BINARY: &str = env!("CARGO_BIN_EXE_chassis");

/// A chassis with one instance, `a-1`, that sleeps and has a volume at `/data`.
struct Ground {
    chassis: Chassis,
    fleet: String,
}

impl Ground {
    fn new(name: &str) -> Ground {
        Ground::with(name, &Image::busybox().build(), "[sleep, '99999']", "")
    }

    fn with(name: &str, image: &str, command: &str, more: &str) -> Ground {
        Ground::on(Chassis::new(BINARY), name, image, command, more)
    }

    fn on(chassis: Chassis, name: &str, image: &str, command: &str, more: &str) -> Ground {
        let fleet = chassis.fleet(name);
        chassis.ok(&["create", "fleet", &fleet]);
        let yaml = format!(
            "name: a\nfleet: {fleet}\nimage: {image}\ncommand: {command}\nstop: {{grace: 1s}}\n\
             volumes: [{{name: data, mountPath: /data}}]\n{more}"
        );
        chassis.deploy(&yaml).exits(0);
        Ground { chassis, fleet }
    }

    /// The full name of the instance.
    fn id(&self) -> String {
        format!("{}/a-1", self.fleet)
    }

    /// `chassis exec <flags> a-1 -- <line>`, with this on its standard input.
    fn exec(&self, flags: &[&str], line: &[&str], input: &[u8]) -> Outcome {
        let id = self.id();
        let mut args = vec!["exec"];
        args.extend(flags);
        args.extend([id.as_str(), "--"]);
        args.extend(line);
        self.run(&args, input)
    }

    /// A command with this on its standard input.
    fn run(&self, args: &[&str], input: &[u8]) -> Outcome {
        let mut child = self
            .chassis
            .command(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        // A command that reads no input may be gone before it is written.
        let writing = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let output = child.wait_with_output().unwrap();
        writing.join().unwrap();
        Outcome {
            command: format!("chassis {}", args.join(" ")),
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}
