//! Every route: what it is called, and what it needs. The server refuses whatever is not here.

use chassis_core::{Need, Place, Role};

/// How requests and errors are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    Native,
    /// See [`crate::fuse`].
    Fuse,
}

impl Dialect {
    /// That of a path, whether or not there is something at it.
    pub fn of(path: &str) -> Dialect {
        let is_fuse = path.starts_with("/v1/") || matches!(path, "/v1" | "/login" | "/logout");
        if is_fuse { Dialect::Fuse } else { Dialect::Native }
    }
}

/// One method of one path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    pub method: &'static str,
    /// With its parameters in braces. A fleet that it names is called `fleet`.
    pub path: &'static str,
    /// A word for it that never changes: the `operationId` of `OpenAPI`.
    pub operation: &'static str,
    pub need: Need,
}

const VIEWER_OF_FLEET: Need = Need::Role(Role::Viewer, Place::Fleet);
const VIEWER_OF_FLEETS: Need = Need::Role(Role::Viewer, Place::Fleets);
const OPERATOR_OF_FLEET: Need = Need::Role(Role::Operator, Place::Fleet);
const OPERATOR_OF_FLEETS: Need = Need::Role(Role::Operator, Place::Fleets);
const ADMIN_OF_FLEET: Need = Need::Role(Role::Admin, Place::Fleet);
const ADMIN_OF_FLEETS: Need = Need::Role(Role::Admin, Place::Fleets);
const VIEWER_OF_SERVER: Need = Need::Role(Role::Viewer, Place::Server);
const ADMIN_OF_SERVER: Need = Need::Role(Role::Admin, Place::Server);

const fn route(method: &'static str, path: &'static str, operation: &'static str, need: Need) -> Route {
    Route { method, path, operation, need }
}

