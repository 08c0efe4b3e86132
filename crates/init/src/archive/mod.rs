//! Files and directories as a tar archive, written and read on either side of a sandbox's wall.
//!
//! Nothing that an archive says is believed: it may come from an agent. Entries are made below one open directory, never
//! through a symbolic link, never above it, and under the one name that was asked for; no set-user-ID bit is taken over;
//! and what is held in memory of an archive is bounded.

mod header;
mod pack;
mod unpack;

pub use pack::pack;
pub use unpack::{Skipped, Source, unpack};
