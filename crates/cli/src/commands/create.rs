//! `chassis create fleet`.

use chassis_api::FleetCreate;
use chassis_spec::Labels;

use crate::args::Create;
use crate::context::Context;
use crate::failure::{Exit, Failure};

pub(super) async fn run(context: &Context, create: Create) -> Result<Exit, Failure> {
    let Create::Fleet { name, label } = create;
    let labels = Labels(label.into_iter().collect());
    let fleet = context.connect().await?.fleet_create(&FleetCreate { name, labels }).await?;
    context.terminal.done(&format!("created fleet {}", fleet.name))?;
    context.terminal.say("next: `chassis deploy agent -f <file.yaml>`");
    Ok(Exit::Done)
}
