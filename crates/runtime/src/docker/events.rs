//! Docker's event stream, as far as it concerns instances.

use std::sync::Arc;

use bollard::models::{EventMessage, EventMessageTypeEnum as Kind};
use bollard::query_parameters::EventsOptions;
use futures_util::future::Either;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, future};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::Notify;

use super::{Daemon, instances, labels};
use crate::{Error, Result, RuntimeEvent};

const KINDS: [&str; 4] = ["container", "image", "network", "volume"];
/// Without exec and attach, which come in masses and change nothing.
const ACTIONS: [&str; 18] = [
    "create",
    "start",
    "die",
    "stop",
    "kill",
    "oom",
    "destroy",
    "rename",
    "update",
    "pause",
    "unpause",
    "pull",
    "tag",
    "load",
    "import",
    "delete",
    "untag",
    "disconnect",
];

/// How far the clock of a daemon on another machine may be ahead of ours. Its events of that time may come twice.
const CLOCK_SKEW: SignedDuration = SignedDuration::from_secs(5);

/// Subscribes, and returns once the daemon has answered. Docker answers a moment before it subscribes; the events of
/// that moment come too, because the stream begins at the time of this call.
pub(crate) async fn events(daemon: &Arc<Daemon>) -> Result<BoxStream<'static, Result<RuntimeEvent>>> {
    let skew = if daemon.address.is_local() { SignedDuration::ZERO } else { CLOCK_SKEW };
    let since = Timestamp::now().saturating_sub(skew).unwrap_or(Timestamp::UNIX_EPOCH);
    let since = format!("{}.{:09}", since.as_second(), since.subsec_nanosecond());
    let words = |words: &[&str]| words.iter().map(ToString::to_string).collect();
    let filters = [("type".to_owned(), words(&KINDS)), ("event".to_owned(), words(&ACTIONS))].into();
    let options = EventsOptions { since: Some(since), until: None, filters: Some(filters) };
    let answered = Arc::new(Notify::new());
    let mut messages = Box::pin(daemon.notifying_client(Arc::clone(&answered))?.events(Some(options)));
    let first = match future::select(Box::pin(answered.notified()), messages.next()).await {
        Either::Left(_) => None,
        Either::Right((Some(Ok(message)), _)) => Some(message),
        Either::Right((Some(Err(error)), _)) => return Err(daemon.explain(error)),
        Either::Right((None, _)) => return Err(Error::unavailable("Docker ended its event stream")),
    };
    daemon.images.forget();
    let daemon = Arc::clone(daemon);
    let events = stream::iter(first.map(Ok)).chain(messages).filter_map(move |message| {
        future::ready(match message {
            Ok(message) => event(&daemon, message).map(Ok),
            Err(error) => Some(Err(daemon.explain(error))),
        })
    });
    Ok(events.boxed())
}

fn event(daemon: &Daemon, message: EventMessage) -> Option<RuntimeEvent> {
    let images = &daemon.images;
    let actor = message.actor?;
    let action = message.action?;
    match (message.typ?, action.as_str()) {
        (Kind::CONTAINER, _) => match labels::owner(&daemon.server_id, &actor.attributes.unwrap_or_default())
        {
            Some(key) => Some(RuntimeEvent::Instance { key, id: actor.id?.into() }),
            // A name became free.
            None => matches!(action.as_str(), "destroy" | "rename").then_some(RuntimeEvent::Surroundings),
        },
        (Kind::IMAGE, "delete" | "untag") => {
            images.forget();
            None
        }
        (Kind::IMAGE, _) => {
            images.forget();
            Some(RuntimeEvent::Surroundings)
        }
        // A container that ends leaves its networks too; one that still runs is brought back when it is looked at.
        (Kind::NETWORK, "disconnect") => {
            let id = actor.attributes?.remove("container")?;
            let key = instances::known_key(daemon, &id)?;
            Some(RuntimeEvent::Instance { key, id: id.into() })
        }
        (Kind::NETWORK, "create" | "destroy") | (Kind::VOLUME, "create") => Some(RuntimeEvent::Surroundings),
        _ => None,
    }
}
