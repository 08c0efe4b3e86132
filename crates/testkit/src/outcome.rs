//! How a command ended.

use std::fmt;
use std::process::Output;

use serde::de::DeserializeOwned;

/// What a command printed, and its exit code.
#[derive(Debug, Clone)]
pub struct Outcome {
    pub command: String,
    /// -1 if a signal ended it.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

#[expect(clippy::return_self_not_must_use, reason = "a check is made for its own sake")]
impl Outcome {
    pub(crate) fn new(command: String, output: &Output) -> Outcome {
        Outcome {
            command,
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Panics unless the command ended with this exit code.
    #[track_caller]
    pub fn exits(self, code: i32) -> Outcome {
        assert!(self.code == code, "expected exit code {code}: {self}");
        self
    }

    /// Panics unless standard output contains each of the words.
    #[track_caller]
    pub fn shows(self, words: &[&str]) -> Outcome {
        for word in words {
            assert!(self.stdout.contains(word), "`{word}` is not shown: {self}");
        }
        self
    }

    /// Panics unless standard error contains each of the words.
    #[track_caller]
    pub fn says(self, words: &[&str]) -> Outcome {
        for word in words {
            assert!(self.stderr.contains(word), "`{word}` is not said: {self}");
        }
        self
    }

    /// Panics if the word is printed anywhere.
    #[track_caller]
    pub fn hides(self, word: &str) -> Outcome {
        assert!(!self.stdout.contains(word) && !self.stderr.contains(word), "`{word}` is printed: {self}");
        self
    }

    /// Standard output as JSON.
    #[track_caller]
    pub fn json<T: DeserializeOwned>(&self) -> T {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("not the JSON expected ({error}): {self}"))
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Outcome { command, code, stdout, stderr } = self;
        write!(formatter, "`{command}` ended with {code}\n--- stdout\n{stdout}--- stderr\n{stderr}---")
    }
}
