//! Random operations, on the store and on a model of it in a few maps: after each, both say and hold the same.

use std::collections::BTreeMap;

use chassis_core::{AgentKey, InstanceKey, Memory, Wanted};
use chassis_spec::Labels;
use chassis_store::{Apply, InstanceChange, InstanceUpdate, Result, Scope, SqlStore, Store};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::json;

use crate::support::{Home, agent, declaration, fleet, secret, spec, term, value};

const FLEETS: [&str; 2] = ["a", "a-b"];
/// `a` with `b-c` and `a-b` with `c` collide, and so do `c` and `c-1`.
const AGENTS: [&str; 4] = ["b-c", "c", "c-1", "web"];
const SECRETS: [&str; 2] = ["key", "token"];

type Name = &'static str;

#[derive(Debug, Clone)]
enum Operation {
    FleetCreate(Name),
    FleetDelete(Name, bool),
    FleetForget(Name),
    Declare { fleet: Name, agents: Vec<Declared>, create: bool, prune: bool, dry_run: bool },
    Scale(Name, Name, u32),
    AgentDelete(Name, Name, bool),
    AgentForget(Name, Name),
    Change(Name, Option<Name>, Option<u32>, InstanceChange),
    InstanceDelete(Name, Name, u32, bool),
    InstanceForget(Name, Name, u32, bool),
    Record(Name, Name, u32, u32),
    SecretWrite(Name, Name, u8, bool),
    SecretDelete(Name, Name),
    SecretRotate,
    Reopen,
}

#[derive(Debug, Clone)]
struct Declared {
    name: Name,
    image: u8,
    replicas: Option<u32>,
    secret: Option<Name>,
}

type Model = BTreeMap<Name, FleetModel>;
type Answer = std::result::Result<(), &'static str>;

#[derive(Debug, Clone, Default, PartialEq)]
struct FleetModel {
    deleting: bool,
    secrets: BTreeMap<Name, (u64, u8)>,
    agents: BTreeMap<Name, AgentModel>,
}

