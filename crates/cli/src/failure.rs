//! How a command ends: exit codes, and errors as people read them.

use std::error::Error as _;
use std::io;
use std::process::ExitCode;

/// What a script learns from the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Done,
    /// Of `diff` it says that something differs.
    Failed,
    /// Of `diff` it says that it failed.
    Usage,
    NotFound,
    TimedOut,
    /// Somebody pressed Ctrl-C.
    Interrupted,
    /// The code of a command that was run for somebody.
    Of(u8),
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::NotFound => 3,
            Exit::TimedOut => 4,
            Exit::Interrupted => 130,
            Exit::Of(code) => code,
        })
    }
}

/// Why a command did not do what it should.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Client(#[from] chassis_client::Error),
    /// Of several fleets some were changed.
    #[error("{done} was applied, {failed} was not, nor what follows")]
    Partly { done: String, failed: String, source: Box<chassis_client::Error> },
    #[error("{0}")]
    Usage(String),
    #[error("{0}")]
    Failed(String),
    #[error("{0}")]
    NotFound(String),
    #[error("{0}")]
    TimedOut(String),
    #[error("{0}")]
    Interrupted(String),
    #[error("{what}")]
    Io { what: String, source: io::Error },
    #[error("cannot print the result")]
    Print(#[source] io::Error),
    #[error(transparent)]
    Server(#[from] chassis_server::Error),
    /// Everything was said already.
    #[error("")]
    Said,
}

impl Failure {
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Failure::Usage(_) => Exit::Usage,
            Failure::NotFound(_) => Exit::NotFound,
            Failure::Client(error) if error.is_not_found() => Exit::NotFound,
            Failure::TimedOut(_) | Failure::Client(chassis_client::Error::Slow { .. }) => Exit::TimedOut,
            Failure::Interrupted(_) => Exit::Interrupted,
            // Whoever read the output has seen enough of it.
            Failure::Print(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Done,
            _ => Exit::Failed,
        }
    }

    /// True if the server does not know who asks, or does not let them.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self, Failure::Client(chassis_client::Error::Problem(problem)) if matches!(problem.status, 401 | 403))
    }

    /// The error with its causes, in one sentence; nothing if there is nothing to say.
    pub(crate) fn text(&self) -> Option<String> {
        if matches!(self, Failure::Said) || self.exit() == Exit::Done {
            return None;
        }
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            let more = error.to_string();
            if !text.contains(&more) {
                text.push_str(": ");
                text.push_str(&more);
            }
            cause = error.source();
        }
        if matches!(self, Failure::Client(chassis_client::Error::Problem(problem)) if problem.status == 401) {
            text.push_str("; `chassis login` gives this command a token");
        }
        Some(text)
    }
}
