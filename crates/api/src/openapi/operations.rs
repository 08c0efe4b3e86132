//! What each operation is for, what it takes, and how it answers.

use chassis_spec::AgentProfile;
use serde_json::json;

use super::operation::{Content, Operation, operation, schema_of};
use crate::query::{
    AgentListQuery, DeleteQuery, FleetListQuery, InstanceListQuery, ProgressGetQuery, ResolveQuery,
    SecretListQuery, SecretWriteQuery,
};
use crate::{
    Agent, AgentOutcome, AgentProfileShown, Alive, ApiKey, ApiKeyCreate, ApiKeyCreated, Applied, Apply,
    AuditLogQuery, AuditQuery, AuditRecord, AuditVerified, AuditVerifyQuery, Change, Changed, DeadLetter,
    Event, EventQuery, ExitRecord, Fleet, FleetCreate, HealthReport, Instance, InstanceAudit, InstanceDetail,
    KeyRotate, KeyRotated, LogQuery, Node, NodeDetail, NodeDrain, NodeJoin, NodeJoined, NodeRemoveQuery,
    Progress, ProgressQuery, Readiness, Redriven, Revision, RolloutStatus, RolloutUndo, Scale, Secret,
    SecretDeleted, ServerInfo, Stats, StatsQuery, Target, Upgrade, Upgraded,
};

type Parameters = &'static [(&'static str, &'static str)];

const JOINED_NODE: Parameters = &[("node", "$response.body#/name")];
const SAME_FLEET: Parameters = &[("fleet", "$request.path.fleet")];
const NAMED_FLEET: Parameters = &[("fleet", "$response.body#/name")];
const SAME_AGENT: Parameters = &[("fleet", "$request.path.fleet"), ("agent", "$request.path.agent")];
const APPLIED_AGENT: Parameters =
    &[("fleet", "$response.body#/fleet"), ("agent", "$response.body#/agents/0/agent")];
const SAME_INSTANCE: Parameters =
    &[("fleet", "$request.path.fleet"), ("agent", "$request.path.agent"), ("number", "$request.path.number")];
const WRITTEN_SECRET: Parameters = &[("fleet", "$response.body#/fleet"), ("name", "$response.body#/name")];

const EVENT_STREAM: &str = "text/event-stream";

/// None for a route that nobody has described.
pub(super) fn describe(name: &str) -> Option<Operation> {
    server(name)
        .or_else(|| node(name))
        .or_else(|| fleet(name))
        .or_else(|| agent(name))
        .or_else(|| instance(name))
        .or_else(|| rest(name))
        .or_else(|| access(name))
}

fn server(name: &str) -> Option<Operation> {
    Some(match name {
        "server_health" => operation("Whether the server answers").answer::<Alive>(200, "It does"),
        "server_ready" => operation("Whether the server can do its work")
            .answer::<Readiness>(200, "It can")
            .answer::<Readiness>(503, "It cannot, and why"),
        "metrics_read" => operation("The server's figures, for Prometheus")
            .stream("text/plain", "The text format, version 0.0.4"),
        "server_get" => operation("What the server is").answer::<ServerInfo>(200, "The server"),
        "server_stop" => operation("End the server; agents go on").empty(202, "It ends"),
        "openapi_get" => operation("This document")
            .answer::<serde_json::Map<String, serde_json::Value>>(200, "OpenAPI 3.1"),
        "openapi_browse" => operation("A page to browse this document").stream("text/html", "The page"),
        "name_resolve" => operation("What a name that somebody typed means")
            .query::<ResolveQuery>()
            .answer::<Target>(200, "A fleet, an agent or an instance")
            .problems(&[404, 409]),
        _ => return None,
    })
}