#[rustfmt::skip]
pub const ROUTES: &[Route] = &[
    route("GET", "/health", "server_health", Need::Nothing),
    route("GET", "/ready", "server_ready", Need::Nothing),
    route("GET", "/metrics", "metrics_read", VIEWER_OF_SERVER),
    route("GET", "/api/v1/server", "server_get", VIEWER_OF_FLEETS),
    route("POST", "/api/v1/server/stop", "server_stop", ADMIN_OF_SERVER),
    route("GET", "/api/v1/openapi.json", "openapi_get", Need::Nothing),
    route("GET", "/api/v1/docs", "openapi_browse", Need::Nothing),
    route("GET", "/api/v1/nodes", "node_list", VIEWER_OF_FLEETS),
    route("POST", "/api/v1/nodes", "node_join", ADMIN_OF_SERVER),
    route("GET", "/api/v1/nodes/{node}", "node_get", VIEWER_OF_FLEETS),
    route("DELETE", "/api/v1/nodes/{node}", "node_remove", ADMIN_OF_SERVER),
    route("POST", "/api/v1/nodes/{node}/cordon", "node_cordon", ADMIN_OF_SERVER),
    route("POST", "/api/v1/nodes/{node}/uncordon", "node_uncordon", ADMIN_OF_SERVER),
    route("POST", "/api/v1/nodes/{node}/drain", "node_drain", ADMIN_OF_SERVER),
    route("GET", "/api/v1/resolve", "name_resolve", VIEWER_OF_FLEETS),
    route("GET", "/api/v1/fleets", "fleet_list", VIEWER_OF_FLEETS),
    route("POST", "/api/v1/fleets", "fleet_create", ADMIN_OF_FLEETS),
    route("GET", "/api/v1/fleets/{fleet}", "fleet_get", VIEWER_OF_FLEET),
    route("DELETE", "/api/v1/fleets/{fleet}", "fleet_delete", ADMIN_OF_FLEET),
    route("POST", "/api/v1/fleets/{fleet}/apply", "fleet_apply", OPERATOR_OF_FLEET),
    route("POST", "/api/v1/fleets/{fleet}/scale", "fleet_scale", OPERATOR_OF_FLEET),
    route("GET", "/api/v1/agents", "agent_list", VIEWER_OF_FLEETS),
    route("GET", "/api/v1/fleets/{fleet}/agents/{agent}", "agent_get", VIEWER_OF_FLEET),
    route("DELETE", "/api/v1/fleets/{fleet}/agents/{agent}", "agent_delete", OPERATOR_OF_FLEET),
    route("POST", "/api/v1/fleets/{fleet}/agents/{agent}/upgrade", "agent_upgrade", OPERATOR_OF_FLEET),
    route("GET", "/api/v1/fleets/{fleet}/agents/{agent}/revisions", "revision_list", VIEWER_OF_FLEET),
    route("GET", "/api/v1/fleets/{fleet}/agents/{agent}/rollout", "rollout_get", VIEWER_OF_FLEET),
    route("POST", "/api/v1/fleets/{fleet}/agents/{agent}/rollout/undo", "rollout_undo", OPERATOR_OF_FLEET),
    route("POST", "/api/v1/fleets/{fleet}/agents/{agent}/rollout/pause", "rollout_pause", OPERATOR_OF_FLEET),
    route("POST", "/api/v1/fleets/{fleet}/agents/{agent}/rollout/resume", "rollout_resume", OPERATOR_OF_FLEET),
    route("GET", "/api/v1/instances", "instance_list", VIEWER_OF_FLEETS),
    route("GET", "/api/v1/fleets/{fleet}/agents/{agent}/instances", "agent_instance_list", VIEWER_OF_FLEET),
    route("GET", "/api/v1/fleets/{fleet}/agents/{agent}/instances/{number}", "instance_get", VIEWER_OF_FLEET),
    route("DELETE", "/api/v1/fleets/{fleet}/agents/{agent}/instances/{number}", "instance_delete", OPERATOR_OF_FLEET),
    route("GET", "/api/v1/fleets/{fleet}/agents/{agent}/instances/{number}/exits", "exit_list", VIEWER_OF_FLEET),
    route("GET", "/api/v1/fleets/{fleet}/agents/{agent}/instances/{number}/health", "health_get", VIEWER_OF_FLEET),
    route("POST", "/api/v1/fleets/{fleet}/agents/{agent}/instances/{number}/health", "health_look", OPERATOR_OF_FLEET),
    route("GET", "/api/v1/fleets/{fleet}/agents/{agent}/instances/{number}/exec", "exec_open", OPERATOR_OF_FLEET),
    route("GET", "/api/v1/fleets/{fleet}/agents/{agent}/instances/{number}/ports/{port}", "port_open", OPERATOR_OF_FLEET),
    route("POST", "/api/v1/change", "instance_change", OPERATOR_OF_FLEETS),
    route("GET", "/api/v1/progress", "progress_get", VIEWER_OF_FLEETS),
    route("POST", "/api/v1/progress", "progress_follow", VIEWER_OF_FLEETS),
    route("GET", "/api/v1/logs", "log_read", VIEWER_OF_FLEETS),
    route("GET", "/api/v1/stats", "stats_read", VIEWER_OF_FLEETS),
    route("GET", "/api/v1/audit", "audit_read", VIEWER_OF_FLEETS),
    route("GET", "/api/v1/events", "event_list", VIEWER_OF_FLEETS),
    route("GET", "/api/v1/secrets", "secret_list", VIEWER_OF_FLEETS),
    route("POST", "/api/v1/secrets/rotate-key", "secret_rotate", ADMIN_OF_SERVER),
    route("PUT", "/api/v1/secrets/{fleet}/{name}", "secret_write", OPERATOR_OF_FLEET),
    route("DELETE", "/api/v1/secrets/{fleet}/{name}", "secret_delete", OPERATOR_OF_FLEET),
    route("GET", "/api/v1/agent-profiles", "profile_list", VIEWER_OF_FLEETS),
    route("GET", "/api/v1/agent-profiles/{profile}", "profile_get", VIEWER_OF_FLEETS),
    route("PUT", "/api/v1/agent-profiles/{profile}", "profile_write", ADMIN_OF_SERVER),
    route("DELETE", "/api/v1/agent-profiles/{profile}", "profile_delete", ADMIN_OF_SERVER),
    route("GET", "/api/v1/dead-letters", "letter_list", VIEWER_OF_FLEETS),
    route("POST", "/api/v1/dead-letters/{kind}/{environment}/redrive", "letter_redrive", OPERATOR_OF_FLEETS),
    route("DELETE", "/api/v1/dead-letters/{kind}/{environment}", "letter_delete", OPERATOR_OF_FLEETS),
    route("GET", "/api/v1/api-keys", "api_key_list", ADMIN_OF_SERVER),
    route("POST", "/api/v1/api-keys", "api_key_create", ADMIN_OF_SERVER),
    route("DELETE", "/api/v1/api-keys/{name}", "api_key_revoke", ADMIN_OF_SERVER),
    route("GET", "/api/v1/audit-log", "audit_log_read", ADMIN_OF_SERVER),
    route("GET", "/api/v1/audit-log/verify", "audit_log_verify", ADMIN_OF_SERVER),
    // Those of Fuse's dialect are about the fleet of environments, though no path names it.
    route("GET", "/v1/version", "fuse_version", Need::Nothing),
    route("POST", "/v1/environments", "environment_create", OPERATOR_OF_FLEET),
    route("GET", "/v1/environments", "environment_list", VIEWER_OF_FLEET),
    route("GET", "/v1/environments/{id}", "environment_get", VIEWER_OF_FLEET),
    route("DELETE", "/v1/environments/{id}", "environment_destroy", OPERATOR_OF_FLEET),
    // To run a command takes more, which its handler asks for.
    route("POST", "/v1/environments/{id}", "environment_act", OPERATOR_OF_FLEET),
    route("GET", "/v1/environments/{id}/events", "environment_follow", VIEWER_OF_FLEET),
    route("GET", "/v1/environments/{id}/attach", "environment_attach", ADMIN_OF_FLEET),
    route("GET", "/v1/environments/{id}/computer", "computer_get", VIEWER_OF_FLEET),
    route("POST", "/v1/environments/{id}/computer", "computer_act", OPERATOR_OF_FLEET),
    route("POST", "/v1/environments/{id}/snapshots", "snapshot_create", OPERATOR_OF_FLEET),
    route("GET", "/v1/snapshots", "snapshot_list", VIEWER_OF_FLEET),
    route("GET", "/v1/snapshots/resolve", "snapshot_resolve", VIEWER_OF_FLEET),
    route("GET", "/v1/snapshots/{id}", "snapshot_get", VIEWER_OF_FLEET),
    route("POST", "/v1/snapshots/{id}", "snapshot_act", OPERATOR_OF_FLEET),
    route("DELETE", "/v1/snapshots/{id}", "snapshot_delete", OPERATOR_OF_FLEET),
    route("GET", "/v1/hosts", "host_list", VIEWER_OF_FLEET),
    route("POST", "/v1/hosts", "host_register", ADMIN_OF_SERVER),
    route("GET", "/v1/hosts/{id}", "host_get", VIEWER_OF_FLEET),
    route("POST", "/v1/hosts/{id}", "host_act", ADMIN_OF_SERVER),
    route("DELETE", "/v1/hosts/{id}", "host_remove", ADMIN_OF_SERVER),
    route("GET", "/v1/dead-letters", "dead_letter_list", VIEWER_OF_FLEET),
    route("POST", "/v1/dead-letters/{kind}/{id}", "dead_letter_act", OPERATOR_OF_FLEET),
    route("DELETE", "/v1/dead-letters/{kind}/{id}", "dead_letter_delete", OPERATOR_OF_FLEET),
    route("GET", "/v1/api-keys", "fuse_key_list", ADMIN_OF_SERVER),
    route("POST", "/v1/api-keys", "fuse_key_create", ADMIN_OF_SERVER),
    route("DELETE", "/v1/api-keys/{id}", "fuse_key_revoke", ADMIN_OF_SERVER),
    route("POST", "/login", "session_open", Need::Nothing),
    route("POST", "/logout", "session_close", Need::Nothing),
];

