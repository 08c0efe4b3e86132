//! What a scrape shows: every figure by its name, in the text format that Prometheus has always read.

use std::fmt;
use std::sync::Arc;

use prometheus_client::encoding::text::encode_registry;
use prometheus_client::registry::Registry;

use super::instances::Instances;
use super::process::Process;
use crate::shared::Shared;

#[derive(Debug)]
pub(crate) struct Page(Registry);

impl Page {
    pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

    pub(crate) fn new(shared: &Arc<Shared>) -> Page {
        let mut page = Registry::default();
        let metrics = &shared.metrics;
        page.register("chassis_http_requests", "Requests answered", metrics.requests.clone());
        page.register(
            "chassis_http_request_duration_seconds",
            "Time until an answer began",
            metrics.request_seconds.clone(),
        );
        page.register(
            "chassis_http_open_streams",
            "Answers that are still under way",
            metrics.streams.clone(),
        );
        page.register(
            "chassis_http_connections_refused",
            "Connections that were too many",
            metrics.connections_refused.clone(),
        );
        page.register(
            "chassis_step_duration_seconds",
            "Time of the steps that make, start, stop and remove instances",
            metrics.step_seconds.clone(),
        );
        page.register("chassis_step_failures", "Steps that failed", metrics.step_failures.clone());
        page.register("chassis_restarts", "Restarts that nobody asked for", metrics.restarts.clone());
        page.register(
            "chassis_reconcile_duration_seconds",
            "Time in which a controller decided and stored what it had noted",
            metrics.reconcile_seconds.clone(),
        );
        page.register(
            "chassis_reconcile_lag_seconds",
            "Time from when a controller was woken until it decided",
            metrics.reconcile_lag_seconds.clone(),
        );
        page.register(
            "chassis_store_commit_duration_seconds",
            "Time of transactions that write",
            metrics.commit_seconds.clone(),
        );
        page.register(
            "chassis_store_commit_operations",
            "Writes that shared a transaction",
            metrics.commit_operations.clone(),
        );
        page.register("chassis_probe_looks", "Looks at the health of instances", metrics.looks.clone());
        page.register_collector(Box::new(Instances::new(Arc::clone(shared))));
        page.register_collector(Box::new(Process));
        Page(page)
    }

    pub(crate) fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode_registry(&mut text, &self.0)?;
        Ok(classic(&text))
    }
}

/// `OpenMetrics` as the older format. They differ in counters: there HELP and TYPE name what is before `_total`, here
/// the whole name.
fn classic(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len() + 1024);
    let mut help = None;
    for line in open_metrics.lines() {
        if line.starts_with("# HELP ") {
            help = Some(line);
            continue;
        }
        let suffix = if line.starts_with("# TYPE ") && line.ends_with(" counter") { "_total" } else { "" };
        for comment in help.take().into_iter().chain(line.starts_with("# TYPE ").then_some(line)) {
            let mut words = comment.splitn(4, ' ');
            let mut word = || words.next().unwrap_or_default();
            let (hash, kind, name, rest) = (word(), word(), word(), word());
            text.extend([hash, " ", kind, " ", name, suffix, " ", rest, "\n"]);
        }
        if !line.starts_with('#') {
            text.extend([line, "\n"]);
        }
    }
    text
}
