//! Where the reading of each instance begins: as the query says, or where an earlier reading was cut off.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use chassis_api::{LogQuery, Scope};
use chassis_core::InstanceKey;
use futures_util::StreamExt;
use futures_util::stream;
use jiff::Timestamp;

use super::failure::{Failure, Result};
use crate::error::chain;
use crate::log_place::{Place, Places, SKEW};
use crate::log_source::sources_after;
use crate::shared::Shared;

/// Instances whose places are looked for at the same time.
const AT_ONCE: usize = 16;
/// Within which the server has heard that a container is no more.
const HEARD: Duration = Duration::from_secs(1);

/// Where to begin with one instance.
#[derive(Debug, Clone, Copy)]
pub(super) enum Begin {
    /// With what the query asks for.
    Query,
    /// As if it had been asked for at that time: with all of the container that was there then and those that followed.
    Since(Timestamp),
    After(Place),
}

impl Begin {
    /// Of an instance that somebody else than the query names.
    pub(super) fn of(places: &Places, key: &InstanceKey) -> Begin {
        places.of(key).map_or(Begin::Since(places.began), Begin::After)
    }
}

/// The instances that are no more, and were read or have printed something since reading began.
pub(super) fn instances_gone(shared: &Shared, scope: &Scope, places: &Places) -> BTreeSet<InstanceKey> {
    let kept = shared.kept_logs.instances_of(&scope.fleet).into_iter();
    let since = kept.filter(|key| !shared.kept_logs.of_instance_since(key, places.began).is_empty());
    let mut gone: BTreeSet<InstanceKey> = since.chain(places.keys(&scope.fleet)).collect();
    gone.retain(|key| scope.has(key));
    gone
}

/// The instances of a scope of whose output something may be missing after their places, because the line there is not
/// kept itself. It is refused to go on if that is so of all.
pub(super) async fn check_kept(
    shared: &Arc<Shared>,
    scope: &Scope,
    query: &LogQuery,
    places: &Places,
) -> Result<Vec<InstanceKey>> {
    let known: Vec<(InstanceKey, Place)> = places
        .keys(&scope.fleet)
        .filter(|key| scope.has(key))
        .filter_map(|key| places.of(&key).map(|place| (key, place)))
        .collect();
    let all = known.len();
    let gone: Vec<InstanceKey> = stream::iter(known)
        .map(|(key, place)| async move {
            if is_kept(shared, &key, query, place).await {
                return None;
            }
            // Its container may have gone just now.
            tokio::time::sleep(HEARD).await;
            (!is_kept(shared, &key, query, place).await).then_some(key)
        })
        .buffer_unordered(AT_ONCE)
        .filter_map(std::future::ready)
        .collect()
        .await;
    if all > 0 && gone.len() == all {
        let detail =
            "what follows this `Last-Event-ID` is not kept any more, or only in part; begin again without it";
        return Err(Failure::new(StatusCode::GONE, "logs_gone", detail));
    }
    Ok(gone)
}

/// Whether the last line before a place is still there. Output is forgotten from its beginning on, so that all that
/// follows is there too.
async fn is_kept(shared: &Arc<Shared>, key: &InstanceKey, query: &LogQuery, place: Place) -> bool {
    let Some((stream, mark)) = place.last() else { return true };
    let query = LogQuery { since: Some(mark.time), until: None, ..query.clone() };
    let mut found = 0;
    for source in sources_after(shared, key, &query, mark.time) {
        let mut chunks = match source.open(shared, key, None).await {
            Ok(chunks) => chunks,
            Err(error) => {
                tracing::debug!(instance = %key, error = chain(&error), "cannot look for a place in its output");
                // One who follows waits for it anyhow.
                return !matches!(error, chassis_runtime::Error::Rejected { .. });
            }
        };
        while let Some(Ok(chunk)) = chunks.next().await {
            if chunk.stream == stream && chunk.time == mark.time {
                found += 1;
                if found >= mark.count {
                    return true;
                }
            }
            if chunk.time.duration_since(mark.time) > SKEW {
                break;
            }
        }
    }
    false
}
