//! Starting and stopping instances, what controllers note of them, and the history.

use chassis_core::{Blocked, EventKind, Exit, ExitLine, ExitRecord, Memory, Reason, Run, Wanted};
use chassis_store::{EventFilter, InstanceChange, InstanceRecord, InstanceUpdate, Scope, SqlStore, Store};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::support::{Home, agent, apply, code, events, fleet, instance, picture, spec, term};

fn scope(agent: Option<&str>, number: Option<u32>) -> Scope {
    Scope { fleet: fleet("f"), agent: agent.map(|name| name.parse().unwrap()), number }
}

pub(crate) fn running() -> Memory {
    let run = Run { id: "c0ffee".into(), started_at: Timestamp::now() };
    Memory { run: Some(run), restarts: 7, failures: 3, ..Memory::default() }
}

pub(crate) async fn note(store: &SqlStore, number: u32, memory: Memory, events: Vec<EventKind>) {
    let key = instance("f", "web", number);
    store
        .instance_record(
            term(store),
            vec![InstanceUpdate { key, memory, past: Vec::new(), events, exits: Vec::new() }],
        )
        .await
        .unwrap();
}

async fn get(store: &SqlStore, number: u32) -> InstanceRecord {
    let record = store.agent_load(&agent("f", "web")).await.unwrap();
    record.instances.into_iter().find(|instance| instance.number == number).unwrap()
}

#[tokio::test]
async fn start_stop_and_restart_say_what_is_wanted() {
    let home = Home::new();
    let store = home.open_with_fleet().await;
    apply(&store, vec![spec("web", json!({"replicas": 3})), spec("job", json!({}))]).await.unwrap();
    let ask = |number, asked| {
        let (store, scope) = (&store, scope(Some("web"), Some(number)));
        async move { store.instance_change(&scope, asked, None).await.unwrap() }
    };

    // It runs: a start has nothing to do. It crashed: a start ends the backoff.
    note(&store, 1, running(), vec![EventKind::Started]).await;
    let before = picture(&store).await;
    assert_eq!(ask(1, InstanceChange::Start).await, [agent("f", "web")]);
    assert_eq!(picture(&store).await, before);
    let exit = Exit {
        code: 1,
        out_of_memory: false,
        unhealthy: false,
        unleased: false,
        finished_at: Timestamp::now(),
    };
    let retry_at = Some(Timestamp::MAX);
    let (reason, message) = (Reason::NameTaken, "taken".to_owned());
    let blocked = Some(Blocked { reason, message, attempts: 2, retry_at: Timestamp::MAX });
    let crashed = Memory { exit: Some(exit), retry_at, blocked, ..running() };
    note(&store, 1, crashed, vec![EventKind::Exited(exit)]).await;
    let asked_at = Timestamp::now();
    ask(1, InstanceChange::Start).await;
    let started = get(&store, 1).await;
    assert!(started.desired.started_after.unwrap().duration_since(asked_at).as_micros() >= -1);
    let Memory { failures, restarts, retry_at, blocked, .. } = started.memory;
    assert_eq!((failures, restarts, retry_at, blocked), (0, 7, None, None));

    ask(2, InstanceChange::Stop).await;
    assert_eq!(get(&store, 2).await.desired.wanted, Wanted::Stopped);
    note(&store, 2, running(), Vec::new()).await;
    ask(2, InstanceChange::Start).await;
    let (desired, memory) = (get(&store, 2).await.desired, get(&store, 2).await.memory);
    assert_eq!((desired.wanted, desired.started_after.is_some()), (Wanted::Running, true));
    note(&store, 2, memory, Vec::new()).await;
    ask(2, InstanceChange::Restart).await;
    assert!(get(&store, 2).await.desired.started_after > desired.started_after);

    // One that is to go is nobody's business any more, by itself or among others.
    store.instance_delete(&instance("f", "web", 3), false, None).await.unwrap();
    let gone = store.instance_change(&scope(Some("web"), Some(3)), InstanceChange::Start, None).await;
    assert_eq!(code(gone), "instance_not_found");
    let concerned = store.instance_change(&scope(None, None), InstanceChange::Restart, None).await.unwrap();
    assert_eq!(concerned, [agent("f", "job"), agent("f", "web")]);
    assert_eq!(get(&store, 3).await.desired.wanted, Wanted::Absent { cleanup: false });
    let restarts = events(&store).await.into_iter().filter(|event| event.kind == EventKind::RestartRequested);
    assert_eq!(restarts.count(), 1 + 3);

    assert_eq!(
        code(store.instance_change(&scope(Some("web"), Some(9)), InstanceChange::Stop, None).await),
        "instance_not_found"
    );
    assert_eq!(
        code(store.instance_change(&scope(Some("none"), None), InstanceChange::Stop, None).await),
        "agent_not_found"
    );
    let nowhere = Scope { fleet: fleet("none"), agent: None, number: None };
    assert_eq!(code(store.instance_change(&nowhere, InstanceChange::Stop, None).await), "fleet_not_found");
}

