//! Every command and flag, as structs and nothing else: help texts and shell completions are made from them.

mod access;
mod change;
mod context;
mod environments;
mod hands;
mod listen;
mod logs;
mod node;
mod node_command;
mod rollout;
mod runtime;
mod secret;
mod serve;
mod show;

use std::path::PathBuf;

use chassis_client::ServerAddress;
use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

pub(crate) use access::{ApiKey, AuditLog, AuditLogCommand};
pub(crate) use change::{
    Apply, ChangeArgs, Create, Delete, Deploy, DeployAgent, Diff, Scale, Upgrade, UpgradeAgent, Validate,
    Wait,
};
pub(crate) use context::{ContextAdd, ContextCommand, Login, Logout, TrustArgs};
pub(crate) use environments::{AgentProfileCommand, DeadLetterCommand, Environments};
pub(crate) use hands::{Cp, Exec, Forward, Forwarding, Port};
pub(crate) use listen::{Listen, TlsFlags, TlsMode};
pub(crate) use logs::{LogFormat, Logs};
pub(crate) use node::{Node, NodeServe};
pub(crate) use node_command::{NodeCommand, NodeDrainArgs, NodeJoinArgs};
pub(crate) use rollout::{Rollout, RolloutHistory, RolloutStatusArgs, RolloutUndoArgs};
pub(crate) use runtime::{Runtime, RuntimeFlags};
pub(crate) use secret::Secret;
pub(crate) use serve::{Db, DbCopy, Serve, Server};
pub(crate) use show::{
    Audit, Describe, Doctor, Events, Format, Health, Output, Ps, Selector, Stats, Top, Version, WaitFor,
    WaitState,
};

const EXAMPLES: &str = "\
Examples:
  chassis create fleet collector
  chassis deploy agent -f collector-agent.yaml
  chassis scale fleet collector 5
  chassis ps
  chassis logs data-collector-1 -f

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 timed out.";

/// Runs fleets of long-running agents, each in its own sandbox, and keeps them running.
#[derive(Debug, Parser)]
#[command(name = "chassis", version, after_help = EXAMPLES, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    // The environment is read in `Context`: clap would show what it finds there as part of a usage line.
    /// Root of all state [default: /var/chassis for root, else ~/.local/share/chassis] [env: `CHASSIS_DATA_DIR`]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// The server's own directory: socket, lock and log; for several servers on one data directory [default: `.server` in
    /// the data directory] [env: `CHASSIS_SERVER_DIR`]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) server_dir: Option<PathBuf>,
    /// Server to talk to: `unix:///path/to/socket` or `https://host:port` [env: `CHASSIS_SERVER`]
    #[arg(long, global = true, value_name = "ADDRESS")]
    pub(crate) server: Option<ServerAddress>,
    /// Server to talk to, by its name: see `chassis context` [env: `CHASSIS_CONTEXT`]
    #[arg(long, global = true, value_name = "NAME", conflicts_with = "server")]
    pub(crate) context: Option<String>,
    /// Print data and errors only
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// Print without colors; so does `NO_COLOR`
    #[arg(long, global = true)]
    pub(crate) no_color: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create a fleet
    #[command(subcommand)]
    Create(Create),
    /// Deploy an agent
    #[command(subcommand)]
    Deploy(Deploy),
    /// Change how many instances run
    #[command(subcommand)]
    Scale(Scale),
    /// Give an agent another image
    #[command(subcommand)]
    Upgrade(Upgrade),
    /// Show, undo and pause how new revisions take over
    #[command(subcommand)]
    Rollout(Rollout),
    /// Show fleets, agents and instances
    Ps(Ps),
    /// Show everything about an instance, an agent or a fleet
    Describe(Describe),
    /// Show whether instances are healthy, and what their checks saw
    Health(Health),
    /// Print what instances write
    Logs(Logs),
    /// Run a command in an instance
    Exec(Exec),
    /// Copy files and directories into an instance, or out of it
    Cp(Cp),
    /// Reach ports of an instance that are not published
    #[command(subcommand)]
    Port(Port),
    /// The same as `port forward`
    PortForward(Forward),
    /// Show what happened
    Events(Events),
    /// Check how closed the sandboxes really are; exits 1 if something is open
    Audit(Audit),
    /// Show what instances use: processor, memory, network, disk
    Stats(Stats),
    /// Watch what instances use, as a picture
    Top(Top),
    /// Wait until instances are in a state
    Wait(WaitFor),
    /// Start what was stopped
    Start(ChangeArgs),
    /// Stop, until it is started again
    Stop(ChangeArgs),
    /// Stop and start again, one instance at a time
    Restart(ChangeArgs),
    /// Delete an agent, an instance or a fleet
    #[command(subcommand)]
    Delete(Delete),
    /// Manage secrets
    #[command(subcommand)]
    Secret(Secret),
    /// Make, list and revoke the keys that others call with over the network
    #[command(subcommand)]
    ApiKey(ApiKey),
    /// Look after the agents that environments can choose by name
    #[command(subcommand)]
    AgentProfile(AgentProfileCommand),
    /// Look after environments that were given up
    #[command(subcommand)]
    DeadLetter(DeadLetterCommand),
    /// Show who did what, and check that nobody changed it
    AuditLog(AuditLog),
    /// Make fleets as files declare them
    Apply(Apply),
    /// Show what `apply` would change; exits 0 if nothing, 1 if anything, 2 or more if it failed
    Diff(Diff),
    /// Check files without a server
    Validate(Validate),
    /// Print the JSON Schema of the YAML, for editors
    Schema,
    /// Run the server in the foreground
    Serve(Box<Serve>),
    /// Look after the machines that run instances; with `--listen`, run instances here for servers elsewhere
    Node(Box<Node>),
    /// Look after the server
    #[command(subcommand)]
    Server(Server),
    /// Name servers, and choose the one that commands talk to
    #[command(subcommand)]
    Context(ContextCommand),
    /// Give a server a token, which is remembered
    Login(Login),
    /// Forget the token of a server
    Logout(Logout),
    /// Look after the database while no server uses it
    #[command(subcommand)]
    Db(Db),
    /// Look for what stands in the way of agents, and say how to mend it
    Doctor(Doctor),
    /// Print the version
    Version(Version),
    /// Print a script that completes commands in a shell
    Completion(Completion),
}

#[derive(Debug, Args)]
pub(crate) struct Completion {
    pub(crate) shell: Shell,
}
