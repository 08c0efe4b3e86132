//! What an image's name means by now.

use chassis_core::Pin;
use chassis_spec::ImageName;

use super::{Daemon, failure, images};
use crate::registry_auth;
use crate::{Error, Result};

/// Asks the registry that the image came from. One that was made on this node, and never was in a registry, is looked up
/// here.
pub(crate) async fn refresh(daemon: &Daemon, name: &ImageName, held: Option<&Pin>) -> Result<Pin> {
    let here = images::find(daemon, name.as_str()).await?;
    let is_of_registry = match (held, &here) {
        (Some(held), _) => held.digest.is_some(),
        (None, Some(here)) => here.digest.is_some(),
        (None, None) => true,
    };
    if is_of_registry {
        return ask_registry(daemon, name).await;
    }
    here.map(|image| Pin { id: Some(image.id.clone()), digest: image.digest.clone() }).ok_or_else(|| {
        Error::image_unavailable(format!(
            "image {name} was made on this machine and is gone; build it again, or push it to a registry"
        ))
    })
}

async fn ask_registry(daemon: &Daemon, name: &ImageName) -> Result<Pin> {
    let credentials =
        registry_auth::credentials(name).await.map_err(|error| images::no_credentials(name, error))?;
    let signed_in = credentials.is_some();
    let tagged = images::with_tag(name);
    let answer = daemon.client()?.inspect_registry_image(&tagged, credentials).await.map_err(|error| {
        match failure::status(&error) {
            Some(_) => images::not_pulled(name, &failure::words(&error), signed_in),
            None => daemon.explain(error),
        }
    })?;
    let digest = answer.descriptor.digest.ok_or_else(|| {
        Error::image_unavailable(format!("the registry does not say what {name} is; is it a registry?"))
    })?;
    Ok(Pin { id: None, digest: Some(format!("{}@{digest}", images::untagged(&tagged))) })
}
