//! What must be true of the history, whatever happened.

use std::collections::BTreeMap;
use std::time::Duration;

use chassis_testkit::api::Phase;
use chassis_testkit::{eventually, expect};

use crate::history::History;
use crate::load::{Operation, Outcome, What};
use crate::world::World;

/// Until everything is as it is wanted, once nobody changes anything any more.
const PATIENCE: Duration = Duration::from_mins(2);
/// A request that nobody waits for any more is read by a server that was stopped no later than this.
const LATE: Duration = Duration::from_secs(20);
/// From the end of a lease to the next one.
const TAKEOVER: f64 = 5.0;

/// How often something was acknowledged, refused, and neither.
#[derive(Debug, Default, Clone, Copy)]
struct Told {
    acknowledged: u32,
    unknown: u32,
}

/// Waits until all servers show the same, and everything that should run does.
pub(crate) fn settle(world: &mut World, violations: &mut Vec<String>) {
    let settled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        eventually(PATIENCE, || settled(world));
    }));
    if settled.is_err() {
        let left = settled_complaint(world);
        violations.push(format!("not settled within {PATIENCE:?}: {left}"));
    }
}

fn settled_complaint(world: &World) -> String {
    settled(world).err().unwrap_or_default()
}

fn settled(world: &World) -> Result<(), String> {
    let mut views = Vec::new();
    let mut stuck = Vec::new();
    for index in 0..world.count() {
        let instances = world.chassis[index].instances();
        for one in instances.iter().filter(|instance| instance.phase != Phase::Running) {
            let name = format!("{}/{}-{}", one.fleet, one.agent, one.number);
            stuck.push(format!("server {index} shows {name} as {:?} ({:?})", one.phase, one.message));
        }
        let mut view: Vec<String> = instances
            .iter()
            .map(|instance| {
                let id = instance.container_id.as_deref().unwrap_or("none");
                format!(
                    "{}/{}-{} {:?} {id}",
                    instance.fleet, instance.agent, instance.number, instance.revision
                )
            })
            .collect();
        view.sort();
        views.push(view);
    }
    expect(stuck.is_empty(), || format!("{}; all: {views:?}", stuck.join("; ")))?;
    expect(views.windows(2).all(|pair| pair[0] == pair[1]), || format!("the servers differ: {views:?}"))?;
    let (docker, label) = (world.chassis[0].docker(), world.label());
    let containers = docker.labelled(&label).len();
    expect(containers == views[0].len(), || {
        format!("{containers} containers for {} instances", views[0].len())
    })
}

pub(crate) fn check(
    operations: &[Operation],
    history: &History,
    world: &World,
    violations: &mut Vec<String>,
) {
    violations.extend(history.violations.iter().cloned());
    let told = |is: &dyn Fn(&What) -> bool| {
        let mut told = Told::default();
        for operation in operations.iter().filter(|operation| is(&operation.what)) {
            match operation.outcome {
                Outcome::Acknowledged => told.acknowledged += 1,
                Outcome::Unknown(_) => told.unknown += 1,
                Outcome::Refused(_) => {}
            }
        }
        told
    };
    let mut compare = |what: String, told: Told, written: u32| {
        let (least, most) = (told.acknowledged, told.acknowledged + told.unknown);
        if written < least {
            violations
                .push(format!("LOST: {what} was acknowledged {least} times and written {written} times"));
        } else if written > most {
            violations.push(format!(
                "EFFECT OF A REFUSED WRITE: {what} was acknowledged {least} times, is unknown {} times, and was written \
                 {written} times",
                told.unknown
            ));
        }
    };
    for what in distinct(operations) {
        let same = told(&|other| other == &what);
        match &what {
            What::FleetCreate { fleet } => {
                let [made, ..] = history.fleets.get(fleet).copied().unwrap_or_default();
                compare(format!("the creation of fleet {fleet}"), same, made);
            }
            What::FleetDelete { fleet } => {
                let [_, marked, _] = history.fleets.get(fleet).copied().unwrap_or_default();
                compare(format!("the deletion of fleet {fleet}"), same, marked);
            }
            What::SecretWrite { fleet, name } => {
                let secret = format!("{fleet}/{name}");
                let written = history.secrets.get(&secret).copied().unwrap_or_default();
                compare(format!("secret {secret}"), same, written);
            }
            What::Apply { token, .. } => {
                let written = history.tokens.get(token).copied().unwrap_or_default();
                compare(format!("the definition with {token}"), same, written);
            }
            What::AgentDelete { fleet, agent } => {
                let key = format!("{fleet}/{agent}");
                let written = history.agents_deleted.get(&key).copied().unwrap_or_default();
                // Deleting what is being deleted is acknowledged too, and changes nothing.
                let told = Told { acknowledged: same.acknowledged.min(written), ..same };
                compare(format!("the deletion of agent {key}"), told, written);
            }
            What::Scale { .. } => {}
        }
    }
    check_ends(operations, history, world, violations);
    let late = history.takeovers.iter().filter(|late| **late > TAKEOVER);
    violations.extend(late.map(|late| format!("the lease was taken {late:.1} s after its end")));
}

/// What is there in the end: the counts of instances, and that what was deleted is gone.
fn check_ends(operations: &[Operation], history: &History, world: &World, violations: &mut Vec<String>) {
    for operation in operations {
        if let (What::FleetDelete { fleet }, Outcome::Acknowledged) = (&operation.what, &operation.outcome) {
            let [_, _, gone] = history.fleets.get(fleet).copied().unwrap_or_default();
            if gone != 1 {
                violations.push(format!("LOST: fleet {fleet} was to be deleted, and is there"));
            }
        }
    }
    let mut by_agent: BTreeMap<String, Vec<(&Operation, u32)>> = BTreeMap::new();
    for operation in operations {
        if let What::Apply { fleet, agent, count, .. } | What::Scale { fleet, agent, count } = &operation.what
            && agent == "a"
        {
            by_agent.entry(format!("{fleet}/{agent}")).or_default().push((operation, *count));
        }
    }
    let instances = world.chassis[0].instances();
    for (key, asked) in by_agent {
        let of = |instance: &&chassis_testkit::api::Instance| {
            format!("{}/{}", instance.fleet, instance.agent) == key
        };
        let count = u32::try_from(instances.iter().filter(of).count()).unwrap_or(u32::MAX);
        let Some(last) = asked.iter().rposition(|(operation, _)| operation.outcome == Outcome::Acknowledged)
        else {
            continue;
        };
        let since = asked[last].0.invoked.saturating_sub(LATE);
        let may_be_late = asked.iter().filter(|(operation, _)| {
            matches!(operation.outcome, Outcome::Unknown(_)) && operation.invoked >= since
        });
        let possible: Vec<u32> =
            std::iter::once(asked[last].1).chain(may_be_late.map(|(_, count)| *count)).collect();
        if !possible.contains(&count) {
            violations.push(format!("LOST: {key} has {count} instances, and not one of {possible:?}"));
        }
    }
}

fn distinct(operations: &[Operation]) -> Vec<What> {
    let mut distinct: Vec<What> = Vec::new();
    for operation in operations {
        if !distinct.contains(&operation.what) {
            distinct.push(operation.what.clone());
        }
    }
    distinct
}
