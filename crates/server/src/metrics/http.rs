//! Counts requests by route, and follows answers that go on.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use chassis_api::route::route_find;
use futures_util::StreamExt;
use prometheus_client::metrics::gauge::Gauge;
use tracing::{Instrument, field};

use crate::shared::Shared;
use crate::traces::{self, TRACE_TARGET};

/// The header of an answer that says which request it is to.
const REQUEST_ID: &str = "x-request-id";
/// A path that is no route's.
const NO_ROUTE: &str = "none";

/// An answer that goes on; it ends when this is dropped.
#[derive(Debug)]
struct Open(Gauge);

impl Open {
    fn new(gauge: Gauge) -> Open {
        gauge.inc();
        Open(gauge)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Counts one request. A stream's time is that until it begins.
pub(crate) async fn measure(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let path = request.extensions().get::<MatchedPath>();
    let route = path.and_then(|path| route_find(request.method().as_str(), path.as_str()));
    // A method that is no route's could be any word.
    let (method, path) = route.map_or(("other", NO_ROUTE), |route| (route.method, route.path));
    let span = tracing::info_span!(
        target: TRACE_TARGET,
        "request",
        otel.name = format!("{method} {path}"),
        otel.kind = "server",
        otel.status_code = field::Empty,
        http.request.method = method,
        http.route = path,
        http.response.status_code = field::Empty,
        request_id = field::Empty,
    );
    traces::join(&span, request.headers());
    let response = next.run(request).instrument(span.clone()).await;
    span.record("http.response.status_code", response.status().as_u16());
    if response.status().is_server_error() {
        span.record("otel.status_code", "ERROR");
    }
    if let Some(id) = response.headers().get(REQUEST_ID).and_then(|id| id.to_str().ok()) {
        span.record("request_id", id);
    }
    drop(span);
    let metrics = &shared.metrics;
    let labels = [("method", method), ("route", path)];
    metrics.request_seconds.get_or_create(&labels).observe(began.elapsed().as_secs_f64());
    let status = ("status", class(response.status()));
    metrics.requests.get_or_create(&[labels[0], labels[1], status]).inc();
    if !is_stream(response.headers()) {
        return response;
    }
    let open = Open::new(metrics.streams.get_or_create_owned(&[("route", path)]));
    response.map(|body| {
        Body::from_stream(body.into_data_stream().inspect(move |_| {
            let _until_it_ends = &open;
        }))
    })
}

fn is_stream(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).map_or(b"".as_slice(), |kind| kind.as_bytes());
    [b"text/event-stream".as_slice(), b"application/x-ndjson"].iter().any(|stream| kind.starts_with(stream))
}

fn class(status: StatusCode) -> &'static str {
    match status.as_u16() / 100 {
        1 => "1xx",
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        _ => "5xx",
    }
}
