//! Gives an environment new credentials: those before are no longer what is kept, and the new ones are in its files.
//!
//! An agent that was chosen for it reads them when it starts: it is started again, so that it lets nobody in with the token
//! that it had. What else may run in an environment looks at the file.

use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use chassis_core::{AgentKey, environment};
use chassis_runtime::{Error, ExecOptions};
use chassis_store::{InstanceChange, Scope};
use futures_util::StreamExt;
use jiff::Timestamp;
use tokio::io::AsyncWriteExt;

use super::exec::Sandbox;
use super::kept::{Kept, Private};
use super::{chosen, exec, given};
use crate::api::failure::{Failure, Result};
use crate::api::to_end;
use crate::controller::agents_changed;
use crate::error::chain;
use crate::failpoint::failpoint;
use crate::shared::Shared;

/// For the agent's drain command, its grace, and its start.
const RESTART: Duration = Duration::from_secs(55);
/// Written beside the file and renamed over it: whoever reads it finds the one or the other.
const DELIVER: &str = "umask 077 && cat > \"$1.new\" && mv \"$1.new\" \"$1\"";

pub(super) async fn rotate(shared: Arc<Shared>, id: String) -> Result<StatusCode> {
    to_end(async move {
        let (sandbox, _in_use) = exec::enter(&shared, &id).await?;
        let found = shared.store.environment_get(&id).await?;
        let bytes = shared.store.environment_private(&id).await?;
        let damaged = |_| chassis_store::Error::EnvironmentDamaged(id.clone());
        let mut private = Private::from_json(&bytes).map_err(damaged)?;
        chosen::credentials(&Kept::from_json(&found.request).spec, &mut private, true)?;
        let has_agent = private.agent.as_ref().is_some_and(|agent| agent.command.is_some());
        failpoint("environment_token:before");
        shared.store.environment_private_write(&id, private.to_json()).await?;
        failpoint("environment_token:stored");
        agents_changed(&shared, vec![found.key.clone()]).await;
        if has_agent {
            restart(&shared, &found.key).await?;
            return Ok(StatusCode::NO_CONTENT);
        }
        match deliver(&sandbox, &private.token).await {
            // There is no file for it: nothing runs there.
            Ok(()) | Err(Error::Unsupported { .. }) => Ok(StatusCode::NO_CONTENT),
            Err(error) => {
                let message =
                    format!("the new token is kept, but not delivered: {}; ask again", chain(&error));
                Err(Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message))
            }
        }
    })
    .await
}

/// Until the agent runs anew, which was given the new ones.
async fn restart(shared: &Arc<Shared>, key: &AgentKey) -> Result<()> {
    let began = Timestamp::now();
    let scope =
        Scope { fleet: key.fleet.clone(), agent: Some(key.agent.clone()), number: Some(environment::NUMBER) };
    let agents = shared.store.instance_change(&scope, InstanceChange::Restart, None).await?;
    let mut changed = shared.changed.subscribe();
    agents_changed(shared, agents).await;
    let runs_anew = || {
        let agent = shared.agent(key)?;
        let state = agent.state();
        let since = state.slots.get(&environment::NUMBER)?.instance.running_since()?;
        Some(since >= began)
    };
    let running = async { while runs_anew() != Some(true) && changed.changed().await.is_ok() {} };
    tokio::time::timeout(RESTART, running).await.map_err(|_| {
        let message =
            "the new token is kept, and the agent that is to take it has not started again in time; see the \
                       environment's events"
                .to_owned();
        Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
    })
}

async fn deliver(sandbox: &Sandbox, token: &str) -> chassis_runtime::Result<()> {
    let command = ["sh", "-c", DELIVER, "sh", given::TOKEN_FILE].map(str::to_owned).to_vec();
    let options = ExecOptions { command, stdin: true, ..ExecOptions::default() };
    let mut exec = sandbox.exec(&options).await?;
    if let Some(mut input) = exec.input.take() {
        // A command that does not read says why with its exit code.
        let _ = input.write_all(token.as_bytes()).await;
        let _ = input.shutdown().await;
    }
    let mut said = Vec::new();
    while let Some(chunk) = exec.output.next().await {
        said.extend_from_slice(&chunk?.bytes);
    }
    match exec.control.exit_code().await? {
        0 => Ok(()),
        code => {
            let said = String::from_utf8_lossy(&said);
            Err(Error::rejected(format!("exit code {code}: {}", said.trim())))
        }
    }
}
