//! What chassis-init and its caller agree on: where its files are, how secrets reach it, how files travel, that an
//! instance runs once, and for how long one may that may run elsewhere.

use std::ffi::CStr;

pub mod archive;
pub mod frame;
pub mod lease;
pub mod turn;

/// The directory of init's own files inside the sandbox, read-only there.
pub const DIRECTORY: &str = "/.chassis";
/// The program itself.
pub const PROGRAM: &str = "/.chassis/chassis-init";
/// The file that names the instance to which the directory belongs: `fleet/agent-number` and a line break.
pub const INSTANCE_FILE: &str = "/.chassis/instance";
/// The uid and gid of an agent whose image names no user but root.
pub const DEFAULT_USER_ID: u32 = 64_646;
/// The exit code when the sandbox is not as it must be: `EX_CONFIG` of sysexits.h.
pub const EXIT_MISCONFIGURED: u8 = 78;
/// The exit code when the startup script failed or took too long; the next after [`EXIT_MISCONFIGURED`], which no
/// convention uses.
pub const EXIT_STARTUP: u8 = 79;
/// The exit code when no server had answered for the node for so long that the instance may run elsewhere; the next one.
pub const EXIT_UNLEASED: u8 = 80;
/// As a shell tells of one that was ended by SIGKILL.
pub const EXIT_KILLED: u8 = 137;
/// What PID 1 is called until all is there that the agent is given, and its startup script has ended.
pub const PREPARING: &CStr = c"chassis-prepare";
/// The variable by which what belongs to one exec is found again: a word, a dot, and the number of its session.
pub const MARK: &str = "CHASSIS_EXEC";
