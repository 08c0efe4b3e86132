//! What may be asked of a new environment. Everything is checked in the order in which Fuse does, before anything is made.

use std::collections::{BTreeMap, BTreeSet};

use axum::http::StatusCode;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chassis_api::fuse::{EnvironmentCreate, GuestCheck, ResourceSpec};
use chassis_core::environment::{NO_CAPACITY, WAIT_MOST, agent_names};
use chassis_core::schedule::{Refused, Unfit};
use chassis_store::Snapshot;
use serde::Deserialize;

use super::body::{invalid, too_large};
use super::kept::{Kept, KeptPort, Private};
use crate::api::failure::{Failure, Result};
use crate::options::EnvironmentOptions;

/// Bytes of all files together.
const FILES_MOST: usize = 512 << 10;
const LONGEST_TASK: usize = 256;
const PORTS_MOST: usize = 32;
const IDLE_LEAST: i64 = 60;
/// Kinds that have no multi-instance GPU.
const WHOLE_GPUS: [&str; 11] =
    ["v100", "t4", "p100", "p40", "k80", "rtx", "gtx", "titan", "l4", "l40", "l40s"];
/// A manifest that asks for nothing.
const MANIFEST: &str = r#"{"version":"1","machine":{"workspace":"/workspace"},"services":{}}"#;
const WORKSPACE: &str = "/workspace";

/// A request that makes sense.
pub(super) struct Asked {
    pub(super) task_id: String,
    pub(super) kept: Kept,
    pub(super) private: Private,
    /// The snapshot that it is to begin from.
    pub(super) seed: Option<String>,
}

/// What a manifest says that matters here.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Manifest {
    machine: Machine,
    services: BTreeMap<String, Service>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Machine {
    workspace: String,
    env: BTreeMap<String, Variable>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Service {
    env: BTreeMap<String, Variable>,
}

/// A plain value, or the name of a secret.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Variable {
    value: Option<String>,
    secret: Option<String>,
}

/// Checks a request. `is_host` says whether there is a host of this id.
pub(super) fn check(
    mut create: EnvironmentCreate,
    is_host: impl Fn(&str) -> bool,
    options: &EnvironmentOptions,
) -> Result<Asked> {
    let (task_id, mut spec) = (std::mem::take(&mut create.task_id), std::mem::take(&mut create.spec));
    if task_id.is_empty() {
        return Err(invalid("task_id is required"));
    }
    if task_id.len() > LONGEST_TASK || task_id.contains(char::is_control) {
        return Err(invalid(format!(
            "task_id has at most {LONGEST_TASK} bytes, none of them a control character"
        )));
    }
    check_gpus(&mut spec)?;
    check_labels(&spec)?;
    if !spec.host_id.is_empty() && !is_host(&spec.host_id) {
        return Err(Failure::not_found("not_found", format!("host not found: {}", spec.host_id)));
    }
    spec.arch = arch(&spec.arch)?;
    check_limits(&spec)?;
    create.healthcheck.as_ref().map_or(Ok(()), check_health)?;
    if let Some(desktop) = &create.desktop
        && ![desktop.width, desktop.height].iter().all(|side| (320..=3840).contains(side))
    {
        return Err(invalid("desktop width and height are required, each 320 to 3840"));
    }
    let longest = WAIT_MOST.as_secs();
    if create.wait.is_some_and(|wait| i64::from(wait.0) > longest) {
        return Err(invalid(format!("wait is at most {longest} s")));
    }
    let priority = u8::try_from(create.priority);
    let priority =
        priority.map_err(|_| invalid(format!("priority is at least 0 and at most {}", u8::MAX)))?;
    let startup_timeout = check_startup(create.startup_script_timeout_seconds, options)?;
    check_files(&create.files)?;
    let ports = check_ports(&create)?;
    let (manifest, parsed) = manifest(&create.manifest_inline)?;
    let env = check_secrets(&create, &parsed)?;
    if !create.seed_snapshot_id.is_empty() && !spec.image.is_empty() {
        return Err(invalid("seed_snapshot_id and spec.image exclude each other"));
    }
    let workspace = if parsed.machine.workspace.is_empty() { WORKSPACE } else { &parsed.machine.workspace };
    let has_script = !create.startup_script.is_empty();
    Ok(Asked {
        task_id,
        kept: Kept {
            spec,
            workspace: workspace.to_owned(),
            ports,
            healthcheck: create.healthcheck,
            gateway_url: create.gateway_url,
            startup_timeout: has_script.then_some(startup_timeout),
            seed: None,
            agent: None,
            wait: create.wait.map(|wait| wait.0),
            priority,
        },
        seed: Some(create.seed_snapshot_id).filter(|id| !id.is_empty()),
        private: Private {
            token: String::new(),
            secrets: create.secrets,
            env,
            files: create.files,
            manifest,
            startup_script: create.startup_script,
            gateway_token: create.gateway_token,
            agent: None,
            tls: None,
        },
    })
}

