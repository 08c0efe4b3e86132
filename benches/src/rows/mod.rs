//! The rows of the report: one file each.

pub(crate) mod api;
pub(crate) mod burst;
pub(crate) mod create;
pub(crate) mod deploy;
pub(crate) mod environments;
pub(crate) mod health;
pub(crate) mod logs;
pub(crate) mod logs_many;
pub(crate) mod memory;
pub(crate) mod place;
pub(crate) mod plan;
pub(crate) mod rollout;
pub(crate) mod scale;
pub(crate) mod start;
pub(crate) mod watchers;
