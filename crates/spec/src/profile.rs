//! What runs in an environment, beside the image: Fuse's `AgentSpec`, given with a request or registered under a name.
//!
//! All of its fields may be left out, and what is given with a request goes before what the profile says that it names.
//! Its tokens and files are kept encrypted, and shown by nobody.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::check::{Checked, check_count, check_passable, check_positive, is_at_or_below, wrong};
use crate::text::quoted;
use crate::yaml::Step::{Field, Index};
use crate::{AgentName, MountPath, Seconds};

/// Where what is downloaded is put, unless the profile says where; a volume, since nothing that is run can be in memory.
pub const AGENT_DIRECTORY: &str = "/opt/agent";

const FILES_MAX: usize = 64;
const PROFILES_MAX: usize = 100;
/// Bytes of all files together, as those of a request.
const CONTENT_MAX: usize = 512 << 10;
const COMMAND_MAX: usize = 16 << 10;
const TOKEN_MAX: usize = 4 << 10;
const URL_MAX: usize = 2 << 10;
/// Whoever drains an environment waits for it.
const DRAIN_MAX: Seconds = Seconds(600);
/// Where the server puts what is its own, and where nothing can be.
const RESERVED: [&str; 5] = ["/fuse", "/proc", "/sys", "/dev", "/.chassis"];

/// An agent that environments run.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, remote = "Self")]
pub struct AgentProfile {
    /// By which it is chosen. In a request: the profile that the other fields go before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<AgentName>,
    /// What it is, for people.
    #[serde(default, deserialize_with = "crate::text::optional", skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Written before each start; the agent's user owns them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<ProfileFile>,
    /// Fetched by the server, and put into the environment before each start, as a file that can be run.
    #[serde(
        default,
        alias = "downloadURL",
        alias = "download_url",
        deserialize_with = "crate::text::optional",
        skip_serializing_if = "Option::is_none"
    )]
    pub download_url: Option<String>,
    /// What the download must be: SHA-256, in hex. There is no download without it.
    #[serde(
        default,
        alias = "downloadSHA256",
        alias = "download_sha256",
        deserialize_with = "crate::text::optional",
        skip_serializing_if = "Option::is_none"
    )]
    pub download_sha256: Option<String>,
    /// Where the download is put; `/opt/agent/agent` without it. With no `downloadUrl`, the server's own is fetched, if it has
    /// one.
    #[serde(default, alias = "download_path", skip_serializing_if = "Option::is_none")]
    pub download_path: Option<MountPath>,
    /// Run by `sh -lc` as the main process of the environment, for as long as that lives; begin it with `exec`, so that
    /// signals reach the agent itself. Without it nothing runs but what is asked for.
    #[serde(default, deserialize_with = "crate::text::optional", skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Run by `sh -lc` before the agent is ended by a drain or a stop.
    #[serde(
        default,
        alias = "drain_command",
        deserialize_with = "crate::text::optional",
        skip_serializing_if = "Option::is_none"
    )]
    pub drain_command: Option<String>,
    /// How long that may take; 30 s without it, 10 min at most.
    #[serde(default, alias = "drain_timeout", skip_serializing_if = "Option::is_none")]
    pub drain_timeout: Option<Seconds>,
    /// What the agent is called with, in `/fuse/auth-token`; without it one that the server makes for each environment.
    #[serde(
        default,
        alias = "auth_token",
        deserialize_with = "crate::text::optional",
        skip_serializing_if = "Option::is_none"
    )]
    pub auth_token: Option<String>,
    /// Where the agent reports to: `FUSE_GATEWAY`, and in `/fuse/gateway.json`.
    #[serde(default, deserialize_with = "crate::text::optional", skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    /// With what: `FUSE_GATEWAY_TOKEN`, and in `/fuse/gateway.json`.
    #[serde(
        default,
        alias = "gateway_token",
        deserialize_with = "crate::text::optional",
        skip_serializing_if = "Option::is_none"
    )]
    pub gateway_token: Option<String>,
}

