//! Which changes of a spec an agent's containers live through.
//!
//! What is left out of [`AgentSpec::container_part`] needs no new container: the server keeps it, or Docker changes it
//! while the container runs. Every field is named there, so that one that is added later does not compile until it is
//! decided on which side it stands.

use crate::{
    AgentSpec, Bytes, Labels, LogsSpec, PlacementSpec, Resources, RestartPolicy, RolloutSpec, Seconds,
    StopSpec,
};

impl AgentSpec {
    /// Whether a container made for `other` serves `self` as it is, or after its limits were changed in place.
    pub fn same_container(&self, other: &AgentSpec) -> bool {
        self.container_part().runs_same(&other.container_part())
    }

    /// What a container is made of; the rest is the same in every answer.
    fn container_part(&self) -> AgentSpec {
        AgentSpec {
            name: self.name.clone(),
            // The fleet is part of the agent's key; its instances' count is kept apart.
            fleet: None,
            replicas: None,
            image: self.image.clone(),
            runtime: self.runtime,
            command: self.command.clone(),
            args: self.args.clone(),
            user: self.user.clone(),
            working_dir: self.working_dir.clone(),
            env: self.env.clone(),
            env_from: self.env_from.clone(),
            volumes: self.volumes.clone(),
            files: self.files.clone(),
            startup: self.startup.clone(),
            tmpfs: self.tmpfs.clone(),
            resources: Resources {
                // Docker changes these while the container runs.
                cpu: None,
                memory: Bytes(0),
                pids: 0,
                files: self.resources.files,
            },
            ports: self.ports.clone(),
            network: self.network.clone(),
            security: self.security.clone(),
            logs: LogsSpec {
                max_size: self.logs.max_size,
                max_files: self.logs.max_files,
                compress: self.logs.compress,
                // How long the server keeps what a container that is gone has said.
                keep: Seconds(0),
            },
            stop: StopSpec { signal: self.stop.signal.clone(), grace: self.stop.grace, drain: None },
            // For the server and for people; a container shows those that it was made with.
            cluster_id: None,
            labels: Labels::default(),
            restart_policy: RestartPolicy::default(),
            health_check: None,
            readiness_check: None,
            rollout: RolloutSpec::default(),
            placement: PlacementSpec {
                // What may move ends with its node's lease, which its container is made for.
                when_node_down: self.placement.when_node_down,
                // The rest is for instances that have no place yet.
                ..PlacementSpec::default()
            },
        }
    }
}
