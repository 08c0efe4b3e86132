//! What is put into a sandbox before its agent runs: files, and a script that prepares it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::check::{Checked, check_count, check_passable, check_positive, is_at_or_below, wrong};
use crate::text::quoted;
use crate::yaml::Step::{Field, Index};
use crate::{AgentSpec, MountPath, Seconds, SecretRef};

/// More are a volume's work.
const FILES_MAX: usize = 256;
/// The bytes of all files that the YAML itself holds.
const CONTENT_MAX: usize = 512 << 10;
/// A script runs before each start: a longer one belongs into the image.
const TIMEOUT_MAX: Seconds = Seconds(3600);
/// Where nothing can be written, or where the sandbox has something of its own.
const RESERVED: [&str; 4] = ["/proc", "/sys", "/dev", "/.chassis"];
/// Where any agent can write.
const WRITABLE: [&str; 2] = ["/tmpfs", "/tmp"];

/// A file that is written anew before each start; the agent's user owns it, and nobody else can read it. Exactly one of
/// `content` and `secret` is given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct File {
    /// Where it is; directories that are missing are made.
    pub path: MountPath,
    /// The text that it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// `secret://<fleet>/<name>`: it holds the secret's bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretRef>,
    /// The agent can run it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub executable: bool,
}

/// What prepares the sandbox before each start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Startup {
    /// Run by `sh -lc` as the agent's user, to its end. If it fails, the agent is not started.
    pub script: String,
    /// How long it may take.
    #[serde(default = "Startup::default_timeout")]
    pub timeout: Seconds,
}

impl Startup {
    /// As a Fuse environment's.
    fn default_timeout() -> Seconds {
        Seconds(30)
    }
}

pub(crate) fn check(agent: &AgentSpec) -> Checked {
    if let Some(startup) = &agent.startup {
        check_startup(startup).map_err(|invalid| invalid.under(&[Field("startup")]))?;
    }
    check_count(agent.files.len(), FILES_MAX, "files")?;
    let mut bytes = 0;
    for (index, file) in agent.files.iter().enumerate() {
        let here = [Field("files"), Index(index)];
        bytes += file.content.as_ref().map_or(0, String::len);
        if bytes > CONTENT_MAX {
            let message = "the files hold more than 512 KiB; use secrets, a volume or the image";
            return Err(wrong("content", message).under(&here));
        }
        if agent.files[..index].iter().any(|earlier| earlier.path == file.path) {
            return Err(wrong("path", format!("{} is there twice", quoted(file.path.as_str()))).under(&here));
        }
        check_file(agent, file).map_err(|invalid| invalid.under(&here))?;
    }
    Ok(())
}

fn check_startup(startup: &Startup) -> Checked {
    if startup.script.trim().is_empty() {
        return Err(wrong("script", "there is nothing to run; leave out `startup`"));
    }
    check_passable(&startup.script, "script")?;
    check_positive(startup.timeout.0.into(), "timeout", "no time at all")?;
    if startup.timeout > TIMEOUT_MAX {
        return Err(wrong("timeout", format!("{} is too long: write at most 1h", startup.timeout)));
    }
    Ok(())
}

fn check_file(agent: &AgentSpec, file: &File) -> Checked {
    match (&file.content, &file.secret) {
        (Some(_), None) | (None, Some(_)) => {}
        (Some(_), Some(_)) => return Err(wrong("secret", "write either `content` or `secret`, not both")),
        (None, None) => return Err(wrong("content", "write `content` or `secret`")),
    }
    let path = file.path.as_str();
    if path == "/" {
        return Err(wrong("path", "a file needs a name; write one such as /tmpfs/settings.json"));
    }
    if let Some(reserved) = RESERVED.iter().find(|reserved| is_at_or_below(path, reserved)) {
        return Err(wrong("path", format!("{reserved} is the sandbox's own; write another path")));
    }
    if let Some(volume) = agent.volumes.iter().find(|volume| is_at_or_below(volume.mount_path.as_str(), path))
    {
        return Err(wrong("path", format!("{} is where the volume `{}` is", quoted(path), volume.name)));
    }
    // The innermost volume around it says whether it can be written.
    let around = agent.volumes.iter().filter(|volume| is_at_or_below(path, volume.mount_path.as_str()));
    match around.max_by_key(|volume| volume.mount_path.as_str().len()) {
        Some(volume) if volume.secret.is_some() => {
            Err(wrong("path", format!("it would be inside of the volume `{}`, which is a file", volume.name)))
        }
        Some(volume) if volume.read_only => Err(wrong(
            "path",
            format!("it would be inside of the volume `{}`, which is read-only", volume.name),
        )),
        Some(_) => Ok(()),
        None if agent.security.writable_root => Ok(()),
        None if WRITABLE.iter().any(|directory| is_at_or_below(path, directory)) => Ok(()),
        None => Err(wrong(
            "path",
            "the root file system is read-only: write a path below a volume, /tmpfs or /tmp, or set `security: \
             {writableRoot: true}`",
        )),
    }
}
