//! The client itself: a method per route.

mod send;

use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use chassis_api::{
    Agent, AgentOutcome, AgentProfileShown, ApiKey, ApiKeyCreate, ApiKeyCreated, Applied, Apply,
    AuditLogQuery, AuditQuery, AuditRecord, AuditVerified, Change, Changed, DeadLetter, Event, EventQuery,
    Fleet, FleetCreate, HealthReport, Instance, InstanceAudit, InstanceDetail, InstanceKey, KeyRotate,
    KeyRotated, LogQuery, Node, NodeDetail, NodeDrain, NodeJoin, NodeJoined, NodeName, Progress,
    ProgressQuery, Redriven, Revision, RolloutStatus, RolloutUndo, Scale, Secret, SecretDeleted, ServerInfo,
    Stats, StatsQuery, Target, Upgrade, Upgraded,
};
use chassis_spec::{AgentName, AgentProfile, ApiKeyName, FleetName, SecretRef};
use http::Method;
use http::header::{ACCEPT, HeaderValue};

use crate::connection::{self, Connection};
use crate::outage::{Notice, Outage};
use crate::tls::Tls;
use crate::{Endpoint, Error, LogItem, ServerAddress, Stream, Token, stream};

pub(crate) use send::Body;

/// A client of one server.
#[derive(Debug)]
pub struct Client {
    address: ServerAddress,
    token: Option<Token>,
    tls: Option<Tls>,
    idle: Mutex<Option<Connection>>,
    outage: Outage,
}

impl Client {
    /// Connects.
    pub async fn connect(endpoint: impl Into<Endpoint>) -> Result<Client, Error> {
        let endpoint = endpoint.into();
        let tls = Tls::new(&endpoint)?;
        let Endpoint { address, token, .. } = endpoint;
        let token = token.filter(|_| !matches!(address, ServerAddress::Unix(_)));
        let connection = connection::open(&address, tls.as_ref()).await?;
        Ok(Client { address, token, tls, idle: Mutex::new(Some(connection)), outage: Outage::default() })
    }

    /// Waits so long for a database that is away, and tells when it is.
    #[must_use]
    pub fn waiting(self, patience: Duration, tell: impl Fn(Notice) + Send + Sync + 'static) -> Client {
        Client { outage: Outage::new(patience, tell), ..self }
    }

    pub fn address(&self) -> &ServerAddress {
        &self.address
    }

    pub async fn server_get(&self) -> Result<ServerInfo, Error> {
        self.get("/api/v1/server").await
    }

    /// Asks the server to end. Agents go on.
    pub async fn server_stop(&self) -> Result<(), Error> {
        self.send(Method::POST, "/api/v1/server/stop", Body::None).await.map(drop)
    }

    /// What a name means that somebody typed.
    pub async fn resolve(&self, name: &str, fleet: Option<&FleetName>) -> Result<Target, Error> {
        self.get(&with_query(
            "/api/v1/resolve",
            &[("name", Some(name)), ("fleet", fleet.map(FleetName::as_str))],
        ))
        .await
    }

    /// As [`Client::resolve`], for output: also of what is no more, if some was kept.
    pub async fn resolve_logs(&self, name: &str) -> Result<Target, Error> {
        self.get(&with_query("/api/v1/resolve", &[("name", Some(name)), ("kept", Some("true"))])).await
    }

    /// The machines that run instances.
    pub async fn node_list(&self) -> Result<Vec<Node>, Error> {
        self.list("/api/v1/nodes").await
    }

    pub async fn node_get(&self, name: &NodeName) -> Result<NodeDetail, Error> {
        self.get(&format!("/api/v1/nodes/{name}")).await
    }

    /// Has a machine run instances.
    pub async fn node_join(&self, join: &NodeJoin) -> Result<NodeJoined, Error> {
        self.post_once("/api/v1/nodes", join).await
    }

    pub async fn node_cordon(&self, name: &NodeName) -> Result<Node, Error> {
        self.post_once(&format!("/api/v1/nodes/{name}/cordon"), &()).await
    }

    pub async fn node_uncordon(&self, name: &NodeName) -> Result<Node, Error> {
        self.post_once(&format!("/api/v1/nodes/{name}/uncordon"), &()).await
    }

    /// Has what a node has go elsewhere.
    pub async fn node_drain(&self, name: &NodeName, drain: &NodeDrain) -> Result<Node, Error> {
        self.post_once(&format!("/api/v1/nodes/{name}/drain"), drain).await
    }

