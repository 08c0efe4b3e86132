//! Starts a server in the background for a command that finds none.
//!
//! Several commands may do so at once: the servers that lose the race for the data directory end quietly, and all
//! commands wait for the socket of the one that won.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use chassis_client::{Client, Error, ServerAddress};
use chassis_server::DataDir;

use crate::failure::Failure;
use crate::output::Terminal;

const FORBIDDEN: &str = "CHASSIS_NO_AUTOSTART";
const PATIENCE: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(5);
/// Before a server that found another is started once more.
const RESPAWN: Duration = Duration::from_millis(100);
/// An older log is set aside when a server starts, so that two times this is the most that logs take.
const LARGEST_LOG: u64 = 4 << 20;
/// How much of a dead server's log is shown.
const SHOWN_LINES: usize = 10;

pub(crate) async fn start(data_dir: &DataDir, terminal: Terminal) -> Result<Client, Failure> {
    if std::env::var_os(FORBIDDEN).is_some_and(|value| !value.is_empty() && value != OsStr::new("0")) {
        return Err(Failure::Failed(format!(
            "no server runs on {}, and {FORBIDDEN} forbids to start one; start one with `chassis serve`",
            data_dir.root().display()
        )));
    }
    let not_spawned = |source| Failure::Io {
        what: format!("cannot start a server on {}", data_dir.root().display()),
        source,
    };
    let (mut server, mut log_begin) = spawn(data_dir).map_err(not_spawned)?;
    let address = ServerAddress::Unix(data_dir.socket());
    let begin = Instant::now();
    loop {
        match Client::connect(address.clone()).await {
            Ok(client) => {
                // It may be the server of another command that was faster.
                if client.server_get().await?.pid == Some(server.id()) {
                    terminal.say(&format!(
                        "started a server in the background (pid {}; `chassis server stop` ends it)",
                        server.id()
                    ));
                }
                return Ok(client);
            }
            Err(Error::Unreachable { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        match server.try_wait() {
            Ok(Some(status)) if !status.success() => {
                return Err(Failure::Failed(died(status, &data_dir.log(), log_begin)));
            }
            Ok(Some(_)) => {
                // It found the directory taken: by a server that starts and will answer soon, or by one that was ending.
                tokio::time::sleep(RESPAWN).await;
                (server, log_begin) = spawn(data_dir).map_err(not_spawned)?;
            }
            _ => {}
        }
        if begin.elapsed() > PATIENCE {
            return Err(Failure::TimedOut(format!(
                "the server that was started does not answer; its log is {}",
                data_dir.log().display()
            )));
        }
        tokio::time::sleep(POLL).await;
    }
}

/// The server, and where in the log its own lines begin.
fn spawn(data_dir: &DataDir) -> io::Result<(Child, u64)> {
    if let Some(parent) = data_dir.root().parent() {
        fs::create_dir_all(parent)?;
    }
    // 0711: agents' users pass through the root to their own directories.
    make_dir(data_dir.root(), 0o711)?;
    make_dir(data_dir.server_dir(), 0o700)?;
    let log = open_log(&data_dir.log())?;
    let log_begin = log.metadata()?.len();
    let server = Command::new(std::env::current_exe()?)
        .arg("serve")
        .arg("--background")
        .arg("--data-dir")
        .arg(data_dir.root())
        .arg("--server-dir")
        .arg(data_dir.server_dir())
        .env_remove("CHASSIS_SERVER")
        // The server must not keep the directory busy that somebody happened to be in.
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()?;
    Ok((server, log_begin))
}

fn make_dir(path: &Path, mode: u32) -> io::Result<()> {
    match DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        result => result,
    }
}

fn open_log(path: &Path) -> io::Result<File> {
    if fs::metadata(path).is_ok_and(|log| log.len() > LARGEST_LOG) {
        fs::rename(path, path.with_extension("old"))?;
    }
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

fn died(status: ExitStatus, log: &Path, begin: u64) -> String {
    let bytes = fs::read(log).unwrap_or_default();
    let own = usize::try_from(begin).ok().and_then(|begin| bytes.get(begin..)).unwrap_or_default();
    let text = String::from_utf8_lossy(own);
    let lines: Vec<&str> = text.lines().collect();
    let last = lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n  ");
    format!(
        "the server that was started ended at once ({status}); the end of its log, {}:\n  {last}",
        log.display()
    )
}