/// Takes the values of secrets out of what is said of a failure.
pub(super) fn redacted(message: &str, private: &Private) -> String {
    let tokens = private.agent.iter().flat_map(|agent| [&agent.auth_token, &agent.gateway_token]).flatten();
    let values = private.secrets.values().chain(tokens).chain([&private.gateway_token]);
    let mut values: Vec<&String> = values.filter(|value| !value.is_empty()).collect();
    // A value that is a part of another is not to leave the rest of that behind.
    values.sort_by_key(|value| std::cmp::Reverse(value.len()));
    values.iter().fold(message.to_owned(), |message, value| message.replace(value.as_str(), "[REDACTED]"))
}

fn check_gpus(spec: &mut ResourceSpec) -> Result<()> {
    spec.gpu_profile = spec.gpu_profile.to_lowercase();
    if spec.gpus < 0 {
        return Err(invalid("gpus cannot be negative"));
    }
    if spec.gpu_profile.is_empty() {
        return Ok(());
    }
    if !is_profile(&spec.gpu_profile) {
        return Err(invalid(format!("gpu_profile `{}` is malformed: as in 1g.10gb", spec.gpu_profile)));
    }
    if spec.gpus == 0 {
        return Err(invalid("gpu_profile needs gpus"));
    }
    let kind = spec.gpu_kind.to_lowercase();
    if !kind.is_empty() && WHOLE_GPUS.iter().any(|whole| kind.contains(whole)) {
        return Err(invalid(format!("gpu_kind `{kind}` has no profiles")));
    }
    Ok(())
}

/// `1g.10gb`, `7g.80gb+me`.
fn is_profile(profile: &str) -> bool {
    let profile = profile.strip_suffix("+me").unwrap_or(profile);
    let Some((slices, memory)) = profile.split_once("g.") else { return false };
    let memory = memory.strip_suffix("gb").unwrap_or_default();
    matches!(slices.as_bytes(), [b'1'..=b'7'])
        && !memory.is_empty()
        && memory.bytes().all(|byte| byte.is_ascii_digit())
}

fn check_labels(spec: &ResourceSpec) -> Result<()> {
    let is_word = |word: &str| {
        let edge = |byte: &u8| byte.is_ascii_alphanumeric();
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        let bytes = word.as_bytes();
        (1..=63).contains(&bytes.len())
            && bytes.first().is_some_and(edge)
            && bytes.last().is_some_and(edge)
            && bytes.iter().copied().all(inner)
    };
    match spec.labels.iter().find(|(key, value)| !is_word(key) || !is_word(value)) {
        Some((key, value)) => Err(invalid(format!("label `{key}={value}` is malformed"))),
        None => Ok(()),
    }
}

fn arch(arch: &str) -> Result<String> {
    match arch {
        "" | "amd64" | "arm64" => Ok(arch.to_owned()),
        "x86_64" => Ok("amd64".to_owned()),
        "aarch64" => Ok("arm64".to_owned()),
        other => Err(invalid(format!("arch `{other}` is neither amd64 nor arm64"))),
    }
}