    /// Forgets a node that has nothing; with `force` one that is down, and will never be back.
    pub async fn node_remove(&self, name: &NodeName, force: bool) -> Result<(), Error> {
        let query = if force { "?force=true" } else { "" };
        self.send(Method::DELETE, &format!("/api/v1/nodes/{name}{query}"), Body::None).await.map(drop)
    }

    pub async fn agent_profile_list(&self) -> Result<Vec<AgentProfileShown>, Error> {
        self.list("/api/v1/agent-profiles").await
    }

    pub async fn agent_profile_get(&self, name: &AgentName) -> Result<AgentProfileShown, Error> {
        self.get(&format!("/api/v1/agent-profiles/{name}")).await
    }

    /// Keeps an agent that environments can choose, instead of the one that has the name.
    pub async fn agent_profile_write(
        &self,
        name: &AgentName,
        profile: &AgentProfile,
    ) -> Result<AgentProfileShown, Error> {
        let body = self.json(profile)?;
        self.parse(&self.send(Method::PUT, &format!("/api/v1/agent-profiles/{name}"), body).await?)
    }

    pub async fn agent_profile_delete(&self, name: &AgentName) -> Result<(), Error> {
        self.send(Method::DELETE, &format!("/api/v1/agent-profiles/{name}"), Body::None).await.map(drop)
    }

    /// Environments that were given up.
    pub async fn dead_letter_list(&self) -> Result<Vec<DeadLetter>, Error> {
        self.list("/api/v1/dead-letters").await
    }

    /// Makes one again, and waits until it runs.
    pub async fn dead_letter_redrive(&self, kind: &str, environment: &str) -> Result<Redriven, Error> {
        let address = format!("{}/redrive", dead_letter(kind, environment));
        self.parse(&self.send_plain(Method::POST, &address, Body::None).await?)
    }

    pub async fn dead_letter_delete(&self, kind: &str, environment: &str) -> Result<(), Error> {
        self.send(Method::DELETE, &dead_letter(kind, environment), Body::None).await.map(drop)
    }

    /// Makes a key. Nobody can be told it again.
    pub async fn api_key_create(&self, key: &ApiKeyCreate) -> Result<ApiKeyCreated, Error> {
        self.post("/api/v1/api-keys", key).await
    }

    pub async fn api_key_list(&self) -> Result<Vec<ApiKey>, Error> {
        self.list("/api/v1/api-keys").await
    }

    /// Ends a key, and what was opened with it.
    pub async fn api_key_revoke(&self, name: &ApiKeyName) -> Result<(), Error> {
        self.send(Method::DELETE, &format!("/api/v1/api-keys/{name}"), Body::None).await.map(drop)
    }

    pub async fn audit_log(&self, query: &AuditLogQuery) -> Result<Vec<AuditRecord>, Error> {
        self.get(&with_query("/api/v1/audit-log", &self.pairs(query)?)).await
    }

    /// Lets the server walk its whole audit log. `noted` is a head that was told earlier.
    pub async fn audit_log_verify(&self, noted: Option<&str>) -> Result<AuditVerified, Error> {
        self.get(&with_query("/api/v1/audit-log/verify", &[("noted", noted)])).await
    }

    pub async fn fleet_list(&self) -> Result<Vec<Fleet>, Error> {
        self.list("/api/v1/fleets").await
    }

    pub async fn fleet_create(&self, fleet: &FleetCreate) -> Result<Fleet, Error> {
        self.post_once("/api/v1/fleets", fleet).await
    }

    pub async fn fleet_get(&self, fleet: &FleetName) -> Result<Fleet, Error> {
        self.get(&format!("/api/v1/fleets/{fleet}")).await
    }

    pub async fn fleet_delete(&self, fleet: &FleetName, cleanup: bool) -> Result<(), Error> {
        self.delete(&format!("/api/v1/fleets/{fleet}"), cleanup).await
    }

    pub async fn fleet_apply(&self, fleet: &FleetName, apply: &Apply) -> Result<Applied, Error> {
        self.post_once(&format!("/api/v1/fleets/{fleet}/apply"), apply).await
    }

    pub async fn fleet_scale(&self, fleet: &FleetName, scale: &Scale) -> Result<Fleet, Error> {
        self.post_once(&format!("/api/v1/fleets/{fleet}/scale"), scale).await
    }

