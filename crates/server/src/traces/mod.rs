//! Traces for a collector, over OTLP, if `OTEL_EXPORTER_OTLP_ENDPOINT` names one; docs/observability.md.
//!
//! What holds: a span says what was done, on which instance, how long it took and whether it failed; never a header, a
//! query, a body or the text of an error. Spans wait in a queue that is bounded, for a thread of its own: a collector
//! that is slow or away costs spans, and nothing else.

mod sender;
mod settings;

use std::fmt;
use std::time::Duration;

use axum::http::{HeaderMap, Uri};
use opentelemetry::KeyValue;
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::TracerProvider;
use opentelemetry_http::HeaderExtractor;
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio::runtime::Handle;
use tracing::{Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::registry::LookupSpan;

use crate::error::{Error, Result};
use sender::Sender;
pub(crate) use sender::trusting_the_system;

/// What spans are made with, so that they are for the collector alone and cost nothing without one.
pub const TRACE_TARGET: &str = "chassis_trace";

const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
const SERVICE: &str = "chassis";
/// How long an ending server waits for the last spans to be sent.
const LAST: Duration = Duration::from_secs(1);

/// Sends spans to a collector until it is ended.
pub struct Traces {
    provider: SdkTracerProvider,
    /// Settings in the environment that mean nothing here.
    without_effect: Vec<String>,
}

impl Traces {
    /// None unless the environment names a collector. `handle` is where requests to it run.
    pub fn from_environment(handle: Handle) -> Result<Option<Traces>> {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let off = set("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"))
            || set("OTEL_TRACES_EXPORTER").is_some_and(|value| value == "none");
        let named = ENDPOINTS.into_iter().find_map(|name| Some((name, set(name)?)));
        let Some((variable, endpoint)) = named.filter(|_| !off) else { return Ok(None) };
        // The value may hold a password, so it is not repeated.
        let wrong = || Error::Traces { variable };
        let uri: Uri = endpoint.parse().map_err(|_| wrong())?;
        let is_tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(wrong()),
        };
        let exporter = SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_http_client(Sender::new(handle, is_tls)?)
            .build()
            .map_err(|_| wrong())?;
        let mut resource =
            Resource::builder().with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
        if set("OTEL_SERVICE_NAME").is_none() {
            resource = resource.with_service_name(SERVICE);
        }
        let provider =
            SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource.build());
        Ok(Some(Traces { provider: provider.build(), without_effect: settings::without_effect(set) }))
    }

    /// Warns of settings that were passed over; to be called once there is a log.
    pub fn warn(&self) {
        for setting in &self.without_effect {
            tracing::warn!("{setting}");
        }
    }

    /// Takes the server's spans, for a subscriber.
    pub fn layer<S: Subscriber + for<'span> LookupSpan<'span>>(&self) -> impl Layer<S> {
        tracing_opentelemetry::layer()
            .with_tracer(self.provider.tracer(SERVICE))
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_filter(Targets::new().with_target(TRACE_TARGET, tracing::Level::INFO))
    }

    /// Sends what is waiting, if that is possible within a second. Blocks.
    pub fn end(self) {
        if self.provider.shutdown_with_timeout(LAST).is_err() {
            tracing::debug!("the last spans were not sent");
        }
    }
}

impl fmt::Debug for Traces {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Traces").finish_non_exhaustive()
    }
}

/// Makes the span part of the trace that whoever sent the request is in, if they say so by `traceparent`.
pub(crate) fn join(span: &Span, headers: &HeaderMap) {
    if !span.is_disabled() && headers.contains_key("traceparent") {
        let context = TraceContextPropagator::new().extract(&HeaderExtractor(headers));
        // It fails only for a span that has begun.
        let _ = span.set_parent(context);
    }
}
