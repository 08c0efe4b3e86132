//! Spans reach a collector, say nothing that is secret, and nobody waits for them.

use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use chassis_testkit::{Chassis, Image, SOON, eventually, expect};
use opentelemetry_proto::tonic::trace::v1::Span;

use crate::collector::{Collector, attribute};

const BINARY: &str = env!("CARGO_BIN_EXE_chassis");
const SECRET: &str = "hunter2-hunter2-hunter2";
const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// The environment of a server that sends to this address, and does not wait long before it does.
fn environment(address: SocketAddr) -> [(&'static str, String); 3] {
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{address}")),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer of-the-collector".to_owned()),
        ("OTEL_BSP_SCHEDULE_DELAY", "100".to_owned()),
    ]
}

fn borrowed<'a>(environment: &'a [(&'static str, String)]) -> Vec<(&'a str, &'a str)> {
    environment.iter().map(|(name, value)| (*name, value.as_str())).collect()
}

#[test]
fn spans_of_a_deploy_reach_the_collector_without_any_secret() {
    let collector = Collector::start(ANY);
    let chassis = Chassis::new(BINARY);
    let fleet = chassis.fleet("traces");
    let image = Image::busybox().build();
    let environment = environment(collector.address);
    let mut server = chassis.serve_with(&[], &borrowed(&environment));
    chassis.ok(&["create", "fleet", &fleet]);
    chassis.ok(&["secret", "create", &format!("{fleet}/password"), "--from-file", &secret_file(&chassis)]);
    let yaml = format!(
        "name: worker\nfleet: {fleet}\nimage: {image}\nstop: {{grace: 1s}}\ncommand: [sleep, '1000']\n\
         env:\n  - name: PASSWORD\n    valueFrom: secret://{fleet}/password\n  - name: PLAIN\n    value: {SECRET}\n"
    );
    chassis.deploy(&yaml).exits(0);

    let named = |name: &str| -> Vec<Span> {
        let spans = collector.spans().into_iter().filter(|(_, span)| span.name == name);
        spans.map(|(_, span)| span).collect()
    };
    let (applies, writes, starts) = eventually(SOON, || {
        let applies = named("POST /api/v1/fleets/{fleet}/apply");
        let (writes, starts) = (named("store write"), named("start instance"));
        let all = !applies.is_empty() && !writes.is_empty() && !starts.is_empty();
        expect(all, || format!("{} applies, {} starts", applies.len(), starts.len()))?;
        Ok::<_, String>((applies, writes, starts))
    });
    let apply = &applies[0];
    assert_eq!(attribute(apply, "http.response.status_code").as_deref(), Some("202"), "{apply:?}");
    assert!(attribute(apply, "request_id").is_some_and(|id| !id.is_empty()), "{apply:?}");
    assert!(
        writes.iter().any(|write| write.trace_id == apply.trace_id && write.parent_span_id == apply.span_id),
        "the write of the apply is part of it"
    );
    let start = &starts[0];
    assert_eq!(attribute(start, "agent").as_deref(), Some("worker"));
    assert_eq!(attribute(start, "number").as_deref(), Some("1"));
    for step in ["image", "create", "start"] {
        let spans = named(step);
        assert!(!spans.is_empty(), "no span of {step}");
        assert!(spans.iter().all(|span| span.end_time_unix_nano > span.start_time_unix_nano), "{spans:?}");
    }
    assert!(named("start").iter().any(|span| span.parent_span_id == start.span_id));
    assert!(collector.spans().iter().all(|(service, _)| service == "chassis"));

    // The last spans of a server that is told to end are sent.
    chassis.ok(&["delete", "fleet", &fleet, &format!("--confirm={fleet}")]);
    assert!(server.terminate().success());
    assert!(!named("remove instance").is_empty() && !named("DELETE /api/v1/fleets/{fleet}").is_empty());
    let requests = collector.received();
    for request in &requests {
        let body = String::from_utf8_lossy(&request.body);
        assert!(!body.contains(SECRET) && !body.contains("of-the-collector"), "{body}");
        assert_eq!(request.head[0], "post /v1/traces http/1.1");
        assert!(request.head.contains(&"authorization: bearer of-the-collector".to_owned()), "{request:?}");
    }
}

#[test]
fn a_collector_that_is_away_is_told_of_once_and_waited_for_by_nobody() {
    // A port that nobody listens on.
    let address = TcpListener::bind(ANY).and_then(|listener| listener.local_addr()).expect("a port");
    let chassis = Chassis::new(BINARY);
    let environment = environment(address);
    let mut server = chassis.serve_with(&["--runtime", "sim"], &borrowed(&environment));
    let fleet = chassis.fleet("away");
    chassis.ok(&["create", "fleet", &fleet]);
    eventually(SOON, || {
        expect(server.log().contains("cannot send traces"), || format!("not told: {}", server.log()))
    });
    let began = Instant::now();
    for _ in 0..3000 {
        // More than the queue holds.
        assert_eq!(chassis.ask("GET", "/health").0, 200);
    }
    assert!(began.elapsed() < Duration::from_secs(30), "3000 requests took {:?}", began.elapsed());
    assert_eq!(server.log().matches("cannot send traces").count(), 1, "{}", server.log());

    let collector = Collector::start(address);
    eventually(SOON, || {
        chassis.ask("GET", "/health");
        expect(!collector.spans().is_empty(), || "no spans though the collector is back".to_owned())
    });
    eventually(SOON, || expect(server.log().contains("traces are sent again"), || server.log()));
    let began = Instant::now();
    assert!(server.terminate().success());
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[test]
fn an_address_that_is_none_is_refused_and_not_repeated() {
    let chassis = Chassis::new(BINARY);
    let output = chassis
        .command(&["serve", "--runtime", "sim"])
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:hunter2@4318")
        .output()
        .expect("chassis runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("OTEL_EXPORTER_OTLP_ENDPOINT"), "{said}");
    assert!(said.contains("http://host:port") && !said.contains("hunter2"), "{said}");
}

fn secret_file(chassis: &Chassis) -> String {
    chassis.write("password", SECRET).display().to_string()
}