impl Route {
    pub fn dialect(&self) -> Dialect {
        Dialect::of(self.path)
    }

    /// Whether the audit log has every request: whatever changes something, and what enters an instance.
    pub fn is_recorded(&self) -> bool {
        let enters = matches!(self.operation, "exec_open" | "port_open" | "environment_attach");
        matches!(self.need, Need::Role(role, _) if role > Role::Viewer) && (self.method != "GET" || enters)
    }
}

/// Whether an operation takes an `Idempotency-Key`: all do that make something, or change something by a POST.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keyed {
    No,
    Yes,
    /// Its request holds a secret, of which nothing may be kept that tells what it is.
    OfSecret,
    /// Its answer holds a secret, and is never kept: the repeated request is told that it was carried out.
    WithoutAnswer,
}

impl Keyed {
    pub fn of(operation: &str) -> Keyed {
        match operation {
            "fleet_create" | "fleet_apply" | "fleet_scale" | "agent_upgrade" | "rollout_undo"
            | "rollout_pause" | "rollout_resume" | "instance_change" | "environment_create"
            | "node_cordon" | "node_uncordon" | "node_drain" => Keyed::Yes,
            "secret_write" | "node_join" => Keyed::OfSecret,
            "api_key_create" | "fuse_key_create" => Keyed::WithoutAnswer,
            _ => Keyed::No,
        }
    }
}

/// The route of a request whose path matched `path`.
pub fn route_find(method: &str, path: &str) -> Option<&'static Route> {
    ROUTES.iter().find(|route| route.method == method && route.path == path)
}
