//! Whom an agent can reach: the `network` field, a word or a mapping.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::check::{Checked, PORTS_MAX, check_count, wrong};
use crate::yaml::Step::{Field, Index};
use crate::{AgentSpec, FleetName};

const WORDS: &[&str] = &["fleet", "none"];
/// Each is one more interface of the sandbox.
const FLEETS_MAX: usize = 32;

/// Whom an agent can reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Network {
    /// Nobody but itself.
    None,
    /// The agents of its own fleet, what is beyond the host, and what is named here.
    Fleet(Reach),
}

/// What an agent can reach beyond its own fleet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Reach {
    /// Fleets whose networks the agent is in too: it and their agents reach one another by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fleets: Vec<FleetName>,
    /// TCP ports of the host that the agent reaches as `host.chassis.internal`.
    #[serde(default, alias = "host_ports", skip_serializing_if = "Vec::is_empty")]
    pub host_ports: Vec<u16>,
}

impl Default for Network {
    fn default() -> Self {
        Network::Fleet(Reach::default())
    }
}

impl Network {
    /// True for an agent in its own fleet's network and nothing else.
    pub fn is_default(&self) -> bool {
        *self == Network::default()
    }

    /// The fleets besides its own whose networks the agent is in.
    pub fn fleets(&self) -> &[FleetName] {
        match self {
            Network::None => &[],
            Network::Fleet(reach) => &reach.fleets,
        }
    }

    /// The TCP ports of the host that the agent reaches.
    pub fn host_ports(&self) -> &[u16] {
        match self {
            Network::None => &[],
            Network::Fleet(reach) => &reach.host_ports,
        }
    }
}

impl Serialize for Network {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Network::None => serializer.serialize_str("none"),
            Network::Fleet(reach) if *reach == Reach::default() => serializer.serialize_str("fleet"),
            Network::Fleet(reach) => reach.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NetworkVisitor)
    }
}

impl JsonSchema for Network {
    fn schema_name() -> Cow<'static, str> {
        "Network".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let reach = generator.subschema_for::<Reach>();
        json_schema!({ "description": "Whom an agent can reach.", "oneOf": [{ "enum": WORDS }, reach] })
    }
}

struct NetworkVisitor;

impl<'de> Visitor<'de> for NetworkVisitor {
    type Value = Network;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("`fleet`, `none`, or a mapping with `fleets` and `hostPorts`")
    }

    fn visit_str<E: Error>(self, word: &str) -> Result<Network, E> {
        match word {
            "fleet" => Ok(Network::default()),
            "none" => Ok(Network::None),
            other => Err(E::unknown_variant(other, WORDS)),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Network, A::Error> {
        Reach::deserialize(MapAccessDeserializer::new(map)).map(Network::Fleet)
    }
}

/// What must hold between an agent's network, its ports and its own fleet.
pub(crate) fn check(agent: &AgentSpec) -> Checked {
    let (network, ports) = (&agent.network, &agent.ports);
    if agent.security.host_network && !network.is_default() {
        return Err(wrong(
            "network",
            "an agent with `security.hostNetwork` has the host's network; leave one out",
        ));
    }
    if *network == Network::None {
        let published = ports.iter().position(|port| port.host_port.is_some());
        return published.map_or(Ok(()), |index| {
            let invalid = wrong("hostPort", "an agent with `network: none` has no port to publish");
            Err(invalid.under(&[Field("ports"), Index(index)]))
        });
    }
    check_reach(network, agent.fleet.as_ref()).map_err(|invalid| invalid.under(&[Field("network")]))
}

fn check_reach(network: &Network, own: Option<&FleetName>) -> Checked {
    let fleets = network.fleets();
    check_count(fleets.len(), FLEETS_MAX, "fleets")?;
    for (index, fleet) in fleets.iter().enumerate() {
        if fleets[..index].contains(fleet) {
            return Err(wrong("fleets", format!("the fleet `{fleet}` is there twice")).then(Index(index)));
        }
        if own == Some(fleet) {
            let message = format!("`{fleet}` is the agent's own fleet, whose network it is in anyway");
            return Err(wrong("fleets", message).then(Index(index)));
        }
    }
    let ports = network.host_ports();
    check_count(ports.len(), PORTS_MAX, "hostPorts")?;
    for (index, port) in ports.iter().enumerate() {
        if *port == 0 {
            return Err(wrong("hostPorts", "0 is not a port").then(Index(index)));
        }
        if ports[..index].contains(port) {
            return Err(wrong("hostPorts", format!("{port} is there twice")).then(Index(index)));
        }
    }
    Ok(())
}
