//! Who calls, and what they may do.
//!
//! [`guard`] is the layer that every request passes, and the only way to a handler. Who calls is known by a token, or on
//! the unix socket by the user of the process; what they may do is decided by `chassis_core::access`. Handlers of routes
//! that are about several fleets ask their [`Caller`] for each of them.

mod caller;
mod guard;
mod options;
mod peer;
mod token;

use std::path::Path;

use chassis_core::{Cidr, Grant};

pub(crate) use caller::{Caller, Identity};
pub(crate) use guard::guard;
pub use options::AccessOptions;
pub(crate) use peer::Peer;

use crate::error::Result;
use token::Digest;

/// What the server knows of those who may call.
#[derive(Debug)]
pub(crate) struct Auth {
    own_uid: u32,
    master: Option<Digest>,
    allow_from: Vec<Cidr>,
    trusted_proxies: Vec<Cidr>,
}

impl Auth {
    /// `token_file` has the master token if the options have none; where one is `needed` it is made.
    pub(crate) fn open(options: &AccessOptions, token_file: &Path, needed: bool) -> Result<Auth> {
        Ok(Auth {
            own_uid: rustix::process::geteuid().as_raw(),
            master: token::master(options.master_token.as_ref(), token_file, needed)?,
            allow_from: options.allow_from.clone(),
            trusted_proxies: options.trusted_proxies.clone(),
        })
    }

    /// Whose token it is.
    fn identify(&self, token: &str) -> Option<Identity> {
        let digest = Digest::of(token);
        if self.master.as_ref().is_some_and(|master| *master == digest) {
            return Some(Identity { name: "the master token".to_owned(), grant: Grant::FULL });
        }
        None
    }
}

impl Identity {
    /// A process of the server's own user, or of root.
    fn local(uid: u32) -> Identity {
        Identity { name: format!("uid {uid}"), grant: Grant::FULL }
    }
}