fn node(name: &str) -> Option<Operation> {
    Some(match name {
        "node_list" => {
            operation("The machines that run instances").answer::<Vec<Node>>(200, "By name").paged()
        }
        "node_join" => operation("Have a machine run instances, or ask it in another way from now on")
            .body::<NodeJoin>(json!({ "url": "https://10.0.0.7:7443", "token": "as chassis node prints it" }))
            .answer::<NodeJoined>(201, "The node, once it has answered")
            .problems(&[409, 412, 502])
            .guarded()
            .link("node_get", JOINED_NODE)
            .link("node_drain", JOINED_NODE),
        "node_get" => operation("A machine, and the instances that it has")
            .answer::<NodeDetail>(200, "The node")
            .tagged(),
        "node_remove" => {
            operation("Forget a machine that has nothing any more, or with `force` one that is gone for good")
                .query::<NodeRemoveQuery>()
                .empty(204, "It is no node any more")
                .problems(&[409])
                .guarded()
        }
        "node_cordon" => operation("Put nothing new on a node; it keeps what it has")
            .answer::<Node>(200, "The node")
            .guarded(),
        "node_uncordon" => operation("Put instances on a node again, also on one that was drained")
            .answer::<Node>(200, "The node")
            .guarded(),
        "node_drain" => operation("Have what a node has go elsewhere")
            .body::<NodeDrain>(json!({ "deadline": 600, "parallelism": 2 }))
            .answer::<Node>(200, "The node; what it still has is in `GET /api/v1/nodes/{node}`")
            .guarded(),
        _ => return None,
    })
}

fn fleet(name: &str) -> Option<Operation> {
    Some(match name {
        "fleet_list" => operation("Fleets, by name")
            .query::<FleetListQuery>()
            .answer::<Vec<Fleet>>(200, "The fleets that whoever asks can see")
            .paged(),
        "fleet_create" => operation("Make an empty fleet")
            .body::<FleetCreate>(json!({ "name": "crawlers", "labels": { "team": "search" } }))
            .answer::<Fleet>(201, "The fleet")
            .link("fleet_get", NAMED_FLEET)
            .link("fleet_apply", NAMED_FLEET)
            .link("fleet_scale", NAMED_FLEET)
            .link("fleet_delete", NAMED_FLEET),
        "fleet_get" => operation("A fleet, and how many of its instances run")
            .answer::<Fleet>(200, "The fleet")
            .link("fleet_scale", SAME_FLEET)
            .link("fleet_delete", SAME_FLEET)
            .tagged(),
        "fleet_delete" => {
            operation("Delete a fleet with all its agents; their data is kept unless `cleanup`")
                .query::<DeleteQuery>()
                .slow()
                .guarded()
        }
        "fleet_apply" => operation("Declare agents of a fleet: what is not so yet is made so")
            .body::<Apply>(json!({
                "createFleet": true,
                "agents": [{ "name": "crawler", "image": "myrepo/crawler:1.0", "replicas": 2 }],
            }))
            .slow_answer::<Applied>("What changed")
            .link("agent_get", APPLIED_AGENT)
            .link("agent_upgrade", APPLIED_AGENT)
            .link("revision_list", APPLIED_AGENT)
            .link("rollout_get", APPLIED_AGENT)
            .link("rollout_undo", APPLIED_AGENT)
            .link("rollout_pause", APPLIED_AGENT)
            .link("rollout_resume", APPLIED_AGENT)
            .link("agent_instance_list", APPLIED_AGENT)
            .link("agent_delete", APPLIED_AGENT)
            .guarded(),
        "fleet_scale" => operation("Set how many instances an agent has")
            .body::<Scale>(json!({ "agent": "crawler", "count": 3 }))
            .slow_answer::<Fleet>("The fleet")
            .link("fleet_get", SAME_FLEET)
            .guarded(),
        _ => return None,
    })
}

