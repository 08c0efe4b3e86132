//! Flags of the commands that reach into an instance.

use std::net::IpAddr;

use clap::{Args, Subcommand};

use crate::parse;

#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes: the command's own; 126 it cannot be run, 127 it was not found, 255 the connection broke. What chassis itself
refuses ends with 1, 2 or 3 as everywhere, before the command runs.")]
pub(crate) struct Exec {
    /// Hand standard input to the command
    #[arg(short = 'i', long)]
    pub(crate) stdin: bool,
    /// Run it in a terminal
    #[arg(short = 't', long)]
    pub(crate) tty: bool,
    /// Directory to run it in [default: the agent's]
    #[arg(short, long, value_name = "DIR")]
    pub(crate) workdir: Option<String>,
    /// Variable for the command; `NAME` alone passes this shell's on; may be given several times
    #[arg(short, long, value_name = "NAME[=VALUE]", value_parser = parse::variable)]
    pub(crate) env: Vec<(String, String)>,
    /// Instance, or an agent with one only
    pub(crate) id: String,
    /// Command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
As with `cp`: a source goes into a directory that is there, else it gets the target's name. `DIR/.` means what is in it.
A `-` is a tar archive on standard output or input. In the instance, it is the agent who reads and writes.")]
pub(crate) struct Cp {
    /// Where from: a path, INSTANCE:PATH, or - for a tar archive on standard input
    pub(crate) source: String,
    /// Where to: a path, INSTANCE:PATH, or - for a tar archive on standard output
    pub(crate) target: String,
    /// Follow the source if it is a symbolic link
    #[arg(short = 'L', long)]
    pub(crate) follow_link: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Port {
    /// Forward ports of this machine to ports of an instance, until Ctrl-C
    Forward(Forward),
}

#[derive(Debug, Args)]
pub(crate) struct Forward {
    /// Instance, or an agent with one only
    pub(crate) id: String,
    /// 8080:80, or 8080 for the same on both sides, or :80 for a free port of this machine
    #[arg(value_name = "[[ADDRESS:]LOCAL:]REMOTE", required = true, value_parser = parse::forwarding)]
    pub(crate) ports: Vec<Forwarding>,
    /// Address of this machine to listen on; may be given several times [default: 127.0.0.1 and `::1`]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) address: Vec<IpAddr>,
}

/// One port of this machine and the instance's behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Forwarding {
    pub(crate) address: Option<IpAddr>,
    /// 0 for any that is free.
    pub(crate) local: u16,
    pub(crate) remote: u16,
}