/// A file of an agent. Exactly one of `content` and `base64` is given.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProfileFile {
    pub path: MountPath,
    /// The text that it holds.
    #[serde(default, deserialize_with = "crate::text::optional", skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// The bytes that it holds.
    #[serde(default, deserialize_with = "crate::text::optional", skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub executable: bool,
}

/// Several profiles in one document.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ProfileList {
    #[serde(deserialize_with = "unchecked_profiles")]
    pub(crate) profiles: Vec<AgentProfile>,
}

impl Serialize for AgentProfile {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        AgentProfile::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for AgentProfile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let profile = AgentProfile::deserialize(deserializer)?;
        profile.check().map_err(serde::de::Error::custom)?;
        Ok(profile)
    }
}

fn unchecked_profiles<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<AgentProfile>, D::Error> {
    #[derive(Deserialize)]
    struct Unchecked(#[serde(deserialize_with = "AgentProfile::deserialize")] AgentProfile);

    Ok(Vec::<Unchecked>::deserialize(deserializer)?.into_iter().map(|profile| profile.0).collect())
}

impl AgentProfile {
    /// What must hold between its fields.
    pub fn check(&self) -> Checked {
        check_files(&self.files)?;
        match (&self.download_url, &self.download_sha256) {
            (None, None) => {}
            (Some(url), Some(sha256)) => {
                check_url(url, "downloadUrl")?;
                check_sha256(sha256)?;
            }
            (Some(_), None) => {
                let message = "a download needs `downloadSha256` too: `sha256sum FILE` says what it is";
                return Err(wrong("downloadUrl", message));
            }
            (None, Some(_)) => {
                return Err(wrong("downloadSha256", "write `downloadUrl` too, or leave this out"));
            }
        }
        if let Some(path) = &self.download_path {
            check_path(path).map_err(|invalid| wrong("downloadPath", invalid))?;
        }
        for (text, field) in [(&self.command, "command"), (&self.drain_command, "drainCommand")] {
            let Some(text) = text else { continue };
            if text.trim().is_empty() {
                return Err(wrong(field, "there is nothing to run; leave it out"));
            }
            check_count(text.len(), COMMAND_MAX, field)?;
            check_passable(text, field)?;
        }
        if let Some(timeout) = self.drain_timeout {
            check_positive(timeout.0.into(), "drainTimeout", "no time at all")?;
            if timeout > DRAIN_MAX {
                return Err(wrong("drainTimeout", format!("{timeout} is too long: write at most 10m")));
            }
        }
        for (text, field) in [(&self.auth_token, "authToken"), (&self.gateway_token, "gatewayToken")] {
            let Some(text) = text else { continue };
            if text.is_empty() || text.len() > TOKEN_MAX || text.contains(|c: char| !c.is_ascii_graphic()) {
                return Err(wrong(field, "a token is 1 to 4096 characters of ASCII without spaces"));
            }
        }
        match &self.gateway {
            Some(gateway) if gateway.len() > URL_MAX || gateway.contains(char::is_control) => {
                Err(wrong("gateway", "this is no address"))
            }
            _ => Ok(()),
        }
    }

    /// This, and what it leaves out from `base`.
    #[must_use]
    pub fn over(self, base: AgentProfile) -> AgentProfile {
        let mut files = base.files;
        for file in self.files {
            files.retain(|known| known.path != file.path);
            files.push(file);
        }
        // A checksum is of one download.
        let (download_url, download_sha256) = match self.download_url {
            Some(url) => (Some(url), self.download_sha256),
            None => (base.download_url, base.download_sha256),
        };
        AgentProfile {
            name: self.name.or(base.name),
            description: self.description.or(base.description),
            files,
            download_url,
            download_sha256,
            download_path: self.download_path.or(base.download_path),
            command: self.command.or(base.command),
            drain_command: self.drain_command.or(base.drain_command),
            drain_timeout: self.drain_timeout.or(base.drain_timeout),
            auth_token: self.auth_token.or(base.auth_token),
            gateway: self.gateway.or(base.gateway),
            gateway_token: self.gateway_token.or(base.gateway_token),
        }
    }

    /// Where what is downloaded is put, if anything is.
    pub fn download_to(&self) -> Option<MountPath> {
        let usual = || format!("{AGENT_DIRECTORY}/agent").parse().ok();
        self.download_path.clone().or_else(|| self.download_url.as_ref().and_then(|_| usual()))
    }
}

impl ProfileFile {
    /// What it holds. None if that is no Base64, which a checked profile's is.
    pub fn bytes(&self) -> Option<Vec<u8>> {
        match (&self.content, &self.base64) {
            (Some(text), _) => Some(text.as_bytes().to_vec()),
            (None, Some(base64)) => STANDARD.decode(base64).ok(),
            (None, None) => None,
        }
    }
}

impl fmt::Debug for AgentProfile {
    /// Never what is in its files, commands or tokens.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("AgentProfile").field("name", &self.name).finish_non_exhaustive()
    }
}

