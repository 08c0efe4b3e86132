//! The checks of one instance: which it has, and what they have shown of its present run. No I/O.

use std::sync::LazyLock;
use std::time::Duration;

use chassis_api::CheckReport;
use chassis_core::environment;
use chassis_core::health::health_check;
use chassis_core::{Check, CheckKind, EventKind, Health, Instance, Observed, Probe, Run, Verdict, Wanted};
use chassis_spec::{AgentSpec, HealthCheck, Seconds};
use jiff::{SignedDuration, Timestamp};

use crate::prober::Watch;

/// An instance that ran long before anybody looked is looked at within this, not all at the same moment.
const SPREAD: SignedDuration = SignedDuration::from_secs(1);

/// The readiness check of an agent that [`prepares`] and has no check of its own: there is nothing to look at but that this has
/// ended.
static STARTED: LazyLock<HealthCheck> = LazyLock::new(|| HealthCheck {
    disabled: false,
    http: None,
    tcp: None,
    exec: None,
    interval: Seconds(24 * 3600),
    timeout: Seconds(2),
    retries: 1,
    start_period: Seconds(0),
});

#[derive(Debug, Default)]
pub(crate) struct Checks {
    // Boxed, because most of ten thousand instances may have none.
    health: Option<Box<RunCheck>>,
    readiness: Option<Box<RunCheck>>,
    /// It is unhealthy, and the fleet's budget allows its restart no sooner.
    pub(crate) held_until: Option<Timestamp>,
}

/// A check of one run.
#[derive(Debug)]
struct RunCheck {
    run: Run,
    check: Check,
}

/// What became of a look.
#[derive(Debug)]
pub(crate) struct Noted {
    /// Before the next look.
    pub(crate) pause: Duration,
    /// The verdict is another than before.
    pub(crate) changed: bool,
    pub(crate) event: Option<EventKind>,
}

/// The check that an instance has: its own, or its image's.
pub(crate) fn check_spec<'a>(
    spec: &'a AgentSpec,
    observed: Option<&'a Observed>,
    kind: CheckKind,
) -> Option<&'a HealthCheck> {
    match (kind, &spec.readiness_check) {
        (CheckKind::Health, _) => health_check(spec, observed),
        (CheckKind::Readiness, Some(check)) => Some(check).filter(|check| !check.disabled),
        (CheckKind::Readiness, None) => prepares(spec).then_some(&*STARTED),
    }
}

/// True of an agent before whose start files are written or a script runs, which may fail. Every environment has a file,
/// that of its task; whether it has started is seen to by itself.
pub(crate) fn prepares(spec: &AgentSpec) -> bool {
    let is_environment = spec.fleet.as_ref().is_some_and(environment::is_fleet);
    spec.startup.is_some() || (!spec.files.is_empty() && !is_environment)
}

/// True if anything is checked of such an instance.
pub(crate) fn has_check(spec: &AgentSpec, observed: Option<&Observed>) -> bool {
    [CheckKind::Health, CheckKind::Readiness].iter().any(|kind| check_spec(spec, observed, *kind).is_some())
}

impl Checks {
    /// Follows what the node shows: a run that is to go on is checked, and every other is forgotten. Returns the checks
    /// that nobody repeats yet.
    pub(crate) fn follow(&mut self, spec: &AgentSpec, instance: &Instance, now: Timestamp) -> Vec<Watch> {
        let run = instance.observed.as_ref().zip(instance.running_since());
        let run = run.filter(|_| instance.desired.wanted == Wanted::Running);
        let mut watches = Vec::new();
        for kind in [CheckKind::Health, CheckKind::Readiness] {
            let wanted = run.filter(|_| check_spec(spec, instance.observed.as_ref(), kind).is_some());
            let present = self.get_mut(kind);
            let Some((observed, started_at)) = wanted else {
                *present = None;
                continue;
            };
            let known = present
                .as_ref()
                .is_some_and(|known| *known.run.id == *observed.id && known.run.started_at == started_at);
            if !known {
                let run = Run { id: observed.id.clone(), started_at };
                let mut check = Check::default();
                let pause = first_pause(&mut check, spec, instance, kind, started_at, now);
                watches.push(Watch { number: instance.number, kind, run: run.clone(), pause });
                *present = Some(Box::new(RunCheck { run, check }));
            }
        }
        if self.verdict(CheckKind::Health) != Some(Verdict::Unhealthy) {
            self.held_until = None;
        }
        watches
    }

