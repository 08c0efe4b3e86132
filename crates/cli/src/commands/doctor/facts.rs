//! What checks look at that has to be asked for over a socket, each asked for once and with a limit of time.

use std::ffi::OsString;
use std::time::Duration;

use chassis_api::{Instance, ServerInfo};
use chassis_server::{DataDir, DockerReport, docker_containers, docker_report};

use crate::context::Context;
use crate::failure::Failure;

#[derive(Debug)]
pub(super) struct Facts {
    pub(super) docker_host: Option<String>,
    /// Or why it does not answer.
    pub(super) docker: Result<DockerReport, String>,
    pub(super) data_dir: DataDir,
    /// The pid in the lock of a server that holds the data directory, whether or not it answers.
    pub(super) holder: Option<String>,
    /// None if there is none; or why it does not answer as it should.
    pub(super) server: Result<Option<ServerInfo>, String>,
    /// Containers of the server that no instance of its owns; none if that could not be found out.
    pub(super) leftovers: Option<Vec<String>>,
    /// The value of `TOKEN_ENCRYPTION_KEY`.
    pub(super) encryption_key: Option<OsString>,
}

impl Facts {
    pub(super) async fn gather(context: &Context, patience: Duration) -> Result<Facts, Failure> {
        let data_dir = context.data_dir()?;
        let docker_host = std::env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty());
        let docker = async {
            match tokio::time::timeout(patience, docker_report(docker_host.as_deref())).await {
                Ok(report) => report.map_err(|error| chain(&error)),
                Err(_) => Err(format!("Docker did not answer within {} s", patience.as_secs())),
            }
        };
        let server = async {
            match tokio::time::timeout(patience, ask_server(context)).await {
                Ok(answer) => answer,
                Err(_) => Err(format!("it did not answer within {} s", patience.as_secs())),
            }
        };
        let (docker, server) = futures_util::future::join(docker, server).await;
        let (info, instances) = match server {
            Ok(Some((info, instances))) => (Ok(Some(info)), instances),
            Ok(None) => (Ok(None), Vec::new()),
            Err(error) => (Err(error), Vec::new()),
        };
        let leftovers = match (&docker, &info) {
            (Ok(_), Ok(Some(info))) if info.runtime == "docker" && info.runtime_error.is_none() => {
                let listed = docker_containers(docker_host.as_deref(), &info.id);
                let listed = tokio::time::timeout(patience, listed).await.ok().and_then(Result::ok);
                listed.map(|containers| unowned(containers, &instances))
            }
            _ => None,
        };
        Ok(Facts {
            docker,
            docker_host,
            holder: data_dir.holder(),
            data_dir,
            server: info,
            leftovers,
            encryption_key: std::env::var_os("TOKEN_ENCRYPTION_KEY").filter(|key| !key.is_empty()),
        })
    }

    /// Whether the Engine has this machine's disks, kernel and clock.
    pub(super) fn local_docker(&self) -> Option<&DockerReport> {
        self.docker.as_ref().ok().filter(|docker| docker.is_local)
    }

    pub(super) fn server_runs(&self) -> bool {
        self.holder.is_some() || matches!(self.server, Ok(Some(_)))
    }
}

async fn ask_server(context: &Context) -> Result<Option<(ServerInfo, Vec<Instance>)>, String> {
    let client = context.connect_if_running().await.map_err(|failure| failure.text().unwrap_or_default())?;
    let Some(client) = client else { return Ok(None) };
    let info = client.server_get().await.map_err(|error| chain(&error))?;
    let instances = client.instance_list(None, None).await.map_err(|error| chain(&error))?;
    Ok(Some((info, instances)))
}

fn unowned(containers: Vec<(String, String)>, instances: &[Instance]) -> Vec<String> {
    let is_owned = |id: &str| instances.iter().any(|one| one.container_id.as_deref() == Some(id));
    containers.into_iter().filter(|(id, _)| !is_owned(id)).map(|(_, name)| name).collect()
}

/// An error with its causes.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
