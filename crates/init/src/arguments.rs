//! The command line, which only chassis writes:
//! `chassis-init --instance <fleet>/<agent>-<number> --files <count> [--volume <name>=<path>]… [--secrets]
//! [--leased] -- <program> [<argument>]…`

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

pub(crate) struct Arguments {
    pub(crate) instance: Instance,
    /// The most files that a process may have open.
    pub(crate) files: u64,
    /// The volumes that the agent may write.
    pub(crate) volumes: Vec<Volume>,
    /// Whether secrets, files or a script come on standard input: `--secrets`, as containers of earlier versions say.
    pub(crate) given: bool,
    /// Whether it runs no longer than its node's lease: `--leased`.
    pub(crate) leased: bool,
    pub(crate) program: OsString,
    /// What the program is given.
    pub(crate) operands: Vec<OsString>,
}

/// `<fleet>/<agent>-<number>`, in its parts.
pub(crate) struct Instance {
    pub(crate) key: String,
    pub(crate) fleet: String,
    pub(crate) agent: String,
    pub(crate) number: String,
}

pub(crate) struct Volume {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
}

impl Arguments {
    pub(crate) fn parse(mut given: impl Iterator<Item = OsString>) -> Result<Arguments, String> {
        let mut instance = None;
        let mut files = None;
        let mut volumes = Vec::new();
        let mut given_more = false;
        let mut leased = false;
        loop {
            let flag = given.next().ok_or("there is no `--` and program to run")?;
            match flag.to_str() {
                Some("--instance") => instance = Some(Instance::parse(&value(&flag, given.next())?)?),
                Some("--files") => {
                    files = value(&flag, given.next())?.to_str().and_then(|text| text.parse().ok());
                }
                Some("--volume") => volumes.push(Volume::parse(&value(&flag, given.next())?)?),
                Some("--secrets") => given_more = true,
                Some("--leased") => leased = true,
                Some("--") => break,
                _ => return Err(format!("unknown argument {}", flag.display())),
            }
        }
        Ok(Arguments {
            instance: instance.ok_or("--instance is missing")?,
            files: files.ok_or("--files is missing, or not a number")?,
            volumes,
            given: given_more,
            leased,
            program: given.next().ok_or("there is no program to run; set `command:`")?,
            operands: given.collect(),
        })
    }
}

impl Instance {
    pub(crate) fn parse(key: &OsStr) -> Result<Instance, String> {
        let wrong = || format!("--instance {} is not <fleet>/<agent>-<number>", key.display());
        let key = key.to_str().ok_or_else(wrong)?;
        let (fleet, name) = key.split_once('/').ok_or_else(wrong)?;
        let (agent, number) = name.rsplit_once('-').ok_or_else(wrong)?;
        Ok(Instance {
            key: key.to_owned(),
            fleet: fleet.to_owned(),
            agent: agent.to_owned(),
            number: number.to_owned(),
        })
    }

    /// `<agent>-<number>`: what people type.
    pub(crate) fn short_name(&self) -> String {
        format!("{}-{}", self.agent, self.number)
    }
}

impl Volume {
    fn parse(text: &OsStr) -> Result<Volume, String> {
        let wrong = || format!("--volume {} is not <name>=<path>", text.display());
        let bytes = text.as_bytes();
        let equals = bytes.iter().position(|byte| *byte == b'=').ok_or_else(wrong)?;
        let name = std::str::from_utf8(&bytes[..equals]).map_err(|_| wrong())?;
        Ok(Volume { name: name.to_owned(), path: OsStr::from_bytes(&bytes[equals + 1..]).into() })
    }
}

pub(crate) fn value(flag: &OsStr, value: Option<OsString>) -> Result<OsString, String> {
    value.ok_or_else(|| format!("{} has no value", flag.display()))
}
