//! Which volumes are limited, and under which number of their disk.
//!
//! ```text
//! <root>/.server/limits/<number>     holds `<fleet>/<agent>-<n>/<volume>`, whose number that is
//! ```
//! A number is taken before the limit is set, and given back after it was taken away: what is limited is always known.

use std::path::Path;
use std::sync::PoisonError;

use chassis_core::InstanceKey;
use chassis_spec::{AgentSpec, Volume};

use super::quota::Disk;
use super::{Tier1, unusable};
use crate::hash::stable_hash;
use crate::{Error, Result};

/// Numbers from here on are seldom given by hand; those of ext4 and xfs have 32 bits.
const FIRST: u32 = 0x4000_0000;
const MASK: u64 = 0x3fff_ffff;

impl Tier1 {
    /// Fails if the spec wants a limit that the disk of tier 1 cannot keep, and says what it lacks.
    pub(crate) fn check_limits(&self, spec: &AgentSpec) -> Result<()> {
        match spec.volumes.iter().find(|volume| volume.size.is_some()) {
            Some(volume) => self.disk(volume).map(|_| ()),
            None => Ok(()),
        }
    }

    /// Makes the directory of a limited volume where it must be of a kind of its own.
    pub(super) fn limit_begin(&self, key: &InstanceKey, volume: &Volume) -> Result<()> {
        if volume.size.is_none() {
            return Ok(());
        }
        let disk = self.disk(volume)?;
        self.number_take(key, volume)?;
        let path = self.instance_path(key).join(volume.name.as_str());
        disk.make(&path).map_err(|problem| cannot(volume, &problem))
    }

    /// Limits a volume, or takes a limit away that it had before.
    pub(super) fn limit(&self, key: &InstanceKey, volume: &Volume) -> Result<()> {
        let path = self.instance_path(key).join(volume.name.as_str());
        if let Some(size) = volume.size {
            let number = self.number_take(key, volume)?;
            let limited = self.disk(volume)?.limit(&path, number, size.0);
            return limited.map_err(|problem| cannot(volume, &problem));
        }
        let name = record(key, volume.name.as_str());
        for (number, _) in self.numbers()?.into_iter().filter(|(_, owner)| *owner == name) {
            let unlimited = self.disk(volume)?.unlimit(&path, number);
            unlimited.map_err(|problem| cannot(volume, &problem))?;
            self.number_give_back(number)?;
        }
        Ok(())
    }

    /// Takes the limits of an instance away, whose data is about to be removed, and what of it only its disk can remove.
    pub(super) fn limits_remove(&self, key: &InstanceKey) -> Result<()> {
        let prefix = record(key, "");
        for (number, owner) in self.numbers()? {
            let Some(volume) = owner.strip_prefix(&prefix) else { continue };
            let path = self.instance_path(key).join(volume);
            let removed = Disk::of(&self.root)
                .and_then(|disk| disk.remove(&path).and_then(|()| disk.unlimit(&path, number)));
            if let Err(problem) = removed {
                tracing::warn!(path = %path.display(), problem, "cannot take the limit of a volume away");
            }
            self.number_give_back(number)?;
        }
        Ok(())
    }

    fn disk(&self, volume: &Volume) -> Result<Disk> {
        std::fs::create_dir_all(&self.root).map_err(|error| unusable(&self.root, error))?;
        Disk::of(&self.root).map_err(|problem| cannot(volume, &problem))
    }

    /// The number of a volume: made from its name, or the next one if that is another's.
    fn number_take(&self, key: &InstanceKey, volume: &Volume) -> Result<u32> {
        let name = record(key, volume.name.as_str());
        let failed = |error| unusable(&self.root, error);
        let _alone = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        let records = self.server().and_then(|server| server.create("limits", 0o700)).map_err(failed)?;
        let hash = stable_hash(&format!("{} {name}", self.root.display())) & MASK;
        let mut number = FIRST | u32::try_from(hash).unwrap_or_default();
        loop {
            match records.read(&number.to_string()).map_err(failed)? {
                Some(owner) if owner == name.as_bytes() => return Ok(number),
                Some(_) => number = FIRST | (number + 1) & u32::try_from(MASK).unwrap_or(u32::MAX),
                None => break,
            }
        }
        records.write(&number.to_string(), name.as_bytes(), 0o600).map_err(failed)?;
        Ok(number)
    }

    fn number_give_back(&self, number: u32) -> Result<()> {
        let path = self.records().join(number.to_string());
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(unusable(&path, error)),
            _ => Ok(()),
        }
    }

    /// All numbers that are taken, and by whom.
    fn numbers(&self) -> Result<Vec<(u32, String)>> {
        let path = self.records();
        let failed = |error| unusable(&path, error);
        let entries = match std::fs::read_dir(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(failed)?,
        };
        let mut numbers = Vec::new();
        for entry in entries {
            let entry = entry.map_err(failed)?;
            // A file that is only just being written has another name.
            let Some(number) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            if let Ok(owner) = std::fs::read_to_string(entry.path()) {
                numbers.push((number, owner));
            }
        }
        Ok(numbers)
    }

    fn records(&self) -> std::path::PathBuf {
        Path::new(&self.root).join(".server/limits")
    }
}

fn record(key: &InstanceKey, volume: &str) -> String {
    format!("{key}/{volume}")
}

fn cannot(volume: &Volume, problem: &str) -> Error {
    let size = volume.size.map(|size| format!(" to {size}")).unwrap_or_default();
    Error::storage(format!("cannot limit volume {}{size}: {problem}; or leave `size` out", volume.name))
}
