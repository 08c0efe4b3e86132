//! Whole fleets under random faults, over ten thousand seeds: whatever is asked and whatever breaks, a fleet ends as it
//! is wanted, no number ever has two containers, and nothing is left behind.
//!
//! The simulated server keeps only what the real one keeps: what is wanted, and each instance's memory as of its last
//! save. A crash throws everything else away, at any step.

#![expect(clippy::unwrap_used, reason = "a test says what went wrong by where it panics")]

use std::collections::{BTreeMap, BTreeSet};

use chassis_core::instance::{
    Desired, Exit, Instance, Limits, Memory, Observed, Reason, RunState, Site, Wanted, restarts,
};
use chassis_core::rollout::{Decision, EXTRA_FIRST, Tally, advance, extras, is_extra, tally};
use chassis_core::scale::scale;
use chassis_core::{
    Action, AgentDesired, EventKind, Health, Plan, RestartBudget, Rollout, RolloutState, Undone, Verdict,
    plan,
};
use chassis_spec::{Amount, Bytes, RestartPolicy, RolloutSpec};
use jiff::{SignedDuration, Timestamp};

/// Enough to meet every pair of faults; the whole takes seconds.
const SEEDS: u64 = 10_000;
/// Steps during which people and faults act, and steps after that within which everything must be well.
const UNREST: u32 = 60;
const PEACE: u32 = 400;

const LIMITS: Limits = Limits { cpu: None, memory: Bytes(64 << 20), pids: 9 };

/// A small generator with a good spread: the tests must be the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    fn one_in(&mut self, odds: u64) -> bool {
        self.below(odds) == 0
    }
}

#[derive(Clone)]
struct Container {
    number: u32,
    revision: u64,
    limits: Limits,
    renamed: bool,
    /// It runs, and does nothing any more.
    hung: bool,
    state: RunState,
}

/// A definition of the agent.
#[derive(Clone, Copy)]
struct Revision {
    /// The revision at which containers were last to be made anew.
    template: u64,
    limits: Limits,
    /// It ends as soon as it is started.
    broken: bool,
}

/// What the store keeps.
#[derive(Default)]
struct Store {
    revision: u64,
    revisions: BTreeMap<u64, Revision>,
    rollout: Option<Rollout>,
    /// The last revision that was complete.
    complete: Option<u64>,
    wanted: BTreeMap<u32, (Desired, Memory)>,
    starts: u64,
}

