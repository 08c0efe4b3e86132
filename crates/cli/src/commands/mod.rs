//! One file for each group of commands.

mod agent_profile;
mod api_key;
mod apply;
mod audit;
mod audit_log;
mod change;
mod context;
mod cp;
mod create;
pub(crate) mod db;
mod dead_letter;
mod delete;
mod deploy;
mod describe;
mod diff;
mod doctor;
mod events;
mod exec;
mod fuse_settings;
pub(crate) mod health;
pub(crate) mod local;
mod login;
mod logs;
pub(crate) mod node;
mod port;
mod ps;
mod rollout;
mod scale;
mod secret;
pub(crate) mod serve;
mod server;
mod stats;
mod top;
mod upgrade;
pub(crate) mod validate;
mod wait;

use chassis_api::ChangeKind;

use crate::args::{Command, Deploy, Port, Upgrade};
use crate::context::Context;
use crate::failure::{Exit, Failure};

/// Runs a command that talks to a server.
pub(crate) async fn run(context: &Context, command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Create(create) => create::run(context, create).await,
        Command::Deploy(Deploy::Agent(deploy)) => deploy::run(context, deploy).await,
        Command::Scale(scale) => scale::run(context, scale).await,
        Command::Upgrade(Upgrade::Agent(upgrade)) => upgrade::run(context, upgrade).await,
        Command::Rollout(rollout) => rollout::run(context, rollout).await,
        Command::Ps(ps) => ps::run(context, ps).await,
        Command::Describe(describe) => describe::run(context, describe).await,
        Command::Health(health) => health::run(context, health).await,
        Command::Logs(logs) => logs::run(context, logs).await,
        Command::Cp(cp) => cp::run(context, cp).await,
        Command::Exec(exec) => exec::run(context, exec).await,
        Command::Port(Port::Forward(forward)) | Command::PortForward(forward) => {
            port::forward(context, forward).await
        }
        Command::Events(events) => events::run(context, events).await,
        Command::Audit(audit) => audit::run(context, audit).await,
        Command::Stats(stats) => stats::run(context, stats).await,
        Command::Top(top) => top::run(context, top).await,
        Command::Wait(wait) => wait::run(context, wait).await,
        Command::Start(args) => change::run(context, args, ChangeKind::Start).await,
        Command::Stop(args) => change::run(context, args, ChangeKind::Stop).await,
        Command::Restart(args) => change::run(context, args, ChangeKind::Restart).await,
        Command::Delete(delete) => delete::run(context, delete).await,
        Command::Secret(secret) => secret::run(context, secret).await,
        Command::ApiKey(key) => api_key::run(context, key).await,
        Command::AgentProfile(command) => agent_profile::run(context, command).await,
        Command::DeadLetter(command) => dead_letter::run(context, command).await,
        Command::AuditLog(log) => audit_log::run(context, log).await,
        Command::Apply(apply) => apply::run(context, apply).await,
        Command::Diff(diff) => apply::diff(context, diff).await,
        Command::Doctor(args) => doctor::run(context, args).await,
        Command::Context(command) => self::context::run(context, command),
        Command::Login(args) => login::run(context, args).await,
        Command::Logout(args) => login::logout(context, args),
        Command::Server(server) => server::run(context, server).await,
        Command::Node(node) => match node.command {
            Some(command) => node::run(context, command).await,
            None => Ok(Exit::Done),
        },
        // `main` ran these without a client.
        Command::Validate(_)
        | Command::Schema
        | Command::Serve(_)
        | Command::Db(_)
        | Command::Version(_)
        | Command::Completion(_) => Ok(Exit::Done),
    }
}
