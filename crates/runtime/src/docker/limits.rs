//! Limits that change while a container runs.

use bollard::models::{ContainerUpdateBody, HostConfig};
use chassis_core::Limits;
use chassis_spec::{AgentSpec, Bytes, Cpu, Resources};

use super::{Daemon, failure, stats};
use crate::{Error, Result};

/// Billionths of a core.
const CORE: i64 = 1_000_000_000;
const THOUSANDTH: i64 = CORE / 1000;

/// What a container's own record says. A limit on cores that was taken away reads as none: see [`no_limit`].
pub(crate) fn observed(config: Option<&HostConfig>) -> Limits {
    let number = |of: fn(&HostConfig) -> Option<i64>| config.and_then(of).filter(|number| *number > 0);
    let nanos = number(|config| config.nano_cpus).filter(|nanos| nanos % THOUSANDTH != THOUSANDTH - 1);
    let memory = number(|config| config.memory).and_then(|bytes| u64::try_from(bytes).ok());
    let pids = number(|config| config.pids_limit).and_then(|pids| u32::try_from(pids).ok());
    Limits {
        cpu: nanos.and_then(|nanos| u32::try_from(nanos / THOUSANDTH).ok()).map(Cpu),
        memory: Bytes(memory.unwrap_or(0)),
        pids: pids.unwrap_or(0),
    }
}

/// Gives a container, running or not, other limits.
pub(crate) async fn update(daemon: &Daemon, id: &str, resources: &Resources) -> Result<()> {
    check_memory(daemon, id, resources.memory).await?;
    let memory = i64::try_from(resources.memory.0).unwrap_or(i64::MAX);
    let body = ContainerUpdateBody {
        memory: Some(memory),
        // The same: no swap.
        memory_swap: Some(memory),
        nano_cpus: Some(match resources.cpu {
            Some(cpu) => i64::from(cpu.0) * THOUSANDTH,
            None => no_limit(daemon).await?,
        }),
        pids_limit: Some(resources.pids.into()),
        ..ContainerUpdateBody::default()
    };
    match daemon.client()?.update_container(id, body).await {
        Err(error) if failure::is_not_found(&error) => Err(Error::rejected("its container is gone")),
        Err(error) => Err(daemon.explain(error)),
        Ok(()) => Ok(()),
    }
}

/// Refuses what no container on this node can have.
pub(crate) async fn check(daemon: &Daemon, spec: &AgentSpec) -> Result<()> {
    let Some(cpu) = spec.resources.cpu else { return Ok(()) };
    // An Engine that does not answer now is asked again when the container is made.
    let Ok(cores) = cores(daemon).await else { return Ok(()) };
    if i64::from(cpu.0) * THOUSANDTH > cores * CORE {
        return Err(Error::rejected(format!(
            "`resources.cpu` is {cpu}, and the node has {cores} cores; write at most that many"
        )));
    }
    Ok(())
}

/// Docker takes 0 for `leave it as it is`. This is all cores but a billionth of one, which no YAML can say.
async fn no_limit(daemon: &Daemon) -> Result<i64> {
    Ok(cores(daemon).await? * CORE - 1)
}

async fn cores(daemon: &Daemon) -> Result<i64> {
    let info = daemon.client()?.info().await.map_err(|error| daemon.explain(error))?;
    Ok(info.ncpu.unwrap_or(1))
}

/// With cgroup v1 the kernel refuses less memory than is used; with v2 it would kill the agent.
async fn check_memory(daemon: &Daemon, id: &str, memory: Bytes) -> Result<()> {
    let read = stats::stats(daemon, &[id.into()]).await?;
    // One that does not run, or cannot be read, uses nothing that counts here.
    let Some((_, Ok(usage))) = read.first() else { return Ok(()) };
    if usage.memory_bytes <= memory.0 {
        return Ok(());
    }
    Err(Error::storage(format!(
        "it uses {} of memory now, more than `resources.memory: {memory}` allows; it keeps its old limit and runs on. \
         Restart it, or write a larger limit",
        Bytes(usage.memory_bytes.next_multiple_of(1 << 20))
    )))
}
