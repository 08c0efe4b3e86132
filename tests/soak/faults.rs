//! Everything that goes wrong on a machine, and everything that people ask for meanwhile: about one a second.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Child;
use std::time::{Duration, Instant};

use chassis_testkit::{pause, process};
use rustix::process::{Pid, Signal, kill_process};

use crate::agents::{Tally, Target};
use crate::chance::Chance;
use crate::world::World;

/// Readers of logs at a time; one more, and the oldest goes.
const READERS: usize = 6;

/// What can happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    AgentKill,
    ContainerKill,
    ContainerStop,
    ContainerRemove,
    Pause,
    Disconnect,
    Hang,
    OutOfMemory,
    CrashLoop,
    ServerKill,
    ServerFreeze,
    Deploy,
    Scale,
    Restart,
    StopStart,
    SecretWrite,
    KeyRotate,
    Exec,
    Reader,
    Look,
}

/// How often each comes, of all; and its name in the report.
const KINDS: &[(Kind, u32, &str)] = &[
    (Kind::AgentKill, 8, "agent killed"),
    (Kind::ContainerKill, 6, "docker kill"),
    (Kind::ContainerStop, 4, "docker stop"),
    (Kind::ContainerRemove, 5, "docker rm -f"),
    (Kind::Pause, 4, "docker pause, unpause"),
    (Kind::Disconnect, 3, "docker network disconnect"),
    (Kind::Hang, 5, "agent hangs"),
    (Kind::OutOfMemory, 4, "out of memory"),
    (Kind::CrashLoop, 3, "crash loop"),
    (Kind::ServerKill, 1, "server killed"),
    (Kind::ServerFreeze, 2, "server stopped for seconds"),
    (Kind::Deploy, 1, "new revision deployed"),
    (Kind::Scale, 4, "scaled"),
    (Kind::Restart, 4, "restart asked for"),
    (Kind::StopStart, 3, "stop, start asked for"),
    (Kind::SecretWrite, 2, "secret replaced"),
    (Kind::KeyRotate, 1, "key rotated"),
    (Kind::Exec, 8, "exec"),
    (Kind::Reader, 8, "log reader comes, goes"),
    (Kind::Look, 8, "ps, describe, events"),
];

/// What can happen, as the report calls it.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    KINDS.iter().map(|(_, _, name)| *name)
}

/// What has to be put right again, and when.
#[derive(Debug)]
enum Undo {
    Unpause(Target),
    Start(Target),
    Unfreeze(u32),
}

pub(crate) struct Faults {
    chance: Chance,
    undo: Vec<(Instant, Undo)>,
    readers: Vec<Child>,
    /// The server may be killed; not while its memory is to be compared with itself.
    pub(crate) may_kill_server: bool,
    pub(crate) tally: Tally,
    /// What was picked and found nothing to be done to.
    pub(crate) missed: u32,
    /// What happened, for a person who looks for the cause.
    pub(crate) journal: Vec<String>,
}

impl Faults {
    pub(crate) fn new(seed: u64) -> Faults {
        Faults {
            chance: Chance::new(seed),
            undo: Vec::new(),
            readers: Vec::new(),
            may_kill_server: true,
            tally: Tally::new(),
            missed: 0,
            journal: Vec::new(),
        }
    }

    /// One thing happens, and what is due is undone.
    pub(crate) fn step(&mut self, world: &mut World, at: Duration) {
        self.undo_due(world, Instant::now());
        world.server_check();
        let (kind, name) = self.pick();
        // Nobody can ask a server for anything that is frozen, or should kill it to wake it.
        if self.is_frozen() && !kind.is_done_to_containers() {
            return;
        }
        let index = self.agent_pick(world, kind);
        let targets: Vec<Target> = world.agents[index].targets().collect();
        let target = self.chance.one_of(&targets).clone();
        let done = self.carry_out(world, kind, index, &target);
        self.journal.push(format!(
            "{:>7.1} {name} {}{}",
            at.as_secs_f64(),
            target.name(),
            if done { "" } else { " (missed)" }
        ));
        if done {
            *self.tally.entry(name).or_default() += 1;
        } else {
            self.missed += 1;
        }
    }

