//! What somebody probably meant: the nearest name, or chassis' word for a habit from Compose or Kubernetes.

/// The nearest of `names` that is near enough to be a slip.
pub fn closest<'n>(written: &str, names: &[&'n str]) -> Option<&'n str> {
    let written = written.to_lowercase();
    let allowed = written.chars().count().div_ceil(3);
    names
        .iter()
        .map(|name| (strsim::damerau_levenshtein(&written, &name.to_lowercase()), *name))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// `names` without the second spellings that are read as well: of each, the one that we write.
fn canonical(names: &[&'static str], ours: impl Fn(&str) -> bool) -> Vec<&'static str> {
    let letters = |name: &str| name.replace(['_', '-'], "").to_lowercase();
    let mut kept: Vec<&'static str> = Vec::new();
    for name in names {
        match kept.iter_mut().find(|other| letters(other) == letters(name)) {
            Some(other) if !ours(other) => *other = name,
            Some(_) => {}
            None => kept.push(name),
        }
    }
    kept
}

/// Fields are written in camelCase.
pub(crate) fn fields(names: &[&'static str]) -> Vec<&'static str> {
    let is_shouted = |name: &str| ["IP", "IPC", "PID"].iter().any(|word| name.ends_with(word));
    canonical(names, move |name| !name.contains('_') && !is_shouted(name))
}

/// Words are written in kebab-case.
pub(crate) fn words(names: &[&'static str]) -> Vec<&'static str> {
    canonical(names, |name| name.chars().all(|c| c.is_ascii_lowercase() || c == '-'))
}

/// What to write instead of an unknown field.
pub(crate) fn field(written: &str, allowed: &[&'static str]) -> String {
    let allowed = fields(allowed);
    let foreign = FOREIGN.iter().find(|(name, _)| *name == written).map(|(_, instead)| *instead);
    match (foreign, closest(written, &allowed)) {
        (Some(instead), _) => instead.to_owned(),
        (None, Some(near)) => format!("did you mean `{near}`?"),
        (None, None) if allowed.len() <= 8 => format!("known here: {}", allowed.join(", ")),
        (None, None) => "`chassis schema` shows what is known".to_owned(),
    }
}

/// What to write where one of our structures stands as something else.
pub(crate) fn structure(name: &str) -> Option<&'static str> {
    SHAPES.iter().find(|(shape, _)| *shape == name).map(|(_, instead)| *instead)
}

const SHAPES: [(&str, &str); 10] = [
    ("EnvVar", "write `- name: KEY` and below it `value: …` or `valueFrom: secret://<fleet>/<name>`"),
    ("EnvFrom", "write `- secret: secret://<fleet>/<name>`"),
    ("Volume", "write `- name: data` and below it `mountPath: /data`"),
    ("ScratchPath", "write `- path: cache`"),
    ("Port", "write `- containerPort: 80` and, to publish it, `hostPort: 8080` below it"),
    ("Tmpfs", "write `size: 64Mi` below it"),
    ("TcpProbe", "write `port: 80` below it"),
    ("NfsVolume", "write `server: nas` and `path: /export/data` below it"),
    ("DockerVolume", "write `{}` for one of the instance's own, or `name: models` below it"),
    ("ExecProbe", "write `command: [\"/bin/check\"]` below it"),
];

const KUBERNETES: &str = "this is a Kubernetes object; write its container's fields at the top: `name`, `image`, `env`, `resources`";
const COMPOSE: &str =
    "this is a Compose file; write each service as one document, or as an entry of `agents`";
const QUANTITIES: &str = "write `cpu` and `memory` directly under `resources`; they are the limits";

/// Fields of Compose, Docker and Kubernetes that have another name here, or none.
const FOREIGN: [(&str, &str); 66] = [
    ("apiVersion", KUBERNETES),
    ("kind", KUBERNETES),
    ("metadata", KUBERNETES),
    ("spec", KUBERNETES),
    ("template", KUBERNETES),
    ("containers", KUBERNETES),
    ("services", COMPOSE),
    ("limits", QUANTITIES),
    ("requests", QUANTITIES),
    ("reservations", QUANTITIES),
    ("environment", "write `env`, a list of `name` and `value`"),
    ("env_file", "put the lines in a secret and name it in `envFrom`"),
    ("mem_limit", "write `memory` under `resources`"),
    ("cpus", "write `cpu` under `resources`"),
    ("cpu", "write `cpu` under `resources`"),
    ("memory", "write `memory` under `resources`"),
    ("pids_limit", "write `pids` under `resources`"),
    ("ulimits", "write `files` under `resources`"),
    ("deploy", "write `replicas` and `resources` at the top"),
    ("scale", "write `replicas`"),
    ("restart", "write `restart_policy`: always, on-failure or never"),
    ("depends_on", "agents start on their own; leave it out and let the agent try again"),
    ("links", "agents of a fleet share a network; leave it out"),
    ("networks", "every fleet has its own network; `network: {fleets: [other]}` joins another's"),
    ("network_mode", "every fleet has its own network; `network: none` takes an agent out of it"),
    ("networkMode", "every fleet has its own network; `network: none` takes an agent out of it"),
    ("extra_hosts", "write `network: {hostPorts: [5432]}`; the host is host.chassis.internal"),
    ("container_name", "write `name`"),
    ("hostname", "an instance's name is its host name; leave it out"),
    ("entrypoint", "write `command`"),
    ("build", "build the image first, then name it in `image`"),
    ("healthcheck", "write `healthCheck`"),
    ("livenessProbe", "write `healthCheck`"),
    ("readinessProbe", "write `healthCheck`"),
    ("httpGet", "write `http`"),
    ("tcpSocket", "write `tcp`"),
    ("test", "write `exec`, and `command` under it"),
    ("periodSeconds", "write `interval`"),
    ("timeoutSeconds", "write `timeout`"),
    ("failureThreshold", "write `retries`"),
    ("initialDelaySeconds", "write `startPeriod`"),
    ("stop_signal", "write `signal` under `stop`"),
    ("stop_grace_period", "write `grace` under `stop`"),
    ("terminationGracePeriodSeconds", "write `grace` under `stop`"),
    ("cap_add", "write `capabilities` under `security`"),
    ("privileged", "name what the agent needs in `capabilities` under `security`"),
    ("cap_drop", "all capabilities are dropped anyway; leave it out"),
    ("security_opt", "write `appArmor`, `seLinux` or `seccomp` under `security`"),
    ("seccompProfile", "write `seccomp`, and the name of a profile of the server's"),
    ("appArmorProfile", "write `appArmor`, and the profile's name"),
    ("read_only", "the root is read-only anyway; leave it out"),
    ("readOnlyRootFilesystem", "the root is read-only anyway; `writableRoot: true` opens it"),
    ("allowPrivilegeEscalation", "an agent cannot gain privileges; leave it out"),
    ("runAsUser", "write `user` at the top"),
    ("runAsNonRoot", "an agent is not root unless `user` says so; leave it out"),
    ("hostNetwork", "write `hostNetwork` under `security`"),
    ("hostPID", "write `hostPid` under `security`"),
    ("hostIPC", "write `hostIpc` under `security`"),
    ("pid", "write `hostPid` under `security`"),
    ("ipc", "write `hostIpc` under `security`"),
    ("userns_mode", "write `userns: host` under `security`"),
    ("securityContext", "write `security` and `user`"),
    ("secrets", "write a volume with `secret: secret://<fleet>/<name>`, or `valueFrom` in `env`"),
    ("secretRef", "write `secret: secret://<fleet>/<name>`"),
    ("source", "write `hostPath` for a path of the host; without it the volume is the instance's own"),
    ("target", "write `mountPath`"),
];
