//! Looks all the time whether an instance runs twice: two containers that run, or two processes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use chassis_testkit::{Docker, pause, process};

use crate::world::World;

const EVERY: Duration = Duration::from_millis(150);

/// What was seen.
#[derive(Debug, Default)]
pub(crate) struct Doubled {
    pub(crate) samples: u32,
    pub(crate) violations: Vec<String>,
}

pub(crate) struct Sampler {
    thread: JoinHandle<Doubled>,
    ended: Arc<AtomicBool>,
}

impl Sampler {
    pub(crate) fn start(world: &World) -> Sampler {
        let ended = Arc::new(AtomicBool::new(false));
        let (docker, label, prefix) = (world.chassis[0].docker().clone(), world.label(), world.fleet(""));
        let over = Arc::clone(&ended);
        let thread = thread::spawn(move || {
            let mut doubled = Doubled::default();
            let mut before = BTreeSet::new();
            while !over.load(Ordering::Relaxed) {
                doubled.violations.extend(containers(&docker, &label));
                // The kernel's list is not of one moment: what one look found is only true if the next one finds it too.
                let now = processes(&prefix);
                doubled.violations.extend(
                    now.intersection(&before)
                        .map(|(instance, pids)| format!("{instance} runs in several processes: {pids:?}")),
                );
                before = now;
                doubled.samples += 1;
                pause(EVERY);
            }
            doubled
        });
        Sampler { thread, ended }
    }

    pub(crate) fn stop(self) -> Doubled {
        self.ended.store(true, Ordering::Relaxed);
        let mut doubled = self.thread.join().expect("the sampler");
        doubled.violations.sort();
        doubled.violations.dedup();
        doubled
    }
}

/// Instances of which several containers run.
fn containers(docker: &Docker, label: &str) -> Vec<String> {
    let mut running: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for container in docker.labelled(label) {
        let labels = &container["Labels"];
        let of = |name: &str| labels[name].as_str().map(str::to_owned);
        let key = (of("chassis.fleet"), of("chassis.agent"), of("chassis.instance"));
        if let (Some(fleet), Some(agent), Some(number)) = key
            && container["State"] == "running"
        {
            let instance = format!("{fleet}/{agent}-{number}");
            running.entry(instance).or_default().push(container["Id"].to_string());
        }
    }
    let several = running.into_iter().filter(|(_, containers)| containers.len() > 1);
    several.map(|(instance, containers)| format!("{instance} runs in {containers:?}")).collect()
}

/// Instances of which there are several first processes, with those.
fn processes(prefix: &str) -> BTreeSet<(String, Vec<u32>)> {
    let mut by_instance: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for pid in process::inits(prefix) {
        let line = process::command_line(pid);
        let instance = line.split("--instance\0").nth(1).and_then(|rest| rest.split('\0').next());
        if let Some(instance) = instance {
            by_instance.entry(instance.to_owned()).or_default().push(pid);
        }
    }
    by_instance.into_iter().filter(|(_, pids)| pids.len() > 1).collect()
}