fn agent(name: &str) -> Option<Operation> {
    Some(match name {
        "agent_list" => operation("Agents, by fleet and name")
            .query::<AgentListQuery>()
            .answer::<Vec<Agent>>(200, "The agents that whoever asks can see")
            .paged(),
        "agent_get" => operation("One agent, with its definition")
            .answer::<Agent>(200, "The agent")
            .link("revision_list", SAME_AGENT)
            .link("rollout_get", SAME_AGENT)
            .tagged(),
        "agent_delete" => operation("Delete an agent and its instances; their data is kept unless `cleanup`")
            .query::<DeleteQuery>()
            .slow()
            .guarded()
            .problems(&[409]),
        "agent_upgrade" => operation("Give an agent another image, or what its image's name means by now")
            .body::<Upgrade>(json!({ "image": "myrepo/crawler:1.1" }))
            .slow_answer::<Upgraded>("The new revision, if there is one")
            .guarded()
            .problems(&[502]),
        "revision_list" => operation("Every revision of an agent that is kept, oldest first")
            .answer::<Vec<Revision>>(200, "The revisions")
            .paged(),
        "rollout_get" => {
            operation("How far an agent's present revision is").answer::<RolloutStatus>(200, "The rollout")
        }
        "rollout_undo" => operation("Go back to an earlier revision, as a new one")
            .body::<RolloutUndo>(json!({ "toRevision": 1 }))
            .slow_answer::<AgentOutcome>("The new revision")
            .guarded(),
        "rollout_pause" => operation("Replace no instance of an agent for now")
            .answer::<Changed>(200, "Whether that changed anything")
            .guarded(),
        "rollout_resume" => operation("Let an agent's rollouts go on")
            .answer::<Changed>(200, "Whether that changed anything")
            .guarded(),
        _ => return None,
    })
}

fn instance(name: &str) -> Option<Operation> {
    Some(match name {
        "instance_list" => operation("Instances, by fleet, agent and number")
            .query::<InstanceListQuery>()
            .answer::<Vec<Instance>>(200, "The instances that whoever asks can see")
            .paged(),
        "agent_instance_list" => operation("Instances of one agent, by number")
            .answer::<Vec<Instance>>(200, "The instances")
            .paged(),
        "instance_get" => operation("Everything about one instance")
            .answer::<InstanceDetail>(200, "The instance")
            .link("exit_list", SAME_INSTANCE)
            .tagged(),
        "instance_delete" => operation("Take one instance away; its data is kept unless `cleanup`")
            .query::<DeleteQuery>()
            .slow()
            .guarded()
            .problems(&[409]),
        "exit_list" => operation("How the last runs of an instance ended, the newest first")
            .answer::<Vec<ExitRecord>>(200, "The runs, with their last output")
            .paged(),
        "health_get" => {
            operation("What the checks of an instance have shown").answer::<HealthReport>(200, "The checks")
        }
        "health_look" => {
            operation("Run the checks of an instance now").answer::<HealthReport>(200, "What they found")
        }
        "exec_open" => operation("Run a command in an instance, over a WebSocket")
            .empty(101, "The WebSocket; docs/api.md describes its messages")
            .problems(&[409, 426, 501, 502]),
        "port_open" => operation("Connect to a TCP port in an instance, over a WebSocket")
            .empty(101, "The WebSocket; docs/api.md describes its messages")
            .problems(&[409, 426, 501, 502]),
        "instance_change" => {
            operation("Start, stop or restart an instance, all of an agent or all of a fleet")
                .body::<Change>(
                    json!({ "scope": { "fleet": "crawlers", "agent": "crawler" }, "change": "restart" }),
                )
                .slow()
                .guarded()
                .problems(&[404])
        }
        _ => return None,
    })
}

