//! The others, doing the same with the same Engine.

pub(crate) mod compose;
pub(crate) mod raw;
pub(crate) mod run;
pub(crate) mod swarm;
