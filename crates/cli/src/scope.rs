//! What the names on a command line mean: fleets, agents, instances.

use chassis_api::{ENVIRONMENTS, InstanceKey, LogQuery, Scope};
use chassis_client::Client;
use chassis_spec::{FleetName, SecretName, SecretRef};

use crate::failure::{Exit, Failure};

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

/// The instance that a name means, for what can be done to one only: an agent's name is enough if it has just one.
pub(crate) async fn one_instance(client: &Client, name: &str) -> Result<InstanceKey, Failure> {
    let scope = client.resolve(name, None).await?;
    if let Some(instance) = instance_key(&scope) {
        return Ok(instance);
    }
    let Some(agent) = scope.agent else {
        return Err(Failure::Usage(format!(
            "`{name}` is a fleet; name one of its instances, as `chassis ps` shows them"
        )));
    };
    let instances = client.instance_list(Some(&scope.fleet), Some(&agent)).await?;
    match instances.as_slice() {
        [one] => Ok(InstanceKey { fleet: scope.fleet, agent, number: one.number }),
        [] => Err(Failure::Usage(format!(
            "agent {agent} has no instance; `chassis scale agent {agent} 1` makes one"
        ))),
        several => {
            let names: Vec<String> = several.iter().map(|one| format!("{agent}-{}", one.number)).collect();
            Err(Failure::Usage(format!(
                "agent {agent} has several instances; name one: {}",
                names.join(", ")
            )))
        }
    }
}

/// What words on a command line name, and the names that nothing has, each with what to do about it.
#[derive(Debug, Default)]
pub(crate) struct Named {
    pub(crate) scopes: Vec<Scope>,
    pub(crate) missing: Vec<String>,
}

/// `data-collector-1 data-collector-2`, or a kind and its names: `fleet collector watch`.
pub(crate) async fn find_words(client: &Client, words: &[String]) -> Result<Named, Failure> {
    let mut named = Named::default();
    let mut kind: Option<&str> = None;
    let mut words = words.iter().map(String::as_str).peekable();
    while let Some(word) = words.next() {
        if matches!(word, "fleet" | "agent" | "instance") {
            if words.peek().is_none() {
                return Err(Failure::Usage(format!("which {word}? Write its name behind it")));
            }
            kind = Some(word);
            continue;
        }
        let found = match kind {
            Some(kind) => resolve_kind(client, kind, word).await,
            None => client.resolve(word, None).await.map_err(Failure::from),
        };
        match found {
            Ok(scope) => named.scopes.push(scope),
            Err(_) if kind.is_none() && matches!(word, "fleets" | "agents" | "instances") => {
                return Err(Failure::Usage(format!(
                    "`{word}` is not a kind of thing; write fleet, agent or instance"
                )));
            }
            Err(failure) if failure.exit() == Exit::NotFound => {
                named.missing.push(failure.text().unwrap_or_default());
            }
            Err(failure) => return Err(failure),
        }
    }
    named.scopes = without_covered(&named.scopes);
    Ok(named)
}

/// The same, where every name must be there.
pub(crate) async fn resolve_words(client: &Client, words: &[String]) -> Result<Vec<Scope>, Failure> {
    let named = find_words(client, words).await?;
    if named.missing.is_empty() { Ok(named.scopes) } else { Err(not_found(&named.missing)) }
}

/// The agents that have these labels, of all fleets or of those that are named; of one whose instances are named, these.
pub(crate) async fn select_words(
    client: &Client,
    words: &[String],
    labels: &str,
) -> Result<Vec<Scope>, Failure> {
    let named = resolve_words(client, words).await?;
    let mut chosen = Vec::new();
    for agent in client.agent_select(labels).await? {
        let own = Scope { fleet: agent.fleet, agent: Some(agent.name), number: None };
        let covers = |scope: &Scope| {
            scope.fleet == own.fleet
                && scope.number.is_none()
                && scope.agent.as_ref().is_none_or(|_| scope.agent == own.agent)
        };
        if named.is_empty() || named.iter().any(covers) {
            chosen.push(own);
        } else {
            let of_it = named.iter().filter(|scope| scope.fleet == own.fleet && scope.agent == own.agent);
            chosen.extend(of_it.cloned());
        }
    }
    if chosen.is_empty() {
        let text = "nothing has these labels; `chassis ps -l KEY=VALUE` shows what has some";
        return Err(Failure::NotFound(text.to_owned()));
    }
    Ok(chosen)
}

pub(crate) fn not_found(missing: &[String]) -> Failure {
    Failure::NotFound(missing.join("\n       "))
}

/// `data-collector-1, data-collector-2 and 3 more`.
pub(crate) fn short_names(scopes: &[Scope]) -> String {
    const SHOWN: usize = 4;
    let names: Vec<String> = scopes.iter().take(SHOWN).map(short_name).collect();
    let text = names.join(", ");
    if scopes.len() > SHOWN { format!("{text} and {} more", scopes.len() - SHOWN) } else { text }
}

/// What is named twice, or by its fleet or agent already, counts once.
fn without_covered(scopes: &[Scope]) -> Vec<Scope> {
    let covers = |wide: &Scope, narrow: &Scope| {
        wide.fleet == narrow.fleet
            && (wide.agent.is_none() || wide.agent == narrow.agent)
            && (wide.number.is_none() || wide.number == narrow.number)
    };
    let mut kept: Vec<Scope> = Vec::new();
    for scope in scopes {
        if !kept.iter().any(|other| covers(other, scope)) {
            kept.retain(|other| !covers(scope, other));
            kept.push(scope.clone());
        }
    }
    kept
}

async fn resolve_kind(client: &Client, kind: &str, name: &str) -> Result<Scope, Failure> {
    if kind == "fleet" {
        return Ok(fleet_scope(&client.fleet_get(&parse_name(name)?).await?.name));
    }
    let scope = client.resolve(name, None).await?;
    match (kind, scope.agent.is_some(), scope.number.is_some()) {
        ("agent", true, _) | ("instance", true, true) => Ok(scope),
        (_, false, _) => Err(Failure::Usage(format!("`{name}` is a fleet, not an {kind}"))),
        _ => Err(Failure::Usage(format!("`{name}` is an agent; name an instance of it, such as {name}-1"))),
    }
}

/// The only fleet there is, for commands that were given none. That of environments is nobody's to choose.
pub(crate) async fn only_fleet(client: &Client, how_to_choose: &str) -> Result<FleetName, Failure> {
    let mut fleets = client.fleet_list().await?;
    fleets.retain(|fleet| fleet.name.as_str() != ENVIRONMENTS);
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
    LogQuery { agent, number, ..LogQuery::of_fleet(fleet) }
}