#[derive(Debug, Clone, Default, PartialEq)]
struct AgentModel {
    deleting: bool,
    revision: u64,
    definition: (u8, Option<Name>),
    instances: BTreeMap<u32, (WantedModel, u32)>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum WantedModel {
    Running,
    Stopped,
    Absent(bool),
}

// === the model ===

fn run(model: &mut Model, operation: &Operation) -> Answer {
    match *operation {
        Operation::FleetCreate(name) => match model.get(name) {
            Some(fleet) if fleet.deleting => Err("fleet_deleting"),
            Some(_) => Err("fleet_exists"),
            None => {
                model.insert(name, FleetModel::default());
                Ok(())
            }
        },
        Operation::FleetDelete(name, cleanup) => {
            let fleet = model.get_mut(name).ok_or("fleet_not_found")?;
            fleet.deleting = true;
            fleet.agents.values_mut().for_each(|agent| remove(agent, cleanup));
            Ok(())
        }
        Operation::FleetForget(name) => {
            let fleet = model.get(name).ok_or("fleet_not_found")?;
            refuse(!fleet.deleting, "not_deleting")?;
            refuse(!fleet.agents.is_empty(), "not_empty")?;
            model.remove(name);
            Ok(())
        }
        Operation::Declare { fleet, ref agents, create, prune, dry_run } => {
            let mut after = model.clone();
            declare(&mut after, fleet, agents, create, prune)?;
            if !dry_run {
                *model = after;
            }
            Ok(())
        }
        Operation::Scale(fleet, name, count) => {
            let agent = find(model, fleet, name)?;
            refuse(agent.deleting, "agent_deleting")?;
            scale(agent, count);
            Ok(())
        }
        Operation::AgentDelete(fleet, name, cleanup) => {
            remove(find(model, fleet, name)?, cleanup);
            Ok(())
        }
        Operation::AgentForget(fleet, name) => {
            let agent = find(model, fleet, name)?;
            refuse(!agent.deleting, "not_deleting")?;
            refuse(!agent.instances.is_empty(), "not_empty")?;
            model.get_mut(fleet).unwrap().agents.remove(name);
            Ok(())
        }
        Operation::Change(fleet, None, _, change) => {
            let fleet = model.get_mut(fleet).ok_or("fleet_not_found")?;
            refuse(fleet.deleting, "fleet_deleting")?;
            fleet
                .agents
                .values_mut()
                .for_each(|agent| agent.instances.values_mut().for_each(|i| ask(i, change)));
            Ok(())
        }
        Operation::Change(fleet, Some(name), None, change) => {
            let agent = find(model, fleet, name)?;
            refuse(agent.deleting, "agent_deleting")?;
            agent.instances.values_mut().for_each(|instance| ask(instance, change));
            Ok(())
        }
        Operation::Change(fleet, Some(name), Some(number), change) => {
            let agent = find(model, fleet, name)?;
            let instance = agent.instances.get_mut(&number).ok_or("instance_not_found")?;
            refuse(matches!(instance.0, WantedModel::Absent(_)), "instance_not_found")?;
            ask(instance, change);
            Ok(())
        }
        Operation::InstanceDelete(fleet, name, number, cleanup) => {
            let agent = find(model, fleet, name)?;
            let (wanted, _) = agent.instances.get_mut(&number).ok_or("instance_not_found")?;
            let news = match wanted {
                WantedModel::Absent(going) => cleanup && !*going,
                _ => true,
            };
            refuse(!news, "instance_not_found")?;
            *wanted = WantedModel::Absent(cleanup);
            Ok(())
        }
        Operation::InstanceForget(fleet, name, number, cleanup) => {
            let none = &mut AgentModel::default();
            let agent = find(model, fleet, name).unwrap_or(none);
            let (wanted, _) = agent.instances.get(&number).ok_or("instance_not_found")?;
            refuse(*wanted != WantedModel::Absent(cleanup), "not_deleting")?;
            agent.instances.remove(&number);
            Ok(())
        }
        Operation::Record(fleet, name, number, failures) => {
            let agent = find(model, fleet, name).ok();
            if let Some(instance) = agent.and_then(|agent| agent.instances.get_mut(&number)) {
                instance.1 = failures;
            }
            Ok(())
        }
        Operation::SecretWrite(fleet, name, byte, replace) => {
            let fleet = model.get_mut(fleet).ok_or("fleet_not_found")?;
            refuse(fleet.deleting, "fleet_deleting")?;
            refuse(fleet.secrets.contains_key(name) && !replace, "secret_exists")?;
            let (version, kept) = fleet.secrets.entry(name).or_default();
            (*version, *kept) = (*version + 1, byte);
            Ok(())
        }
        Operation::SecretDelete(fleet, name) => {
            let fleet = model.get_mut(fleet).ok_or("fleet_not_found")?;
            fleet.secrets.remove(name).map(drop).ok_or("secret_not_found")
        }
        Operation::SecretRotate | Operation::Reopen => Ok(()),
    }
}

fn declare(model: &mut Model, fleet: Name, agents: &[Declared], create: bool, prune: bool) -> Answer {
    if create {
        model.entry(fleet).or_default();
    }
    refuse(model.get(fleet).ok_or("fleet_not_found")?.deleting, "fleet_deleting")?;
    for (at, declared) in agents.iter().enumerate() {
        let name = declared.name;
        refuse(agents[..at].iter().any(|earlier| earlier.name == name), "agent_repeated")?;
        refuse(
            declared.secret.is_some_and(|secret| !model[fleet].secrets.contains_key(secret)),
            "secret_missing",
        )?;
        let definition = (declared.image, declared.secret);
        if let Some(agent) = model.get_mut(fleet).unwrap().agents.get_mut(name) {
            refuse(agent.deleting, "agent_deleting")?;
            if agent.definition != definition {
                agent.definition = definition;
                agent.revision += 1;
            }
            if let Some(count) = declared.replicas {
                scale(agent, count);
            }
            continue;
        }
        let elsewhere =
            |other: Name, agent: Name| model.get(other).is_some_and(|it| it.agents.contains_key(agent));
        let taken = match (fleet, name) {
            ("a", "b-c") => elsewhere("a-b", "c"),
            ("a-b", "c") => elsewhere("a", "b-c") || elsewhere("a-b", "c-1"),
            (_, "c") => elsewhere(fleet, "c-1"),
            (_, "c-1") => elsewhere(fleet, "c") || (fleet == "a-b" && elsewhere("a", "b-c-1")),
            _ => false,
        };
        refuse(taken, "name_collision")?;
        let mut agent = AgentModel { revision: 1, definition, ..AgentModel::default() };
        scale(&mut agent, declared.replicas.unwrap_or(1));
        model.get_mut(fleet).unwrap().agents.insert(name, agent);
    }
    if prune {
        let others = model.get_mut(fleet).unwrap().agents.iter_mut();
        others
            .filter(|(name, _)| !agents.iter().any(|it| it.name == **name))
            .for_each(|(_, it)| remove(it, false));
    }
    Ok(())
}

fn refuse(condition: bool, code: &'static str) -> Answer {
    if condition { Err(code) } else { Ok(()) }
}

fn find(model: &mut Model, fleet: Name, name: Name) -> std::result::Result<&mut AgentModel, &'static str> {
    model.get_mut(fleet).ok_or("fleet_not_found")?.agents.get_mut(name).ok_or("agent_not_found")
}

