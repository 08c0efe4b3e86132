//! What the sandbox leaves open. Everything is closed unless it is named here, and most of what is named here the
//! server refuses unless its own configuration allows it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{AppArmorProfile, Capability, SeLinuxWord, SeccompProfile};

/// What the sandbox leaves open. Everything is closed unless it is named here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Security {
    /// Lets the agent write to its root file system.
    #[serde(default, alias = "writable_root", skip_serializing_if = "std::ops::Not::not")]
    pub writable_root: bool,
    /// Linux capabilities to keep, such as `NET_BIND_SERVICE`; all others are dropped. The server must allow `ALL`, and
    /// those that are as good as root on the host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub capabilities: Vec<Capability>,
    /// The AppArmor profile that confines the agent, by the name under which the host has loaded it. Without it
    /// Docker's own. The server must allow `unconfined`.
    #[serde(default, alias = "app_armor", alias = "apparmor", skip_serializing_if = "Option::is_none")]
    pub app_armor: Option<AppArmorProfile>,
    /// The SELinux label of the agent's processes. Without it Docker makes one.
    #[serde(
        default,
        alias = "se_linux",
        alias = "selinux",
        alias = "seLinuxOptions",
        skip_serializing_if = "Option::is_none"
    )]
    pub se_linux: Option<SeLinux>,
    /// The system calls that the agent may make: `<name>.json` in the server's directory of profiles. Without it
    /// Docker's own profile. The server must allow `unconfined`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seccomp: Option<SeccompProfile>,
    /// Takes away nearly all that keeps the agent in its sandbox. The server must allow it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub privileged: bool,
    /// The agent uses the host's network instead of the fleet's. The server must allow it.
    #[serde(default, alias = "host_network", skip_serializing_if = "std::ops::Not::not")]
    pub host_network: bool,
    /// The agent sees the processes of the host. The server must allow it.
    #[serde(default, alias = "host_pid", alias = "hostPID", skip_serializing_if = "std::ops::Not::not")]
    pub host_pid: bool,
    /// The agent shares the host's shared memory and message queues. The server must allow it.
    #[serde(default, alias = "host_ipc", alias = "hostIPC", skip_serializing_if = "std::ops::Not::not")]
    pub host_ipc: bool,
    /// `host`: where Docker maps users to others of the host, the agent's stay what they are. The server must allow it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub userns: Option<UserNamespace>,
}

/// Which user namespace an agent is in, if not in Docker's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum UserNamespace {
    /// That of the host.
    Host,
}

/// The parts of an SELinux label that are not Docker's own choice. At least one is given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SeLinux {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<SeLinuxWord>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<SeLinuxWord>,
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<SeLinuxWord>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<SeLinuxWord>,
}

impl SeLinux {
    /// The parts that are given, by name.
    pub fn parts(&self) -> impl Iterator<Item = (&'static str, &SeLinuxWord)> {
        let parts =
            [("user", &self.user), ("role", &self.role), ("type", &self.kind), ("level", &self.level)];
        parts.into_iter().filter_map(|(name, part)| Some((name, part.as_ref()?)))
    }

    /// True if a process with this label is as free as one without.
    pub fn is_unconfined(&self) -> bool {
        let kind = self.kind.as_ref().map_or("", |kind| kind.as_str());
        kind == "spc_t" || kind.starts_with("unconfined")
    }
}

impl AppArmorProfile {
    /// True if it confines nothing.
    pub fn is_unconfined(&self) -> bool {
        self.as_str() == "unconfined"
    }
}

impl SeccompProfile {
    /// True if it forbids nothing.
    pub fn is_unconfined(&self) -> bool {
        self.as_str() == "unconfined"
    }
}
