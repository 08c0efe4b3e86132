//! The API of environments, in the dialect of Fuse's clients: see `chassis_api::fuse`.
//!
//! Handlers are as those of `crate::api`: they change the store, reload the controllers that it concerns, and answer. Their
//! failures are the same too, and are written in this dialect by the outermost layer ([`answer`]).

mod actions;
mod agent;
pub(crate) mod answer;
mod api_keys;
mod attach;
mod body;
mod chosen;
mod computer;
mod credentials;
mod cursor;
mod dead_letters;
mod drain;
mod environments;
mod events;
mod exec;
mod fork;
pub(crate) mod given;
mod hosts;
mod kept;
mod request;
mod session;
mod snapshots;
mod token;
mod version;
mod view;

use std::sync::Arc;

use axum::Router;
use axum::routing::{delete, get, post};

use chassis_core::environment::Limits;
use jiff::SignedDuration;

pub(crate) use dead_letters::redrive;

use crate::shared::Shared;

/// For how long an environment may live, and wait for a place, if it may.
pub(crate) fn life(request: &str) -> (Limits, Option<SignedDuration>) {
    let kept::Kept { spec, wait, .. } = kept::Kept::from_json(request);
    let limits = Limits::from_seconds(spec.max_runtime_seconds, spec.idle_timeout_seconds);
    (limits, wait.map(|seconds| SignedDuration::from_secs(seconds.into())))
}

/// All routes of the dialect.
pub(crate) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/v1/version", get(version::show))
        .route("/v1/environments", post(environments::create).get(environments::list))
        .route(
            "/v1/environments/{id}",
            get(environments::show).delete(environments::destroy).post(actions::act),
        )
        .route("/v1/environments/{id}/events", get(events::follow))
        .route("/v1/environments/{id}/attach", get(attach::open))
        .route("/v1/environments/{id}/computer", get(computer::show).post(computer::act))
        .route("/v1/environments/{id}/snapshots", post(snapshots::create))
        .route("/v1/snapshots", get(snapshots::list))
        .route("/v1/snapshots/resolve", get(snapshots::resolve))
        .route("/v1/snapshots/{id}", get(snapshots::show).post(snapshots::act).delete(snapshots::remove))
        .route("/v1/dead-letters", get(dead_letters::list))
        .route("/v1/dead-letters/{kind}/{id}", delete(dead_letters::remove).post(dead_letters::act))
        .route("/v1/hosts", get(hosts::list).post(hosts::register))
        .route("/v1/hosts/{id}", get(hosts::show).post(hosts::act).delete(hosts::remove))
        .route("/v1/api-keys", get(api_keys::list).post(api_keys::create))
        .route("/v1/api-keys/{id}", delete(api_keys::revoke))
        .route("/login", post(session::open))
        .route("/logout", post(session::close))
}