    /// The server is stopped for some seconds.
    pub(crate) fn is_frozen(&self) -> bool {
        self.undo.iter().any(|(_, undo)| matches!(undo, Undo::Unfreeze(_)))
    }

    fn pick(&mut self) -> (Kind, &'static str) {
        let possible = || KINDS.iter().filter(|(kind, ..)| *kind != Kind::ServerKill || self.may_kill_server);
        let total: u32 = possible().map(|(_, weight, _)| weight).sum();
        let kinds: Vec<_> = possible().collect();
        let mut left = self.chance.below(total);
        for (kind, weight, name) in kinds {
            if left < *weight {
                return (*kind, name);
            }
            left -= weight;
        }
        (Kind::Look, "")
    }

    /// An agent that such a thing can happen to.
    fn agent_pick(&mut self, world: &World, kind: Kind) -> usize {
        let fits = |index: &usize| {
            let agent = &world.agents[*index];
            agent.suffers && (kind != Kind::Hang || agent.serves)
        };
        let fitting: Vec<usize> = (0..world.agents.len()).filter(fits).collect();
        // In proportion to their instances, so that none suffers more than another.
        let weighted: Vec<usize> =
            fitting.iter().flat_map(|index| vec![*index; world.agents[*index].replicas as usize]).collect();
        *self.chance.one_of(&weighted)
    }

    fn carry_out(&mut self, world: &mut World, kind: Kind, index: usize, target: &Target) -> bool {
        let name = target.name();
        match kind {
            Kind::AgentKill => kill_agent(world, target, Signal::KILL, |_| true),
            Kind::Hang => kill_agent(world, target, Signal::STOP, |line| line.starts_with("httpd\0")),
            Kind::ContainerKill => world.container_do(target, "kill"),
            Kind::ContainerStop => world.container_do(target, "stop?t=1"),
            Kind::ContainerRemove => world.container_remove(target),
            Kind::Disconnect => world.container_disconnect(target),
            Kind::Pause => {
                let paused = world.container_do(target, "pause");
                if paused {
                    self.later(3, 8, Undo::Unpause(target.clone()));
                }
                paused
            }
            Kind::OutOfMemory => write_order(world, target, "oom", "now\n"),
            Kind::CrashLoop => {
                let times = self.chance.between(1, 3);
                write_order(world, target, "crashes", &format!("{times}\n"))
            }
            Kind::ServerKill => {
                world.server_kill();
                pause(Duration::from_millis(self.chance.below(3000).into()));
                world.server_start();
                true
            }
            Kind::ServerFreeze => {
                let pid = world.server_pid();
                self.later(2, 6, Undo::Unfreeze(pid));
                signal(pid, Signal::STOP)
            }
            Kind::Deploy => {
                world.agents[index].version += 1;
                world.agent_deploy(index);
                true
            }
            Kind::Scale => {
                let agent = &mut world.agents[index];
                let (least, most) = agent.range();
                let count = self.chance.between(least, most);
                agent.replicas = count;
                agent.most = agent.most.max(count);
                let name = format!("{}/{}", target.fleet, target.agent);
                world.must(&["scale", "agent", &name, &count.to_string(), "--no-wait"]).well
            }
            Kind::Restart => world.must(&["restart", &name, "--no-wait"]).well,
            Kind::StopStart => {
                self.later(3, 8, Undo::Start(target.clone()));
                world.must(&["stop", &name, "--no-wait"]).well
            }
            Kind::SecretWrite => {
                world.chassis.write("key", &format!("secret-{}", self.chance.below(u32::MAX)));
                let secret = format!("{}/key", target.fleet);
                world.must(&["secret", "create", &secret, "--from-file", "key", "--replace"]).well
            }
            Kind::KeyRotate => world.must(&["secret", "rotate-key"]).well,
            Kind::Exec => {
                // It may not run just now; if it does, the answer is its own.
                let answer = world.ask(&["exec", &name, "--", "hostname"]);
                if answer.well && answer.output.trim() != format!("{}-{}", target.agent, target.number) {
                    world.violations.push(format!("exec in {name} answers `{}`", answer.output.trim()));
                }
                answer.well
            }
            Kind::Reader => {
                let agent = format!("{}/{}", target.fleet, target.agent);
                let whose = *self.chance.one_of(&[&target.fleet, &agent, &name]);
                self.readers.push(world.follow(&["logs", whose, "--follow", "--tail", "10"]));
                if self.readers.len() > READERS {
                    end(self.readers.remove(0));
                }
                true
            }
            Kind::Look => {
                let commands: &[&[&str]] =
                    &[&["ps"], &["describe", &name], &["events", &name], &["ps", "-o", "json"]];
                let command = *self.chance.one_of(commands);
                world.must(command).well
            }
        }
    }

