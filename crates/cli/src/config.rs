//! What a person's machine knows of servers: `chassis/config.yaml` in the directory for settings, for its owner's eyes.
//!
//! What holds: it is replaced in one piece, under a lock, so that two commands at once lose nothing; it is 0600 from its
//! first byte on, because tokens are in it.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use chassis_api::Fingerprint;
use chassis_client::{Endpoint, ServerAddress, Token, Trust};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::failure::Failure;

/// The server of this machine, which is in no file.
pub(crate) const LOCAL: &str = "local";

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Config {
    /// The context in use; the local one without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) current: Option<String>,
    #[serde(default)]
    pub(crate) contexts: BTreeMap<String, Remote>,
}

/// A server somewhere.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Remote {
    #[serde(with = "address")]
    pub(crate) server: ServerAddress,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) fingerprint: Option<Fingerprint>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ca: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) token_file: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<Secret>,
}

/// Wiped from memory, and in no debug output.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Secret(String);

impl Config {
    /// What there is; nothing if there is no file, or no directory for one.
    pub(crate) fn load() -> Result<Config, Failure> {
        path().map_or_else(|| Ok(Config::default()), |path| read(&path))
    }

    /// Changes the file, after whoever else does so just now.
    pub(crate) fn change<T>(edit: impl FnOnce(&mut Config) -> Result<T, Failure>) -> Result<T, Failure> {
        let path = path().ok_or_else(|| {
            Failure::Usage(
                "neither XDG_CONFIG_HOME nor HOME is set: there is no place for settings".to_owned(),
            )
        })?;
        let unwritable = |source| Failure::Io { what: format!("cannot write {}", path.display()), source };
        let directory = path.parent().unwrap_or(&path);
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(unwritable)?;
        let lock = path.with_extension("lock");
        let lock = OpenOptions::new().create(true).append(true).mode(0o600).open(lock).map_err(unwritable)?;
        lock.lock().map_err(unwritable)?;
        let mut config = read(&path)?;
        let done = edit(&mut config)?;
        replace(&path, &config).map_err(unwritable)?;
        Ok(done)
    }

    /// A server by its name.
    pub(crate) fn remote(&self, name: &str) -> Result<&Remote, Failure> {
        self.contexts.get(name).ok_or_else(|| {
            let known =
                self.contexts.keys().map(String::as_str).chain([LOCAL]).collect::<Vec<_>>().join(", ");
            Failure::NotFound(format!(
                "there is no context `{name}`; known are: {known}; `chassis context add` adds one"
            ))
        })
    }

    /// The name under which an address is known.
    pub(crate) fn name_of(&self, address: &ServerAddress) -> Option<&str> {
        self.contexts.iter().find(|(_, remote)| remote.server == *address).map(|(name, _)| name.as_str())
    }
}

impl Remote {
    pub(crate) fn new(server: ServerAddress) -> Remote {
        Remote { server, fingerprint: None, ca: None, token_file: None, token: None }
    }

    pub(crate) fn trust(&self) -> Trust {
        match (self.fingerprint, &self.ca) {
            (Some(fingerprint), _) => Trust::Fingerprint(fingerprint),
            (None, Some(ca)) => Trust::CaFile(ca.clone()),
            (None, None) => Trust::System,
        }
    }

    pub(crate) fn endpoint_without_token(&self) -> Endpoint {
        Endpoint { address: self.server.clone(), trust: self.trust(), token: None }
    }

    /// With the token that is kept for it.
    pub(crate) fn endpoint(&self) -> Result<Endpoint, Failure> {
        let token = match (&self.token, &self.token_file) {
            (Some(token), _) => Some(Token::new(&token.0)?),
            (None, Some(file)) => Some(read_token(file)?),
            (None, None) => None,
        };
        Ok(Endpoint { token, ..self.endpoint_without_token() })
    }
}

impl Secret {
    pub(crate) fn new(text: &str) -> Secret {
        Secret(text.trim().to_owned())
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.0);
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Secret(..)")
    }
}

pub(crate) fn read_token(file: &Path) -> Result<Token, Failure> {
    let text = fs::read_to_string(file).map(Zeroizing::new);
    let unreadable =
        |source| Failure::Io { what: format!("cannot read the token in {}", file.display()), source };
    Ok(Token::new(&text.map_err(unreadable)?)?)
}

fn path() -> Option<PathBuf> {
    let absolute =
        |name| std::env::var_os(name).map(PathBuf::from).filter(|path: &PathBuf| path.is_absolute());
    let settings = absolute("XDG_CONFIG_HOME").or_else(|| Some(absolute("HOME")?.join(".config")))?;
    Some(settings.join("chassis").join("config.yaml"))
}

fn read(path: &Path) -> Result<Config, Failure> {
    let text = match fs::read_to_string(path).map(Zeroizing::new) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Config::default()),
        text => {
            text.map_err(|source| Failure::Io { what: format!("cannot read {}", path.display()), source })?
        }
    };
    // The error shows lines of the file, and tokens with them: only where it is.
    serde_saphyr::from_str(&text).map_err(|error| {
        let place = error.location().map_or_else(String::new, |place| format!(":{}", place.line()));
        Failure::Failed(format!(
            "{}{place} is not what chassis wrote there; mend or remove it, and add the contexts again",
            path.display()
        ))
    })
}

fn replace(path: &Path, config: &Config) -> io::Result<()> {
    let text = Zeroizing::new(serde_saphyr::to_string(config).map_err(io::Error::other)?);
    let new = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
}

/// An address as its text.
mod address {
    use chassis_client::ServerAddress;
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(
        address: &ServerAddress,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(address)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ServerAddress, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}
