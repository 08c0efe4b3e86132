//! How much of a machine: what a node has, what an instance takes.

use std::fmt;

use chassis_spec::{Bytes, Cpu};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// So much of everything that nodes share out.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase", default)]
pub struct Amounts {
    /// Thousandths of a core.
    pub cpu_millis: u64,
    pub memory_bytes: u64,
    pub disk_bytes: u64,
    /// Instances, whatever their size.
    pub slots: u64,
}

impl Amounts {
    #[must_use]
    pub fn plus(self, other: Amounts) -> Amounts {
        self.with(other, u64::saturating_add)
    }

    /// Nothing is less than zero.
    #[must_use]
    pub fn minus(self, other: Amounts) -> Amounts {
        self.with(other, u64::saturating_sub)
    }

    /// True if there is at least so much of everything.
    pub fn covers(self, other: Amounts) -> bool {
        self.cpu_millis >= other.cpu_millis
            && self.memory_bytes >= other.memory_bytes
            && self.disk_bytes >= other.disk_bytes
            && self.slots >= other.slots
    }

    /// The largest part that this is of `whole` in any one thing; of a thing that `whole` has nothing of, no part.
    pub fn dominant_share(self, whole: Amounts) -> f64 {
        self.shares(whole.inverse()).into_iter().fold(0.0, f64::max)
    }

    /// The part that this is of each thing, given the [`Amounts::inverse`] of the whole.
    pub(crate) fn shares(self, inverse: [f64; 4]) -> [f64; 4] {
        let [cpu, memory, disk, slots] = self.floats();
        let [of_cpu, of_memory, of_disk, of_slots] = inverse;
        [cpu * of_cpu, memory * of_memory, disk * of_disk, slots * of_slots]
    }

    pub(crate) fn inverse(self) -> [f64; 4] {
        self.floats().map(|whole| if whole > 0.0 { whole.recip() } else { 0.0 })
    }

    #[expect(clippy::cast_precision_loss, reason = "shares are compared, not added up")]
    fn floats(self) -> [f64; 4] {
        [self.cpu_millis as f64, self.memory_bytes as f64, self.disk_bytes as f64, self.slots as f64]
    }

    fn with(self, other: Amounts, change: fn(u64, u64) -> u64) -> Amounts {
        Amounts {
            cpu_millis: change(self.cpu_millis, other.cpu_millis),
            memory_bytes: change(self.memory_bytes, other.memory_bytes),
            disk_bytes: change(self.disk_bytes, other.disk_bytes),
            slots: change(self.slots, other.slots),
        }
    }
}

/// As people write it: `512Mi`, `2Gi`; what is no whole number of those is rounded, up to a tenth of the larger one.
fn plain(bytes: u64) -> String {
    const MIB: u64 = 1 << 20;
    const GIB: u64 = 1 << 30;
    match bytes {
        _ if bytes < MIB || bytes.is_multiple_of(MIB) => Bytes(bytes).to_string(),
        _ if bytes < 10 * GIB => Bytes(bytes.div_ceil(MIB) * MIB).to_string(),
        _ => {
            let tenths = bytes.saturating_mul(10).div_ceil(GIB);
            if tenths.is_multiple_of(10) {
                format!("{}Gi", tenths / 10)
            } else {
                format!("{}.{}Gi", tenths / 10, tenths % 10)
            }
        }
    }
}

impl fmt::Display for Amounts {
    /// `0.5 cores, 512Mi of memory`; what there is none of is left out.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if self.cpu_millis > 0 {
            let plural = if self.cpu_millis == 1000 { "" } else { "s" };
            parts.push(format!("{} core{plural}", Cpu(u32::try_from(self.cpu_millis).unwrap_or(u32::MAX))));
        }
        for (bytes, what) in [(self.memory_bytes, "memory"), (self.disk_bytes, "disk")] {
            if bytes > 0 {
                parts.push(format!("{} of {what}", plain(bytes)));
            }
        }
        if self.slots > 0 {
            parts.push(format!("{} slot{}", self.slots, if self.slots == 1 { "" } else { "s" }));
        }
        formatter.write_str(&if parts.is_empty() { "nothing".to_owned() } else { parts.join(", ") })
    }
}
