//! The recorded life of Fuse's own client: its requests and their answers are those of the files in `golden`, and each answer has
//! the fields and types that the contract demands, and no `null` where the client refuses one.
//!
//! What differs from run to run is replaced before it is compared (`recorder.py`). After a change that is wanted:
//! `CHASSIS_UPDATE_GOLDEN=1 cargo nextest run --test fuse published`, and read what became of the files.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;

/// What a field holds.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Text,
    Time,
    Number,
    Truth,
    One(&'static Object),
    Many(&'static Object),
    Texts,
    Words,
}
use Kind::{Many, Number, One, Text, Texts, Time, Truth, Words};

/// An object of the wire: what it always has, and what it may have. Anything else in it clients ignore, and chassis does not send.
#[derive(Debug)]
struct Object {
    always: &'static [(&'static str, Kind)],
    perhaps: &'static [(&'static str, Kind)],
}

const SPEC: Object = Object {
    always: &[],
    perhaps: &[
        ("cpus", Number),
        ("ram_mb", Number),
        ("storage_gb", Number),
        ("gpus", Number),
        ("gpu_kind", Text),
        ("gpu_profile", Text),
        ("image", Text),
        ("region", Text),
        ("arch", Text),
        ("host_id", Text),
        ("labels", Words),
        ("max_runtime_seconds", Number),
        ("idle_timeout_seconds", Number),
    ],
};
/// Not of Fuse: the host on whose loopback the port is.
const ENDPOINT: Object =
    Object { always: &[("url", Text), ("port", Number)], perhaps: &[("as", Text), ("host", Text)] };
/// Not of Fuse.
const WAITING: Object = Object { always: &[("ahead", Number), ("reasons", Words)], perhaps: &[] };
const HEALTH: Object = Object {
    always: &[("state", Text), ("since", Time)],
    perhaps: &[("failures", Number), ("message", Text)],
};
const ENVIRONMENT: Object = Object {
    always: &[
        ("id", Text),
        ("state", Text),
        ("task_id", Text),
        ("url", Text),
        ("spec", One(&SPEC)),
        ("created_at", Time),
        ("updated_at", Time),
    ],
    perhaps: &[
        ("host_id", Text),
        ("error", Text),
        ("endpoints", Many(&ENDPOINT)),
        ("health", One(&HEALTH)),
        // Not of Fuse.
        ("agent", Text),
        ("waiting", One(&WAITING)),
    ],
};
const ENVIRONMENTS: Object =
    Object { always: &[("environments", Many(&ENVIRONMENT))], perhaps: &[("next_cursor", Text)] };
const EXEC: Object = Object {
    always: &[("exit_code", Number), ("stdout", Text), ("stderr", Text)],
    perhaps: &[("timed_out", Truth), ("truncated", Truth), ("stdout_b64", Text), ("stderr_b64", Text)],
};
const EVENT: Object = Object {
    always: &[("id", Text), ("event", Text), ("vm_id", Text), ("state", Text), ("updated_at", Time)],
    perhaps: &[("url", Text), ("error", Text)],
};
const EXPORT: Object = Object {
    always: &[("destination", Text), ("requested_at", Time), ("updated_at", Time)],
    perhaps: &[("status", Text), ("last_error", Text)],
};
const SNAPSHOT: Object = Object {
    always: &[("id", Text), ("vm_id", Text), ("kind", Text), ("created_at", Time), ("updated_at", Time)],
    perhaps: &[
        ("task_id", Text),
        ("tenant_id", Text),
        ("parent_snapshot_id", Text),
        ("mode", Text),
        ("state", Text),
        ("comment", Text),
        ("name", Text),
        ("layer_key", Text),
        ("arch", Text),
        ("digest", Text),
        ("size_bytes", Number),
        ("retention_until", Time),
        ("last_error", Text),
        ("export_ref", Text),
        ("exports", Many(&EXPORT)),
    ],
};
const SNAPSHOTS: Object =
    Object { always: &[("snapshots", Many(&SNAPSHOT))], perhaps: &[("next_cursor", Text)] };
