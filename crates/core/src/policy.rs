//! What a YAML may open only on a server whose own configuration allows it: whatever gives an agent more than its sandbox.
//!
//! Who may write an agent's YAML may not, for that alone, have the host.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use chassis_spec::{AgentSpec, Capability, UserNamespace};

/// Something that the server's configuration must allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Opening {
    Privileged,
    HostNetwork,
    HostPid,
    HostIpc,
    /// No seccomp, AppArmor or SELinux.
    Unconfined,
    /// `ALL`, and the capabilities that are as good as root on the host.
    AllCapabilities,
    HostUserns,
}

impl Opening {
    pub const ALL: [Opening; 7] = [
        Opening::Privileged,
        Opening::HostNetwork,
        Opening::HostPid,
        Opening::HostIpc,
        Opening::Unconfined,
        Opening::AllCapabilities,
        Opening::HostUserns,
    ];

    /// As in `chassis serve --allow`.
    pub fn word(self) -> &'static str {
        match self {
            Opening::Privileged => "privileged",
            Opening::HostNetwork => "host-network",
            Opening::HostPid => "host-pid",
            Opening::HostIpc => "host-ipc",
            Opening::Unconfined => "unconfined",
            Opening::AllCapabilities => "all-capabilities",
            Opening::HostUserns => "host-userns",
        }
    }
}

impl fmt::Display for Opening {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.word())
    }
}

/// A word that is no [`Opening`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is nothing that a server can allow; write some of {words}", words = Opening::ALL.map(Opening::word).join(", "))]
pub struct UnknownOpening(String);

impl FromStr for Opening {
    type Err = UnknownOpening;

    fn from_str(text: &str) -> Result<Self, UnknownOpening> {
        Opening::ALL
            .into_iter()
            .find(|opening| opening.word() == text)
            .ok_or_else(|| UnknownOpening(text.to_owned()))
    }
}

/// A line of a YAML that the server does not allow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// `security.capabilities[1]`.
    pub field: String,
    pub value: String,
    pub opening: Opening,
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Refusal { field, value, opening } = self;
        write!(
            formatter,
            "`{field}: {value}` is not allowed by this server; if agents may have it, start the server with \
             --allow {opening} or CHASSIS_ALLOW={opening}"
        )
    }
}

/// With these an agent that is root gets at the host in one way or another: by mounting, by loading code into the
/// kernel, by opening any file through its handle, by writing to memory or devices.
const AS_GOOD_AS_ROOT: [&str; 8] = [
    "BPF",
    "DAC_READ_SEARCH",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_MODULE",
    "SYS_RAWIO",
];

/// True for `ALL` and what is as good as root on the host.
pub fn is_sweeping(capability: &Capability) -> bool {
    capability.as_str() == Capability::ALL || AS_GOOD_AS_ROOT.contains(&capability.as_str())
}

/// What a spec opens that a server's configuration must allow, in the order of its fields.
pub fn openings(spec: &AgentSpec) -> Vec<Refusal> {
    let security = &spec.security;
    let mut found = Vec::new();
    let mut add = |field: &str, value: &str, opening| {
        found.push(Refusal { field: format!("security.{field}"), value: value.to_owned(), opening });
    };
    for (index, capability) in security.capabilities.iter().enumerate() {
        if is_sweeping(capability) {
            add(&format!("capabilities[{index}]"), capability.as_str(), Opening::AllCapabilities);
        }
    }
    if let Some(profile) = security.app_armor.as_ref().filter(|profile| profile.is_unconfined()) {
        add("appArmor", profile.as_str(), Opening::Unconfined);
    }
    if let Some(label) = security.se_linux.as_ref().filter(|label| label.is_unconfined()) {
        add("seLinux.type", label.kind.as_ref().map_or("", |kind| kind.as_str()), Opening::Unconfined);
    }
    if let Some(profile) = security.seccomp.as_ref().filter(|profile| profile.is_unconfined()) {
        add("seccomp", profile.as_str(), Opening::Unconfined);
    }
    let flags = [
        (security.privileged, "privileged", Opening::Privileged),
        (security.host_network, "hostNetwork", Opening::HostNetwork),
        (security.host_pid, "hostPid", Opening::HostPid),
        (security.host_ipc, "hostIpc", Opening::HostIpc),
    ];
    for (is_set, field, opening) in flags {
        if is_set {
            add(field, "true", opening);
        }
    }
    match security.userns {
        Some(UserNamespace::Host) => add("userns", "host", Opening::HostUserns),
        None => {}
    }
    found
}

/// What of it the server does not allow.
pub fn refusals(spec: &AgentSpec, allowed: &BTreeSet<Opening>) -> Vec<Refusal> {
    openings(spec).into_iter().filter(|refusal| !allowed.contains(&refusal.opening)).collect()
}
