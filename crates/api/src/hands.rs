//! What travels over the two web sockets into an instance: a command's, and a port's.
//!
//! Both carry binary messages of at most [`LONGEST_MESSAGE`] bytes. Whoever cannot take more reads no further, and so the
//! other end waits: nothing is ever held in unbounded buffers. What cannot be done is refused before the upgrade, with a
//! problem as anywhere.
//!
//! **A command's** messages begin with a byte that says what the rest is: [`STDIN`], [`STDOUT`] and [`STDERR`] are bytes,
//! [`CONTROL`] is JSON: an [`ExecRequest`] to the server, whose first is always `start`, or an [`ExecAnswer`] from it,
//! which is the last message of all. A client that goes away ends its command.
//!
//! **A port's** messages are the connection's bytes; the text message [`PORT_EOF`] says that no more will come from this
//! side.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Problem;

/// The most bytes in one message.
pub const LONGEST_MESSAGE: usize = 1 << 20;
pub const STDIN: u8 = 0;
pub const STDOUT: u8 = 1;
pub const STDERR: u8 = 2;
pub const CONTROL: u8 = 3;
/// The sender's half of a port's connection is closed.
pub const PORT_EOF: &str = "eof";

/// What a client asks of a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ExecRequest {
    Start(ExecStart),
    Resize(TerminalSize),
    /// The end of standard input.
    Eof,
}

/// What is run, and how. Here and not in the address, so that no variable's value is in anybody's log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExecStart {
    pub command: Vec<String>,
    /// Names and values.
    #[serde(default)]
    pub env: Vec<(String, String)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// Whether it gets a standard input.
    #[serde(default)]
    pub stdin: bool,
    /// Whether it gets a terminal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminal: Option<TerminalSize>,
}

/// In characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TerminalSize {
    pub columns: u16,
    pub rows: u16,
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ExecAnswer {
    /// Its exit code; 128 + signal if a signal ended it.
    Exit(i32),
    /// It was not started, or cannot be seen any more.
    Failed(Problem),
}
