//! Reads what people hand in: YAML files and secret values, from files or standard input.

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::Path;

use chassis_spec::{AgentProfile, Document};
use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::output::Terminal;

/// The server's own limit for a secret.
const LARGEST_SECRET: u64 = 64 << 10;
/// More than the parser takes, so that it is the parser that says what is too large.
const LARGEST_FILE: u64 = (1 << 20) + 1;

/// All documents of all files, or every error in them.
pub(crate) fn documents(terminal: Terminal, files: &[impl AsRef<Path>]) -> Result<Vec<Document>, Failure> {
    let mut documents = Vec::new();
    let mut wrong = false;
    for file in files {
        match parse(terminal, file.as_ref()) {
            Ok(found) => documents.extend(found),
            Err(failure) => {
                wrong = true;
                terminal.error(&failure.text().unwrap_or_default());
            }
        }
    }
    if wrong { Err(Failure::Said) } else { Ok(documents) }
}

/// The documents of one file.
pub(crate) fn parse(terminal: Terminal, file: &Path) -> Result<Vec<Document>, Failure> {
    let bytes = yaml(terminal, file)?;
    chassis_spec::parse(&name(file), bytes).map_err(|error| Failure::Failed(error.to_string()))
}

/// The profiles of agents in one file.
pub(crate) fn profiles(terminal: Terminal, file: &Path) -> Result<Vec<AgentProfile>, Failure> {
    let bytes = yaml(terminal, file)?;
    chassis_spec::parse_profiles(&name(file), bytes).map_err(|error| Failure::Failed(error.to_string()))
}

fn yaml(terminal: Terminal, file: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    open(terminal, file, "a YAML file")?
        .take(LARGEST_FILE)
        .read_to_end(&mut bytes)
        .map_err(|source| unreadable(file, source))?;
    Ok(bytes)
}

/// A secret's value, wiped from memory when it is dropped.
pub(crate) fn secret(terminal: Terminal, file: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    // With room for all of it from the start: a buffer that grows would leave copies behind.
    let mut value = Zeroizing::new(Vec::with_capacity(usize::try_from(LARGEST_SECRET).unwrap_or(0) + 64));
    open(terminal, file, "the value")?
        .take(LARGEST_SECRET + 1)
        .read_to_end(&mut value)
        .map_err(|source| unreadable(file, source))?;
    if value.len() as u64 > LARGEST_SECRET {
        return Err(Failure::Failed(format!("{} is larger than a secret may be: 64 KiB", name(file))));
    }
    Ok(value)
}

/// What errors call a file.
pub(crate) fn name(file: &Path) -> String {
    if is_stdin(file) { "<stdin>".to_owned() } else { file.display().to_string() }
}

fn open(terminal: Terminal, file: &Path, what: &str) -> Result<Box<dyn Read>, Failure> {
    if !is_stdin(file) {
        return Ok(Box::new(File::open(file).map_err(|source| unreadable(file, source))?));
    }
    if io::stdin().is_terminal() {
        terminal.say(&format!("type or paste {what}, then press Ctrl-D on an empty line"));
    }
    Ok(Box::new(io::stdin().lock()))
}

fn is_stdin(file: &Path) -> bool {
    file == Path::new("-")
}

fn unreadable(file: &Path, source: io::Error) -> Failure {
    Failure::Io { what: format!("cannot read {}", name(file)), source }
}
