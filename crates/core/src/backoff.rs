//! How long to wait before the next try. The jitter comes from a seed, so that a decision can be repeated exactly, and
//! instances that fail together do not try again together.

use jiff::SignedDuration;

/// The first restart after a good run is immediate; then 1 s, doubling.
const RESTART_BASE: SignedDuration = SignedDuration::from_secs(1);
/// A crash loop is tried at least this often.
pub const RESTART_CAP: SignedDuration = SignedDuration::from_mins(5);
/// A run of this length is a good run: the next crash is the first again.
pub const GOOD_RUN: SignedDuration = SignedDuration::from_mins(10);
/// What blocks an instance from outside (a registry, a name, the daemon) is usually mended by a person who is watching.
pub const BLOCKED_CAP: SignedDuration = SignedDuration::from_secs(15);

/// The wait before the restart that follows the `failures`-th crash in a row, counted from 1.
pub fn restart_delay(failures: u32, seed: u64) -> SignedDuration {
    match failures {
        0 | 1 => SignedDuration::ZERO,
        more => exponential(more - 2, RESTART_CAP, seed),
    }
}

/// The wait before the `attempts`-th try, counted from 1, of an action that failed.
pub fn blocked_delay(attempts: u32, seed: u64) -> SignedDuration {
    exponential(attempts.saturating_sub(1), BLOCKED_CAP, seed)
}

/// `base * 2^exponent` up to `cap`, shortened by up to a fifth.
fn exponential(exponent: u32, cap: SignedDuration, seed: u64) -> SignedDuration {
    let full = RESTART_BASE.checked_mul(1 << exponent.min(20)).map_or(cap, |delay| delay.min(cap));
    let jitter = mix(seed.wrapping_add(u64::from(exponent))) % 200;
    let permille = 1000 - i64::try_from(jitter).unwrap_or(0);
    SignedDuration::from_millis(
        i64::try_from(full.as_millis()).unwrap_or(i64::MAX).saturating_mul(permille) / 1000,
    )
}

/// `SplitMix64`: spreads the bits of a counter. Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014.
fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
