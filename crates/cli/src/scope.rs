//! What the names on a command line mean: fleets, agents, instances.

use chassis_api::{InstanceKey, LogQuery, Scope};
use chassis_client::Client;
use chassis_spec::{FleetName, SecretName, SecretRef};

use crate::failure::Failure;

/// A name as people read it: `collector`, `data-collector`, `data-collector-1`.
pub(crate) fn short_name(scope: &Scope) -> String {
    match (&scope.agent, scope.number) {
        (Some(agent), Some(number)) => format!("{agent}-{number}"),
        (Some(agent), None) => agent.to_string(),
        (None, _) => format!("fleet {}", scope.fleet),
    }
}

pub(crate) fn fleet_scope(fleet: &FleetName) -> Scope {
    Scope { fleet: fleet.clone(), agent: None, number: None }
}

/// The instance that a scope names, if it names one.
pub(crate) fn instance_key(scope: &Scope) -> Option<InstanceKey> {
    let (agent, number) = (scope.agent.clone()?, scope.number?);
    Some(InstanceKey { fleet: scope.fleet.clone(), agent, number })
}

/// `data-collector-1`, or a kind and a name: `fleet collector`.
pub(crate) async fn resolve_words(client: &Client, words: &[String]) -> Result<Scope, Failure> {
    match words {
        [name] if matches!(name.as_str(), "fleet" | "agent" | "instance") => {
            Err(Failure::Usage(format!("which {name}? Write its name behind it")))
        }
        [name] => Ok(client.resolve(name, None).await?),
        [kind, name] => resolve_kind(client, kind, name).await,
        _ => Err(Failure::Usage("name one instance, agent or fleet".to_owned())),
    }
}

async fn resolve_kind(client: &Client, kind: &str, name: &str) -> Result<Scope, Failure> {
    match kind {
        "fleet" => Ok(fleet_scope(&parse_name(name)?)),
        "agent" | "instance" => {
            let scope = client.resolve(name, None).await?;
            match (kind, scope.agent.is_some(), scope.number.is_some()) {
                ("agent", true, _) | ("instance", true, true) => Ok(scope),
                (_, false, _) => Err(Failure::Usage(format!("`{name}` is a fleet, not an {kind}"))),
                _ => Err(Failure::Usage(format!(
                    "`{name}` is an agent; name an instance of it, such as {name}-1"
                ))),
            }
        }
        other => {
            Err(Failure::Usage(format!("`{other}` is not a kind of thing; write fleet, agent or instance")))
        }
    }
}

/// The only fleet there is, for commands that were given none.
pub(crate) async fn only_fleet(client: &Client, how_to_choose: &str) -> Result<FleetName, Failure> {
    let fleets = client.fleet_list().await?;
    match fleets.as_slice() {
        [fleet] => Ok(fleet.name.clone()),
        [] => Err(Failure::Failed(
            "there is no fleet yet; create one with `chassis create fleet <name>`".to_owned(),
        )),
        several => {
            let names: Vec<&str> = several.iter().map(|fleet| fleet.name.as_str()).collect();
            Err(Failure::Usage(format!("there are several fleets ({}); {how_to_choose}", names.join(", "))))
        }
    }
}

/// `fleet/name`, or the name alone if there is just one fleet.
pub(crate) async fn secret_ref(client: &Client, text: &str) -> Result<SecretRef, Failure> {
    let text = text.strip_prefix("secret://").unwrap_or(text);
    let (fleet, name) = match text.split_once('/') {
        Some((fleet, name)) => (parse_name(fleet)?, name),
        None => (only_fleet(client, &format!("write <fleet>/{text}")).await?, text),
    };
    let name: SecretName = name.parse().map_err(|error| Failure::Usage(format!("{error}")))?;
    Ok(SecretRef { fleet, name })
}

pub(crate) fn parse_name(name: &str) -> Result<FleetName, Failure> {
    name.parse().map_err(|error| Failure::Usage(format!("{error}")))
}

/// A query for the output of what a scope names.
pub(crate) fn log_query(scope: Scope) -> LogQuery {
    let Scope { fleet, agent, number } = scope;
    LogQuery { fleet, agent, number, follow: false, since: None, tail: None }
}