fn remove(agent: &mut AgentModel, cleanup: bool) {
    agent.deleting = true;
    for (wanted, _) in agent.instances.values_mut() {
        *wanted = WantedModel::Absent(cleanup || *wanted == WantedModel::Absent(true));
    }
}

/// One at a time: up into the lowest number that is free, down from the highest.
fn scale(agent: &mut AgentModel, count: u32) {
    let alive = |agent: &AgentModel| -> Vec<u32> {
        let alive = agent.instances.iter().filter(|(_, it)| !matches!(it.0, WantedModel::Absent(_)));
        alive.map(|(number, _)| *number).collect()
    };
    while alive(agent).len() < count as usize {
        let free = |number: &u32| {
            matches!(agent.instances.get(number), None | Some((WantedModel::Absent(false), _)))
        };
        let number = (1..100).find(free).unwrap();
        agent.instances.insert(number, (WantedModel::Running, 0));
    }
    while alive(agent).len() > count as usize {
        let last = *alive(agent).last().unwrap();
        agent.instances.get_mut(&last).unwrap().0 = WantedModel::Absent(false);
    }
}

/// None of them was ever seen to run, so that a start is always news.
fn ask(instance: &mut (WantedModel, u32), change: InstanceChange) {
    match (instance.0, change) {
        (WantedModel::Absent(_), _) => {}
        (_, InstanceChange::Stop) => instance.0 = WantedModel::Stopped,
        (_, InstanceChange::Start | InstanceChange::Restart) => *instance = (WantedModel::Running, 0),
    }
}

// === the store ===

