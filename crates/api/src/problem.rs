//! Errors on the wire: RFC 9457 problem details, with a code for programs and a next step for people.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The content type of a [`Problem`].
pub const PROBLEM_JSON: &str = "application/problem+json";

/// Why a request was refused or failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error, JsonSchema)]
#[error("{detail}")]
pub struct Problem {
    #[serde(rename = "type", default = "about_blank")]
    pub kind: Box<str>,
    /// The status in words; the same for every problem of this status.
    pub title: Box<str>,
    pub status: u16,
    /// What was wrong and what to do next, for the person who asked.
    pub detail: String,
    /// A word for programs; never changes for a cause.
    pub code: String,
    /// What a program that calls the API does next, where the code alone says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<Box<str>>,
    /// Which request it was: the header `X-Request-Id` of its answer, the server's log and its audit say the same.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub request_id: Box<str>,
    /// Of several things that were in the way, what each of them was. Only the dialect of Fuse has a field for that.
    #[serde(skip)]
    pub details: Option<Box<BTreeMap<String, String>>>,
}

impl Problem {
    pub fn new(status: u16, title: &str, code: &str, detail: impl Into<String>) -> Self {
        Problem {
            kind: about_blank(),
            title: title.into(),
            status,
            detail: detail.into(),
            code: code.to_owned(),
            hint: hint(code).map(Box::from),
            request_id: Box::default(),
            details: None,
        }
    }

    #[must_use]
    pub fn with_request_id(self, id: &str) -> Self {
        Problem { request_id: id.into(), ..self }
    }
}

fn about_blank() -> Box<str> {
    "about:blank".into()
}

/// The next step of a program, for codes that always have the same one.
fn hint(code: &str) -> Option<&'static str> {
    Some(match code {
        "invalid_body" | "not_json" | "invalid_query" | "invalid_path" | "no_route" | "no_method" => {
            "GET /api/v1/openapi.json describes every route and what it takes; /api/v1/docs shows it"
        }
        "body_too_large" => "send less in one request: an apply can be split, one agent at a time",
        "upgrade_required" => "this route speaks WebSocket: ask for the upgrade",
        "unauthenticated" => "send `Authorization: Bearer` with an API key or the server's token",
        "forbidden" => "ask with a key whose role and fleets cover this; an admin makes one",
        "fleet_not_found" => "GET /api/v1/fleets lists the fleets that you can see",
        "agent_not_found" => "GET /api/v1/agents lists the agents that you can see",
        "instance_not_found" => "GET /api/v1/instances lists the instances that you can see",
        "secret_not_found" => "GET /api/v1/secrets lists the secrets that you can see",
        "version_conflict" | "precondition_failed" => "read the object again, and decide on what it is now",
        "idempotency_mismatch" => "take a new Idempotency-Key for a new request",
        "idempotency_in_flight" => {
            "repeat the request after Retry-After: it is answered with the first one's answer"
        }
        "idempotency_unknown" => {
            "look whether the change was made; repeat it with a new Idempotency-Key if not"
        }
        "idempotency_not_kept" => "look at what was made; make another one with a new Idempotency-Key",
        "invalid_cursor" => "begin again without a cursor",
        "events_gone" => "read what there is with GET, and follow from there without Last-Event-ID",
        "logs_gone" => "read what is kept without Last-Event-ID, with `all` if need be",
        "timed_out" => "look at what is there, or repeat the request with the same Idempotency-Key",
        "too_many_requests"
        | "too_many_connections"
        | "unavailable"
        | "storage_failed"
        | "undone"
        | "runtime_unavailable"
        | "not_acting"
        | "database_unavailable" => "repeat the request after Retry-After",
        "panicked" | "internal" | "broke_off" => {
            "please report this with the request id; the server's log has it too"
        }
        _ => return None,
    })
}
