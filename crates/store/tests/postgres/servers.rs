//! Several servers on one database: one acts, all see what the others do.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use chassis_core::{AgentKey, EventKind};
use chassis_spec::Labels;
use chassis_store::{EventFilter, KeySource, PostgresOptions, Seen, SqlStore, Store};
use chassis_testkit::{SOON, eventually, expect, pause};
use futures_util::future::join_all;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tokio::time::timeout;
use zeroize::Zeroizing;

use crate::home::{Home, acts};
use crate::nodes;
use crate::support::{agent, apply, code, events, fleet, instance, secret, spec, term, value};

/// Within which another server acts once one has gone.
const TAKEOVER: Duration = Duration::from_secs(5);

#[tokio::test]
async fn one_acts_and_the_others_are_refused_what_only_it_may_do() {
    let home = Home::new();
    let first = home.open_with_fleet().await;
    let second = home.join("second").unwrap();
    eventually(SOON, || expect(second.lease().is_some(), || "it knows who acts".to_owned()));
    let lease = second.lease().unwrap();
    assert_eq!((lease.holder.as_str(), lease.ours, second.is_acting()), ("only", false, false));
    assert!(first.lease().unwrap().ours);

    // Everybody changes what people want; only one says what became of it.
    apply(&second, vec![spec("web", json!({"replicas": 2}))]).await.unwrap();
    assert_eq!(
        code(second.instance_event(term(&first), &instance("f", "web", 1), EventKind::StartRequested).await),
        "not_acting"
    );
    assert_eq!(code(second.instance_record(term(&first), Vec::new()).await), "not_acting");
    first.instance_event(term(&first), &instance("f", "web", 1), EventKind::StartRequested).await.unwrap();

    // Who leaves gives the lease back at once, and writes nothing more as the one that acts.
    let (begun, ended) = (Instant::now(), term(&first));
    first.resign().await;
    assert_eq!((first.is_acting(), first.term()), (false, None));
    acts(&second);
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    assert_eq!(second.lease().unwrap().epoch, lease.epoch + 1);
    assert_eq!(code(first.instance_record(ended, Vec::new()).await), "not_acting");
    drop(second);
    pause(Duration::from_millis(200));
    assert!(!first.is_acting(), "who has resigned stays so");
}

/// Another server takes the lease, and is never heard of again.
const TAKEN: &str = "UPDATE lease SET owner = 'another', holder = 'another', epoch = epoch + 1,
    expires_at = clock_timestamp() + interval '300 ms'";

#[tokio::test]
async fn what_was_decided_in_an_earlier_term_is_refused_by_a_server_that_acts_again() {
    let home = Home::new();
    let store = home.open_with_fleet().await;
    apply(&store, vec![spec("web", json!({}))]).await.unwrap();
    let web = instance("f", "web", 1);
    let earlier = term(&store);
    store.instance_event(earlier, &web, EventKind::StartRequested).await.unwrap();

    home.postgres().sql(home.database(), TAKEN);
    eventually(SOON, || {
        let again = store.term().is_some_and(|term| term.epoch() == earlier.epoch() + 2);
        expect(again, || format!("{:?} acts again", store.lease()))
    });
    let count = events(&store).await.len();
    assert_eq!(code(store.instance_event(earlier, &web, EventKind::StartRequested).await), "not_acting");
    // Also in one transaction with what is decided now, whichever comes first.
    let terms = [earlier, term(&store)].repeat(20);
    let written = terms.iter().map(|term| store.instance_event(*term, &web, EventKind::StartRequested));
    for (at, written) in join_all(written).await.into_iter().enumerate() {
        assert_eq!(written.is_ok(), at % 2 == 1, "{written:?}");
    }
    assert_eq!(events(&store).await.len(), count + 20);
}

