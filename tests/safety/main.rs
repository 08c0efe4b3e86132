//! An agent has its sandbox and nothing else: what opens more is refused unless the server allows it, what an agent tries
//! fails, and `chassis audit` tells how things are.

mod attempts;
mod audits;
mod mapped;
mod refusals;

use chassis_testkit::{Chassis, Image, Outcome, SOON, eventually};

const BINARY: &str = env!("CARGO_BIN_EXE_chassis");

/// A chassis with a server in the foreground, and one fleet.
struct Ground {
    chassis: Chassis,
    fleet: String,
    busybox: String,
}

impl Ground {
    fn new() -> Ground {
        let chassis = Chassis::new(BINARY);
        let fleet = chassis.fleet("safety");
        Ground { chassis, fleet, busybox: Image::busybox().build() }
    }

    /// Deploys a shell script on busybox, with more lines of YAML.
    fn deploy(&self, name: &str, script: &str, yaml: &str) -> Outcome {
        self.chassis.deploy(&self.yaml(name, script, yaml))
    }

    fn yaml(&self, name: &str, script: &str, yaml: &str) -> String {
        format!(
            "name: {name}\nfleet: {}\nimage: {}\nstop: {{grace: 1s}}\ncommand: [/bin/sh, -c]\nargs: ['{script}']\n{yaml}",
            self.fleet, self.busybox
        )
    }

    /// What the agent's first instance has printed, once it contains the word.
    fn printed(&self, name: &str, word: &str) -> String {
        eventually(SOON, || {
            let logs = self.chassis.run(&["logs", &format!("{}/{name}-1", self.fleet)]);
            let printed = logs.stdout + &logs.stderr;
            if printed.contains(word) { Ok(printed) } else { Err(format!("`{word}` is not in: {printed}")) }
        })
    }
}
