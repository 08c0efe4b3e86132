//! Whatever answers at the socket, the client returns an error with a code, or the answer. It never panics or hangs.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use chassis_api::{EventQuery, LogGone, LogQuery};
use chassis_client::{Client, Error, LogContent, LogItem, ServerAddress};
use futures_util::StreamExt;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;

const INFO: &str = r#"{"version":"1","id":"x","pid":1,"startedAt":"2026-11-22T12:00:00Z","dataDir":"/d","runtime":"sim","background":false,"state":{"store":"sqlite","acting":true,"serverName":"x"}}"#;

/// A server that answers each connection's first request with these bytes and closes it.
async fn server(answer: String) -> (TempDir, Client) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let answer = answer.clone();
            tokio::spawn(async move {
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    (dir, Client::connect(ServerAddress::Unix(path)).await.unwrap())
}

fn answer(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn answers_that_are_none_are_errors_with_a_code() {
    let problem = r#"{"type":"about:blank","title":"Not Found","status":404,"detail":"there is no fleet","code":"fleet_not_found"}"#;
    let cases = [
        (String::new(), "connection_broken"),
        ("hello\r\n\r\n".to_owned(), "connection_broken"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{".to_owned(), "connection_broken"),
        (answer("200 OK", "<html>"), "server_not_understood"),
        (answer("200 OK", "{}"), "server_not_understood"),
        (answer("502 Bad Gateway", "<html>a proxy</html>"), "server_not_understood"),
        (answer("302 Found", ""), "server_not_understood"),
        (answer("404 Not Found", problem), "fleet_not_found"),
    ];
    for (bytes, code) in cases {
        let (_dir, client) = server(bytes.clone()).await;
        let error = client.server_get().await.unwrap_err();
        assert_eq!(error.code(), code, "{bytes}");
        assert_eq!(error.is_not_found(), code == "fleet_not_found");
    }
}

#[tokio::test]
async fn a_connection_that_was_closed_while_idle_is_opened_again() {
    let (_dir, client) = server(answer("200 OK", INFO)).await;
    for _ in 0..3 {
        assert_eq!(client.server_get().await.unwrap().id, "x");
    }
}

#[tokio::test]
async fn streams_skip_what_is_no_item_and_end_with_what_is_wrong() {
    let event = r#"{"id":7,"time":"2026-11-22T12:00:00Z","fleet":"f","kind":"FleetCreated"}"#;
    let halves = event.split_at(event.find("\"fleet\"").unwrap());
    let body = format!(
        ": alive\r\n\r\nid: 7\r\ndata: {event}\r\n\r\ndata: {}\ndata: {}\n\ndata: {{\"cut\": off",
        halves.0, halves.1
    );
    let (_dir, client) = server(answer("200 OK", &body)).await;
    let events: Vec<_> = client.event_follow(&EventQuery::default()).await.unwrap().collect().await;
    let ids: Vec<u64> = events.into_iter().map(|event| event.unwrap().id).collect();
    assert_eq!(ids, [7, 7]);

    let line = r#"{"instance":"a-1","time":"2026-11-22T12:00:00Z","stream":"stdout","text":"hi\n"}"#;
    let gone = r#"{"instance":"a-2"}"#;
    let body = format!(
        "retry: 1\nid: A\n\nevent: gone\ndata: {gone}\n\nid: B\ndata: {line}\n\nevent: newer\ndata: ?\n\n\
         data: nonsense\n\nid: C\ndata: {line}\n\n"
    );
    let (_dir, client) = server(answer("200 OK", &body)).await;
    let query = LogQuery::of_fleet("f".parse().unwrap());
    let items: Vec<_> = client.logs(&query, None).await.unwrap().collect().await;
    assert_eq!(items.len(), 4, "an id, a gap, a line, and the error that ends them");
    assert!(matches!(items[3], Err(Error::Protocol { .. })));
    let items: Vec<LogItem> = items.into_iter().flatten().collect();
    let ids: Vec<_> = items.iter().map(|item| item.id.as_deref()).collect();
    assert_eq!(ids, [Some("A"), None, Some("B")]);
    assert_eq!(items[1].content, LogContent::Gone(LogGone { instance: "a-2".to_owned() }));
}

#[tokio::test]
async fn a_line_without_end_is_refused() {
    let body = format!("data: {}", "x".repeat(20 << 20));
    let (_dir, client) = server(answer("200 OK", &body)).await;
    let mut events = client.event_follow(&EventQuery::default()).await.unwrap();
    assert_eq!(events.next().await.unwrap().unwrap_err().code(), "server_not_understood");
    assert!(events.next().await.is_none());
}

#[tokio::test]
async fn nobody_at_the_socket_is_unreachable() {
    let dir = tempfile::tempdir().unwrap();
    let address = ServerAddress::Unix(dir.path().join("socket"));
    let error = Client::connect(address.clone()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("no server answers at {address}; check that it runs and that you may reach it")
    );
    assert_eq!(error.code(), "server_unreachable");
}
