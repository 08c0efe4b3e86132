//! What the tests share: short ways to say things.

use chassis_core::{AgentKey, Event, InstanceKey, Wanted};
use chassis_spec::{AgentSpec, FleetName, SecretName};
use chassis_store::{
    AgentRecord, Applied, Apply, Error, EventFilter, InstanceRecord, Result, SqlStore, Store, Term,
};
use serde_json::{Value, json};
use zeroize::Zeroizing;

pub(crate) use crate::home::Home;

pub(crate) fn fleet(name: &str) -> FleetName {
    name.parse().unwrap()
}

pub(crate) fn secret(name: &str) -> SecretName {
    name.parse().unwrap()
}

pub(crate) fn agent(fleet_name: &str, name: &str) -> AgentKey {
    AgentKey { fleet: fleet(fleet_name), agent: name.parse().unwrap() }
}

pub(crate) fn instance(fleet_name: &str, name: &str, number: u32) -> InstanceKey {
    agent(fleet_name, name).instance(number)
}

/// An agent's definition with what `more` adds to the least that is needed.
pub(crate) fn spec(name: &str, more: Value) -> AgentSpec {
    let mut value = json!({"name": name, "image": "busybox"});
    let Value::Object(more) = more else { panic!("{more} is no object") };
    value.as_object_mut().unwrap().extend(more);
    serde_json::from_value(value).unwrap()
}

pub(crate) fn declaration(fleet_name: &str, agents: Vec<AgentSpec>) -> Apply {
    Apply {
        fleet: fleet(fleet_name),
        create_fleet: None,
        agents,
        prune: false,
        dry_run: false,
        expected: None,
    }
}

pub(crate) async fn apply(store: &SqlStore, agents: Vec<AgentSpec>) -> Result<Applied> {
    store.apply(&declaration("f", agents)).await
}

/// The term of a store that acts.
pub(crate) fn term(store: &SqlStore) -> Term {
    store.term().unwrap()
}

pub(crate) fn value(text: &str) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(text.as_bytes().to_vec())
}

pub(crate) fn numbers(record: &AgentRecord, chosen: impl Fn(Wanted) -> bool) -> Vec<u32> {
    let chosen = |record: &&InstanceRecord| chosen(record.desired.wanted);
    record.instances.iter().filter(chosen).map(|record| record.number).collect()
}

pub(crate) fn alive(record: &AgentRecord) -> Vec<u32> {
    numbers(record, |wanted| !wanted.is_absent())
}

pub(crate) async fn events(store: &SqlStore) -> Vec<Event> {
    store.event_list(&EventFilter { limit: u32::MAX, ..EventFilter::default() }).await.unwrap()
}

/// Everything there is to see, as one comparable text.
pub(crate) async fn picture(store: &SqlStore) -> String {
    format!(
        "{:#?}",
        (
            store.server_id(),
            store.fleet_list().await.unwrap(),
            store.agent_load_all().await.unwrap(),
            store.secret_list(None).await.unwrap(),
            events(store).await,
        )
    )
}

pub(crate) fn code<T: std::fmt::Debug>(result: Result<T>) -> &'static str {
    result.map_err(|error: Error| error.code()).unwrap_err()
}
