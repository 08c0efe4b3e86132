//! Turns Docker's errors into chassis's: what each means, in as few words as it takes, and what to do.

use bollard::errors::Error as DockerError;

use super::transport::Address;
use crate::Error;

/// Docker wraps a reason in the names of the layers that it came through.
const WRAPPINGS: [&str; 11] = [
    "OCI runtime exec failed: ",
    "exec failed: ",
    "OCI runtime create failed: ",
    "failed to create shim task: ",
    "failed to create task for container: ",
    "runc create failed: ",
    "unable to start container process: ",
    "starting container process caused: ",
    "error during container init: ",
    "invalid mount config for type \"bind\": ",
    "error while creating mount source path ",
];

/// The status of an answer that refuses, if the daemon answered.
pub(crate) fn status(error: &DockerError) -> Option<u16> {
    match error {
        DockerError::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

pub(crate) fn is_not_found(error: &DockerError) -> bool {
    status(error) == Some(404)
}

/// True if a start failed because of what the container's last run left in containerd or runc when dockerd was killed.
/// Docker never takes that away; only a container made anew, with an id of its own, can be started.
pub(crate) fn is_left_over(error: &DockerError) -> bool {
    let words = words(error).to_lowercase();
    status(error).is_some()
        && (words == "id already in use"
            || (words.starts_with("task ") && words.ends_with(": already exists"))
            || words.contains("container with given id already exists"))
}

/// What a refusal or a failed pull says, without the wrapping.
pub(crate) fn words(error: &DockerError) -> String {
    match error {
        DockerError::DockerResponseServerError { message, .. }
        | DockerError::DockerStreamError { error: message } => unwrapped(message),
        other => other.to_string(),
    }
}

/// What a failed call means.
pub(crate) fn explain(address: &Address, error: DockerError) -> Error {
    match status(&error) {
        Some(_) => refused(&words(&error)),
        None => unavailable(address, error),
    }
}

/// The daemon is down, unreachable, or broke off in the middle of an answer.
fn unavailable(address: &Address, error: DockerError) -> Error {
    Error::unavailable(format!(
        "Docker does not answer at {address}; is dockerd running, and may this user use the socket?"
    ))
    .caused_by(error)
}

/// The daemon answered, and said no.
fn refused(words: &str) -> Error {
    let lower = words.to_lowercase();
    let has = |part: &str| lower.contains(part);
    if has("no space left on device") || has("read-only file system") || has("disk quota exceeded") {
        return Error::storage(format!("{words}; make room on the disk of Docker and of the data directory"));
    }
    if has("error while mounting volume") || has("failed to mount local volume") {
        let next = if has("no such device") || has("unknown filesystem") {
            "the kernel of Docker's machine cannot mount it: load its module, as in `modprobe nfs`"
        } else {
            "is its server reachable from Docker's machine, does it export the path to it, and are the options right?"
        };
        return Error::storage(format!("Docker cannot mount the volume: {words}; {next}"));
    }
    let hint = if has("port is already allocated") || has("address already in use") {
        "; choose another `hostPort`, or stop what uses it"
    } else if has("unable to find user") || has("unable to find group") || has("no matching entries in") {
        "; the image has no such user: set `user:` to numbers, as in 1000:1000"
    } else if has("chassis-init") && has("permission denied") {
        "; is the data directory on a file system that is mounted noexec?"
    } else if has("non-overlapping ipv4 address pool") {
        "; Docker has no more subnets: remove unused networks, or give it more with `default-address-pools` in \
         /etc/docker/daemon.json"
    } else {
        ""
    };
    Error::rejected(format!("Docker refused: {words}{hint}"))
}

pub(crate) fn unwrapped(message: &str) -> String {
    let mut words = message.trim();
    loop {
        let before = words;
        for wrapping in WRAPPINGS {
            words = words.strip_prefix(wrapping).unwrap_or(words);
        }
        // `container_linux.go:380: `
        if let Some((place, rest)) = words.split_once(": ")
            && place
                .rsplit_once(".go:")
                .is_some_and(|(_, line)| line.bytes().all(|byte| byte.is_ascii_digit()))
        {
            words = rest;
        }
        // `driver failed programming external connectivity on endpoint web (4f…): `
        if let Some(rest) = words.strip_prefix("driver failed programming external connectivity on endpoint ")
        {
            words = rest.split_once("): ").map_or(rest, |(_, reason)| reason);
        }
        if words == before {
            return words.trim_end_matches(": unknown").to_owned();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_daemon_left_is_known() {
        let refused = |status_code, message: &str| DockerError::DockerResponseServerError {
            status_code,
            message: message.to_owned(),
        };
        // Engine 20.10 with containerd 1.6, and 24 with runc 1.1.
        assert!(is_left_over(&refused(409, "task 448fc2eac12a28f2: already exists: unknown")));
        assert!(is_left_over(&refused(409, "id already in use")));
        assert!(is_left_over(&refused(
            500,
            "failed to create task for container: failed to create shim task: OCI runtime create failed: runc create \
             failed: container with given ID already exists: unknown"
        )));
        assert!(!is_left_over(&refused(409, "network chassis-a already exists")));
    }

    #[test]
    fn the_reason_is_left_without_its_wrapping() {
        let port = "driver failed programming external connectivity on endpoint chassis-a-b-1 (4f2d): Bind for \
                    127.0.0.1:80 failed: port is already allocated";
        assert_eq!(unwrapped(port), "Bind for 127.0.0.1:80 failed: port is already allocated");
        let start = "OCI runtime create failed: container_linux.go:380: starting container process caused: exec: \
                     \"/x\": permission denied: unknown";
        assert_eq!(unwrapped(start), "exec: \"/x\": permission denied");
    }
}