#[tokio::test]
async fn the_last_exits_are_kept_and_no_more() {
    let home = Home::new();
    let store = home.open_with_fleet().await;
    apply(&store, vec![spec("web", json!({}))]).await.unwrap();
    let key = instance("f", "web", 1);
    let began = Timestamp::now();
    let ended = |number: i32| {
        let finished_at = began + SignedDuration::from_nanos((number + 1).into());
        let exit =
            Exit { code: number, out_of_memory: false, unhealthy: false, unleased: false, finished_at };
        let text = format!("run {number}");
        let log = vec![ExitLine { time: began, stream: "stderr".to_owned(), text }];
        ExitRecord { log, ..ExitRecord::new("c0ffee", Some(1), began, exit, false) }
    };
    // The last one is seen twice: a server that was killed notes again what it had not stored.
    for number in (0..30).chain([29]) {
        let exits = vec![ended(number)];
        let update = InstanceUpdate {
            key: key.clone(),
            memory: running(),
            past: Vec::new(),
            events: Vec::new(),
            exits,
        };
        store.instance_record(term(&store), vec![update]).await.unwrap();
    }
    let found = store.instance_exits(&key).await.unwrap();
    assert_eq!(
        found.iter().filter_map(|exit| exit.code).collect::<Vec<_>>(),
        (10..30).rev().collect::<Vec<_>>()
    );
    assert_eq!(found[..5], (25..30).rev().map(ended).collect::<Vec<_>>());
    assert!(found[5..].iter().all(|exit| exit.log.is_empty()));

    store.instance_delete(&key, false, None).await.unwrap();
    store.instance_forget(term(&store), &key, false).await.unwrap();
    assert_eq!(store.instance_exits(&key).await.unwrap(), []);
}

#[tokio::test]
async fn what_is_noted_of_an_instance_that_is_gone_is_passed_over() {
    let home = Home::new();
    let store = home.open_with_fleet().await;
    apply(&store, vec![spec("web", json!({}))]).await.unwrap();
    let update = |number| InstanceUpdate {
        key: instance("f", "web", number),
        memory: running(),
        past: Vec::new(),
        events: vec![EventKind::Started],
        exits: Vec::new(),
    };
    store.instance_record(term(&store), vec![update(9), update(1)]).await.unwrap();
    let started: Vec<_> =
        events(&store).await.into_iter().filter(|event| event.kind == EventKind::Started).collect();
    assert_eq!(started.iter().map(|event| event.number).collect::<Vec<_>>(), [Some(1)]);
    assert_eq!(get(&store, 1).await.memory.restarts, 7);
}

#[tokio::test]
async fn events_are_found_by_subject_and_followed_by_id() {
    let home = Home::new();
    let store = home.open_with_fleet().await;
    let mut newest = store.event_watch();
    apply(&store, vec![spec("web", json!({"replicas": 2})), spec("job", json!({}))]).await.unwrap();
    assert!(newest.has_changed().unwrap());
    let seen = *newest.borrow_and_update();
    store.instance_change(&scope(Some("web"), None), InstanceChange::Stop, None).await.unwrap();

    let list = |filter: EventFilter| {
        let store = &store;
        async move { store.event_list(&EventFilter { limit: 10, ..filter }).await.unwrap() }
    };
    let all = events(&store).await;
    assert!(all.windows(2).all(|pair| pair[0].id + 1 == pair[1].id));
    let all_of = |number: Option<u32>| EventFilter {
        agent: Some("web".parse().unwrap()),
        number,
        ..EventFilter::default()
    };
    let news = list(EventFilter { after: Some(seen), ..EventFilter::default() }).await;
    assert_eq!(news.iter().map(|event| event.number).collect::<Vec<_>>(), [Some(1), Some(2)]);
    assert_eq!(list(EventFilter { fleet: Some(fleet("f")), ..all_of(Some(2)) }).await, news[1..]);
    assert_eq!(list(EventFilter { fleet: Some(fleet("f")), ..all_of(None) }).await.len(), 4);
    assert_eq!(list(EventFilter { fleet: Some(fleet("g")), ..EventFilter::default() }).await, []);
    let last_two = EventFilter { newest: true, limit: 2, ..EventFilter::default() };
    assert_eq!(store.event_list(&last_two).await.unwrap(), all[all.len() - 2..]);
    assert_eq!(
        store.event_list(&EventFilter { limit: 2, ..EventFilter::default() }).await.unwrap(),
        all[..2]
    );
}