fn rest(name: &str) -> Option<Operation> {
    Some(match name {
        "progress_get" => operation("How far instances are on the way to what is wanted, just now")
            .query::<ProgressGetQuery>()
            .answer::<Progress>(200, "How far, and what is in the way")
            .problems(&[422]),
        "progress_follow" => {
            operation("How far instances are on the way to what is wanted, until they are there")
                .body::<ProgressQuery>(json!({ "scopes": [{ "fleet": "crawlers" }] }))
                .stream(
                    EVENT_STREAM,
                    "Server-sent events, each a Progress; the last one's state is not `working`",
                )
        }
        "log_read" => operation("What instances print")
            .query::<LogQuery>()
            .answer_of(
                200,
                "A LogLine in each line; or server-sent events of LogLine, if `Accept` asks for them. Each then has an \
                 `id` that names the place behind it; an event `gone` holds a LogGone",
                vec![Content::Other("application/x-ndjson"), Content::Other(EVENT_STREAM)],
            )
            .resumable(json!({ "type": "string", "pattern": "^[A-Za-z0-9_-]*$" }), "Go on after this event.")
            .problems(&[404, 410, 422, 502]),
        "stats_read" => operation("What instances and machines use")
            .query::<StatsQuery>()
            .answer::<Stats>(200, "Counters; two of them make a rate")
            .problems(&[422]),
        "audit_read" => operation("How closed the sandboxes of instances really are")
            .query::<AuditQuery>()
            .answer::<Vec<InstanceAudit>>(200, "What each item found, by fleet, agent and number")
            .problems(&[422])
            .paged(),
        "event_list" => operation("What happened; with `follow` also what happens")
            .query::<EventQuery>()
            .answer_of(
                200,
                "Events, oldest first; server-sent ones with `follow`, each with its id",
                vec![Content::Json(schema_of::<Vec<Event>>), Content::Other(EVENT_STREAM)],
            )
            .linked()
            .resumable(
                json!({ "type": "integer", "format": "uint64", "minimum": 0 }),
                "Go on after this event; the same as `after`.",
            )
            .problems(&[410]),
        "secret_list" => operation("Names of secrets, never values")
            .query::<SecretListQuery>()
            .answer::<Vec<Secret>>(200, "By fleet and name")
            .problems(&[404])
            .paged(),
        "secret_write" => operation("Keep a secret, encrypted; the body is its value")
            .query::<SecretWriteQuery>()
            .raw_body()
            .answer::<Secret>(201, "It is new: its name and version")
            .link("secret_delete", WRITTEN_SECRET)
            .answer::<Secret>(200, "It was there, and has another value")
            .link("secret_delete", WRITTEN_SECRET)
            .versioned()
            .guarded()
            .problems(&[409]),
        "secret_delete" => operation("Forget a secret")
            .answer::<SecretDeleted>(200, "Who cannot be started without it")
            .guarded(),
        "secret_rotate" => operation("Encrypt all secrets with a new key")
            .body::<KeyRotate>(json!({}))
            .answer::<KeyRotated>(200, "How many"),
        _ => return None,
    })
}

fn access(name: &str) -> Option<Operation> {
    Some(match name {
        "api_key_list" => operation("API keys, without the keys")
            .answer::<Vec<ApiKey>>(200, "By name, also expired ones")
            .paged(),
        "api_key_create" => operation("Make an API key; only this answer ever has it")
            .body::<ApiKeyCreate>(json!({ "name": "deploy-bot", "role": "operator", "fleets": ["crawlers"] }))
            .answer::<ApiKeyCreated>(201, "The key, and its token")
            .link("api_key_revoke", &[("name", "$response.body#/name")]),
        "api_key_revoke" => operation("End an API key, and what was opened with it")
            .empty(204, "It is good for nothing any more"),
        "profile_list" => operation("Agents that environments can choose by name")
            .answer::<Vec<AgentProfileShown>>(200, "By name")
            .paged(),
        "profile_get" => operation("An agent that environments can choose")
            .answer::<AgentProfileShown>(200, "Without its tokens, and what is in its files"),
        "profile_write" => {
            operation("Keep an agent that environments can choose, instead of the one of that name")
                .body::<AgentProfile>(json!({ "command": "exec agent", "drainCommand": "pkill -TERM agent" }))
                .answer::<AgentProfileShown>(200, "As it is kept")
                .link("profile_get", &[("profile", "$response.body#/name")])
                .link("profile_delete", &[("profile", "$response.body#/name")])
        }
        "profile_delete" => {
            operation("Forget an agent that environments could choose; those that run it keep it")
                .empty(204, "It is gone")
        }
        "letter_list" => operation("Environments that were given up")
            .answer::<Vec<DeadLetter>>(200, "By kind and environment")
            .paged(),
        "letter_redrive" => operation("Make an environment again that was given up")
            .answer::<Redriven>(201, "It runs")
            .problems(&[404, 409]),
        "letter_delete" => operation("Forget that an environment was given up").empty(204, "It is forgotten"),
        "audit_log_read" => operation("Who did what: the newest rows, or those after one that was seen")
            .query::<AuditLogQuery>()
            .answer::<Vec<AuditRecord>>(200, "Rows, in the order in which they were written")
            .linked(),
        "audit_log_verify" => operation("Whether every row of the audit log is as it was written")
            .query::<AuditVerifyQuery>()
            .answer::<AuditVerified>(200, "The first row that is not, if there is one"),
        _ => return None,
    })
}
