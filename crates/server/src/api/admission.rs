//! Which definitions a caller may bring about. Asked before every change that makes an agent run one: a new one, an earlier one
//! that is taken up again, or the present one with another image.

use axum::http::StatusCode;
use chassis_spec::{AgentSpec, FleetName, Labels, RuntimeKind};

use super::failure::{Failure, Result};
use crate::auth::Caller;
use crate::policy::specs_refused;
use crate::shared::Shared;

/// Refuses what the caller may not have run in the fleet, and what this server runs for nobody.
pub(crate) async fn check_specs(
    shared: &Shared,
    caller: &Caller,
    fleet: &FleetName,
    specs: &[AgentSpec],
) -> Result<()> {
    for spec in specs {
        check_fleet(fleet, spec)?;
        check_runtime(shared, spec)?;
        check_reach(caller, spec)?;
    }
    match specs_refused(shared, specs).await {
        Some(reasons) => Err(Failure::new(StatusCode::FORBIDDEN, "not_allowed", reasons)),
        None => Ok(()),
    }
}

/// Of a fleet that is made; an agent's are checked with its definition.
pub(super) fn check_labels(labels: &Labels) -> Result<()> {
    labels.check().map_err(|error| Failure::invalid("invalid_body", error.to_string()))
}

/// Whoever wrote the definition meant one fleet, and whoever sent it another.
fn check_fleet(fleet: &FleetName, spec: &AgentSpec) -> Result<()> {
    match &spec.fleet {
        Some(other) if other != fleet => {
            let detail = format!(
                "the definition puts agent `{}` into fleet `{other}`, and the request into `{fleet}`; leave `fleet` out, \
                 or send it to /api/v1/fleets/{other}/apply",
                spec.name
            );
            Err(Failure::invalid("fleet_mismatch", detail))
        }
        _ => Ok(()),
    }
}

/// What an agent shares with other fleets takes a role there too.
fn check_reach(caller: &Caller, spec: &AgentSpec) -> Result<()> {
    // Agents of both fleets reach each other then.
    for other in spec.network.fleets() {
        caller.require(other)?;
    }
    let named = spec.volumes.iter().find_map(|volume| volume.docker_volume.as_ref()?.name.as_ref());
    if let Some(name) = named
        && caller.only_fleets().is_some()
    {
        let detail = format!(
            "agent `{}` wants the Docker volume `{name}`, which may be another fleet's: this needs a role over all fleets, \
             or leave `name` out for a volume of its own",
            spec.name
        );
        return Err(Failure::new(StatusCode::FORBIDDEN, "forbidden", detail));
    }
    Ok(())
}

/// An agent for a runtime that this server does not have would wait forever: better said at once.
fn check_runtime(shared: &Shared, spec: &AgentSpec) -> Result<()> {
    // The default is what an agent gets that does not care; the simulator is for just that.
    if spec.runtime == RuntimeKind::default() || shared.nodes.has_runtime(spec.runtime) {
        return Ok(());
    }
    let detail = format!(
        "agent `{}` asks for a runtime that no node of this server has; its own runs agents on {}",
        spec.name, shared.runtime_name
    );
    Err(Failure::invalid("runtime_unavailable", detail))
}