    pub async fn agent_list(&self, fleet: Option<&FleetName>) -> Result<Vec<Agent>, Error> {
        self.list(&with_query("/api/v1/agents", &[("fleet", fleet.map(FleetName::as_str))])).await
    }

    /// Agents that have labels, themselves or by their fleets: `tier=web,team!=core`.
    pub async fn agent_select(&self, labels: &str) -> Result<Vec<Agent>, Error> {
        self.list(&with_query("/api/v1/agents", &[("labels", Some(labels))])).await
    }

    pub async fn agent_get(&self, fleet: &FleetName, agent: &AgentName) -> Result<Agent, Error> {
        self.get(&format!("/api/v1/fleets/{fleet}/agents/{agent}")).await
    }

    pub async fn agent_delete(
        &self,
        fleet: &FleetName,
        agent: &AgentName,
        cleanup: bool,
    ) -> Result<(), Error> {
        self.delete(&format!("/api/v1/fleets/{fleet}/agents/{agent}"), cleanup).await
    }

    pub async fn agent_upgrade(
        &self,
        fleet: &FleetName,
        agent: &AgentName,
        upgrade: &Upgrade,
    ) -> Result<Upgraded, Error> {
        self.post_once(&format!("/api/v1/fleets/{fleet}/agents/{agent}/upgrade"), upgrade).await
    }

    /// Every revision that is kept, oldest first.
    pub async fn revision_list(&self, fleet: &FleetName, agent: &AgentName) -> Result<Vec<Revision>, Error> {
        self.list(&format!("/api/v1/fleets/{fleet}/agents/{agent}/revisions")).await
    }

    pub async fn rollout_get(&self, fleet: &FleetName, agent: &AgentName) -> Result<RolloutStatus, Error> {
        self.get(&format!("/api/v1/fleets/{fleet}/agents/{agent}/rollout")).await
    }

    pub async fn rollout_undo(
        &self,
        fleet: &FleetName,
        agent: &AgentName,
        undo: &RolloutUndo,
    ) -> Result<AgentOutcome, Error> {
        self.post_once(&format!("/api/v1/fleets/{fleet}/agents/{agent}/rollout/undo"), undo).await
    }

    /// Pauses the agent's rollouts, or lets them go on.
    pub async fn rollout_pause(
        &self,
        fleet: &FleetName,
        agent: &AgentName,
        paused: bool,
    ) -> Result<Changed, Error> {
        let what = if paused { "pause" } else { "resume" };
        let path = format!("/api/v1/fleets/{fleet}/agents/{agent}/rollout/{what}");
        self.parse(&self.send_once(Method::POST, &path, Body::None).await?)
    }

    pub async fn instance_list(
        &self,
        fleet: Option<&FleetName>,
        agent: Option<&AgentName>,
    ) -> Result<Vec<Instance>, Error> {
        let query = [("fleet", fleet.map(FleetName::as_str)), ("agent", agent.map(AgentName::as_str))];
        self.list(&with_query("/api/v1/instances", &query)).await
    }

    pub async fn instance_get(&self, key: &InstanceKey) -> Result<InstanceDetail, Error> {
        self.get(&instance_path(key)).await
    }

    /// What the checks of an instance have shown.
    pub async fn health_get(&self, key: &InstanceKey) -> Result<HealthReport, Error> {
        self.get(&format!("{}/health", instance_path(key))).await
    }

    /// The same, after a look just now.
    pub async fn health_look(&self, key: &InstanceKey) -> Result<HealthReport, Error> {
        let path = format!("{}/health", instance_path(key));
        self.parse(&self.send(Method::POST, &path, Body::None).await?)
    }

    pub async fn instance_delete(&self, key: &InstanceKey, cleanup: bool) -> Result<(), Error> {
        self.delete(&instance_path(key), cleanup).await
    }

    /// Starts, stops or restarts.
    pub async fn change(&self, change: &Change) -> Result<(), Error> {
        let body = self.json(change)?;
        self.send_once(Method::POST, "/api/v1/change", body).await.map(drop)
    }

    /// How far a change has come, until it is done or stuck.
    pub async fn progress(&self, query: &ProgressQuery) -> Result<Stream<Progress>, Error> {
        let body = self.json(query)?;
        let response = self.open_stream(Method::POST, "/api/v1/progress", body).await?;
        Ok(stream::server_sent(self.address.clone(), response.into_body()))
    }

