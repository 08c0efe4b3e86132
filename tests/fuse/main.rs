//! Environments, through the API that Fuse's clients speak: on the simulation, and on real Docker.

mod access;
mod agents;
mod artifacts;
mod golden;
mod hosts;
mod inside;
mod life;
mod published;
mod snapshots;
mod weaknesses;
mod wire;
mod world;