struct World {
    random: Random,
    now: Timestamp,
    store: Store,
    /// The node: this agent's containers by id.
    node: BTreeMap<String, Container>,
    /// Numbers whose container name somebody else's container has, until the peace.
    foreign: BTreeSet<u32>,
    data: BTreeSet<u32>,
    next_id: u64,
    /// What a running server has in memory; `None` while it is dead.
    memory: Option<BTreeMap<u32, Instance>>,
    policy: RestartPolicy,
    rules: RolloutSpec,
    /// Rollouts that went back by themselves.
    rollbacks: u32,
    /// The agent has a health check.
    checked: bool,
    budget: RestartBudget,
    started: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let policy =
            [RestartPolicy::Always, RestartPolicy::OnFailure][usize::try_from(random.below(2)).unwrap()];
        let checked = random.one_in(2);
        let rules = RolloutSpec {
            max_unavailable: Amount::Count(u32::try_from(random.below(3)).unwrap()),
            max_surge: Amount::Count(u32::try_from(random.below(3)).unwrap()),
            ..RolloutSpec::default()
        };
        let mut world = World {
            random,
            rules,
            rollbacks: 0,
            now: Timestamp::from_second(1_000_000).unwrap(),
            store: Store::default(),
            node: BTreeMap::new(),
            foreign: BTreeSet::new(),
            data: BTreeSet::new(),
            next_id: 0,
            memory: None,
            policy,
            checked,
            budget: RestartBudget::default(),
            started: 0,
        };
        world.deploy(Revision { template: 0, broken: false, limits: LIMITS }, None);
        world
    }

    fn tick(&mut self, millis: i64) {
        self.now = self.now.checked_add(SignedDuration::from_millis(millis)).unwrap();
    }

    fn observed(&self, number: u32) -> Option<Observed> {
        let mut found = self.node.iter().filter(|(_, container)| container.number == number);
        let first = found.next();
        assert!(found.next().is_none(), "two containers of number {number}");
        first.map(|(id, container)| Observed {
            id: id.as_str().into(),
            revision: container.revision,
            name_is_right: !container.renamed,
            limits: container.limits,
            state: container.state,
            image_check: None,
        })
    }

    /// What people do.
    fn people_act(&mut self) {
        let alive: BTreeSet<u32> = self
            .store
            .wanted
            .iter()
            .filter(|(_, (desired, _))| !desired.wanted.is_absent())
            .map(|(n, _)| *n)
            .collect();
        let pick = alive.iter().nth(usize::try_from(self.random.below(8)).unwrap()).copied();
        match self.random.below(8) {
            0 | 1 => {
                let taken = self
                    .store
                    .wanted
                    .iter()
                    .filter(|(_, (desired, _))| desired.wanted == Wanted::Absent { cleanup: true });
                let taken = taken.map(|(number, _)| *number).collect();
                let count = u32::try_from(self.random.below(7)).unwrap();
                let change = scale(&alive, &taken, count);
                for number in change.add {
                    let row = self
                        .store
                        .wanted
                        .entry(number)
                        .or_insert_with(|| (Desired::running(), Memory::default()));
                    row.0 = Desired { wanted: Wanted::Running, started_after: Some(self.now) };
                }
                let cleanup = self.random.one_in(2);
                for number in change.remove {
                    self.store.wanted.get_mut(&number).unwrap().0.wanted = Wanted::Absent { cleanup };
                }
            }
            2 => {
                let present = self.store.revisions[&self.store.revision];
                let next = match self.random.below(4) {
                    // Labels, or limits: no new container.
                    0 => present,
                    1 => Revision { limits: Limits { pids: present.limits.pids + 1, ..LIMITS }, ..present },
                    2 if self.store.complete.is_some() => {
                        Revision { template: 0, broken: true, limits: LIMITS }
                    }
                    _ => Revision { template: 0, broken: false, limits: LIMITS },
                };
                self.deploy(next, None);
            }
            6 => self.pause(true),
            7 => self.pause(false),
            3 => self.want(pick, Desired { wanted: Wanted::Stopped, started_after: None }),
            4 => self.want(pick, Desired { wanted: Wanted::Running, started_after: Some(self.now) }),
            _ => {}
        }
        self.reload();
    }

    /// Makes a new revision; one without a template needs new containers.
    fn deploy(&mut self, next: Revision, undoes: Option<Undone>) {
        let paused = self.store.rollout.as_ref().is_some_and(Rollout::is_paused);
        self.store.revision += 1;
        let revision = self.store.revision;
        let template = if next.template == 0 { revision } else { next.template };
        self.store.revisions.insert(revision, Revision { template, ..next });
        self.store.rollout = Some(Rollout::begin(revision, self.store.complete, paused, undoes, self.now));
        self.try_afresh();
    }

    fn pause(&mut self, paused: bool) {
        let state = if paused { RolloutState::Paused } else { RolloutState::Progressing };
        if let Some(rollout) = self.store.rollout.as_mut().filter(|rollout| rollout.is_paused() != paused) {
            rollout.state = state;
            rollout.progressed_at = self.now;
        }
    }

    fn try_afresh(&mut self) {
        let saved = self.store.wanted.values_mut().map(|(_, memory)| memory);
        let live =
            self.memory.iter_mut().flat_map(|instances| instances.values_mut()).map(|one| &mut one.memory);
        for memory in saved.chain(live) {
            *memory = Memory { failures: 0, retry_at: None, blocked: None, ..memory.clone() };
        }
    }

    /// The revisions whose containers serve the present one.
    fn serving(&self) -> Vec<u64> {
        let template = self.store.revisions[&self.store.revision].template;
        let revisions = self.store.revisions.iter();
        revisions.filter(|(_, revision)| revision.template == template).map(|(number, _)| *number).collect()
    }

    fn limits(&self) -> Limits {
        self.store.revisions[&self.store.revision].limits
    }

    /// Judges the rollout, and does what that says.
    fn judge(&mut self, tally: &Tally) {
        let Some(before) = self.store.rollout.clone() else { return };
        match advance(&before, &self.rules, &"a".parse().unwrap(), tally, self.now) {
            Some(Decision::Keep { rollout, .. }) => {
                if matches!(rollout.state, RolloutState::Complete | RolloutState::RolledBack) {
                    self.store.complete = Some(rollout.revision);
                }
                self.store.rollout = Some(rollout);
            }
            Some(Decision::RollBack { why }) => {
                assert!(before.undoes.is_none(), "a rollback was rolled back");
                let to = before.from.unwrap();
                let target = self.store.revisions[&to];
                assert!(!target.broken, "went back to what never worked");
                self.rollbacks += 1;
                self.deploy(target, Some(Undone { revision: before.revision, to, why }));
            }
            None => {}
        }
    }

    /// Adds and takes away extra instances, as the server does.
    fn adjust_extras(&mut self, instances: &mut BTreeMap<u32, Instance>, tally: &Tally, paused: bool) {
        let is_there = |one: &&mut Instance| is_extra(one.number) && one.desired.wanted == Wanted::Running;
        let there = instances.values_mut().filter(is_there).count();
        let count = extras(&self.rules, tally, u32::try_from(there).unwrap(), paused) as usize;
        assert!(count <= self.rules.surge_of(tally.wanted) as usize, "more than may be");
        for extra in instances.values_mut().filter(is_there).skip(count) {
            extra.desired.wanted = Wanted::Absent { cleanup: true };
        }
        for _ in there..count {
            let number = (EXTRA_FIRST..u32::MAX).find(|number| !instances.contains_key(number)).unwrap();
            instances.insert(number, instance(number, Desired::running(), Memory::default()));
        }
    }

    fn want(&mut self, number: Option<u32>, desired: Desired) {
        if let Some(number) = number {
            self.store.wanted.get_mut(&number).unwrap().0 = desired;
        }
    }

    /// What breaks: agents, containers behind the server's back, the server itself.
    fn fate_acts(&mut self) {
        let ids: Vec<String> = self.node.keys().cloned().collect();
        let pick = ids.get(usize::try_from(self.random.below(8)).unwrap()).cloned();
        match (self.random.below(8), pick) {
            (0 | 1, Some(id)) => {
                let code = i32::from(!self.random.one_in(3));
                self.exit(&id, code);
            }
            (2, Some(id)) => drop(self.node.remove(&id)),
            (3, Some(id)) => self.node.get_mut(&id).unwrap().renamed = true,
            (6, Some(id)) => self.node.get_mut(&id).unwrap().hung = true,
            (4, _) => self.memory = None,
            (5, _) => drop(self.foreign.insert(u32::try_from(self.random.below(6)).unwrap() + 1)),
            _ => {}
        }
    }

    fn exit(&mut self, id: &str, code: i32) {
        let container = self.node.get_mut(id).unwrap();
        if let RunState::Running { started_at } = container.state {
            let exit =
                Exit { code, out_of_memory: false, unhealthy: false, unleased: false, finished_at: self.now };
            container.state = RunState::Exited { started_at, exit };
        }
    }

    /// A server that was dead begins with what is kept; one that lives takes over what people want.
    fn reload(&mut self) {
        let old = self.memory.take().unwrap_or_default();
        let mut instances = BTreeMap::new();
        for (number, (desired, saved)) in &self.store.wanted {
            let memory = old.get(number).map_or(saved, |instance: &Instance| &instance.memory).clone();
            instances.insert(*number, instance(*number, *desired, memory));
        }
        // Extra instances are in nobody's store: what a dead server left of them is found on the node, and adopted.
        let extra = self.node.values().map(|container| container.number).filter(|number| is_extra(*number));
        for number in
            extra.chain(old.keys().copied().filter(|number| is_extra(*number))).collect::<BTreeSet<_>>()
        {
            let known = old.get(&number).cloned();
            instances.insert(
                number,
                known.unwrap_or_else(|| instance(number, Desired::running(), Memory::default())),
            );
        }
        self.memory = Some(instances);
    }

    /// One round of the server: look, note and save, decide, act. Returns true if there was nothing to do.
    fn server_acts(&mut self, unrest: bool) -> bool {
        if self.memory.is_none() {
            self.reload();
        }
        let mut instances = self.memory.take().unwrap();
        let (serving, rules) = (self.serving(), self.rules.clone());
        let paused = self.store.rollout.as_ref().is_some_and(Rollout::is_paused);
        let agent = AgentDesired {
            serving: &serving,
            restart_policy: self.policy,
            limits: self.limits(),
            rollout: &rules,
            paused,
            restarts_held: false,
        };
        for (number, instance) in &mut instances {
            instance.observed = self.observed(*number);
            let noted = instance.memory.note(
                &instance.desired,
                instance.observed.as_ref(),
                agent,
                u64::from(*number),
            );
            if let Some((memory, events)) = noted {
                // What is noted of an extra instance is not kept, so that a new server notes it again.
                if !is_extra(*number) {
                    self.store.starts +=
                        events.iter().filter(|event| **event == EventKind::Started).count() as u64;
                }
                instance.memory = memory.clone();
                self.save(*number, memory);
            }
            self.check(instance);
        }
        let tally = tally(agent, instances.values(), self.now);
        let revision = self.store.revision;
        self.judge(&tally);
        if self.store.revision != revision {
            // The next round sees the revision that it went back to.
            self.memory = Some(instances);
            self.try_afresh();
            return false;
        }
        self.adjust_extras(&mut instances, &tally, paused);
        let plan = plan(agent, instances.values(), self.now);
        self.assert_enough_stay_up(agent, &instances, &plan);
        let idle = plan.actions.is_empty();
        for action in plan.actions {
            // A dead server does not go on, whether or not its last action was carried out.
            if unrest && self.random.one_in(25) {
                if self.random.one_in(2) {
                    let _ = self.carry_out(&action, &mut instances);
                }
                self.memory = None;
                return false;
            }
            let failed = if unrest && self.random.one_in(12) {
                Err(Reason::RuntimeUnavailable)
            } else {
                self.carry_out(&action, &mut instances)
            };
            if let Some(instance) = instances.get_mut(&action.number()) {
                instance.memory = match failed {
                    Ok(()) => instance.memory.note_unblocked(),
                    Err(reason) => instance.memory.note_blocked(reason, "broken".to_owned(), self.now, 0),
                };
            }
            self.tick(5);
        }
        self.memory = Some(instances);
        idle && plan.wake_at.is_none()
    }

    /// Looks at a running agent as its health check would, and gives it up if it hangs and the budget allows it.
    fn check(&mut self, instance: &mut Instance) {
        instance.health = Health::default();
        let Some(observed) = instance.observed.as_ref().filter(|_| self.checked) else { return };
        if instance.running_since().is_none() {
            return;
        }
        let hung = self.node[&*observed.id].hung;
        instance.health.health = Some(if hung { Verdict::Unhealthy } else { Verdict::Healthy });
        if hung
            && instance.desired.wanted == Wanted::Running
            && instance.memory.condemned.is_none()
            && self.budget.take(1, self.now).is_ok()
            && let Some((memory, _)) = instance.memory.note_unhealthy(false, "hung".to_owned())
        {
            instance.memory = memory.clone();
            self.save(instance.number, memory);
        }
    }

    fn save(&mut self, number: u32, memory: Memory) {
        if let Some(row) = self.store.wanted.get_mut(&number) {
            row.1 = memory;
        }
    }

    /// What the plan takes down for a revision or a restart leaves as many as the rules say.
    fn assert_enough_stay_up(
        &self,
        agent: AgentDesired<'_>,
        instances: &BTreeMap<u32, Instance>,
        plan: &Plan,
    ) {
        let wanted = || instances.values().filter(|one| one.desired.wanted == Wanted::Running);
        let is_up = |one: &Instance| {
            let done = one.exit().is_some_and(|exit| !restarts(self.policy, exit));
            one.is_ready(self.now) || done
        };
        let is_stopped = |action: &&Action| {
            let Action::Stop { number, .. } = action else { return false };
            let instance = &instances[number];
            if instance.desired.wanted != Wanted::Running || !is_up(instance) {
                return false;
            }
            let observed = instance.observed.as_ref().unwrap();
            let since = instance.running_since().unwrap();
            assert!(!agent.keeps(observed) || !instance.desired.satisfied_by(since), "stops what may stay");
            true
        };
        let stopped = plan.actions.iter().filter(is_stopped).count();
        let count = wanted().filter(|one| !is_extra(one.number)).count();
        let up = wanted().filter(|one| is_up(one)).count();
        let away = self.rules.unavailable_of(u32::try_from(count).unwrap()) as usize;
        assert!(stopped == 0 || up - stopped + away >= count, "{stopped} of {up} stopped, {count} wanted");
    }

    fn carry_out(&mut self, action: &Action, instances: &mut BTreeMap<u32, Instance>) -> Result<(), Reason> {
        match action {
            Action::Create { number } => {
                if self.foreign.contains(number) {
                    return Err(Reason::NameTaken);
                }
                self.next_id += 1;
                self.data.insert(*number);
                let container = Container {
                    number: *number,
                    revision: self.store.revision,
                    limits: self.limits(),
                    renamed: false,
                    hung: false,
                    state: RunState::Created,
                };
                self.node.insert(format!("c{}", self.next_id), container);
            }
            Action::Start { id, .. } => {
                let now = self.now;
                let serving = self.serving();
                let paused = self.store.rollout.as_ref().is_some_and(Rollout::is_paused);
                let container = self.node.get_mut(&**id).ok_or(Reason::RuntimeUnavailable)?;
                assert!(paused || serving.contains(&container.revision), "started a stale revision");
                let broken = self.store.revisions[&container.revision].broken;
                container.state = RunState::Running { started_at: now };
                container.hung = false;
                self.started += 1;
                if broken {
                    self.exit(id, 1);
                }
            }
            Action::Stop { id, .. } => self.exit(id, 143),
            Action::Remove { id, .. } => drop(self.node.remove(&**id)),
            Action::Rename { id, .. } => {
                if let Some(container) = self.node.get_mut(&**id) {
                    if self.foreign.contains(&container.number) {
                        return Err(Reason::NameTaken);
                    }
                    container.renamed = false;
                }
            }
            Action::Update { id, .. } => {
                let limits = self.limits();
                self.node.get_mut(&**id).ok_or(Reason::RuntimeUnavailable)?.limits = limits;
            }
            Action::Forget { number, cleanup } => {
                if *cleanup {
                    self.data.remove(number);
                }
                self.store.wanted.remove(number);
                instances.remove(number);
            }
        }
        Ok(())
    }

    fn assert_as_wanted(&self, seed: u64) {
        let runs = self.store.wanted.values().any(|(desired, _)| desired.wanted == Wanted::Running);
        let rollout = self.store.rollout.as_ref().unwrap();
        let is_over = matches!(rollout.state, RolloutState::Complete | RolloutState::RolledBack);
        assert!(is_over || !runs, "seed {seed}: {rollout:?}");
        for (number, (desired, memory)) in &self.store.wanted {
            let observed = self.observed(*number);
            let state = observed.as_ref().map(|observed| observed.state);
            match desired.wanted {
                Wanted::Running => {
                    let observed = observed.unwrap_or_else(|| panic!("seed {seed}: {number} is missing"));
                    assert!(observed.name_is_right, "seed {seed}: {number} has a wrong name");
                    assert!(self.serving().contains(&observed.revision), "seed {seed}: {number} is stale");
                    assert_eq!(observed.limits, self.limits(), "seed {seed}: {number} has old limits");
                    match observed.state {
                        RunState::Running { started_at } => {
                            assert!(
                                desired.started_after.is_none_or(|after| started_at >= after),
                                "seed {seed}"
                            );
                            let hung = self.checked && self.node[&*observed.id].hung;
                            assert!(!hung, "seed {seed}: {number} hangs");
                            assert!(
                                memory.exit.is_none(),
                                "seed {seed}: {number} runs, and is noted as ended"
                            );
                        }
                        RunState::Exited { exit, .. } => {
                            assert_eq!(
                                (self.policy, exit.code),
                                (RestartPolicy::OnFailure, 0),
                                "seed {seed}"
                            );
                        }
                        other => panic!("seed {seed}: {number} is {other:?}"),
                    }
                }
                Wanted::Stopped => {
                    assert!(!matches!(state, Some(RunState::Running { .. })), "seed {seed}: {number}");
                }
                Wanted::Absent { .. } => panic!("seed {seed}: {number} is still there"),
            }
        }
        for container in self.node.values() {
            assert!(
                self.store.wanted.contains_key(&container.number),
                "seed {seed}: a container is left behind"
            );
        }
    }
}

fn instance(number: u32, desired: Desired, memory: Memory) -> Instance {
    Instance {
        number,
        desired,
        observed: None,
        memory,
        health: Health::default(),
        busy: false,
        site: Site::Here,
        is_cramped: false,
    }
}

#[test]
fn every_fleet_ends_as_wanted() {
    let mut rollbacks = 0;
    for seed in 0..SEEDS {
        let mut world = World::new(seed);
        for _ in 0..UNREST {
            let pause = i64::try_from(world.random.below(3_000)).unwrap();
            world.tick(pause);
            if world.random.one_in(3) {
                world.people_act();
            }
            if world.random.one_in(3) {
                world.fate_acts();
            }
            world.server_acts(true);
        }
        world.foreign.clear();
        world.pause(false);
        let mut idle = false;
        for _ in 0..PEACE {
            world.tick(1_000);
            idle = world.server_acts(false);
        }
        assert!(idle, "seed {seed}: still busy after {PEACE} quiet steps");
        world.assert_as_wanted(seed);
        assert!(world.store.starts <= world.started, "seed {seed}: a start was noted that never was");
        rollbacks += world.rollbacks;
    }
    assert!(rollbacks > 1_000, "only {rollbacks} rollbacks: broken revisions were hardly ever met");
}