    /// True if the run is still the one that is checked.
    pub(crate) fn knows(&self, kind: CheckKind, run: &Run) -> bool {
        self.get(kind).is_some_and(|known| known.run == *run)
    }

    /// Takes over one look; without one, the runtime could not look. `None` if the run is another by now.
    pub(crate) fn note(
        &mut self,
        kind: CheckKind,
        run: &Run,
        rules: &HealthCheck,
        probe: Option<Probe>,
    ) -> Option<Noted> {
        let known = self.get_mut(kind).as_mut().filter(|known| known.run == *run)?;
        let check = &mut known.check;
        let changed = probe.is_some_and(|probe| check.note(rules, run.started_at, probe));
        let message = || check.last_error().unwrap_or_default().to_owned();
        let event = changed.then(|| match (kind, check.verdict) {
            (CheckKind::Health, Verdict::Unhealthy) => EventKind::Unhealthy { message: message() },
            (CheckKind::Readiness, Verdict::Unhealthy) => EventKind::NotReady { message: message() },
            (CheckKind::Health, _) => EventKind::Healthy,
            (CheckKind::Readiness, _) => EventKind::Ready,
        });
        Some(Noted { pause: unsigned(check.pause(rules)), changed, event })
    }

    pub(crate) fn health(&self) -> Health {
        Health { health: self.verdict(CheckKind::Health), readiness: self.verdict(CheckKind::Readiness) }
    }

    /// Why the check that fails does.
    pub(crate) fn error(&self) -> Option<&str> {
        let failing = |kind| {
            self.get(kind).map(|known| &known.check).filter(|check| check.verdict == Verdict::Unhealthy)
        };
        failing(CheckKind::Health).or_else(|| failing(CheckKind::Readiness))?.last_error()
    }

    /// True if the run was healthy for long enough to be forgiven earlier failures.
    pub(crate) fn was_good(&self, now: Timestamp) -> bool {
        self.get(CheckKind::Health).is_some_and(|known| known.check.was_good(now))
    }

    /// What `chassis health` shows.
    pub(crate) fn report(&self, spec: &AgentSpec, observed: Option<&Observed>) -> Vec<CheckReport> {
        let kinds = [CheckKind::Health, CheckKind::Readiness].into_iter();
        kinds
            .filter_map(|kind| {
                let rules = check_spec(spec, observed, kind)?;
                let of_image = kind == CheckKind::Health && spec.health_check.is_none();
                let check = self.get(kind).map(|known| &known.check);
                Some(CheckReport {
                    kind,
                    check: rules.clone(),
                    of_image,
                    verdict: check.map(|check| check.verdict),
                    failures: check.map_or(0, |check| check.failures),
                    healthy_since: check.and_then(|check| check.healthy_since),
                    probes: check.map(|check| check.probes.iter().cloned().collect()).unwrap_or_default(),
                })
            })
            .collect()
    }

    fn verdict(&self, kind: CheckKind) -> Option<Verdict> {
        self.get(kind).map(|known| known.check.verdict)
    }

    fn get(&self, kind: CheckKind) -> Option<&RunCheck> {
        match kind {
            CheckKind::Health => self.health.as_deref(),
            CheckKind::Readiness => self.readiness.as_deref(),
        }
    }

    fn get_mut(&mut self, kind: CheckKind) -> &mut Option<Box<RunCheck>> {
        match kind {
            CheckKind::Health => &mut self.health,
            CheckKind::Readiness => &mut self.readiness,
        }
    }
}

/// A fresh run is looked at soon. Those that a new server finds are spread, so that a thousand are not looked at at once.
fn first_pause(
    check: &mut Check,
    spec: &AgentSpec,
    instance: &Instance,
    kind: CheckKind,
    started_at: Timestamp,
    now: Timestamp,
) -> Duration {
    let Some(rules) = check_spec(spec, instance.observed.as_ref(), kind) else { return Duration::ZERO };
    if now.duration_since(started_at) < SPREAD {
        return unsigned(check.pause(rules));
    }
    // A multiplicative hash of the number: neighbours land far from each other.
    let share = u64::from(instance.number).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 54;
    unsigned(SPREAD) * u32::try_from(share).unwrap_or(0) / 1024
}

fn unsigned(time: SignedDuration) -> Duration {
    time.try_into().unwrap_or_default()
}
