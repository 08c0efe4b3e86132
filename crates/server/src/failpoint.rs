//! Named points at which a test can kill the server: `CHASSIS_FAILPOINT=<name>@<n>` ends the process the hard way when
//! it comes to the point for the n-th time. Compiled in only with the feature `failpoints`.

/// Marks a point. Does nothing in a server that people run.
#[cfg(not(feature = "failpoints"))]
pub(crate) fn failpoint(_name: &str) {}

/// Marks a point, and dies there if it is the one that the environment names.
#[cfg(feature = "failpoints")]
pub(crate) fn failpoint(name: &str) {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static ARMED: LazyLock<Option<(String, AtomicU64)>> = LazyLock::new(|| {
        let value = std::env::var("CHASSIS_FAILPOINT").ok()?;
        let (name, count) = value.split_once('@')?;
        Some((name.to_owned(), AtomicU64::new(count.parse().ok()?)))
    });
    if let Some((armed, left)) = ARMED.as_ref()
        && armed == name
        && left.fetch_sub(1, Ordering::SeqCst) == 1
    {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}