const LAYER: Object = Object { always: &[("found", Truth)], perhaps: &[("snapshot", One(&SNAPSHOT))] };
const CAPACITY: Object = Object {
    always: &[("cpus", Number), ("ram_mb", Number), ("storage_gb", Number), ("vm_count", Number)],
    perhaps: &[("arch", Text), ("gpus", Number), ("gpu_kind", Text)],
};
const HOST: Object = Object {
    always: &[
        ("id", Text),
        ("url", Text),
        ("state", Text),
        ("capacity", One(&CAPACITY)),
        ("allocated", One(&CAPACITY)),
        ("last_seen", Time),
        ("created_at", Time),
        ("updated_at", Time),
    ],
    perhaps: &[("region", Text), ("backend", Text), ("labels", Words), ("warnings", Texts)],
};
const HOSTS: Object = Object { always: &[("hosts", Many(&HOST))], perhaps: &[("next_cursor", Text)] };
const KEY: Object = Object {
    always: &[("id", Text), ("created_at", Time), ("role", Text)],
    perhaps: &[("label", Text), ("last_used_at", Time), ("revoked_at", Time), ("expires_at", Time)],
};
const KEYS: Object = Object { always: &[("api_keys", Many(&KEY))], perhaps: &[] };
const KEY_CREATED: Object = Object {
    always: &[("id", Text), ("created_at", Time), ("key", Text), ("role", Text)],
    perhaps: KEY.perhaps,
};
const DISPLAY: Object = Object {
    always: &[("up", Truth), ("width", Number), ("height", Number)],
    perhaps: &[("display", Text), ("error", Text)],
};
const LETTER: Object = Object {
    always: &[
        ("kind", Text),
        ("entity_id", Text),
        ("task_id", Text),
        ("reason", Text),
        ("retry_count", Number),
        ("first_seen_at", Time),
        ("last_seen_at", Time),
    ],
    perhaps: &[],
};
const LETTERS: Object = Object { always: &[("dead_letters", Many(&LETTER))], perhaps: &[] };
const VERSION: Object = Object { always: &[("service", Text), ("version", Text)], perhaps: &[] };
const ERROR: Object = Object { always: &[("code", Text), ("message", Text)], perhaps: &[("details", Words)] };
const ENVELOPE: Object = Object { always: &[("error", One(&ERROR))], perhaps: &[] };

/// What is answered to a request that succeeds; the paths with `*` where ids are.
const ANSWERS: &[(&str, &str, u64, &Object)] = &[
    ("GET", "/v1/version", 200, &VERSION),
    ("POST", "/v1/environments", 201, &ENVIRONMENT),
    ("GET", "/v1/environments", 200, &ENVIRONMENTS),
    ("GET", "/v1/environments/*", 200, &ENVIRONMENT),
    ("POST", "/v1/environments/*?action=drain", 200, &ENVIRONMENT),
    ("POST", "/v1/environments/*?action=fork", 201, &ENVIRONMENT),
    ("POST", "/v1/environments/*?action=exec", 200, &EXEC),
    ("GET", "/v1/environments/*/computer", 200, &DISPLAY),
    ("POST", "/v1/environments/*/snapshots", 201, &SNAPSHOT),
    ("GET", "/v1/snapshots", 200, &SNAPSHOTS),
    ("GET", "/v1/snapshots/resolve", 200, &LAYER),
    ("GET", "/v1/snapshots/*", 200, &SNAPSHOT),
    ("GET", "/v1/hosts", 200, &HOSTS),
    ("GET", "/v1/hosts/*", 200, &HOST),
    ("GET", "/v1/api-keys", 200, &KEYS),
    ("POST", "/v1/api-keys", 201, &KEY_CREATED),
    ("GET", "/v1/dead-letters", 200, &LETTERS),
];

/// By which code each status is told, and no other.
const CODES: &[(u64, &[&str])] = &[
    (400, &["invalid_argument"]),
    (401, &["unauthorized"]),
    (403, &["unauthorized", "forbidden"]),
    (404, &["not_found", "route_not_found"]),
    (409, &["conflict"]),
    (413, &["payload_too_large"]),
    (500, &["internal"]),
    (501, &["unimplemented"]),
    (503, &["unavailable"]),
];

