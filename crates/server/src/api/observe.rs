//! What machines look at: whether the server lives, whether it can work, and its figures.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use chassis_api::{Alive, Readiness, ReadyCheck};
use chassis_store::EventFilter;

use super::SharedState;
use crate::metrics::Page;
use crate::nodes::Health;
use crate::shared::Shared;

/// A store that takes longer is of no use to whoever asks.
const STORE_LIMIT: Duration = Duration::from_secs(2);

/// True of every server that answers.
pub(crate) async fn health() -> Json<Alive> {
    Json(Alive { status: "ok".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() })
}

/// Whether the server can do what it is for. Anybody may ask, so that the texts are fixed: no error, path or address.
pub(crate) async fn ready(State(shared): SharedState) -> Response {
    let health = shared.own().health.borrow().clone();
    let runtime = shared.runtime_name;
    let checks = vec![
        check("store", store_answers(&shared).await, || {
            "the store does not answer; the server's log says why, and it is tried again by itself".to_owned()
        }),
        check("runtime", !matches!(health, Health::Down { .. }), || {
            format!("{runtime} does not answer; `chassis doctor` on the server's machine says why")
        }),
        check("look", matches!(health, Health::Up { .. }), || {
            format!("what runs on {runtime} is not known yet; that takes seconds once {runtime} answers")
        }),
        check("node", shared.lead.refusal().is_none(), || {
            "this server's Docker or data directory is not that of the others; `chassis server status` says more"
                .to_owned()
        }),
    ];
    let is_ready = checks.iter().all(|check| check.ok);
    let word = if is_ready { "ready" } else { "not_ready" };
    let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Readiness { ready: is_ready, status: word.to_owned(), checks })).into_response()
}

pub(crate) fn metrics(page: &Page) -> Response {
    match page.text() {
        Ok(text) => ([(header::CONTENT_TYPE, Page::CONTENT_TYPE)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn store_answers(shared: &Shared) -> bool {
    let one = EventFilter { limit: 1, newest: true, ..EventFilter::default() };
    let asked = tokio::time::timeout(STORE_LIMIT, shared.store.event_list(&one)).await;
    asked.is_ok_and(|listed| listed.is_ok())
}

fn check(name: &str, ok: bool, hint: impl FnOnce() -> String) -> ReadyCheck {
    ReadyCheck { name: name.to_owned(), ok, hint: (!ok).then(hint) }
}
