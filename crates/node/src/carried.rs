//! What the Runtime trait takes and gives, as it travels where its own types do not.

use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use chassis_core::{InstanceKey, Limits, Observed, RunState};
use chassis_runtime::{
    Image, InstanceConfig, InstanceSecrets, Owned as RuntimeOwned, PlacedFile, SecretFile,
};
use chassis_spec::{AgentSpec, Bytes, Cpu, HealthCheck, MountPath, Startup};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

/// An [`InstanceConfig`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Config {
    key: InstanceKey,
    revision: u64,
    spec: Arc<AgentSpec>,
    image: Arc<Image>,
    epoch: u64,
    leased: bool,
}

/// A [`chassis_core::Observed`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Seen {
    id: Box<str>,
    revision: u64,
    name_is_right: bool,
    cpu_millis: Option<u32>,
    memory_bytes: u64,
    pids: u32,
    state: RunState,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    image_check: Option<Arc<HealthCheck>>,
}

/// A [`chassis_runtime::Owned`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Owned {
    key: InstanceKey,
    epoch: u64,
    leased: bool,
    #[serde(flatten)]
    seen: Seen,
}

/// An [`InstanceSecrets`]. Its text is made in a buffer that is large enough from the start and zeroed afterwards.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Secrets {
    env: Vec<(String, Hidden)>,
    files: Vec<File>,
    placed: Vec<File>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    startup: Option<Startup>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seed: Option<Box<str>>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct File {
    path: MountPath,
    content: Hidden,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    executable: bool,
}

/// Bytes that nobody may see, as base64.
#[derive(Clone)]
struct Hidden(Zeroizing<Vec<u8>>);

impl std::fmt::Debug for Hidden {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("..")
    }
}

impl Serialize for Hidden {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = Zeroizing::new(String::with_capacity(self.0.len().div_ceil(3) * 4));
        BASE64_STANDARD.encode_string(&*self.0, &mut text);
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for Hidden {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        let bytes = BASE64_STANDARD.decode(text.as_bytes());
        // What could not be read is not shown: it is a part of a secret.
        bytes.map(|bytes| Hidden(Zeroizing::new(bytes))).map_err(|_| serde::de::Error::custom("no base64"))
    }
}

impl Secrets {
    /// More than the JSON of these takes.
    pub(crate) fn length_most(&self) -> usize {
        let hidden = |hidden: &Hidden| hidden.0.len() * 4 / 3 + 64;
        let env: usize = self.env.iter().map(|(name, value)| name.len() * 6 + hidden(value)).sum();
        let files = self.files.iter().chain(&self.placed);
        let files: usize = files.map(|file| file.path.to_string().len() * 6 + hidden(&file.content)).sum();
        let startup = self.startup.as_ref().map_or(0, |startup| startup.script.len() * 6 + 64);
        let seed = self.seed.as_ref().map_or(0, |seed| seed.len() * 6 + 64);
        env + files + startup + seed + 256
    }

    pub(crate) fn open(self) -> Result<InstanceSecrets, std::str::Utf8Error> {
        let text =
            |hidden: &Hidden| std::str::from_utf8(&hidden.0).map(|text| Zeroizing::new(text.to_owned()));
        Ok(InstanceSecrets {
            env: self
                .env
                .iter()
                .map(|(name, value)| Ok((name.clone(), text(value)?)))
                .collect::<Result<_, std::str::Utf8Error>>()?,
            files: self
                .files
                .into_iter()
                .map(|file| SecretFile { path: file.path, content: file.content.0 })
                .collect(),
            placed: self
                .placed
                .into_iter()
                .map(|file| PlacedFile {
                    path: file.path,
                    content: file.content.0,
                    executable: file.executable,
                })
                .collect(),
            startup: self.startup,
            seed: self.seed,
        })
    }
}

impl From<InstanceSecrets> for Secrets {
    fn from(secrets: InstanceSecrets) -> Secrets {
        let hidden = |value: &str| Hidden(Zeroizing::new(value.as_bytes().to_vec()));
        Secrets {
            env: secrets.env.iter().map(|(name, value)| (name.clone(), hidden(value))).collect(),
            files: secrets
                .files
                .into_iter()
                .map(|file| File { path: file.path, content: Hidden(file.content), executable: false })
                .collect(),
            placed: secrets
                .placed
                .into_iter()
                .map(|file| File {
                    path: file.path,
                    content: Hidden(file.content),
                    executable: file.executable,
                })
                .collect(),
            startup: secrets.startup,
            seed: secrets.seed,
        }
    }
}

impl From<&InstanceConfig> for Config {
    fn from(config: &InstanceConfig) -> Config {
        Config {
            key: config.key.clone(),
            revision: config.revision,
            spec: Arc::clone(&config.spec),
            image: Arc::clone(&config.image),
            epoch: config.epoch,
            leased: config.leased,
        }
    }
}

impl From<Config> for InstanceConfig {
    fn from(config: Config) -> InstanceConfig {
        let Config { key, revision, spec, image, epoch, leased } = config;
        InstanceConfig { key, revision, spec, image, epoch, leased }
    }
}

impl From<Observed> for Seen {
    fn from(observed: Observed) -> Seen {
        let Observed { id, revision, name_is_right, limits, state, image_check } = observed;
        Seen {
            id,
            revision,
            name_is_right,
            cpu_millis: limits.cpu.map(|cpu| cpu.0),
            memory_bytes: limits.memory.0,
            pids: limits.pids,
            state,
            image_check,
        }
    }
}

impl From<Seen> for Observed {
    fn from(seen: Seen) -> Observed {
        let Seen { id, revision, name_is_right, cpu_millis, memory_bytes, pids, state, image_check } = seen;
        let limits = Limits { cpu: cpu_millis.map(Cpu), memory: Bytes(memory_bytes), pids };
        Observed { id, revision, name_is_right, limits, state, image_check }
    }
}

impl From<RuntimeOwned> for Owned {
    fn from(owned: RuntimeOwned) -> Owned {
        let RuntimeOwned { key, epoch, leased, observed } = owned;
        Owned { key, epoch, leased, seen: observed.into() }
    }
}

impl From<Owned> for RuntimeOwned {
    fn from(owned: Owned) -> RuntimeOwned {
        let Owned { key, epoch, leased, seen } = owned;
        RuntimeOwned { key, epoch, leased, observed: seen.into() }
    }
}

/// In front of each line of a log: its time, in nanoseconds since 1970, big-endian.
pub(crate) const LOG_TIME: usize = size_of::<i128>();
