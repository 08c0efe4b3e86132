//! What a person sees when a node cannot be used, and that nothing is done there meanwhile.

#![allow(clippy::unwrap_used, reason = "a test fails where something is not as it must be")]

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use chassis_api::Fingerprint;
use chassis_node::{Granted, RemoteRuntime, hello};
use chassis_runtime::{Error, Runtime, SimOptions, SimRuntime};
use common::{Served, remote};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

fn sim() -> Arc<SimRuntime> {
    Arc::new(SimRuntime::new(SimOptions::default()))
}

/// The text of an error that says that the node cannot be used now.
fn unavailable<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    match result {
        Err(Error::Unavailable { message, .. }) => message,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_stranger_gets_nothing() {
    let served = Served::new(sim());
    let (url, pinned) = (served.server.url(), served.server.fingerprint());
    let known = hello(url, pinned, served.server.token()).await.unwrap();
    assert_eq!((known.spec.name.as_str(), known.spec.capacity.slots, known.term), ("worker-1", 7, 1));

    let wrong_token = remote(&served.server, pinned, "0123456789abcdef0123456789abcdef");
    let text = unavailable(wrong_token.instance_list().await);
    assert!(
        text.contains("node worker-1") && text.contains(url) && text.contains("refuses the token"),
        "{text}"
    );
    assert!(text.contains("`node-token`"), "it says where the right one is: {text}");
    assert!(unavailable(wrong_token.events().await.map(drop)).contains("refuses the token"));

    let other = Fingerprint::new([7; 32]);
    let text = unavailable(remote(&served.server, Some(other), served.server.token()).instance_list().await);
    let found = pinned.unwrap().to_string();
    assert!(text.contains("another certificate") && text.contains(&other.to_string()), "{text}");
    assert!(text.contains(&found), "{text}");
    let text = hello(url, None, served.server.token()).await.unwrap_err();
    assert_eq!(text.code(), "node_untrusted");
    assert!(text.to_string().contains(&format!("--fingerprint {found}")), "{text}");
}

#[tokio::test]
async fn an_order_of_another_term_is_refused() {
    let runtime = sim();
    let served = Served::new(Arc::clone(&runtime) as Arc<dyn Runtime>);
    let fleet = "collector".parse().unwrap();
    let old = &served.remote;
    old.fleet_prepare(&fleet).await.unwrap();

    let new = remote(&served.server, served.server.fingerprint(), served.server.token());
    new.take_term(7).await.unwrap();
    let text = unavailable(old.fleet_remove(&fleet).await);
    assert!(
        text.contains("node worker-1") && text.contains("decided in 1") && text.contains("in 7"),
        "{text}"
    );
    assert!(
        unavailable(old.image_prepare(&"agent".parse().unwrap(), &|_| ()).await).contains("decided in 1")
    );
    assert_eq!(
        old.fleet_list().await.unwrap(),
        [fleet],
        "who only looks needs no term, and nothing was removed"
    );
    assert_eq!(old.take_term(6).await.unwrap_err().code(), "term_stale");
    new.take_term(7).await.unwrap();

    // The term outlives the node's process.
    let served = served.again(runtime).await;
    served.remote.set_term(6);
    assert!(unavailable(served.remote.fleet_remove(&"collector".parse().unwrap()).await).contains("in 7"));
    served.remote.set_term(7);
    served.remote.fleet_remove(&"collector".parse().unwrap()).await.unwrap();
}

#[tokio::test]
async fn a_term_begins_when_the_orders_before_it_have_ended() {
    let half_a_second = Duration::from_millis(500);
    let options = SimOptions { latency: half_a_second..half_a_second, ..SimOptions::default() };
    let served = Served::new(Arc::new(SimRuntime::new(options)));
    let fleet = "slow".parse().unwrap();
    let old = Arc::clone(&served.remote);
    // Nobody waits for its answer: it is carried out all the same.
    let order = tokio::time::timeout(Duration::from_millis(100), old.fleet_prepare(&fleet)).await;
    assert!(order.is_err(), "it takes longer");
    let new = remote(&served.server, served.server.fingerprint(), served.server.token());
    new.take_term(2).await.unwrap();
    assert_eq!(
        new.fleet_list().await.unwrap(),
        [fleet],
        "the first list of a term has all that was done before"
    );
}

#[tokio::test]
async fn a_lease_runs_from_an_answer_that_arrived() {
    let served = Served::new(sim());
    let first = served.remote.heartbeat(None, None).await.unwrap();
    assert_eq!((first.term, first.lease), (1, 0), "nobody has answered for it yet");
    assert_eq!(first.engine.as_ref().unwrap().name, "sim");
    let second = served.remote.heartbeat(Some(first.granted()), None).await.unwrap();
    let elapsed = second.stamp - first.stamp;
    assert!(second.lease <= 60_000 - elapsed && second.lease > 50_000, "{first:?} {second:?}");

    let of_another_process = Granted { boot: "another".to_owned(), stamp: second.stamp };
    let of_the_future = Granted { stamp: second.stamp + 3_600_000, ..second.granted() };
    for wrong in [of_another_process, of_the_future] {
        assert!(served.remote.heartbeat(Some(wrong), None).await.unwrap().lease <= second.lease);
    }
    served.remote.set_term(9);
    let stale = served.remote.heartbeat(Some(second.granted()), None).await.unwrap();
    assert_eq!(stale.term, 1, "it says whose it is");
    assert!(stale.lease <= second.lease, "a server of another term prolongs nothing");
}

#[tokio::test]
async fn who_is_too_old_is_told() {
    for (theirs, older) in [("2,3", "upgrade `chassis` here"), ("0", "upgrade `chassis` there")] {
        let head = format!(
            "HTTP/1.1 426 Upgrade Required\r\nchassis-node-protocol: {theirs}\r\ncontent-length: 2\r\n\r\n{{}}"
        );
        let url = answering(head).await;
        let error = hello(&url, None, "0123456789abcdef").await.unwrap_err();
        assert_eq!(error.code(), "node_protocol");
        let text = error.to_string();
        assert!(text.contains(older) && text.contains(&format!("versions {theirs}")), "{text}");
    }
    let url = answering("HTTP/1.1 200 OK\r\ncontent-length: 15\r\n\r\n<html>a</html>\n".to_owned()).await;
    let error = hello(&url, None, "0123456789abcdef").await.unwrap_err();
    assert_eq!(error.code(), "node_not_understood", "{error}");
}

/// A peer that takes connections and never says a word holds up nobody for long, whatever is asked of it.
#[tokio::test]
async fn a_peer_that_never_answers_is_noticed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            held.push(stream);
        }
    });
    let name = "worker-9".parse().unwrap();
    let silent = |url: String| RemoteRuntime::new(&name, &url, None, "0123456789abcdef").unwrap();
    let (plain, tls) =
        (silent(format!("http://127.0.0.1:{port}")), silent(format!("https://127.0.0.1:{port}")));
    let began = Instant::now();
    let (look, order, stream, handshake) = tokio::join!(
        plain.instance_list(),
        plain.instance_stop("container"),
        plain.events(),
        tls.instance_list()
    );
    assert!(began.elapsed() < Duration::from_secs(16), "{:?}", began.elapsed());
    for text in [unavailable(look), unavailable(order), unavailable(stream.map(drop))] {
        assert!(text.contains("node worker-9") && text.contains("has said nothing for 12 s"), "{text}");
    }
    let text = unavailable(handshake);
    assert!(text.contains("does not answer"), "{text}");

    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let text = unavailable(silent(format!("https://{gone}")).instance_list().await);
    assert!(text.contains("check that `chassis node` runs there"), "{text}");
}

/// Something that says the same to everybody.
async fn answering(head: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(head.as_bytes()).await;
        }
    });
    url
}
