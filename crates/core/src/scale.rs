//! Which numbers an agent's instances have when its count changes.

use std::collections::BTreeSet;

/// Numbers to add and to take away.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScaleChange {
    pub add: Vec<u32>,
    pub remove: Vec<u32>,
}

/// Grows into the lowest free numbers, so that data of earlier instances is found again, and shrinks from the highest.
///
/// `alive` are the numbers that count; `taken` are numbers that cannot be used yet, because their data is being removed.
pub fn scale(alive: &BTreeSet<u32>, taken: &BTreeSet<u32>, count: u32) -> ScaleChange {
    let have = u32::try_from(alive.len()).unwrap_or(u32::MAX);
    if count <= have {
        let remove = alive.iter().rev().take((have - count) as usize).copied().collect();
        return ScaleChange { add: Vec::new(), remove };
    }
    let add = (1..)
        .filter(|number| !alive.contains(number) && !taken.contains(number))
        .take((count - have) as usize)
        .collect();
    ScaleChange { add, remove: Vec::new() }
}
