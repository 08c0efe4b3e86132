//! A machine on which `chassis node` runs, as a child of the test.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::{Chassis, Outcome};

/// Its process is killed when it is dropped; what it has is in its place, and goes with that.
#[derive(Debug)]
pub struct Machine {
    place: Chassis,
    flags: Vec<String>,
    process: Option<(Child, BufReader<ChildStdout>)>,
    /// What it said when it came up.
    pub url: String,
    pub token: String,
    /// What else stands in the line that joins it: its certificate's fingerprint.
    pub more: Vec<String>,
}

impl Machine {
    /// Starts `chassis node` with these flags in a place of its own, on a port of 127.0.0.1 unless they say another.
    pub fn start(place: Chassis, flags: &[&str]) -> Machine {
        let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let mut machine = Machine {
            place,
            flags,
            process: None,
            url: String::new(),
            token: String::new(),
            more: Vec::new(),
        };
        machine.resume();
        machine
    }

    /// Starts it again where it was.
    pub fn resume(&mut self) {
        let mut line = vec!["node"];
        if !self.flags.iter().any(|flag| flag == "--listen") {
            line.extend(["--listen", "127.0.0.1:0"]);
        }
        line.extend(self.flags.iter().map(String::as_str));
        let mut command = self.place.command(&line);
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("chassis runs");
        let mut output = BufReader::new(process.stdout.take().expect("a pipe"));
        let mut said = String::new();
        output.read_line(&mut said).expect("the line that joins it");
        self.process = Some((process, output));
        let mut words = said.split_whitespace();
        let token = words.next().and_then(|word| word.strip_prefix("CHASSIS_NODE_TOKEN="));
        token.expect(&said).clone_into(&mut self.token);
        assert_eq!([words.next(), words.next(), words.next()], [Some("chassis"), Some("node"), Some("join")]);
        words.next().expect(&said).clone_into(&mut self.url);
        self.more = words.map(str::to_owned).collect();
        // From now on where it is, whatever it was first given.
        if !self.flags.iter().any(|flag| flag == "--listen") {
            let address = self.url.trim_start_matches("https://").to_owned();
            self.flags.extend(["--listen".to_owned(), address]);
        }
    }

    /// Its certificate's.
    pub fn fingerprint(&self) -> &str {
        self.more.get(1).expect("--fingerprint and what it is")
    }

    /// Makes it a node of a chassis.
    pub fn join(&self, chassis: &Chassis, args: &[&str]) -> Outcome {
        let token_file = chassis.write("node-token", &format!("{}\n", self.token));
        let mut all = vec!["node", "join", &self.url, "--token-file", token_file.to_str().expect("a path")];
        all.extend(self.more.iter().map(String::as_str));
        all.extend(args);
        chassis.run(&all)
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        if let Some((mut process, _)) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// SIGSTOP: whoever asks it gets no answer, and its connections stay open.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let (process, _) = self.process.as_ref().expect("it runs");
        let pid = i32::try_from(process.id()).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(pid, signal).expect("a running node");
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.kill();
    }
}
