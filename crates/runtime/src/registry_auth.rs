//! Credentials of image registries, from where `docker login` keeps them.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bollard::auth::DockerCredentials;
use chassis_spec::ImageName;
use serde::Deserialize;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// How Docker's configuration names its own registry.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";
const HELPER_TIMEOUT: Duration = Duration::from_secs(10);

/// Why the credentials could not be read. Nothing of their content is in the text.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CredentialsError {
    #[error("Docker's configuration {} cannot be read", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("Docker's configuration {} is not what it should be; `docker login` writes it anew", path.display())]
    Malformed { path: PathBuf },
    #[error("the credential helper {program} cannot be run; is it installed?")]
    Helper { program: String, source: io::Error },
    #[error("the credential helper {program} took too long")]
    HelperTimeout { program: String },
}

/// The part of Docker's `config.json` that is about registries.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Config {
    auths: HashMap<String, Entry>,
    creds_store: String,
    cred_helpers: HashMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
}

/// What a credential helper answers.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: String,
}

/// The credentials for the registry of this image, or `None` if there are none.
pub(crate) async fn credentials(image: &ImageName) -> Result<Option<DockerCredentials>, CredentialsError> {
    let Some(path) = config_path() else { return Ok(None) };
    let Some(config) = read(&path).await? else { return Ok(None) };
    let registry = registry(image.as_str());
    let helper = config.cred_helpers.get(host(registry)).unwrap_or(&config.creds_store);
    if !helper.is_empty()
        && let Some(credentials) = ask(helper, registry).await?
    {
        return Ok(Some(credentials));
    }
    let entry = config.auths.iter().find(|(name, _)| host(name) == host(registry)).map(|(_, entry)| entry);
    entry.map_or(Ok(None), |entry| {
        stored(entry, registry).ok_or_else(|| CredentialsError::Malformed { path: path.clone() })
    })
}

fn config_path() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let directory = set("DOCKER_CONFIG").or_else(|| Some(set("HOME")?.join(".docker")))?;
    Some(directory.join("config.json"))
}

async fn read(path: &Path) -> Result<Option<Config>, CredentialsError> {
    match tokio::fs::read(path).await {
        Ok(text) => serde_json::from_slice(&text)
            .map(Some)
            .map_err(|_| CredentialsError::Malformed { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(CredentialsError::Unreadable { path: path.to_owned(), source }),
    }
}

/// The registry that an image comes from: the first part of its name, if that can be a host.
fn registry(image: &str) -> &str {
    match image.split_once('/') {
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => first,
        _ => DOCKER_HUB,
    }
}

/// `https://host/v1/` and `host` mean the same registry.
fn host(registry: &str) -> &str {
    let rest = registry.split_once("://").map_or(registry, |(_, rest)| rest);
    match rest.split('/').next().unwrap_or(rest) {
        "docker.io" | "registry-1.docker.io" => "index.docker.io",
        host => host,
    }
}

/// The credentials of an entry; an inner `None` if it is empty, as with a helper; `None` if it is damaged.
#[expect(clippy::option_option, reason = "damaged and empty are two things")]
fn stored(entry: &Entry, registry: &str) -> Option<Option<DockerCredentials>> {
    let mut credentials =
        DockerCredentials { serveraddress: Some(registry.to_owned()), ..Default::default() };
    if !entry.identitytoken.is_empty() {
        credentials.identitytoken = Some(entry.identitytoken.clone());
    }
    if !entry.auth.is_empty() {
        let decoded = String::from_utf8(STANDARD.decode(entry.auth.trim()).ok()?).ok()?;
        let (username, password) = decoded.split_once(':')?;
        credentials.username = Some(username.to_owned());
        credentials.password = Some(password.trim_end_matches('\0').to_owned());
    } else if !entry.username.is_empty() {
        credentials.username = Some(entry.username.clone());
        credentials.password = Some(entry.password.clone());
    } else if entry.identitytoken.is_empty() {
        return Some(None);
    }
    Some(Some(credentials))
}

/// Asks `docker-credential-<helper>`, which answers in JSON, or fails if it has nothing.
async fn ask(helper: &str, registry: &str) -> Result<Option<DockerCredentials>, CredentialsError> {
    let program = format!("docker-credential-{helper}");
    let failed = |source| CredentialsError::Helper { program: program.clone(), source };
    let mut child = Command::new(&program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    let answered = async {
        if let Some(mut input) = child.stdin.take() {
            input.write_all(registry.as_bytes()).await?;
        }
        child.wait_with_output().await
    };
    let output = tokio::time::timeout(HELPER_TIMEOUT, answered)
        .await
        .map_err(|_| CredentialsError::HelperTimeout { program: program.clone() })?
        .map_err(failed)?;
    let Ok(answer) = serde_json::from_slice::<Answer>(&output.stdout) else { return Ok(None) };
    if !output.status.success() {
        return Ok(None);
    }
    let mut credentials =
        DockerCredentials { serveraddress: Some(registry.to_owned()), ..Default::default() };
    if answer.username == "<token>" {
        credentials.identitytoken = Some(answer.secret);
    } else {
        credentials.username = Some(answer.username);
        credentials.password = Some(answer.secret);
    }
    Ok(Some(credentials))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_names_its_registry() {
        for (image, expected) in [
            ("busybox", "index.docker.io"),
            ("library/busybox:1", "index.docker.io"),
            ("docker.io/library/busybox", "index.docker.io"),
            ("localhost/app", "localhost"),
            ("127.0.0.1:5000/app", "127.0.0.1:5000"),
            ("ghcr.io/a/b@sha256:00", "ghcr.io"),
        ] {
            assert_eq!(host(registry(image)), expected, "{image}");
        }
        assert_eq!(host("https://ghcr.io/v2/"), "ghcr.io");
    }
}
