//! `chassis node`: a machine that runs instances for servers elsewhere.

pub(crate) mod serve;
