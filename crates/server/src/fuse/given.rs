//! What an environment's instance is given at each start, that only it may see: variables, files, its startup script.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chassis_runtime::{InstanceSecrets, PlacedFile};
use chassis_spec::AgentSpec;
use zeroize::Zeroizing;

use super::kept::{Kept, Private};
use crate::controller::AgentController;
use crate::download::DownloadError;
use crate::environment;
use crate::shared::Shared;

/// What the environment is for.
pub(super) const TASK_FILE: &str = "/fuse/task-id";
/// Where the environment's agent finds its token.
pub(super) const TOKEN_FILE: &str = "/fuse/auth-token";
const MANIFEST_FILE: &str = "/fuse/manifest.json";
const SECRETS_FILE: &str = "/fuse/secrets.json";
const GATEWAY_FILE: &str = "/fuse/gateway.json";
/// What the environment's agent serves with.
pub(super) const CERTIFICATE_FILE: &str = "/fuse/tls/cert.pem";
pub(super) const CERTIFICATE_KEY_FILE: &str = "/fuse/tls/key.pem";

/// Why an instance cannot be given what it needs.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GivenError {
    #[error(transparent)]
    Store(#[from] chassis_store::Error),
    #[error(transparent)]
    Download(#[from] DownloadError),
}

/// The variables that every process of an environment has.
pub(super) async fn variables(shared: &Shared, id: &str) -> chassis_store::Result<Vec<(String, String)>> {
    let bytes = shared.store.environment_private(id).await?;
    let private =
        Private::from_json(&bytes).map_err(|_| chassis_store::Error::EnvironmentDamaged(id.to_owned()))?;
    Ok(private.env.iter().map(|(name, value)| (name.clone(), value.clone())).collect())
}

/// None if the agent is no environment.
pub(crate) async fn given(
    shared: &Shared,
    agent: &AgentController,
    spec: &AgentSpec,
) -> Result<Option<InstanceSecrets>, GivenError> {
    let Some(found) = environment::find(shared, agent).await? else { return Ok(None) };
    let environment = &found.environment;
    let bytes = shared.store.environment_private(&environment.id).await?;
    let damaged = || chassis_store::Error::EnvironmentDamaged(environment.id.clone());
    let private = Private::from_json(&bytes).map_err(|_| damaged())?;
    let kept = Kept::from_json(&environment.request);
    let seed = kept.seed.as_deref().map(Into::into);
    let mut secrets = InstanceSecrets { seed, ..InstanceSecrets::default() };
    for (name, value) in &private.env {
        secrets.env.push((name.clone(), Zeroizing::new(value.clone())));
    }
    let agent = private.agent.clone().unwrap_or_default();
    if agent.command.is_some() {
        let variables = [
            ("FUSE_VM_ID", &environment.id),
            ("FUSE_GATEWAY", &kept.gateway_url),
            ("FUSE_GATEWAY_TOKEN", &private.gateway_token),
        ];
        let given = variables.into_iter().filter(|(_, value)| !value.is_empty());
        secrets.env.extend(given.map(|(name, value)| (name.to_owned(), Zeroizing::new(value.clone()))));
    }
    for file in &spec.files {
        let content = file.content.clone().unwrap_or_default().into_bytes();
        secrets.placed.push(PlacedFile {
            path: file.path.clone(),
            content: Zeroizing::new(content),
            executable: file.executable,
        });
    }
    let mut place = |path: &str, content: Zeroizing<Vec<u8>>| {
        let path = path.parse().map_err(|_| damaged())?;
        secrets.placed.push(PlacedFile { path, content, executable: false });
        Ok::<(), chassis_store::Error>(())
    };
    let text = |text: &str| Zeroizing::new(text.as_bytes().to_vec());
    place(TOKEN_FILE, text(&private.token))?;
    place(MANIFEST_FILE, text(&private.manifest))?;
    place(SECRETS_FILE, Zeroizing::new(serde_json::to_vec(&private.secrets).unwrap_or_default()))?;
    if !kept.gateway_url.is_empty() || !private.gateway_token.is_empty() {
        let gateway = serde_json::json!({ "url": kept.gateway_url, "token": private.gateway_token });
        place(GATEWAY_FILE, Zeroizing::new(gateway.to_string().into_bytes()))?;
    }
    if let Some(tls) = &private.tls {
        place(CERTIFICATE_FILE, text(&tls.certificate))?;
        place(CERTIFICATE_KEY_FILE, text(&tls.key))?;
    }
    for (path, content) in &private.files {
        let content = STANDARD.decode(content).map_err(|_| damaged())?;
        place(path, Zeroizing::new(content))?;
    }
    for file in &agent.files {
        let content = Zeroizing::new(file.bytes().ok_or_else(damaged)?);
        secrets.placed.push(PlacedFile { path: file.path.clone(), content, executable: file.executable });
    }
    if let (Some(url), Some(sha256), Some(path)) =
        (&agent.download_url, &agent.download_sha256, agent.download_to())
    {
        let content = shared.downloads.get(url, sha256).await?;
        secrets.placed.push(PlacedFile { path, content, executable: true });
    }
    if let Some(startup) = &spec.startup {
        secrets.startup =
            Some(chassis_spec::Startup { script: private.startup_script.clone(), timeout: startup.timeout });
    }
    Ok(Some(secrets))
}
