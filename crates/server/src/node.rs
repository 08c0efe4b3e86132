//! On which node the instances of a database run. Servers that share a database share one Docker and one data directory; one
//! that was started elsewhere would make every instance a second time, and so it never acts.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use chassis_store::Term;

use crate::error::chain;
use crate::shared::Shared;

/// Whose the instances are.
#[derive(Debug)]
pub(crate) enum Owner {
    /// This server's node.
    Us,
    /// Another node: this server must not act. Says why, and what to do about it.
    Other(String),
}

/// Looks whether the instances run on this server's node, as far as is known. To be asked while the runtime answers.
pub(crate) async fn owner(shared: &Shared) -> Result<Owner, String> {
    let node = identity(shared).await?;
    let kept = shared.store.node_claimed().await.map_err(|error| chain(&error))?;
    Ok(kept.filter(|kept| *kept != node && !shared.claim_node).map_or(Owner::Us, |kept| other(&kept, &node)))
}

/// The same for a server that is about to act: if nobody has acted yet, this node is the one from now on.
pub(crate) async fn claim(shared: &Shared, term: Term) -> Result<Owner, String> {
    let node = identity(shared).await?;
    let claimed = shared.store.node_claim(term, &node, shared.claim_node).await;
    let kept = claimed.map_err(|error| chain(&error))?;
    Ok(if kept == node { Owner::Us } else { other(&kept, &node) })
}

fn other(kept: &str, own: &str) -> Owner {
    Owner::Other(format!(
        "the instances in this database run on another node ({kept}) than this server's ({own}), so that it does not act; \
         start it with the Docker and the data directory of the others, or, if those were moved here, once with \
         --claim-node"
    ))
}

async fn identity(shared: &Shared) -> Result<String, String> {
    let info = shared.own().runtime.info().await.map_err(|error| chain(&error))?;
    let path = shared.data_dir.node_file();
    let directory = tokio::task::spawn_blocking(move || directory_id(&path)).await;
    let directory = directory.map_err(|error| error.to_string())?;
    let directory =
        directory.map_err(|error| format!("cannot read the data directory's own name: {error}"))?;
    Ok(format!("{} {}, data directory {directory}", info.name, info.id))
}

/// The random name of a data directory, made by the first server that asks.
pub(crate) fn directory_id(path: &Path) -> io::Result<String> {
    let read = || fs::read_to_string(path).map(|text| text.trim().to_owned());
    match read() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        found => return found,
    }
    let id = format!("{:016x}", rand::random::<u64>());
    let new = path.with_extension(&id);
    let mut file = File::create_new(&new)?;
    writeln!(file, "{id}")?;
    file.sync_all()?;
    // Whole at once, and the first one stays.
    let linked = fs::hard_link(&new, path);
    fs::remove_file(&new)?;
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => read(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_keeps_its_name() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("node");
        let id = directory_id(&path).unwrap();
        assert_eq!(id.len(), 16);
        assert_eq!(directory_id(&path).unwrap(), id);
        assert_ne!(directory_id(&home.path().join("other")).unwrap(), id);
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 2);
    }
}
