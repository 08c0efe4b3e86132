//! `chassis create fleet`.

use chassis_api::FleetCreate;
use chassis_spec::Labels;
use serde::Deserialize;
use serde::de::value::MapDeserializer;

use crate::args::Create;
use crate::context::Context;
use crate::failure::{Exit, Failure};

pub(super) async fn run(context: &Context, create: Create) -> Result<Exit, Failure> {
    let Create::Fleet { name, label } = create;
    let labels = MapDeserializer::<_, serde::de::value::Error>::new(label.into_iter());
    let labels = Labels::deserialize(labels).map_err(|error| Failure::Usage(error.to_string()))?;
    let fleet = context.connect().await?.fleet_create(&FleetCreate { name, labels }).await?;
    context.terminal.done(&format!("created fleet {}", fleet.name))?;
    context.terminal.say("next: `chassis deploy agent -f <file.yaml>`");
    Ok(Exit::Done)
}
