//! `chassis server`: looks after the server that commands start.

use std::time::{Duration, Instant};

use chassis_api::{ServerInfo, StateInfo};
use chassis_client::ServerAddress;
use jiff::Timestamp;
use rustix::process::Pid;

use crate::args::{Format, Server};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output::{self, Table, Terminal, age, clean};

/// Longer than a server waits for requests to end.
const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(5);

pub(super) async fn run(context: &Context, server: Server) -> Result<Exit, Failure> {
    match server {
        Server::Status { output } => status(context, output.output).await,
        Server::Stop => stop(context).await,
    }
}

async fn status(context: &Context, format: Format) -> Result<Exit, Failure> {
    let Some(client) = context.connect_if_running().await? else {
        let address = context.address()?;
        let next = match address {
            ServerAddress::Unix(_) => "a command that needs one starts it, and so does `chassis serve`",
            _ => "check that it runs there, and that you may reach it",
        };
        return Err(Failure::Failed(format!("no server answers at {address}; {next}")));
    };
    let info = client.server_get().await?;
    output::print(format, &info, || vec![info.id.clone()], |_| table(context.terminal, &info))?;
    Ok(Exit::Done)
}

/// Not everybody is shown it.
fn process(info: &ServerInfo) -> String {
    info.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string())
}

fn list(words: &[String]) -> String {
    if words.is_empty() { "none".to_owned() } else { clean(&words.join(", ")) }
}

fn table(terminal: Terminal, info: &ServerInfo) -> String {
    let runtime = match (&info.runtime_version, &info.runtime_error) {
        (_, Some(error)) => format!("{}: {}", info.runtime, clean(error)),
        (Some(version), None) => format!("{} {version}", info.runtime),
        (None, None) => info.runtime.clone(),
    };
    let mut table = Table::without_header(terminal);
    for (name, value) in [
        ("Version:", info.version.clone()),
        (
            "Process:",
            format!(
                "{} ({})",
                process(info),
                if info.background { "in the background" } else { "in the foreground" }
            ),
        ),
        ("Up:", age(info.started_at, Timestamp::now())),
        ("Data directory:", info.data_dir.clone().unwrap_or_else(|| "-".to_owned())),
        ("Runtime:", runtime),
        ("State id:", info.id.clone()),
        ("State in:", store(&info.state)),
        ("Acts:", acts(&info.state)),
        ("Allows:", list(&info.allowed)),
        ("Host paths:", list(&info.allowed_host_paths)),
    ] {
        table.row([name.into(), value.into()]);
    }
    for (index, listening) in info.listening.iter().enumerate() {
        let name = if index == 0 { "Listens on:" } else { "" };
        table.row([name.into(), listening.address.clone().into()]);
    }
    if let Some(certificate) = info.listening.iter().find_map(|listening| listening.certificate.as_ref()) {
        let whose = if certificate.generated { "generated" } else { "from files" };
        let until = certificate.expires_at.strftime("%Y-%m-%d");
        table.row(["Certificate:".into(), format!("{whose}, valid until {until}").into()]);
        table.row(["Fingerprint:".into(), certificate.fingerprint.to_string().into()]);
    }
    if !info.state.servers.is_empty() {
        table.row(["Servers:".into(), list(&info.state.servers).into()]);
    }
    table.render()
}

fn store(state: &StateInfo) -> String {
    match state.unavailable_since {
        Some(since) => {
            format!("{}, which does not answer since {}", state.store, age(since, Timestamp::now()))
        }
        None => state.store.clone(),
    }
}

/// Whether this server acts, or who does.
fn acts(state: &StateInfo) -> String {
    if let Some(refusal) = &state.refusal {
        return format!("never: {}", clean(refusal));
    }
    let epoch = state.lease_epoch.map(|epoch| format!(" (epoch {epoch})")).unwrap_or_default();
    match (state.acting, &state.lease_holder) {
        (true, None) => "yes".to_owned(),
        (true, Some(_)) => format!("yes, as {}{epoch}", clean(&state.server_name)),
        (false, Some(holder)) if *holder != state.server_name => {
            format!("no; {} does{epoch}", clean(holder))
        }
        (false, _) => "not yet, and nobody else is known to".to_owned(),
    }
}

async fn stop(context: &Context) -> Result<Exit, Failure> {
    let Some(client) = context.connect_if_running().await? else {
        context.terminal.done(&format!("no server runs at {}", context.address()?))?;
        return Ok(Exit::Done);
    };
    let info = client.server_get().await?;
    client.server_stop().await?;
    // The connection would keep the server waiting for another request.
    drop(client);
    wait_for_end(context, &info).await?;
    context.terminal.done(&format!("stopped the server (pid {}); agents go on running", process(&info)))?;
    Ok(Exit::Done)
}

/// Waits for the process, not only for the socket: until it ends, no other server may use the data directory.
async fn wait_for_end(context: &Context, info: &ServerInfo) -> Result<(), Failure> {
    let begin = Instant::now();
    let local = matches!(context.address()?, ServerAddress::Unix(_));
    let pid = info.pid.and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?)).filter(|_| local);
    loop {
        let gone = match pid {
            Some(pid) => has_ended(pid),
            None => context.connect_if_running().await?.is_none(),
        };
        if gone {
            return Ok(());
        }
        if begin.elapsed() > PATIENCE {
            return Err(Failure::TimedOut(format!(
                "the server (pid {}) was asked to end, and still runs",
                process(info)
            )));
        }
        tokio::time::sleep(POLL).await;
    }
}

/// True for a process that is no more, and for one that has ended but whose parent has not asked how.
fn has_ended(pid: Pid) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    // `pid (name) state …`, and the name may hold anything.
    status.map_or(true, |text| text.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z')))
}