/// Holds a recorded life against the contract, and against its file.
pub(crate) fn check(recorded: &Path, runtime: &str) {
    let text = fs::read_to_string(recorded).expect("a recorded life");
    let exchanges: Vec<Value> = serde_json::from_str(&text).expect("JSON");
    let mut statuses = BTreeSet::new();
    for exchange in &exchanges {
        if let Err(complaint) = check_exchange(exchange) {
            panic!("{complaint} in {exchange:#}");
        }
        statuses.extend(exchange["answer"]["status"].as_u64());
    }
    let all = [200, 201, 204, 400, 401, 403, 404, 405, 409, 413, 501, 503];
    assert!(all.iter().all(|status| statuses.contains(status)), "only {statuses:?}");

    let new = fs::read_to_string(recorded.with_extension("json.golden")).expect("the same for every run");
    let golden =
        Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../tests/fuse/golden/{runtime}.json"));
    if std::env::var_os("CHASSIS_UPDATE_GOLDEN").is_some() {
        fs::write(&golden, &new).expect("a file in the source tree");
    }
    let old = fs::read_to_string(&golden).unwrap_or_default();
    if let Some((line, (was, is))) = lines(&old).zip(lines(&new)).enumerate().find(|(_, (was, is))| was != is)
    {
        let near: Vec<&str> = new.lines().skip(line.saturating_sub(12)).take(24).collect();
        panic!(
            "{} line {}: it was {was:?} and is {is:?}, near\n{}\n(CHASSIS_UPDATE_GOLDEN=1 takes over what is wanted)",
            golden.display(),
            line + 1,
            near.join("\n")
        );
    }
}

/// With an end, so that what is shorter differs.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().chain(["(the end)"])
}

fn check_exchange(exchange: &Value) -> Result<(), String> {
    let (request, answer) = (&exchange["request"], &exchange["answer"]);
    let status = answer["status"].as_u64().unwrap_or_default();
    let server = answer["headers"]["server"].as_str().unwrap_or_default();
    if !server.starts_with("fuse-orchestrator/") {
        return Err(format!("the server is {server:?}"));
    }
    if let Some(stream) = answer["stream"].as_str() {
        let mut events = stream.lines().filter_map(|line| line.strip_prefix("data: "));
        return events.try_for_each(|data| {
            let event = serde_json::from_str(data).map_err(|error| error.to_string())?;
            check_object(&event, &EVENT, "event")
        });
    }
    let body = &answer["body"];
    match status {
        204 | 405 if body.as_str() == Some("") => Ok(()),
        400.. => {
            check_object(body, &ENVELOPE, "body")?;
            let code = body["error"]["code"].as_str().unwrap_or_default();
            let is_known = CODES.iter().any(|(of, codes)| *of == status && codes.contains(&code));
            if is_known { Ok(()) } else { Err(format!("{status} with {code}")) }
        }
        _ => {
            let (method, path) = (request["method"].as_str(), request["path"].as_str().unwrap_or_default());
            let found = ANSWERS
                .iter()
                .find(|(verb, pattern, of, _)| method == Some(verb) && *of == status && fits(path, pattern));
            let (_, pattern, _, object) = found.ok_or("an answer that nobody documented")?;
            check_object(body, object, pattern)
        }
    }
}

/// Of the query only an action matters.
fn fits(path: &str, pattern: &str) -> bool {
    let split = |path: &str| {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let action = query.split('&').find(|part| part.starts_with("action=")).map(str::to_owned);
        (path.split('/').map(str::to_owned).collect::<Vec<_>>(), action)
    };
    let ((is, action), (wanted, wanted_action)) = (split(path), split(pattern));
    is.len() == wanted.len()
        && action == wanted_action
        && is.iter().zip(&wanted).all(|(is, wanted)| wanted == "*" || is == wanted)
}

fn check_object(value: &Value, object: &Object, at: &str) -> Result<(), String> {
    let fields = value.as_object().ok_or_else(|| format!("{at} is no object"))?;
    if let Some((missing, _)) = object.always.iter().find(|(name, _)| !fields.contains_key(*name)) {
        return Err(format!("{at} has no {missing}"));
    }
    for (name, value) in fields {
        let mut known = object.always.iter().chain(object.perhaps);
        let kind = known.find(|(known, _)| known == name).map(|(_, kind)| *kind);
        let at = format!("{at}.{name}");
        check_kind(value, kind.ok_or_else(|| format!("{at} is not documented"))?, &at)?;
    }
    Ok(())
}

fn check_kind(value: &Value, kind: Kind, at: &str) -> Result<(), String> {
    let is_right = match kind {
        Text => value.is_string(),
        Time => value.as_str().is_some_and(|time| time.parse::<jiff::Timestamp>().is_ok()),
        Number => value.is_i64(),
        Truth => value.is_boolean(),
        Texts => value.as_array().is_some_and(|all| all.iter().all(Value::is_string)),
        Words => value.as_object().is_some_and(|all| all.values().all(Value::is_string)),
        One(object) => return check_object(value, object, at),
        Many(object) => {
            let all = value.as_array().ok_or_else(|| format!("{at} is no list: {value}"))?;
            return all.iter().try_for_each(|one| check_object(one, object, at));
        }
    };
    if is_right { Ok(()) } else { Err(format!("{at} is no {kind:?}: {value}")) }
}