async fn perform(store: &SqlStore, operation: &Operation) -> Result<()> {
    let one = |fleet_name, name, number| -> InstanceKey { agent(fleet_name, name).instance(number) };
    match *operation {
        Operation::FleetCreate(name) => store.fleet_create(&fleet(name), &Labels::default()).await.map(drop),
        Operation::FleetDelete(name, cleanup) => {
            store.fleet_delete(&fleet(name), cleanup, None).await.map(drop)
        }
        Operation::FleetForget(name) => store.fleet_forget(term(store), &fleet(name)).await,
        Operation::Declare { fleet, ref agents, create, prune, dry_run } => {
            let specs = agents.iter().map(|declared| definition(fleet, declared)).collect();
            let create_fleet = create.then(Labels::default);
            let apply = Apply { create_fleet, prune, dry_run, ..declaration(fleet, specs) };
            store.apply(&apply).await.map(drop)
        }
        Operation::Scale(fleet, name, count) => {
            store.agent_scale(&agent(fleet, name), count, None).await.map(drop)
        }
        Operation::AgentDelete(fleet, name, cleanup) => {
            store.agent_delete(&agent(fleet, name), cleanup, None).await.map(drop)
        }
        Operation::AgentForget(fleet, name) => store.agent_forget(term(store), &agent(fleet, name)).await,
        Operation::Change(fleet_name, name, number, change) => {
            let scope =
                Scope { fleet: fleet(fleet_name), agent: name.map(|name| name.parse().unwrap()), number };
            store.instance_change(&scope, change, None).await.map(drop)
        }
        Operation::InstanceDelete(fleet, name, number, cleanup) => {
            store.instance_delete(&one(fleet, name, number), cleanup, None).await.map(drop)
        }
        Operation::InstanceForget(fleet, name, number, cleanup) => {
            store.instance_forget(term(store), &one(fleet, name, number), cleanup).await
        }
        Operation::Record(fleet, name, number, failures) => {
            let memory = Memory { failures, ..Memory::default() };
            let update = InstanceUpdate {
                key: one(fleet, name, number),
                memory,
                past: Vec::new(),
                events: Vec::new(),
                exits: Vec::new(),
            };
            store.instance_record(term(store), vec![update]).await
        }
        Operation::SecretWrite(fleet_name, name, byte, replace) => {
            let text = byte.to_string();
            store.secret_write(&fleet(fleet_name), &secret(name), value(&text), replace, None).await.map(drop)
        }
        Operation::SecretDelete(fleet_name, name) => {
            store.secret_delete(&fleet(fleet_name), &secret(name), None).await
        }
        Operation::SecretRotate => store.secret_rotate(None).await.map(drop),
        Operation::Reopen => Ok(()),
    }
}

fn definition(fleet: Name, declared: &Declared) -> chassis_spec::AgentSpec {
    let secret = |name| json!([{"name": "KEY", "valueFrom": format!("secret://{fleet}/{name}")}]);
    let env = declared.secret.map_or_else(|| json!([]), secret);
    let image = format!("busybox:{}", declared.image);
    spec(declared.name, json!({"image": image, "env": env, "replicas": declared.replicas}))
}

/// What the store holds, as the model would.
async fn read(store: &SqlStore) -> Model {
    let known =
        |name: &str| *FLEETS.iter().chain(&AGENTS).chain(&SECRETS).find(|known| **known == name).unwrap();
    let mut model = Model::new();
    for fleet in store.fleet_list().await.unwrap() {
        let mut secrets = BTreeMap::new();
        for info in store.secret_list(Some(&fleet.name)).await.unwrap() {
            let value = store.secret_read(&fleet.name, &info.name).await.unwrap();
            let byte = std::str::from_utf8(&value).unwrap().parse().unwrap();
            secrets.insert(known(info.name.as_str()), (info.version, byte));
        }
        let fleet_model = FleetModel { deleting: fleet.deleting, secrets, agents: BTreeMap::new() };
        model.insert(known(fleet.name.as_str()), fleet_model);
    }
    for record in store.agent_load_all().await.unwrap() {
        let AgentKey { fleet, agent } = &record.agent.key;
        let spec = &record.agent.spec;
        let instances = record.instances.iter().map(|instance| {
            let wanted = match instance.desired.wanted {
                Wanted::Running => WantedModel::Running,
                Wanted::Stopped => WantedModel::Stopped,
                Wanted::Absent { cleanup } => WantedModel::Absent(cleanup),
            };
            (instance.number, (wanted, instance.memory.failures))
        });
        let image = spec.image.as_str().strip_prefix("busybox:").unwrap().parse().unwrap();
        let secret = spec.secret_refs().next().map(|secret| known(secret.name.as_str()));
        let agent_model = AgentModel {
            deleting: record.agent.deleting,
            revision: record.agent.revision,
            definition: (image, secret),
            instances: instances.collect(),
        };
        model.get_mut(fleet.as_str()).unwrap().agents.insert(known(agent.as_str()), agent_model);
    }
    model
}

