//! What the server and the Engine hold, sampled all the time.

use std::fmt::Write as _;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use chassis_testkit::process::{Usage, usage};
use chassis_testkit::{Docker, pause};

use crate::world::pid;

const EVERY: Duration = Duration::from_secs(2);

/// The processes that are watched; 0 while there is none.
#[derive(Debug, Default)]
pub(crate) struct Pids {
    pub(crate) server: AtomicU32,
    pub(crate) dockerd: AtomicU32,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    /// Since the watch began.
    pub(crate) after: Duration,
    pub(crate) pid: u32,
    pub(crate) server: Usage,
    pub(crate) dockerd: Usage,
}

pub(crate) struct Watch {
    began: Instant,
    samples: Arc<Mutex<Vec<Sample>>>,
    ended: Arc<AtomicBool>,
    watching: Option<JoinHandle<()>>,
}

/// What is held when nothing happens.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rest {
    pub(crate) server: Usage,
    pub(crate) dockerd: Usage,
    pub(crate) goroutines: u64,
    /// Of iptables, and of chassis. Only told: other servers of the machine share them.
    pub(crate) rules: u64,
}

impl Watch {
    pub(crate) fn new(pids: Arc<Pids>) -> Watch {
        let began = Instant::now();
        let samples = Arc::new(Mutex::new(Vec::new()));
        let ended = Arc::new(AtomicBool::new(false));
        let (into, until) = (Arc::clone(&samples), Arc::clone(&ended));
        let watching = std::thread::spawn(move || {
            while !until.load(Ordering::Relaxed) {
                if let Some(sample) = sample(&pids, began) {
                    into.lock().unwrap_or_else(PoisonError::into_inner).push(sample);
                }
                pause(EVERY);
            }
        });
        Watch { began, samples, ended, watching: Some(watching) }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    pub(crate) fn samples(&self) -> Vec<Sample> {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// All samples, for a spreadsheet.
    pub(crate) fn csv(&self) -> String {
        let mut text =
            "second,server_pid,server_kib,server_fds,server_threads,dockerd_kib,dockerd_fds\n".to_owned();
        for Sample { after, pid, server, dockerd } in self.samples() {
            let _ = writeln!(
                text,
                "{},{pid},{},{},{},{},{}",
                after.as_secs(),
                server.memory,
                server.files,
                server.threads,
                dockerd.memory,
                dockerd.files
            );
        }
        text
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(watching) = self.watching.take() {
            let _ = watching.join();
        }
    }
}

fn sample(pids: &Pids, began: Instant) -> Option<Sample> {
    let pid = pid(&pids.server)?;
    // An Engine that restarts is told by zeros.
    let dockerd = crate::world::pid(&pids.dockerd).and_then(usage).unwrap_or_default();
    Some(Sample { after: began.elapsed(), pid, server: usage(pid)?, dockerd })
}

/// What is held now: the least of some seconds, as a probe or a tick may be under way.
pub(crate) fn rest(pids: &Pids, docker: &Docker) -> Option<Rest> {
    let mut least: Option<Rest> = None;
    for _ in 0..10 {
        let now = Rest {
            server: usage(pid(&pids.server)?)?,
            dockerd: usage(pid(&pids.dockerd)?)?,
            goroutines: docker.info()["NGoroutines"].as_u64()?,
            rules: rules(),
        };
        let lower = |a: Usage, b: Usage| Usage {
            memory: a.memory.min(b.memory),
            files: a.files.min(b.files),
            threads: a.threads.min(b.threads),
        };
        least = Some(least.map_or(now, |before| Rest {
            server: lower(before.server, now.server),
            dockerd: lower(before.dockerd, now.dockerd),
            goroutines: before.goroutines.min(now.goroutines),
            rules: before.rules.min(now.rules),
        }));
        pause(Duration::from_secs(1));
    }
    least
}

/// The rules that servers of this machine set; none where there is no iptables.
fn rules() -> u64 {
    let saved = Command::new("iptables-save").output().map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&saved).lines().filter(|line| line.contains("CHASSIS")).count() as u64
}

/// The middle one of some numbers.
pub(crate) fn median(mut numbers: Vec<u64>) -> u64 {
    numbers.sort_unstable();
    numbers.get(numbers.len() / 2).copied().unwrap_or(0)
}
