//! The HTTP API: one module for each resource. Handlers change the store, reload the controllers that it concerns, and
//! answer; they never act on a runtime themselves, but to read logs and stats and to open streams into instances.

pub(crate) mod admission;
mod agent_profiles;
mod agents;
mod answer;
mod api_keys;
mod audit;
mod audit_log;
mod condition;
mod dead_letters;
mod describe;
mod events;
pub(crate) mod extract;
pub(crate) mod failure;
mod fleets;
mod hands;
mod health;
mod instances;
pub(crate) mod keyed;
mod log_follow;
mod log_merge;
mod log_resume;
mod log_stream;
mod logs;
mod nodes;
mod observe;
mod page;
mod parameters;
mod progress;
mod reach;
mod rollout;
mod secrets;
mod select;
mod server;
mod stale;
mod stats;
pub(crate) mod targets;
mod time_limit;
mod wait;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{delete, get, post, put};
use tracing::Instrument;

use chassis_store::inherit_keyed;

use crate::auth::guard;
use crate::closing::end_streams;
use crate::fuse;
use crate::metrics::{self, Page};
use crate::shared::Shared;

/// A fleet of many agents, written out, is far below this.
const BODY_LIMIT: usize = 4 << 20;

pub(crate) type SharedState = axum::extract::State<Arc<Shared>>;

/// Runs a change to its end also when whoever asked for it has gone: what is stored must reach its controllers.
pub(crate) async fn to_end<T: Send + 'static>(
    change: impl Future<Output = failure::Result<T>> + Send + 'static,
) -> failure::Result<T> {
    tokio::spawn(inherit_keyed(change.in_current_span())).await.unwrap_or_else(|error| {
        tracing::error!(%error, "a change broke off");
        let detail = "the change broke off; look at what is there, and please report this";
        Err(failure::Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "broke_off", detail))
    })
}

/// All routes; the table is in the documentation of `chassis_api`.
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    let page = Arc::new(Page::new(&shared));
    Router::new()
        .route("/health", get(observe::health))
        .route("/ready", get(observe::ready))
        .route("/metrics", get(move || async move { observe::metrics(&page) }))
        .route("/api/v1/server", get(server::info))
        .route("/api/v1/server/stop", post(server::stop))
        .route("/api/v1/openapi.json", get(describe::document))
        .route("/api/v1/docs", get(describe::page))
        .route("/api/v1/nodes", get(nodes::list).post(nodes::join))
        .route("/api/v1/nodes/{node}", get(nodes::show).delete(nodes::remove))
        .route("/api/v1/nodes/{node}/cordon", post(nodes::cordon))
        .route("/api/v1/nodes/{node}/uncordon", post(nodes::uncordon))
        .route("/api/v1/nodes/{node}/drain", post(nodes::drain))
        .route("/api/v1/resolve", get(targets::resolve))
        .route("/api/v1/fleets", get(fleets::list).post(fleets::create))
        .route("/api/v1/fleets/{fleet}", get(fleets::show).delete(fleets::remove))
        .route("/api/v1/fleets/{fleet}/apply", post(agents::apply))
        .route("/api/v1/fleets/{fleet}/scale", post(fleets::scale))
        .route("/api/v1/agents", get(agents::list))
        .route("/api/v1/fleets/{fleet}/agents/{agent}", get(agents::show).delete(agents::remove))
        .route("/api/v1/fleets/{fleet}/agents/{agent}/upgrade", post(rollout::upgrade))
        .route("/api/v1/fleets/{fleet}/agents/{agent}/revisions", get(rollout::revisions))
        .route("/api/v1/fleets/{fleet}/agents/{agent}/rollout", get(rollout::status))
        .route("/api/v1/fleets/{fleet}/agents/{agent}/rollout/undo", post(rollout::undo))
        .route("/api/v1/fleets/{fleet}/agents/{agent}/rollout/pause", post(rollout::pause))
        .route("/api/v1/fleets/{fleet}/agents/{agent}/rollout/resume", post(rollout::resume))
        .route("/api/v1/instances", get(instances::list))
        .route("/api/v1/fleets/{fleet}/agents/{agent}/instances", get(instances::list_of_agent))
        .route(
            "/api/v1/fleets/{fleet}/agents/{agent}/instances/{number}",
            get(instances::show).delete(instances::remove),
        )
        .route("/api/v1/fleets/{fleet}/agents/{agent}/instances/{number}/exits", get(instances::exits))
        .route(
            "/api/v1/fleets/{fleet}/agents/{agent}/instances/{number}/health",
            get(health::show).post(health::look),
        )
        .route("/api/v1/fleets/{fleet}/agents/{agent}/instances/{number}/exec", get(hands::exec::open))
        .route(
            "/api/v1/fleets/{fleet}/agents/{agent}/instances/{number}/ports/{port}",
            get(hands::port::open),
        )
        .route("/api/v1/change", post(instances::change))
        .route("/api/v1/progress", get(progress::show).post(progress::follow))
        .route("/api/v1/logs", get(logs::read))
        .route("/api/v1/stats", get(stats::read))
        .route("/api/v1/audit", get(audit::read))
        .route("/api/v1/events", get(events::list))
        .route("/api/v1/secrets", get(secrets::list))
        .route("/api/v1/secrets/rotate-key", post(secrets::rotate_key))
        .route("/api/v1/secrets/{fleet}/{name}", put(secrets::write))
        .route("/api/v1/secrets/{fleet}/{name}", delete(secrets::remove))
        .route("/api/v1/agent-profiles", get(agent_profiles::list))
        .route(
            "/api/v1/agent-profiles/{profile}",
            get(agent_profiles::show).put(agent_profiles::write).delete(agent_profiles::remove),
        )
        .route("/api/v1/dead-letters", get(dead_letters::list))
        .route("/api/v1/dead-letters/{kind}/{environment}", delete(dead_letters::remove))
        .route("/api/v1/dead-letters/{kind}/{environment}/redrive", post(dead_letters::redrive))
        .route("/api/v1/api-keys", get(api_keys::list).post(api_keys::create))
        .route("/api/v1/api-keys/{name}", delete(api_keys::revoke))
        .route("/api/v1/audit-log", get(audit_log::list))
        .route("/api/v1/audit-log/verify", get(audit_log::verified))
        .merge(fuse::routes())
        .fallback(failure::no_route)
        .method_not_allowed_fallback(failure::no_method)
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(from_fn_with_state(Arc::clone(&shared), wait::until_done))
        .layer(from_fn_with_state(Arc::clone(&shared), keyed::once))
        .layer(from_fn(parameters::known))
        .layer(from_fn_with_state(Arc::clone(&shared), stale::tell))
        .layer(from_fn_with_state(Arc::clone(&shared), end_streams))
        .layer(from_fn_with_state(Arc::clone(&shared), guard))
        .layer(from_fn(time_limit::in_time))
        .layer(from_fn(answer::complete))
        .layer(from_fn_with_state(Arc::clone(&shared), metrics::measure))
        .with_state(shared)
}
