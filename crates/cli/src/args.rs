//! Every command and flag, as structs and nothing else: help texts and shell completions are made from them.

mod access;
mod context;
mod hands;
mod listen;

use std::path::PathBuf;

use chassis_api::LogLevel;
use chassis_client::ServerAddress;
use chassis_server::{Cidr, Opening};
use chassis_spec::{AgentName, Bytes, FleetName, ImageName};
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use jiff::{SignedDuration, Timestamp};

use crate::parse;

pub(crate) use access::{ApiKey, AuditLog, AuditLogCommand};
pub(crate) use context::{ContextAdd, ContextCommand, Login, Logout, TrustArgs};
pub(crate) use hands::{Cp, Exec, Forward, Forwarding, Port};
pub(crate) use listen::{Listen, TlsMode};

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

#[derive(Debug, Subcommand)]
pub(crate) enum Create {
    /// Create an empty fleet
    Fleet {
        name: FleetName,
        /// Label to put on the fleet; may be given several times
        #[arg(short, long, value_name = "KEY=VALUE", value_parser = parse::label)]
        label: Vec<(String, String)>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Deploy {
    /// Deploy the agents that files describe
    Agent(DeployAgent),
}

#[derive(Debug, Args)]
pub(crate) struct DeployAgent {
    #[command(flatten)]
    pub(crate) files: Files,
    /// Fleet, if the YAML names none [default: the only fleet there is]
    #[arg(long)]
    pub(crate) fleet: Option<FleetName>,
    /// Number of instances, instead of the YAML's
    #[arg(long, value_name = "COUNT")]
    pub(crate) replicas: Option<u32>,
    /// Show what would change, and change nothing
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) wait: Wait,
}

#[derive(Debug, Args)]
pub(crate) struct Files {
    /// YAML file, or - for standard input; may be given several times
    #[arg(short, long = "file", value_name = "FILE", required = true, num_args = 1..)]
    pub(crate) file: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Wait {
    /// Do not wait until the instances are there
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// Stop waiting after this time; the change itself goes on
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = parse::duration)]
    pub(crate) timeout: SignedDuration,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Scale {
    /// Scale the agent of a fleet
    Fleet {
        name: FleetName,
        count: u32,
        /// Agent, if the fleet has several
        #[arg(long)]
        agent: Option<AgentName>,
        #[command(flatten)]
        wait: Wait,
    },
    /// Scale an agent, as `agent` or `fleet/agent`
    Agent {
        name: String,
        count: u32,
        #[command(flatten)]
        wait: Wait,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Upgrade {
    /// Give an agent another image, or what its image's name means by now
    Agent(UpgradeAgent),
}

#[derive(Debug, Args)]
#[group(id = "what", required = true, multiple = false, args = ["image", "refresh"])]
pub(crate) struct UpgradeAgent {
    /// `data-collector`, or `collector/data-collector`
    pub(crate) name: String,
    /// Image to run from now on
    #[arg(long, value_name = "IMAGE")]
    pub(crate) image: Option<ImageName>,
    /// Ask the registry what the image's name means by now
    #[arg(long)]
    pub(crate) refresh: bool,
    #[command(flatten)]
    pub(crate) wait: Wait,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Rollout {
    /// Show how far the present revision is, and wait for its end
    Status(RolloutStatusArgs),
    /// List the revisions of an agent
    History(RolloutHistory),
    /// Go back to an earlier revision
    Undo(RolloutUndoArgs),
    /// Replace no further instance for now
    Pause {
        #[command(flatten)]
        target: AgentTarget,
    },
    /// Go on with a rollout that was paused
    Resume {
        #[command(flatten)]
        target: AgentTarget,
        #[command(flatten)]
        wait: Wait,
    },
}

#[derive(Debug, Args)]
pub(crate) struct AgentTarget {
    /// An agent: `data-collector`, `agent data-collector`, `collector/data-collector`
    #[arg(value_name = "[agent] NAME", num_args = 1..=2, required = true)]
    pub(crate) target: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct RolloutStatusArgs {
    #[command(flatten)]
    pub(crate) target: AgentTarget,
    #[command(flatten)]
    pub(crate) output: Output,
    #[command(flatten)]
    pub(crate) wait: Wait,
}

#[derive(Debug, Args)]
pub(crate) struct RolloutHistory {
    #[command(flatten)]
    pub(crate) target: AgentTarget,
    /// Show the definition of this revision, as YAML
    #[arg(long, value_name = "N")]
    pub(crate) revision: Option<u64>,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct RolloutUndoArgs {
    #[command(flatten)]
    pub(crate) target: AgentTarget,
    /// Revision to go back to [default: the last other one that was complete]
    #[arg(long, value_name = "N")]
    pub(crate) to_revision: Option<u64>,
    /// Show what would change, and change nothing
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) wait: Wait,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    #[default]
    Table,
    /// A table with more columns
    Wide,
    Json,
    Yaml,
    /// Names only, one to a line
    Name,
}

#[derive(Debug, Args)]
pub(crate) struct Output {
    /// How to print it
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(crate) output: Format,
}

#[derive(Debug, Args)]
pub(crate) struct Ps {
    /// Only this fleet, agent or instance
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) output: Output,
    /// Only what has this label; may be given several times
    #[arg(short = 'l', long = "selector", value_name = "KEY=VALUE", value_parser = parse::label)]
    pub(crate) selector: Vec<(String, String)>,
    /// Show it again whenever it changes
    #[arg(short, long)]
    pub(crate) watch: bool,
    /// Fleets only
    #[arg(long, conflicts_with = "agents")]
    pub(crate) fleets: bool,
    /// Agents only
    #[arg(long)]
    pub(crate) agents: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Describe {
    /// Instance, agent or fleet: data-collector-1, data-collector, collector/data-collector-1
    pub(crate) id: String,
    /// Leave out the last output of the run before
    #[arg(long)]
    pub(crate) no_log: bool,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct Health {
    /// Instance, agent or fleet
    pub(crate) id: String,
    /// Look now, without waiting for the interval
    #[arg(long)]
    pub(crate) now: bool,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// Instance, agent or fleet
    pub(crate) id: String,
    /// Go on with what is written from now on
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// The run before the present one
    #[arg(short, long, conflicts_with_all = ["follow", "all"])]
    pub(crate) previous: bool,
    /// Also what containers wrote that are no more
    #[arg(long)]
    pub(crate) all: bool,
    /// Only what was written since: 10m, or 2026-11-22T12:00:00Z
    #[arg(long, value_name = "TIME", value_parser = parse::since)]
    pub(crate) since: Option<Timestamp>,
    /// Only what was written until then: 10m, or 2026-11-22T12:00:00Z
    #[arg(long, value_name = "TIME", value_parser = parse::since, conflicts_with = "follow")]
    pub(crate) until: Option<Timestamp>,
    /// Only lines that this regular expression matches
    #[arg(short, long, value_name = "REGEX")]
    pub(crate) grep: Option<String>,
    /// Do not tell capitals from small letters in --grep
    #[arg(short, long, requires = "grep")]
    pub(crate) ignore_case: bool,
    /// Only lines of at least this level (trace, debug, info, warn, error, fatal), and what belongs to them
    #[arg(short, long)]
    pub(crate) level: Option<LogLevel>,
    /// Only the last lines of each instance, of those that are wanted
    #[arg(short = 'n', long, value_name = "LINES")]
    pub(crate) tail: Option<u32>,
    /// Put the time in front of each line
    #[arg(short, long)]
    pub(crate) timestamps: bool,
    /// Leave out the names in front of the lines of several instances
    #[arg(long)]
    pub(crate) no_prefix: bool,
    /// How to print it
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub(crate) output: LogFormat,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Lines as they were written
    #[default]
    Text,
    /// An object to a line, with the fields of lines that are JSON themselves
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct Events {
    /// Only of this fleet, agent or instance
    pub(crate) id: Option<String>,
    /// Go on with what happens from now on
    #[arg(short, long)]
    pub(crate) watch: bool,
    /// At most so many, the newest
    #[arg(long, default_value_t = 100)]
    pub(crate) limit: u32,
    /// Only what happened since: 10m, or 2026-11-22T12:00:00Z
    #[arg(long, value_name = "TIME", value_parser = parse::since)]
    pub(crate) since: Option<Timestamp>,
    /// Only events of these kinds, such as Exited,Lost; `-o json` shows the kinds
    #[arg(long, value_name = "KIND", value_delimiter = ',')]
    pub(crate) kind: Vec<String>,
    /// Only events after the one with this id
    #[arg(long, value_name = "ID")]
    pub(crate) since_id: Option<u64>,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct Audit {
    /// Only this fleet, agent or instance
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) output: Output,
    /// Show what passes too
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Stats {
    /// Only of this fleet, agent or instance
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) output: Output,
    /// Show it again and again
    #[arg(short, long)]
    pub(crate) watch: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Top {
    /// Only this fleet, agent or instance
    pub(crate) name: Option<String>,
    /// Print one picture as plain text; so does a pipe
    #[arg(long)]
    pub(crate) once: bool,
}

#[derive(Debug, Args)]
pub(crate) struct WaitFor {
    /// Fleets, agents or instances, as with `start`
    #[arg(value_name = "[KIND] NAME", required = true, num_args = 1..)]
    pub(crate) target: Vec<String>,
    /// What to wait for
    #[arg(long = "for", value_name = "STATE", value_enum, default_value = "ready")]
    pub(crate) state: WaitState,
    /// Give up after this time
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = parse::duration)]
    pub(crate) timeout: SignedDuration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum WaitState {
    /// Each runs
    Running,
    /// Each runs at the agent's present revision, is healthy if it has a check, and has not just crashed
    Ready,
    /// Each runs, and its health check succeeds
    Healthy,
    /// None runs, and none is about to
    Stopped,
    /// None is there any more
    Deleted,
    /// Each has ended well, and is not started again
    Completed,
}

#[derive(Debug, Args)]
pub(crate) struct ChangeArgs {
    /// Names (`data-collector-1`), or a kind and names (`fleet collector`, `agent data-collector`)
    #[arg(value_name = "[KIND] NAME", num_args = 1.., required = true)]
    pub(crate) target: Vec<String>,
    #[command(flatten)]
    pub(crate) wait: Wait,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Delete {
    /// Delete an agent with all its instances, or one instance
    Agent {
        /// Agent or instance: data-collector, data-collector-5
        id: String,
        /// Delete its data too
        #[arg(long)]
        cleanup: bool,
        #[command(flatten)]
        wait: Wait,
    },
    /// Delete one instance, and so lower its agent's count
    Instance {
        /// data-collector-5
        id: String,
        /// Delete its data too
        #[arg(long)]
        cleanup: bool,
        #[command(flatten)]
        wait: Wait,
    },
    /// Delete a fleet and its agents
    Fleet {
        name: FleetName,
        /// Delete its data too
        #[arg(long)]
        cleanup: bool,
        /// The fleet's name again, where nobody can be asked for it
        #[arg(long, value_name = "NAME")]
        confirm: Option<String>,
        #[command(flatten)]
        wait: Wait,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Secret {
    /// Store a secret, from a file or standard input
    Create {
        /// `fleet/name`, or `name` if there is only one fleet
        name: String,
        /// File with the value, or - for standard input
        #[arg(long, value_name = "PATH")]
        from_file: Option<PathBuf>,
        /// Replace the secret if there is one
        #[arg(long)]
        replace: bool,
        /// Takes a value that somebody put on the command line, to say why that is refused.
        #[arg(hide = true)]
        value: Option<String>,
        #[arg(long, alias = "value", hide = true)]
        from_literal: Option<String>,
    },
    /// List secrets; never their values
    List {
        fleet: Option<FleetName>,
        #[command(flatten)]
        output: Output,
    },
    /// Delete a secret
    Delete {
        /// `fleet/name`, or `name` if there is only one fleet
        name: String,
    },
    /// Encrypt all secrets with a new key
    RotateKey {
        /// File with the new key (64 hex digits), or - for standard input [default: a random one]
        #[arg(long, value_name = "PATH")]
        new_key_file: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Apply {
    #[command(flatten)]
    pub(crate) files: Files,
    /// Delete agents of these fleets that the files do not declare; their data is kept
    #[arg(long)]
    pub(crate) prune: bool,
    /// Show what would change, and change nothing
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) wait: Wait,
}

#[derive(Debug, Args)]
pub(crate) struct Diff {
    #[command(flatten)]
    pub(crate) files: Files,
    /// As with `apply --prune`
    #[arg(long)]
    pub(crate) prune: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Validate {
    #[command(flatten)]
    pub(crate) files: Files,
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// This server's name where several share a database [default: the machine's]
    #[arg(long, env = "CHASSIS_SERVER_NAME", hide_env_values = true, value_name = "NAME")]
    pub(crate) server_name: Option<String>,
    /// The instances of the database were moved to this machine's Docker and data directory: take them over, once
    #[arg(long)]
    pub(crate) claim_node: bool,
    /// What runs the instances
    #[arg(long, value_enum, env = "CHASSIS_RUNTIME", hide_env_values = true, default_value = "docker")]
    pub(crate) runtime: Runtime,
    /// Docker Engine to use, as `unix:///path` or `tcp://host:port`
    #[arg(long, env = "DOCKER_HOST", value_name = "ADDRESS")]
    pub(crate) docker_host: Option<String>,
    /// Path of the host that agents' `hostPath` volumes may show, with what is in it; may be given several times. Also
    /// `CHASSIS_ALLOW_HOST_PATH`, with colons between
    #[arg(long, value_name = "PATH")]
    pub(crate) allow_host_path: Vec<PathBuf>,
    /// What a YAML may open beyond its agent's sandbox: privileged, host-network, host-pid, host-ipc, unconfined,
    /// all-capabilities, host-userns; with commas between. Also `CHASSIS_ALLOW`
    #[arg(long, value_name = "WORDS", value_delimiter = ',')]
    pub(crate) allow: Vec<Opening>,
    /// Directory of the seccomp profiles that a YAML may name
    #[arg(
        long,
        env = "CHASSIS_SECCOMP_DIR",
        hide_env_values = true,
        value_name = "DIR",
        default_value = "/etc/chassis/seccomp"
    )]
    pub(crate) seccomp_dir: PathBuf,
    /// What the output of containers that are no more may take on the disk [default: 2Gi, or 5 % of the file system]
    #[arg(long, value_name = "SIZE")]
    pub(crate) kept_logs_max: Option<Bytes>,
    /// File with the token that may do everything over the network. Also `CHASSIS_MASTER_TOKEN`, with the token itself
    /// [default: `master-token` in the server's directory]
    #[arg(long, value_name = "FILE")]
    pub(crate) master_token_file: Option<PathBuf>,
    /// Addresses that clients of the network may come from, as 10.0.0.0/8; may be given several times. Also
    /// `CHASSIS_ALLOW_FROM`, with commas between [default: from anywhere]
    #[arg(long, value_name = "CIDR")]
    pub(crate) allow_from: Vec<Cidr>,
    /// Addresses of proxies whose `X-Forwarded-For` says who a client is; may be given several times. Also
    /// `CHASSIS_TRUSTED_PROXY`, with commas between
    #[arg(long, value_name = "CIDR")]
    pub(crate) trusted_proxy: Vec<Cidr>,
    /// Requests in each second that one API key may make for long; 0 for as many as it likes
    #[arg(
        long,
        env = "CHASSIS_RATE_LIMIT",
        hide_env_values = true,
        value_name = "COUNT",
        default_value_t = 200
    )]
    pub(crate) rate_limit: u32,
    /// How long rows of the audit log are kept
    #[arg(
        long,
        env = "CHASSIS_AUDIT_LOG_KEEP",
        hide_env_values = true,
        value_name = "DURATION",
        default_value = "365d",
        value_parser = parse::days
    )]
    pub(crate) audit_log_keep: SignedDuration,
    #[command(flatten)]
    pub(crate) listen: Listen,
    /// Seed of what happens in the simulation
    #[arg(long, default_value_t = 0, hide = true)]
    pub(crate) sim_seed: u64,
    /// Belong to no terminal; what a command passes that starts a server
    #[arg(long, hide = true)]
    pub(crate) background: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Runtime {
    Docker,
    /// In memory, for trying things out
    Sim,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Server {
    /// Show whether a server runs, and how
    Status {
        #[command(flatten)]
        output: Output,
    },
    /// End the server; agents go on running
    Stop,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Db {
    /// Bring the database of `DATABASE_URL`, or else of the data directory, up to date
    Migrate,
    /// Copy the database of a single server to Postgres, where several can serve it
    Copy(DbCopy),
}

#[derive(Debug, Args)]
pub(crate) struct DbCopy {
    /// The database to copy, which stays as it is; without it that of the data directory
    #[arg(long, value_name = "sqlite:PATH")]
    pub(crate) from: Option<String>,
    /// An empty Postgres database, without a password; `DATABASE_URL` without it
    #[arg(long, value_name = "postgres://…")]
    pub(crate) to: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct Version {
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct Completion {
    pub(crate) shell: Shell,
}