#[tokio::test]
async fn what_one_server_changes_wakes_the_others() {
    let home = Home::new();
    let first = home.open_with_fleet().await;
    let second = home.join("second").unwrap();
    let (mut changes, mut newest) = (second.changes(), second.event_watch());
    eventually(SOON, || expect(second.lease().is_some(), || "it listens".to_owned()));
    while let Ok(Ok(_)) = timeout(Duration::from_millis(300), changes.recv()).await {}
    apply(&first, vec![spec("web", json!({}))]).await.unwrap();
    let seen = timeout(SOON, changes.recv()).await.unwrap().unwrap();
    assert_eq!(seen, Seen::Agents(vec![agent("f", "web")]));
    let known = *first.event_watch().borrow();
    timeout(SOON, newest.wait_for(|newest| *newest == known)).await.unwrap().unwrap();
    nodes::register(&first, "n1", "token").await.unwrap();
    // With the instances that are on the own node from now on.
    assert_eq!(timeout(SOON, changes.recv()).await.unwrap().unwrap(), Seen::Nodes);
    let seen = timeout(SOON, changes.recv()).await.unwrap().unwrap();
    assert_eq!(seen, Seen::Agents(vec![agent("f", "web")]));
    // More than fits into a notice.
    let many =
        (0..400).map(|at| spec(&format!("agent-with-a-name-of-some-length-{at}"), json!({}))).collect();
    apply(&first, many).await.unwrap();
    assert_eq!(timeout(SOON, changes.recv()).await.unwrap().unwrap(), Seen::Anything);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn events_of_all_servers_are_followed_in_order_and_without_gaps() {
    const WRITERS: usize = 12;
    const EACH: usize = 20;
    let home = Home::new();
    let stores: Vec<SqlStore> = (0..3).map(|at| home.join(&format!("s{at}")).unwrap()).collect();
    let follower = &stores[2];
    let follow = async {
        let mut newest = follower.event_watch();
        let (mut after, mut seen) = (0, Vec::new());
        while seen.len() < WRITERS * EACH {
            timeout(SOON, newest.wait_for(|newest| *newest > after)).await.unwrap().unwrap();
            let filter = EventFilter { after: Some(after), limit: 1000, ..EventFilter::default() };
            for event in follower.event_list(&filter).await.unwrap() {
                assert_eq!(event.id, after + 1, "an event came after a later one, or never");
                after = event.id;
                seen.extend(event.fleet);
            }
        }
        seen
    };
    let write = |writer: usize| {
        let store = &stores[writer % 2];
        async move {
            for at in 0..EACH {
                store.fleet_create(&fleet(&format!("w{writer}-{at}")), &Labels::default()).await.unwrap();
            }
        }
    };
    let (seen, _) = tokio::join!(follow, join_all((0..WRITERS).map(write)));
    let mut last = BTreeMap::new();
    for name in seen {
        let (writer, at) = name.as_str().split_once('-').unwrap();
        let at: i32 = at.parse().unwrap();
        assert_eq!(at, last.insert(writer.to_owned(), at).unwrap_or(-1) + 1, "{name}");
    }
}

#[tokio::test]
async fn the_lease_of_a_killed_server_is_taken_over_in_time() {
    let home = Home::new();
    let second = joined_by_a_child(&home, "killed");
    let begun = Instant::now();
    second.child.signal(Signal::KILL);
    acts(&second.store);
    assert!(begun.elapsed() < TAKEOVER, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_stopped_server_loses_the_lease_and_writes_nothing_when_it_wakes() {
    let home = Home::new();
    let second = joined_by_a_child(&home, "stopped");
    // It writes as fast as it can, so that it stops in the middle of something.
    eventually(SOON, || expect(second.child.written() > 20, || "it writes".to_owned()));
    let begun = Instant::now();
    second.child.signal(Signal::STOP);
    acts(&second.store);
    assert!(begun.elapsed() < TAKEOVER, "{:?}", begun.elapsed());
    let count = || second.child.written();
    let taken_over = count();
    second.child.signal(Signal::CONT);
    // It has to have tried.
    eventually(SOON, || expect(second.child.said().contains("not_acting"), || second.child.said()));
    assert_eq!(count(), taken_over, "a server that had lost the lease wrote as if it had it");
    assert!(!second.child.said().contains("acted after"), "{}", second.child.said());
}

#[tokio::test]
async fn all_servers_need_the_same_key_and_follow_a_new_one() {
    let home = Home::new();
    let first = home.open_with_fleet().await;
    let second = home.join("second").unwrap();
    first.secret_write(&fleet("f"), &secret("key"), value("x"), false, None).await.unwrap();
    assert_eq!(*second.secret_read(&fleet("f"), &secret("key")).await.unwrap(), b"x");
    first.secret_rotate(None).await.unwrap();
    assert_eq!(*second.secret_read(&fleet("f"), &secret("key")).await.unwrap(), b"x");
    second.secret_rotate(None).await.unwrap();
    first.secret_write(&fleet("f"), &secret("other"), value("y"), false, None).await.unwrap();
    assert_eq!(*second.secret_read(&fleet("f"), &secret("other")).await.unwrap(), b"y");

    let other = KeySource::Environment(Zeroizing::new("1".repeat(64)));
    let error =
        SqlStore::open_postgres(&PostgresOptions::new(home.url(), "third").unwrap(), other).unwrap_err();
    assert_eq!(error.code(), "key_mismatch");
}

/// A server in a process of its own, which acts, and one in this process, which does not.
struct Pair {
    child: Child,
    store: SqlStore,
}

fn joined_by_a_child(home: &Home, name: &str) -> Pair {
    let child = Child::spawn(home, name);
    eventually(SOON, || expect(child.said().contains("acts"), || child.said()));
    let store = home.join("second").unwrap();
    eventually(SOON, || expect(store.lease().is_some(), || "it knows who acts".to_owned()));
    assert_eq!(store.lease().unwrap().holder, name);
    Pair { child, store }
}

struct Child {
    process: std::process::Child,
    output: tempfile::NamedTempFile,
    counted: Box<dyn Fn() -> u64 + Send>,
}

impl Child {
    fn spawn(home: &Home, name: &str) -> Child {
        let output = tempfile::NamedTempFile::new().unwrap();
        let process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "servers::child", "--ignored", "--nocapture"])
            .env("CHILD_URL", home.url())
            .env("CHILD_NAME", name)
            .env("CHILD_KEY", home.key())
            .stdout(output.reopen().unwrap())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let (database, socket) = (home.database().to_owned(), home.postgres().home().to_owned());
        let counted = move || {
            let url = format!("postgres:///{database}?user=chassis&host={}", socket.display());
            let count = "SELECT count(*) FROM events WHERE number IS NOT NULL";
            let output = Command::new("psql").args(["-XAtqc", count, &url]).output().unwrap();
            String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
        };
        Child { process, output, counted: Box::new(counted) }
    }

    fn said(&self) -> String {
        std::fs::read_to_string(self.output.path()).unwrap()
    }

    /// Events that only the acting server writes.
    fn written(&self) -> u64 {
        (self.counted)()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The other process: acts, and writes without end, until it is refused.
#[tokio::test]
#[ignore = "a part of the tests above"]
#[expect(clippy::print_stdout, reason = "its parent reads it")]
async fn child() {
    let variable = |name| std::env::var(name).unwrap();
    let options = PostgresOptions::new(&variable("CHILD_URL"), &variable("CHILD_NAME")).unwrap();
    let store = SqlStore::open_postgres(&options, KeySource::File(variable("CHILD_KEY").into())).unwrap();
    acts(&store);
    store.fleet_create(&fleet("f"), &Labels::default()).await.unwrap();
    apply(&store, vec![spec("web", json!({}))]).await.unwrap();
    println!("acts");
    let key = AgentKey { fleet: fleet("f"), agent: "web".parse().unwrap() }.instance(1);
    let (mut refused, term) = (None, term(&store));
    loop {
        let believed = store.is_acting();
        match store.instance_event(term, &key, EventKind::StartRequested).await {
            Ok(()) if refused.is_some() => println!("acted after {refused:?}, believed: {believed}"),
            Ok(()) => {}
            Err(error) => {
                println!("{}", error.code());
                refused = Some(error.code());
                pause(Duration::from_millis(20));
            }
        }
    }
}