    /// Output of instances; after the place of an item that came before, if its id is given.
    pub async fn logs(&self, query: &LogQuery, after: Option<&str>) -> Result<Stream<LogItem>, Error> {
        let path = with_query("/api/v1/logs", &self.pairs(query)?);
        let mut request = self.request(Method::GET, &path, Body::None)?;
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
        if let Some(after) = after {
            let id = HeaderValue::try_from(after).map_err(|error| self.not_understood(error.to_string()))?;
            request.headers_mut().insert("last-event-id", id);
        }
        let (_, response) = self.exchange_request(request).await?;
        self.outage.note(response.headers());
        if response.status().is_success() {
            Ok(stream::log_items(self.address.clone(), response.into_body()))
        } else {
            Err(self.refusal(response).await)
        }
    }

    /// How closed the sandboxes really are.
    pub async fn audit(&self, query: &AuditQuery) -> Result<Vec<InstanceAudit>, Error> {
        self.list(&with_query("/api/v1/audit", &self.pairs(query)?)).await
    }

    /// What instances use.
    pub async fn stats(&self, query: &StatsQuery) -> Result<Stats, Error> {
        self.get(&with_query("/api/v1/stats", &self.pairs(query)?)).await
    }

    /// Past events, whatever the query's `follow` says.
    pub async fn event_list(&self, query: &EventQuery) -> Result<Vec<Event>, Error> {
        let query = EventQuery { follow: false, ..query.clone() };
        self.get(&with_query("/api/v1/events", &self.pairs(&query)?)).await
    }

    /// Events as they happen, whatever the query's `follow` says.
    pub async fn event_follow(&self, query: &EventQuery) -> Result<Stream<Event>, Error> {
        let query = EventQuery { follow: true, ..query.clone() };
        let path = with_query("/api/v1/events", &self.pairs(&query)?);
        let response = self.open_stream(Method::GET, &path, Body::None).await?;
        Ok(stream::server_sent(self.address.clone(), response.into_body()))
    }

    pub async fn secret_list(&self, fleet: Option<&FleetName>) -> Result<Vec<Secret>, Error> {
        self.list(&with_query("/api/v1/secrets", &[("fleet", fleet.map(FleetName::as_str))])).await
    }

    /// Writes a secret. The value is dropped as soon as it was sent, so that an owner who wipes it can.
    pub async fn secret_put(
        &self,
        secret: &SecretRef,
        value: impl AsRef<[u8]> + Send + 'static,
        replace: bool,
    ) -> Result<Secret, Error> {
        let path = format!("/api/v1/secrets/{}/{}?replace={replace}", secret.fleet, secret.name);
        let body = Body::Raw(Bytes::from_owner(value));
        self.parse(&self.send_once(Method::PUT, &path, body).await?)
    }

    pub async fn secret_delete(&self, secret: &SecretRef) -> Result<SecretDeleted, Error> {
        let path = format!("/api/v1/secrets/{}/{}", secret.fleet, secret.name);
        self.parse(&self.send(Method::DELETE, &path, Body::None).await?)
    }

    pub async fn secret_key_rotate(&self, rotate: &KeyRotate) -> Result<KeyRotated, Error> {
        self.post("/api/v1/secrets/rotate-key", rotate).await
    }
}

pub(crate) fn instance_path(key: &InstanceKey) -> String {
    format!("/api/v1/fleets/{}/agents/{}/instances/{}", key.fleet, key.agent, key.number)
}

fn with_query<N: AsRef<str>, V: AsRef<str>>(path: &str, pairs: &[(N, Option<V>)]) -> String {
    let mut address = path.to_owned();
    let mut separator = '?';
    for (name, value) in pairs {
        let Some(value) = value else { continue };
        address.push(separator);
        address.push_str(name.as_ref());
        address.push('=');
        percent_encode(value.as_ref(), &mut address);
        separator = '&';
    }
    address
}

fn dead_letter(kind: &str, environment: &str) -> String {
    let mut address = "/api/v1/dead-letters/".to_owned();
    percent_encode(kind, &mut address);
    address.push('/');
    percent_encode(environment, &mut address);
    address
}

fn percent_encode(text: &str, address: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            address.push(char::from(byte));
        } else {
            address.extend(['%', hex_digit(byte >> 4), hex_digit(byte & 15)]);
        }
    }
}

fn hex_digit(value: u8) -> char {
    char::from(b"0123456789ABCDEF"[usize::from(value)])
}
