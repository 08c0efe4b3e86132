//! Reads what Docker says of a container.

use bollard::models::{ContainerInspectResponse, ContainerState, ContainerStateStatusEnum as Status};
use chassis_core::{Exit, Observed, RunState};
use jiff::Timestamp;

use super::{image_check, labels, limits};
use crate::Owned;

/// The container as chassis sees it, or `None` if this server did not make it.
pub(crate) fn owned(server_id: &str, container: ContainerInspectResponse) -> Option<Owned> {
    let limits = limits::observed(container.host_config.as_ref());
    let labels = container.config?.labels?;
    let key = labels::owner(server_id, &labels)?;
    let observed = Observed {
        id: container.id?.into(),
        revision: labels::revision(&labels),
        name_is_right: container.name?.trim_start_matches('/') == key.container_name(),
        limits,
        state: run_state(&container.state?, labels::is_leased(&labels)),
        image_check: image_check::of_labels(&labels),
    };
    Some(Owned { key, epoch: labels::epoch(&labels), leased: labels::is_leased(&labels), observed })
}

fn run_state(state: &ContainerState, leased: bool) -> RunState {
    let started_at = timestamp(state.started_at.as_deref());
    let error = state.error.as_deref().unwrap_or_default();
    match state.status {
        Some(Status::CREATED | Status::EXITED) if is_in_its_own_way(error) => RunState::Dead,
        Some(Status::CREATED) => RunState::Created,
        // A paused agent was started and has not ended, and somebody paused it on purpose.
        Some(Status::RUNNING | Status::PAUSED | Status::RESTARTING | Status::STOPPING) => {
            RunState::Running { started_at }
        }
        Some(Status::EXITED) => {
            let code = state.exit_code.and_then(|code| i32::try_from(code).ok()).unwrap_or(-1);
            let exit = Exit {
                code,
                out_of_memory: state.oom_killed.unwrap_or(false),
                unhealthy: false,
                unleased: leased && code == i32::from(chassis_init::EXIT_UNLEASED),
                finished_at: timestamp(state.finished_at.as_deref()),
            };
            RunState::Exited { started_at, exit }
        }
        Some(Status::REMOVING | Status::DEAD | Status::EMPTY) | None => RunState::Dead,
    }
}

/// Whether a container could not be started because of what an earlier start of its own left behind when the Engine was
/// killed: the directory that containerd keeps its task in, or runc's state. It stays so until the machine is started anew;
/// another container has another id.
fn is_in_its_own_way(error: &str) -> bool {
    let error = error.to_ascii_lowercase();
    let of_containerd = error.contains("io.containerd.runtime.v") && error.contains("file exists");
    // runc until 1.0, and since.
    let of_runc =
        error.contains("container with id exists") || error.contains("with given id already exists");
    of_containerd || of_runc
}

fn timestamp(text: Option<&str>) -> Timestamp {
    text.and_then(|text| text.parse().ok()).unwrap_or(Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::is_in_its_own_way;

    #[test]
    fn only_leftovers_of_its_own_are_in_the_way() {
        for error in [
            "failed to start shim: mkdir /run/containerd/io.containerd.runtime.v2.task/moby/4f2a: file exists: unknown",
            "OCI runtime create failed: container with id exists: 4f2a: unknown",
            "runc create failed: container with given ID already exists: unknown",
        ] {
            assert!(is_in_its_own_way(error), "{error}");
        }
        for error in [
            "",
            "driver failed programming external connectivity: Bind for 0.0.0.0:80 failed: port is already allocated",
            "error while creating mount source path '/srv/data': mkdir /srv/data: file exists",
        ] {
            assert!(!is_in_its_own_way(error), "{error}");
        }
    }
}