// === the test ===

fn operation() -> impl Strategy<Value = Operation> {
    use Operation as O;
    let fleet = || prop::sample::select(&FLEETS[..]);
    let agent = || prop::sample::select(&AGENTS[..]);
    let secret = || prop::sample::select(&SECRETS[..]);
    let change =
        prop::sample::select(vec![InstanceChange::Start, InstanceChange::Stop, InstanceChange::Restart]);
    let declared = (agent(), 0..2_u8, prop::option::of(0..4_u32), prop::option::weighted(0.2, secret()))
        .prop_map(|(name, image, replicas, secret)| Declared { name, image, replicas, secret });
    let agents = prop::collection::vec(declared, 0..3);
    prop_oneof![
        2 => fleet().prop_map(O::FleetCreate),
        1 => (fleet(), any::<bool>()).prop_map(|(f, cleanup)| O::FleetDelete(f, cleanup)),
        2 => fleet().prop_map(O::FleetForget),
        9 => (fleet(), agents, any::<bool>(), prop::bool::weighted(0.2), prop::bool::weighted(0.2))
            .prop_map(|(fleet, agents, create, prune, dry_run)| O::Declare { fleet, agents, create, prune, dry_run }),
        4 => (fleet(), agent(), 0..5_u32).prop_map(|(f, a, count)| O::Scale(f, a, count)),
        2 => (fleet(), agent(), any::<bool>()).prop_map(|(f, a, cleanup)| O::AgentDelete(f, a, cleanup)),
        3 => (fleet(), agent()).prop_map(|(f, a)| O::AgentForget(f, a)),
        4 => (fleet(), prop::option::weighted(0.8, agent()), prop::option::of(1..4_u32), change)
            .prop_map(|(f, a, number, change)| O::Change(f, a, number, change)),
        3 => (fleet(), agent(), 1..5_u32, any::<bool>()).prop_map(|(f, a, n, cleanup)| O::InstanceDelete(f, a, n, cleanup)),
        6 => (fleet(), agent(), 1..5_u32, any::<bool>()).prop_map(|(f, a, n, cleanup)| O::InstanceForget(f, a, n, cleanup)),
        2 => (fleet(), agent(), 1..5_u32, 0..9_u32).prop_map(|(f, a, n, failures)| O::Record(f, a, n, failures)),
        3 => (fleet(), secret(), any::<u8>(), any::<bool>()).prop_map(|(f, s, byte, replace)| O::SecretWrite(f, s, byte, replace)),
        1 => (fleet(), secret()).prop_map(|(f, s)| O::SecretDelete(f, s)),
        1 => Just(O::SecretRotate),
        1 => Just(O::Reopen),
    ]
}

#[test]
fn the_store_is_the_model() {
    // What homes have in common is there until the last case has ended.
    let _first = Home::new();
    let config =
        ProptestConfig { cases: Home::CASES, failure_persistence: None, ..ProptestConfig::default() };
    let check = |operations: Vec<Operation>| {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let home = Home::new();
            let mut store = home.open();
            let mut model = Model::new();
            for operation in &operations {
                if matches!(operation, Operation::Reopen) {
                    drop(store);
                    store = home.open();
                }
                let answer = perform(&store, operation).await.map_err(|error| error.code());
                prop_assert_eq!(answer, run(&mut model, operation), "{:?}", operation);
                prop_assert_eq!(&read(&store).await, &model, "after {:?}", operation);
            }
            Ok(())
        })
    };
    TestRunner::new(config).run(&prop::collection::vec(operation(), 1..60), check).unwrap();
}
