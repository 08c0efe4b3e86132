//! Whether an instance is there to be forwarded to. Restarts are no end; being stopped or deleted is.

use std::time::Duration;

use chassis_api::{Event, EventQuery, InstanceKey, Phase};
use chassis_client::{Client, Stream};
use futures_util::StreamExt;

use crate::failure::{Exit, Failure};
use crate::output::Terminal;

/// Before a server that does not answer is asked again.
const RETRY: Duration = Duration::from_secs(1);
/// Nothing that happens goes unnoticed for longer, whatever becomes of the events.
const LOOK: Duration = Duration::from_secs(15);

/// Fails unless the instance is there and meant to run.
pub(super) async fn check(client: &Client, instance: &InstanceKey) -> Result<(), Failure> {
    let name = instance.short_name();
    let phase = client.instance_get(instance).await?.instance.phase;
    match phase {
        Phase::Stopped | Phase::Completed | Phase::Failed => Err(Failure::Failed(format!(
            "{name} does not run ({phase:?}); start it with `chassis start {name}`"
        ))),
        Phase::Removing => Err(Failure::Failed(format!("{name} is being deleted"))),
        _ => Ok(()),
    }
}

/// Waits until the instance is gone for good, which is a failure.
pub(super) async fn until_gone(
    client: &Client,
    instance: &InstanceKey,
    terminal: Terminal,
) -> Result<Exit, Failure> {
    let query = EventQuery {
        fleet: Some(instance.fleet.clone()),
        agent: Some(instance.agent.clone()),
        number: Some(instance.number),
        limit: Some(1),
        ..EventQuery::default()
    };
    let mut told = false;
    loop {
        // Subscribed before it is looked at, so that nothing happens in between.
        let events = client.event_follow(&query).await.map_err(Failure::from);
        let looked = match events {
            Ok(events) => look(client, instance, events).await,
            Err(failure) => Err(failure),
        };
        match looked {
            Ok(()) => told = false,
            Err(Failure::Client(error)) if error.is_not_found() => return Err(gone(&format!("{error}"))),
            Err(Failure::Failed(why)) => return Err(gone(&why)),
            // Whoever may no more will not may again by asking.
            Err(failure) if failure.is_refusal() => return Err(gone(&failure.text().unwrap_or_default())),
            Err(failure) if !std::mem::replace(&mut told, true) => {
                let text = failure.text().unwrap_or_default();
                terminal.error(&format!("{text}; forwarding goes on when it is back"));
            }
            Err(_) => {}
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Looks at the instance with each event and from time to time, until the events end.
async fn look(client: &Client, instance: &InstanceKey, mut events: Stream<Event>) -> Result<(), Failure> {
    loop {
        check(client, instance).await?;
        match tokio::time::timeout(LOOK, events.next()).await {
            Ok(Some(Ok(_))) | Err(_) => {}
            Ok(Some(Err(_)) | None) => return Ok(()),
        }
    }
}

fn gone(why: &str) -> Failure {
    Failure::Failed(format!("nothing is forwarded any more: {why}"))
}