fn check_limits(spec: &ResourceSpec) -> Result<()> {
    if spec.cpus < 0 || spec.ram_mb < 0 || spec.storage_gb < 0 {
        return Err(invalid("cpus, ram_mb and storage_gb cannot be negative"));
    }
    if spec.max_runtime_seconds < 0 {
        return Err(invalid("max_runtime_seconds cannot be negative"));
    }
    if spec.idle_timeout_seconds != 0 && spec.idle_timeout_seconds < IDLE_LEAST {
        return Err(invalid(format!("idle_timeout_seconds is 0 or at least {IDLE_LEAST}")));
    }
    Ok(())
}

fn check_health(check: &GuestCheck) -> Result<()> {
    if check.http.is_some() != check.exec.is_empty() {
        return Err(invalid("healthcheck needs exactly one of http and exec"));
    }
    if let Some(http) = &check.http {
        if !(1..=65535).contains(&http.port) {
            return Err(invalid("healthcheck.http.port is 1 to 65535"));
        }
        if !http.path.is_empty() && !http.path.starts_with('/') {
            return Err(invalid("healthcheck.http.path begins with /"));
        }
    }
    let numbers = [check.interval_seconds, check.timeout_seconds, check.retries, check.start_period_seconds];
    if numbers.iter().any(|number| *number < 0) {
        return Err(invalid("healthcheck has a negative number"));
    }
    if check.interval_seconds > 0 && check.timeout_seconds > check.interval_seconds {
        return Err(invalid("healthcheck.timeout_seconds is at most interval_seconds"));
    }
    Ok(())
}

fn check_startup(seconds: i64, options: &EnvironmentOptions) -> Result<u32> {
    let most = options.startup_script_most;
    match u32::try_from(seconds) {
        Ok(0) => Ok(options.startup_script),
        Ok(seconds) if seconds <= most => Ok(seconds),
        Err(_) if seconds < 0 => Err(invalid("startup_script_timeout_seconds cannot be negative")),
        _ => Err(invalid(format!("startup_script_timeout_seconds is at most {most}"))),
    }
}

fn check_files(files: &BTreeMap<String, String>) -> Result<()> {
    let mut total = 0;
    for (path, content) in files {
        let is_clean = path.starts_with('/')
            && path.len() > 1
            && path[1..].split('/').all(|part| !matches!(part, "" | "." | ".."))
            && !path.contains(['\0', '\n']);
        if !is_clean {
            return Err(invalid(format!("file path {path:?} is not a clean absolute path")));
        }
        if path == "/fuse" || path.starts_with("/fuse/") {
            return Err(invalid(format!("file path {path:?} is the server's own")));
        }
        let content = STANDARD.decode(content);
        total += content.map_err(|_| invalid(format!("file {path:?} is not base64")))?.len();
    }
    if total > FILES_MOST {
        return Err(too_large(format!("the files have {total} bytes; the most is {FILES_MOST}")));
    }
    Ok(())
}

fn check_ports(create: &EnvironmentCreate) -> Result<Vec<KeptPort>> {
    if create.expose.len() > PORTS_MOST {
        return Err(invalid(format!("at most {PORTS_MOST} ports can be exposed")));
    }
    let mut seen = BTreeSet::new();
    let port = |expose: &chassis_api::fuse::Expose| {
        let port = u16::try_from(expose.port).ok().filter(|port| *port > 0);
        let port = port.ok_or_else(|| invalid("expose.port is 1 to 65535"))?;
        if !seen.insert(port) {
            return Err(invalid(format!("port {port} is exposed twice")));
        }
        Ok(KeptPort { name: expose.name.clone(), port, host_port: 0 })
    };
    create.expose.iter().map(port).collect()
}

