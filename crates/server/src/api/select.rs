//! Which fleets and agents a list is about, by their labels.

use std::collections::HashMap;

use axum::http::StatusCode;
use chassis_api::Selector;
use chassis_spec::{FleetName, Labels};

use super::failure::{Failure, Result};
use crate::shared::Shared;

/// What `labels=` asks for. An agent also has its fleet's labels, where it has none of the same name.
pub(crate) struct Selection {
    selector: Option<Selector>,
    of_fleets: HashMap<FleetName, Labels>,
}

impl Selection {
    pub(crate) async fn read(shared: &Shared, labels: Option<&str>) -> Result<Self> {
        let Some(labels) = labels else {
            return Ok(Selection { selector: None, of_fleets: HashMap::new() });
        };
        let selector = labels
            .parse::<Selector>()
            .map_err(|error| Failure::new(StatusCode::BAD_REQUEST, "invalid_query", error.to_string()))?;
        let fleets = shared.fleet_list().await?;
        let of_fleets = fleets.into_iter().map(|fleet| (fleet.name, fleet.labels)).collect();
        Ok(Selection { selector: Some(selector), of_fleets })
    }

    pub(crate) fn has_fleet(&self, labels: &Labels) -> bool {
        self.selector.as_ref().is_none_or(|selector| selector.matches(labels))
    }

    pub(crate) fn has_agent(&self, fleet: &FleetName, labels: &Labels) -> bool {
        let Some(selector) = &self.selector else { return true };
        let mut all = self.of_fleets.get(fleet).cloned().unwrap_or_default();
        all.0.extend(labels.0.clone());
        selector.matches(&all)
    }
}
