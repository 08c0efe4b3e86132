//! One suite, run against real Docker and against the simulation. `chassis-node` runs it once more over the network.

#[macro_use]
mod suite;

conformance!(on_docker, crate::suite::DockerNode::new());
conformance!(on_sim, crate::suite::SimNode::new());