fn manifest(inline: &str) -> Result<(String, Manifest)> {
    let text = if inline.is_empty() {
        MANIFEST.to_owned()
    } else {
        let bytes = STANDARD.decode(inline).map_err(|_| invalid("manifest_inline is not base64"))?;
        String::from_utf8(bytes).map_err(|_| invalid("the manifest is not UTF-8"))?
    };
    let parsed =
        serde_json::from_str(&text).map_err(|error| invalid(format!("the manifest is invalid: {error}")))?;
    Ok((text, parsed))
}

/// What the manifest refers to is given, and the other way round; returns the machine's variables.
fn check_secrets(create: &EnvironmentCreate, manifest: &Manifest) -> Result<BTreeMap<String, String>> {
    let variables = manifest
        .services
        .values()
        .flat_map(|service| service.env.values())
        .chain(manifest.machine.env.values());
    let referred: BTreeSet<&str> = variables.filter_map(|variable| variable.secret.as_deref()).collect();
    if let Some(missing) = referred.iter().find(|name| !create.secrets.contains_key(**name)) {
        return Err(invalid(format!("the manifest refers to secret `{missing}`, which is not given")));
    }
    // Without a manifest there is nothing that could refer to them: they are there as a file.
    if !create.manifest_inline.is_empty()
        && let Some(unused) = create.secrets.keys().find(|name| !referred.contains(name.as_str()))
    {
        return Err(invalid(format!("nothing in the manifest refers to secret `{unused}`")));
    }
    let mut env = BTreeMap::new();
    for (name, variable) in &manifest.machine.env {
        let value = match (&variable.value, &variable.secret) {
            (Some(value), None) => value.clone(),
            (None, Some(secret)) => create.secrets.get(secret).cloned().unwrap_or_default(),
            _ => return Err(invalid(format!("machine.env.{name} needs either value or secret"))),
        };
        if value.contains('\0') {
            return Err(invalid(format!("machine.env.{name} contains a NUL")));
        }
        env.insert(name.clone(), value);
    }
    Ok(env)
}

/// The architecture of this machine, in this dialect's words.
pub(super) fn own_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// What no node has.
pub(super) fn check_gpus_there(spec: &ResourceSpec) -> Result<()> {
    if spec.gpus > 0 { Err(no_capacity("no host has GPUs")) } else { Ok(()) }
}

/// What the only node has not.
pub(super) fn check_placement(spec: &ResourceSpec) -> Result<()> {
    let own = own_arch();
    let missing = if !spec.labels.is_empty() {
        "no host matches the labels".to_owned()
    } else if !spec.region.is_empty() {
        format!("no host is in region {}", spec.region)
    } else if !spec.arch.is_empty() && spec.arch != own {
        format!("no host has architecture {}", spec.arch)
    } else {
        return Ok(());
    };
    Err(no_capacity(missing))
}

/// No node can take the environment of this id now, each for a reason of its own.
pub(super) fn refused(mut refused: Refused, id: &str, seed: Option<&Snapshot>) -> Failure {
    // As it would be called if it were made, and waited.
    if let Some(name) = agent_names(id).into_iter().next() {
        refused.instance.agent = name;
    }
    let Some(seed) = seed else {
        return no_capacity(format!("{NO_CAPACITY}{refused}")).with_details(reasons(&refused));
    };
    // Nobody asked for the node: what it begins from is there.
    for unfit in refused.nodes.values_mut() {
        if let Unfit::OtherNode { wanted } = unfit {
            *unfit = Unfit::NoData { on: wanted.clone() };
        }
    }
    let message = format!("{NO_CAPACITY}snapshot {} is on {}: {refused}", seed.id, seed.node);
    no_capacity(message).with_details(reasons(&refused))
}

/// What each node lacks.
pub(super) fn reasons(refused: &Refused) -> BTreeMap<String, String> {
    refused.nodes.iter().map(|(name, unfit)| (name.to_string(), unfit.to_string())).collect()
}

/// No node can take it now.
pub(super) fn no_capacity(why: impl Into<String>) -> Failure {
    Failure::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", why)
}