impl fmt::Debug for ProfileFile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ProfileFile").field("path", &self.path).finish_non_exhaustive()
    }
}

impl ProfileList {
    pub(crate) fn check(&self) -> Checked {
        check_count(self.profiles.len(), PROFILES_MAX, "profiles")?;
        for (index, profile) in self.profiles.iter().enumerate() {
            let here = [Field("profiles"), Index(index)];
            check_named(profile).map_err(|invalid| invalid.under(&here))?;
            if self.profiles[..index].iter().any(|earlier| earlier.name == profile.name) {
                return Err(wrong("name", "this name is there twice").under(&here));
            }
        }
        Ok(())
    }
}

/// As it must be to be registered.
pub(crate) fn check_named(profile: &AgentProfile) -> Checked {
    if profile.name.is_none() {
        return Err(wrong("name", "a profile needs a `name`, by which it is chosen"));
    }
    profile.check()
}

fn check_files(files: &[ProfileFile]) -> Checked {
    check_count(files.len(), FILES_MAX, "files")?;
    let mut total = 0;
    for (index, file) in files.iter().enumerate() {
        let here = [Field("files"), Index(index)];
        let at = |field, message: String| Err(wrong(field, message).under(&here));
        if let Err(message) = check_path(&file.path) {
            return at("path", message);
        }
        if files[..index].iter().any(|earlier| earlier.path == file.path) {
            return at("path", format!("{} is there twice", quoted(file.path.as_str())));
        }
        match (&file.content, &file.base64) {
            (Some(_), None) | (None, Some(_)) => {}
            _ => return at("content", "write either `content` or `base64`".to_owned()),
        }
        let Some(bytes) = file.bytes() else { return at("base64", "this is not Base64".to_owned()) };
        total += bytes.len();
        if total > CONTENT_MAX {
            return at(
                "content",
                "the files hold more than 512 KiB; use a download, or the image".to_owned(),
            );
        }
    }
    Ok(())
}

fn check_path(path: &MountPath) -> Result<(), String> {
    let path = path.as_str();
    if path == "/" {
        return Err("a file needs a name".to_owned());
    }
    match RESERVED.iter().find(|reserved| is_at_or_below(path, reserved)) {
        Some(reserved) => Err(format!("{reserved} is not the agent's to write; choose another path")),
        None => Ok(()),
    }
}

/// Only its form: what may be fetched is the server's to say.
fn check_url(url: &str, field: &'static str) -> Checked {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let Some(rest) = rest else { return Err(wrong(field, "write an address that begins with https://")) };
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if host.contains('@') {
        return Err(wrong(field, "an address holds no user and no password here"));
    }
    if host.is_empty() || url.len() > URL_MAX || url.contains(|c: char| !c.is_ascii_graphic() || c == '#') {
        return Err(wrong(field, "this is no address: write https://HOST/PATH, without spaces and `#`"));
    }
    Ok(())
}

fn check_sha256(text: &str) -> Checked {
    if text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(());
    }
    Err(wrong("downloadSha256", "a checksum is 64 hex digits, as `sha256sum FILE` prints them"))
}
