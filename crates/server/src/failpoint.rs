//! Named points at which a test can make something happen that no test could wait for: `CHASSIS_FAILPOINT=<name>@<n>` ends the
//! process the hard way when it comes to the point for the n-th time, `<name>@<n>=panic` panics there, and `<name>@<n>=stall`
//! stays there for three seconds. Compiled in only with the feature `failpoints`.

use std::time::Duration;

/// Marks a point. Does nothing in a server that people run.
#[cfg(not(feature = "failpoints"))]
pub(crate) fn failpoint(_name: &str) {}

/// Marks a point, and does there what the environment says, if it names this one.
#[cfg(feature = "failpoints")]
pub(crate) fn failpoint(name: &str) {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static ARMED: LazyLock<Option<(String, AtomicU64, String)>> = LazyLock::new(|| {
        let value = std::env::var("CHASSIS_FAILPOINT").ok()?;
        let (name, rest) = value.split_once('@')?;
        let (count, what) = rest.split_once('=').unwrap_or((rest, "kill"));
        Some((name.to_owned(), AtomicU64::new(count.parse().ok()?), what.to_owned()))
    });
    if let Some((armed, left, what)) = ARMED.as_ref()
        && armed == name
        && left.fetch_sub(1, Ordering::SeqCst) == 1
    {
        match what.as_str() {
            "panic" => std::panic::panic_any(format!("a panic at {name}, as asked for")),
            "stall" => stall(),
            _ => {
                let _ =
                    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
            }
        }
    }
}

#[cfg(feature = "failpoints")]
#[expect(clippy::disallowed_methods, reason = "other tasks have left this worker")]
fn stall() {
    tokio::task::block_in_place(|| std::thread::sleep(Duration::from_secs(3)));
}

/// A limit that is too long for a test.
#[cfg(not(feature = "failpoints"))]
pub(crate) fn shortened(limit: Duration) -> Duration {
    limit
}

/// A limit that is too long for a test, which says in `CHASSIS_FAILPOINT_LIMIT` how many seconds it is there.
#[cfg(feature = "failpoints")]
pub(crate) fn shortened(limit: Duration) -> Duration {
    let seconds = std::env::var("CHASSIS_FAILPOINT_LIMIT").ok().and_then(|seconds| seconds.parse().ok());
    seconds.map_or(limit, Duration::from_secs)
}
