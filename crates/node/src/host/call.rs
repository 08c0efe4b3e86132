//! Calls: one method of the trait, one answer.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_LENGTH;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use chassis_runtime::{Error, InstanceConfig, Owned, Runtime};
use futures_util::StreamExt;
use serde::Serialize;
use serde_json::Value;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::answer::{Abort, LONGEST_BODY, LOOK_LIMIT, refusal, slowly};
use super::{Host, guard};
use crate::carried;
use crate::wire::{Call, Failed, Kind};

pub(super) async fn call(State(host): State<Arc<Host>>, headers: HeaderMap, body: Body) -> Response {
    let call = match read(&headers, body).await {
        Ok(call) => call,
        Err(message) => return refusal(StatusCode::BAD_REQUEST, "bad_request", &message),
    };
    let term = guard::term(&headers);
    let kind = call.kind();
    let task = tokio::spawn(async move {
        match kind {
            Kind::Look => timeout(LOOK_LIMIT, carry_out(&host, call)).await.unwrap_or_else(|_| {
                Err(Error::unavailable("the node's runtime has not answered in time").into())
            }),
            Kind::Wait => carry_out(&host, call).await,
            Kind::Order => {
                let _turn = host.terms.order(term).await?;
                host.contact.heard();
                let _own = match call.container() {
                    Some(id) => Some(host.turns.take(id).await),
                    None => None,
                };
                carry_out(&host, call).await
            }
        }
    });
    // An order that was begun is not left half done.
    let abort = (kind != Kind::Order).then(|| Abort::of(&task));
    slowly(task, abort)
}

async fn read(headers: &HeaderMap, body: Body) -> Result<Call, String> {
    let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    let length = length.filter(|length| *length <= LONGEST_BODY);
    let length = length.ok_or_else(|| format!("a call has a length, of at most {LONGEST_BODY} bytes"))?;
    // There may be secrets in it, of which no copy is left behind by a buffer that grows.
    let mut bytes = Zeroizing::new(Vec::with_capacity(length));
    let mut pieces = body.into_data_stream();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|error| error.to_string())?;
        if bytes.len() + piece.len() > length {
            return Err("the call is longer than it says".to_owned());
        }
        bytes.extend_from_slice(&piece);
    }
    serde_json::from_slice(&bytes).map_err(|error| {
        // What it was reading is not shown, it may be a secret.
        format!(
            "this node does not understand the call, at byte {}; compare `chassis version` of both",
            error.column()
        )
    })
}

async fn carry_out(host: &Host, call: Call) -> Result<Value, Failed> {
    let runtime = &*host.runtime;
    match call {
        Call::Info => json(&crate::wire::Engine::from(runtime.info().await?)),
        Call::SpecCheck { spec } => json(&runtime.spec_check(&spec).await?),
        Call::ImageRefresh { image, held } => json(&runtime.image_refresh(&image, held.as_ref()).await?),
        Call::FleetPrepare { fleet } => json(&runtime.fleet_prepare(&fleet).await?),
        Call::FleetRemove { fleet } => json(&runtime.fleet_remove(&fleet).await?),
        Call::FleetList => json(&runtime.fleet_list().await?),
        Call::NetworksCheck => json(&networks_check(runtime).await?),
        Call::InstanceUpdate { id, resources } => json(&runtime.instance_update(&id, &resources).await?),
        Call::InstanceCreate { config } => {
            let config = InstanceConfig::from(config);
            let observed = runtime.instance_create(&config).await?;
            // A full disk keeps nobody from running; without a server it is not started again then.
            if let Err(error) = host.kept.created(&observed.id, &config).await {
                tracing::warn!(instance = %config.key, %error, "cannot keep what it was made of");
            }
            json(&carried::Seen::from(observed))
        }
        Call::InstanceStart { id, secrets } => {
            host.lease_check(&id).await?;
            if let Err(error) = host.kept.wanted(&id, &secrets).await {
                tracing::warn!(container = %id, %error, "cannot keep what it is started with");
                host.kept.unwanted(&id).await?;
            }
            let secrets = secrets.open().map_err(|_| Error::rejected("a variable's value is no text"))?;
            json(&runtime.instance_start(&id, secrets).await?)
        }
        Call::InstanceStarted { id } => json(&runtime.instance_started(&id).await?),
        Call::InstanceStop { id } => {
            host.kept.unwanted(&id).await?;
            json(&runtime.instance_stop(&id).await?)
        }
        Call::InstanceRemove { id } => {
            host.kept.unwanted(&id).await?;
            runtime.instance_remove(&id).await?;
            json(&host.kept.removed(&id).await?)
        }
        Call::InstanceRename { id, key } => json(&runtime.instance_rename(&id, &key).await?),
        Call::DataList { fleet } => json(&runtime.data_list(&fleet).await?),
        Call::DataRemove { key } => json(&runtime.data_remove(&key).await?),
        Call::InstanceInspect { id } => json(&runtime.instance_inspect(&id).await?.map(carried::Owned::from)),
        Call::InstanceList => {
            let owned: Vec<Owned> = runtime.instance_list().await?;
            json(&owned.into_iter().map(carried::Owned::from).collect::<Vec<_>>())
        }
        Call::Stats { ids } => {
            let stats = runtime.stats(&ids).await?;
            let stats = stats.into_iter().map(|(id, usage)| (id, usage.map_err(Failed::from)));
            json(&stats.collect::<Vec<_>>())
        }
        Call::Posture { id, spec } => json(&runtime.posture(&id, &spec).await?),
        Call::TakesSnapshots => json(&runtime.takes_snapshots().await?),
        Call::SnapshotCreate { id, name } => json(&runtime.snapshot_create(&id, &name).await?),
        Call::SnapshotRestore { id, name } => json(&runtime.snapshot_restore(&id, &name).await?),
        Call::SnapshotRemove { name } => json(&runtime.snapshot_remove(&name).await?),
        Call::SnapshotList => json(&runtime.snapshot_list().await?),
    }
}

async fn networks_check(runtime: &dyn Runtime) -> Result<BTreeMap<String, Vec<String>>, Error> {
    runtime.networks_check().await?;
    let fleets = runtime.fleet_list().await?;
    let open = fleets.iter().map(|fleet| (fleet.to_string(), runtime.open_paths(fleet)));
    Ok(open.filter(|(_, paths)| !paths.is_empty()).collect())
}

fn json<T: Serialize>(value: &T) -> Result<Value, Failed> {
    serde_json::to_value(value).map_err(|error| Error::unavailable(error.to_string()).into())
}
