//! The two streams that a command writes to, and what they are connected to.

use std::io::{self, IsTerminal, Write};

use crate::failure::Failure;
use crate::output::Color;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Terminal {
    quiet: bool,
    colors: bool,
    /// Whether stdout and stderr are terminals.
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
}

impl Terminal {
    pub(crate) fn new(quiet: bool, no_color: bool) -> Terminal {
        let forbidden = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Terminal {
            quiet,
            colors: !(no_color || forbidden || dumb),
            stdout: io::stdout().is_terminal(),
            stderr: io::stderr().is_terminal(),
        }
    }

    /// Whether stdout may have colors.
    pub(crate) fn colored(self) -> bool {
        self.colors && self.stdout
    }

    /// Whether progress is shown as something that moves.
    pub(crate) fn moving(self) -> bool {
        self.stderr && !self.quiet
    }

    pub(crate) fn quiet(self) -> bool {
        self.quiet
    }

    /// Whether a person can be asked something.
    pub(crate) fn can_ask(self) -> bool {
        self.stderr && io::stdin().is_terminal()
    }

    /// Whether there is a person with a screen and a keyboard.
    pub(crate) fn interactive(self) -> bool {
        self.stdout && io::stdin().is_terminal()
    }

    /// What was done: one line on stdout, unless only data is wanted.
    pub(crate) fn done(self, line: &str) -> Result<(), Failure> {
        if self.quiet { Ok(()) } else { data(&format!("{line}\n")) }
    }

    /// What is good to know, on stderr, unless only data is wanted.
    pub(crate) fn say(self, line: &str) {
        if !self.quiet {
            tell(line);
        }
    }

    pub(crate) fn error(self, text: &str) {
        let word = if self.colors && self.stderr { Color::Red.paint("error:") } else { "error:".to_owned() };
        tell(&format!("{word} {text}"));
    }
}

/// What the command was asked for.
pub(crate) fn data(text: &str) -> Result<(), Failure> {
    write_all(io::stdout().lock(), text.as_bytes())
}

/// What agents wrote to their stderr.
pub(crate) fn data_on_stderr(text: &[u8]) -> Result<(), Failure> {
    write_all(io::stderr().lock(), text)
}

pub(crate) fn data_on_stdout(text: &[u8]) -> Result<(), Failure> {
    write_all(io::stdout().lock(), text)
}

/// What must be known: a line on stderr.
pub(crate) fn tell(line: &str) {
    // A command whose stderr is closed still does its work.
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Asks, and reads a line.
pub(crate) fn ask(question: &str) -> Result<String, Failure> {
    let failed = |source| Failure::Io { what: "cannot read the answer".to_owned(), source };
    let mut stderr = io::stderr().lock();
    write!(stderr, "{question} ").and_then(|()| stderr.flush()).map_err(failed)?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).map_err(failed)?;
    Ok(answer.trim().to_owned())
}

fn write_all(mut stream: impl Write, text: &[u8]) -> Result<(), Failure> {
    stream.write_all(text).and_then(|()| stream.flush()).map_err(Failure::Print)
}
