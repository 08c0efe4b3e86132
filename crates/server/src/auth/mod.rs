//! Who calls, and what they may do.

mod peer;

pub(crate) use peer::Peer;
