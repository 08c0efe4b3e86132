//! Gives an environment a new token: the one before is no longer what is kept, and the new one is in its file.

use std::sync::Arc;

use axum::http::StatusCode;
use chassis_runtime::{Error, ExecOptions};
use futures_util::StreamExt;
use tokio::io::AsyncWriteExt;

use super::kept::Private;
use super::{exec, given};
use crate::api::failure::{Failure, Result};
use crate::api::to_end;
use crate::auth::generate_token;
use crate::controller::agents_changed;
use crate::error::chain;
use crate::failpoint::failpoint;
use crate::shared::Shared;

/// Written beside the file and renamed over it: whoever reads it finds the one or the other.
const DELIVER: &str = "umask 077 && cat > \"$1.new\" && mv \"$1.new\" \"$1\"";

pub(super) async fn rotate(shared: Arc<Shared>, id: String) -> Result<StatusCode> {
    to_end(async move {
        let (container, _in_use) = exec::enter(&shared, &id).await?;
        let found = shared.store.environment_get(&id).await?;
        let bytes = shared.store.environment_private(&id).await?;
        let damaged = |_| chassis_store::Error::EnvironmentDamaged(id.clone());
        let mut private = Private::from_json(&bytes).map_err(damaged)?;
        let token = generate_token().map_err(|error| {
            Failure::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", error.to_string())
        })?;
        private.token.clone_from(&token);
        failpoint("environment_token:before");
        shared.store.environment_private_write(&id, private.to_json()).await?;
        failpoint("environment_token:stored");
        agents_changed(&shared, vec![found.key]).await;
        match deliver(&shared, &container, &token).await {
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

async fn deliver(shared: &Shared, container: &str, token: &str) -> chassis_runtime::Result<()> {
    let command = ["sh", "-c", DELIVER, "sh", given::TOKEN_FILE].map(str::to_owned).to_vec();
    let options = ExecOptions { command, stdin: true, ..ExecOptions::default() };
    let mut exec = shared.runtime.exec(container, &options).await?;
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
