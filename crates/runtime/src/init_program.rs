//! chassis-init, as it is carried inside this program.

/// The static program that is PID 1 of every instance.
pub(crate) static PROGRAM: &[u8] = include_bytes!(env!("CHASSIS_INIT_PROGRAM"));

/// A name for exactly this program.
pub(crate) fn version() -> String {
    format!("{:016x}", chassis_init::frame::fnv1a(PROGRAM))
}
