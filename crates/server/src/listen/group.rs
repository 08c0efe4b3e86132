//! The socket of a group: its members come in by the file's mode, and have the role that was given with it.

use std::fs;
use std::path::PathBuf;

use chassis_core::Role;

use crate::data_dir::DataDir;
use crate::error::{Error, Result};
use crate::options::SocketGroup;

const GROUPS: &str = "/etc/group";

#[derive(Debug)]
pub(super) struct GroupDoor {
    pub(super) path: PathBuf,
    pub(super) gid: u32,
    pub(super) role: Role,
}

impl GroupDoor {
    pub(super) fn new(group: &SocketGroup, data_dir: &DataDir) -> Result<GroupDoor> {
        let groups = fs::read_to_string(GROUPS).unwrap_or_default();
        let gid = gid(&groups, &group.name).ok_or_else(|| Error::NoGroup { name: group.name.clone() })?;
        Ok(GroupDoor { path: data_dir.group_socket(), gid, role: group.role })
    }
}

/// The number of a group, out of lines `name:password:number:members`.
fn gid(groups: &str, name: &str) -> Option<u32> {
    let named = groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok())?
    });
    named.or_else(|| name.parse().ok())
}
