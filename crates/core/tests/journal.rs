//! What a node tells is counted once, however often it tells it, whatever was seen before, and whenever the server dies.

#![expect(clippy::unwrap_used, reason = "a test says what went wrong by where it panics")]

use chassis_core::instance::{Desired, Exit, Limits, Memory, Observed, Run, RunState};
use chassis_core::{AgentDesired, AgentKey, Entry, EventKind, ExitRecord, Happened};
use chassis_spec::{Bytes, RestartPolicy, RolloutSpec};
use jiff::Timestamp;
use proptest::prelude::*;

const LIMITS: Limits = Limits { cpu: None, memory: Bytes(64 << 20), pids: 9 };

/// What may happen to a server on the way.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// The node tells so much of what is not acknowledged.
    Told(usize),
    /// The server looks at the container.
    Looks,
    /// What it noted is on disk.
    Stores,
    /// It is killed, and the next one has what is on disk.
    Dies,
}

/// A server: what it remembers, and what it wrote into the history with that.
#[derive(Debug, Clone, Default)]
struct Server {
    memory: Memory,
    events: Vec<EventKind>,
    exits: Vec<ExitRecord>,
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + second).unwrap()
}

fn began(run: i64) -> Timestamp {
    at(run * 100)
}

fn exit(run: i64) -> Exit {
    let code = i32::try_from(run).unwrap() + 1;
    Exit { code, out_of_memory: false, unhealthy: false, unleased: false, finished_at: at(run * 100 + 10) }
}

/// Every end of a run but the last one's, and each start by the node.
fn journal(runs: i64) -> Vec<Entry> {
    let agent = AgentKey { fleet: "f".parse().unwrap(), agent: "a".parse().unwrap() };
    let happened = (0..runs - 1).flat_map(|run| {
        let ended = Happened::Ended { started_at: began(run), exit: exit(run) };
        [ended, Happened::Started { started_at: began(run + 1) }]
    });
    let entry = |(number, what)| Entry {
        number,
        instance: agent.instance(1),
        epoch: 1,
        container: "c".into(),
        revision: 1,
        what,
    };
    (1..).zip(happened).map(entry).collect()
}

impl Server {
    fn looks(&mut self, run: i64) {
        let rollout = RolloutSpec::default();
        let agent = AgentDesired {
            serving: &[1],
            restart_policy: RestartPolicy::Always,
            limits: LIMITS,
            rollout: &rollout,
            paused: false,
            restarts_held: false,
        };
        let state = RunState::Running { started_at: began(run) };
        let observed = Observed {
            id: "c".into(),
            revision: 1,
            name_is_right: true,
            limits: LIMITS,
            state,
            image_check: None,
        };
        if let Some((memory, events)) = self.memory.note(&Desired::running(), Some(&observed), agent, 0) {
            self.memory = memory;
            self.events.extend(events);
        }
    }

    fn is_told(&mut self, entry: &Entry) {
        if let Some(told) = self.memory.note_told(entry, RestartPolicy::Always, 0) {
            self.memory = told.memory;
            self.events.extend(told.events.into_iter().map(|(_, event)| event));
            self.exits.extend(told.exit);
        }
    }
}

fn any_steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1..9usize).prop_map(Step::Told),
        2 => Just(Step::Looks),
        2 => Just(Step::Stores),
        1 => Just(Step::Dies),
    ];
    prop::collection::vec(step, 0..24)
}

proptest! {
    #[test]
    fn each_restart_is_counted_once(runs in 2..7i64, saw_the_first_end in any::<bool>(), steps in any_steps()) {
        let journal = journal(runs);
        let mut server = Server::default();
        server.memory.run = Some(Run { id: "c".into(), started_at: began(0) });
        if saw_the_first_end {
            server.memory.exit = Some(exit(0));
            (server.memory.restarts, server.memory.failures) = (1, 1);
            server.exits.push(ExitRecord::new("c", Some(1), began(0), exit(0), false));
        }
        let mut stored = server.clone();
        for step in steps.into_iter().chain([Step::Told(usize::MAX), Step::Looks]) {
            match step {
                Step::Told(count) => {
                    // Again from the last that is on disk.
                    let open = journal.iter().filter(|entry| entry.number > stored.memory.told);
                    open.take(count).for_each(|entry| server.is_told(entry));
                }
                Step::Looks => server.looks(runs - 1),
                Step::Stores => stored = server.clone(),
                Step::Dies => server = stored.clone(),
            }
        }
        let restarts = u32::try_from(runs - 1).unwrap();
        prop_assert_eq!(server.memory.restarts, restarts);
        prop_assert_eq!(server.memory.failures, restarts, "none of the runs was a good one");
        let codes: Vec<_> = server.exits.iter().filter_map(|exit| exit.code).collect();
        prop_assert_eq!(codes, (1..=i32::try_from(runs - 1).unwrap()).collect::<Vec<_>>());
        let run = server.memory.run.clone().unwrap();
        prop_assert_eq!((run.started_at, server.memory.exit), (began(runs - 1), None));
        let starts = |event: &&EventKind| matches!(event, EventKind::Started | EventKind::RestartedByNode);
        prop_assert_eq!(server.events.iter().filter(starts).count(), usize::try_from(runs - 1).unwrap());
    }
}
