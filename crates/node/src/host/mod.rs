//! The node's end: serves a runtime to the servers that know its token.

mod answer;
mod call;
mod contact;
mod enforce;
mod file;
mod guard;
mod health;
mod journal;
mod keeper;
mod kept;
mod lease;
mod machine;
mod stream;
mod term;
mod turns;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use chassis_core::NodeSpec;
use chassis_runtime::Runtime;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::wire::{self, Engine, Failed, Heartbeat, HeartbeatRequest, Hello, TakeTerm};
use answer::{refusal, slowly};
use contact::Contact;
use guard::Token;
pub(crate) use guard::versions;
use journal::Journal;
use kept::Kept;
use lease::Clock;
use term::Terms;
use turns::Turns;

pub use lease::Lease;
pub use machine::{Machine, machine};

/// How long the runtime has to say that it is there.
const LOOK: Duration = Duration::from_secs(5);

/// What a node is.
#[derive(Debug, Clone)]
pub struct Options {
    pub spec: NodeSpec,
    /// Stays the same for as long as its data directory does.
    pub id: String,
    /// Where it keeps what it must know after a restart.
    pub directory: PathBuf,
    /// Without a server for this long, it keeps its instances running by itself.
    pub alone_after: Duration,
    /// Where sandboxes see for how long what may run elsewhere runs on.
    pub lease: PathBuf,
}

/// A node that can be asked over the network.
#[derive(Debug)]
pub struct Host {
    runtime: Arc<dyn Runtime>,
    options: Options,
    token: Token,
    terms: Terms,
    clock: Clock,
    contact: Contact,
    turns: Turns,
    kept: Arc<Kept>,
    journal: Arc<Journal>,
}

impl Host {
    /// Reads which term it is in, how long its lease is, and what it keeps of its instances.
    pub fn open(runtime: Arc<dyn Runtime>, options: Options, token: &str) -> io::Result<Arc<Host>> {
        let terms = Terms::open(options.directory.join("term"))?;
        let clock = Clock::open(&options.lease)?;
        let kept = Kept::open(options.directory.join("kept"))?;
        let journal = Journal::open(options.directory.join("journal"))?;
        let contact = Contact::new(options.alone_after);
        let (token, turns) = (Token::new(token), Turns::default());
        Ok(Arc::new(Host { runtime, options, token, terms, clock, contact, turns, kept, journal }))
    }

    /// Until when what may move goes on without a server.
    pub fn lease(&self) -> watch::Receiver<Lease> {
        self.clock.lease()
    }

    async fn engine(&self) -> Result<Engine, Failed> {
        match timeout(LOOK, self.runtime.info()).await {
            Ok(info) => info.map(Engine::from).map_err(Failed::from),
            Err(_) => Err(Failed::from(chassis_runtime::Error::unavailable(format!(
                "the node's runtime has not answered for {} s",
                LOOK.as_secs()
            )))),
        }
    }
}

/// Everything that a node answers. Nothing without the token.
pub fn router(host: Arc<Host>) -> Router {
    let protocol = Router::new()
        .route(wire::HELLO, get(hello))
        .route(wire::TERM, post(term))
        .route(wire::HEARTBEAT, post(heartbeat))
        .route(wire::CALL, post(call::call))
        .route(wire::STREAM, get(stream::stream))
        .layer(middleware::from_fn(guard::protocol));
    Router::new()
        .route("/v1/capacity", get(capacity))
        .route("/healthz", get(health))
        .merge(protocol)
        .fallback(nowhere)
        .layer(middleware::from_fn_with_state(Arc::clone(&host), guard::token))
        .with_state(host)
}

async fn hello(State(host): State<Arc<Host>>) -> Json<Hello> {
    Json(Hello {
        protocols: wire::PROTOCOLS.to_vec(),
        id: host.options.id.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        spec: host.options.spec.clone(),
        term: host.terms.current(),
        engine: host.engine().await.ok(),
    })
}

/// Takes a later term over. Its answer may take as long as the orders that are under way.
async fn term(State(host): State<Arc<Host>>, Json(asked): Json<TakeTerm>) -> Response {
    if asked.term >= host.terms.current() {
        host.contact.heard();
    }
    slowly(tokio::spawn(async move { host.terms.take(asked.term).await }), None)
}

async fn heartbeat(
    State(host): State<Arc<Host>>,
    headers: HeaderMap,
    Json(asked): Json<HeartbeatRequest>,
) -> Response {
    let term = host.terms.current();
    let is_ours = guard::term(&headers) == Some(term);
    if is_ours {
        host.contact.heard();
        asked.granted.iter().for_each(|granted| host.clock.prolong(granted));
    }
    slowly(
        tokio::spawn(async move {
            if let Some(stored) = asked.stored.filter(|_| is_ours) {
                host.journal.told(stored).await;
            }
            let (journal, dropped) = host.journal.tell();
            let engine = host.engine().await;
            let (stamp, boot) = host.clock.now();
            let lease = lease::millis(host.clock.rest());
            Ok(Heartbeat { stamp, boot, term, lease, engine, journal, dropped })
        }),
        None,
    )
}

/// What Fuse's orchestrator asks of a host before it takes it.
async fn capacity(State(host): State<Arc<Host>>) -> Response {
    let spec = &host.options.spec;
    Json(json!({
        "cpus": spec.capacity.cpu_millis / 1000,
        "ram_mb": spec.capacity.memory_bytes >> 20,
        "storage_gb": spec.capacity.disk_bytes >> 30,
        "arch": spec.architecture.word(),
        "gpus": 0,
        "gpu_devices": [],
    }))
    .into_response()
}

async fn health() -> Response {
    Json(json!({ "ok": true, "app_name": "chassis-node" })).into_response()
}

async fn nowhere() -> Response {
    let message = "there is nothing here; a node of chassis answers below /node/v1";
    refusal(StatusCode::NOT_FOUND, "not_found", message)
}