    fn later(&mut self, least: u32, most: u32, undo: Undo) {
        let seconds = self.chance.between(least, most);
        self.undo.push((Instant::now() + Duration::from_secs(seconds.into()), undo));
    }

    fn undo_due(&mut self, world: &mut World, now: Instant) {
        let (due, rest) = std::mem::take(&mut self.undo).into_iter().partition(|(at, _)| *at <= now);
        self.undo = rest;
        let due: Vec<(Instant, Undo)> = due;
        // What wakes the server comes first: the others may ask it for something.
        let (wake, others): (Vec<_>, Vec<_>) =
            due.into_iter().map(|(_, undo)| undo).partition(|undo| matches!(undo, Undo::Unfreeze(_)));
        let frozen = wake.is_empty() && self.is_frozen();
        for undo in wake.into_iter().chain(others) {
            match undo {
                Undo::Unfreeze(pid) => {
                    signal(pid, Signal::CONT);
                }
                Undo::Unpause(target) => {
                    world.container_do(&target, "unpause");
                }
                Undo::Start(target) if frozen => {
                    self.undo.push((now + Duration::from_secs(1), Undo::Start(target)));
                }
                Undo::Start(target) => {
                    // It may have been scaled away since.
                    if world.targets().contains(&target) {
                        world.must(&["start", &target.name(), "--no-wait"]);
                    }
                }
            }
        }
    }

    /// Puts everything right that is still wrong.
    pub(crate) fn end(&mut self, world: &mut World) {
        for (at, undo) in &mut self.undo {
            if matches!(undo, Undo::Unfreeze(_)) {
                *at = Instant::now();
            }
        }
        self.undo_due(world, Instant::now());
        self.undo_due(world, Instant::now() + Duration::from_hours(1));
        self.readers.drain(..).for_each(end);
    }
}

impl Drop for Faults {
    fn drop(&mut self) {
        self.readers.drain(..).for_each(end);
        for (_, undo) in &self.undo {
            if let Undo::Unfreeze(pid) = undo {
                signal(*pid, Signal::CONT);
            }
        }
    }
}

impl Kind {
    /// Without asking the server.
    fn is_done_to_containers(self) -> bool {
        matches!(
            self,
            Kind::AgentKill
                | Kind::ContainerKill
                | Kind::ContainerStop
                | Kind::ContainerRemove
                | Kind::Pause
                | Kind::Disconnect
                | Kind::Hang
                | Kind::OutOfMemory
                | Kind::CrashLoop
        )
    }
}

/// Signals a process of the agent's: the first below init that is meant.
fn kill_agent(world: &World, target: &Target, how: Signal, is_meant: fn(&str) -> bool) -> bool {
    let Some(init) = world.init(target) else { return false };
    let meant = process::children(init).into_iter().find(|pid| is_meant(&process::command_line(*pid)));
    meant.is_some_and(|pid| signal(pid, how))
}

fn signal(pid: u32, signal: Signal) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.is_some_and(|pid| kill_process(pid, signal).is_ok())
}

/// Leaves an order in an instance's tier 1, which it may change.
fn write_order(world: &World, target: &Target, name: &str, order: &str) -> bool {
    let directory = world.tier1(target).join("data");
    let (path, draft) = (directory.join(name), directory.join(format!(".{name}")));
    fs::write(&draft, order).is_ok()
        && fs::set_permissions(&draft, fs::Permissions::from_mode(0o666)).is_ok()
        && fs::rename(&draft, &path).is_ok()
}

fn end(mut child: Child) {
    let _ = child.kill();
    let _ = child.wait();
}
