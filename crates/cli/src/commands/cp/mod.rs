//! `chassis cp`: files and directories into an instance and out of it.
//!
//! They travel as tar archives through init's helpers, run in the sandbox as the agent: so the image needs no tool, memory
//! at /tmpfs is reached as well as volumes, and what arrives is the agent's. An archive that comes out is one that an
//! untrusted program may have written; `chassis_init::archive` unpacks it with that in mind.

mod pipe;

use std::io::{self, BufReader, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use chassis_api::InstanceKey;
use chassis_api::hands::ExecStart;
use chassis_client::{Client, ExecEvent, ExecReceiver};
use chassis_init::archive::{Source, pack, unpack};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::oneshot;

use self::pipe::{PipeReader, pipe};
use crate::args::Cp;
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output::{self, Terminal};
use crate::scope::one_instance;

/// Archives go through in pieces of this size.
const BUFFER: usize = 128 << 10;
/// The most that is kept of what the helper says.
const LONGEST_COMPLAINT: usize = 4 << 10;

/// An end of a copy.
enum Place {
    Local(PathBuf),
    Instance {
        name: String,
        path: String,
    },
    /// A tar archive on standard input or output.
    Stream,
}

pub(super) async fn run(context: &Context, args: Cp) -> Result<Exit, Failure> {
    match (place(&args.source), place(&args.target)) {
        (Place::Instance { name, path }, target @ (Place::Local(_) | Place::Stream)) => {
            let (client, instance) = reach(context, &name).await?;
            fetch(&client, context.terminal, &instance, &path, target, args.follow_link).await
        }
        (source @ (Place::Local(_) | Place::Stream), Place::Instance { name, path }) => {
            let (client, instance) = reach(context, &name).await?;
            send(&client, context.terminal, &instance, source, &path, args.follow_link).await
        }
        (Place::Instance { .. }, Place::Instance { .. }) => Err(Failure::Usage(
            "one end must be on this machine; copy through it: `chassis cp a-1:/data/x - | chassis cp - a-2:/data`"
                .to_owned(),
        )),
        _ => Err(Failure::Usage("one end must be in an instance, as in `chassis cp agent-1:/data/file .`".to_owned())),
    }
}

/// `agent-1:/path`; whatever has a slash before the colon is a path of this machine.
fn place(text: &str) -> Place {
    if text == "-" {
        return Place::Stream;
    }
    match text.split_once(':') {
        // `fleet/agent-1:/path` has one too, but no path of this machine begins so.
        Some((name, path))
            if !name.is_empty() && !name.starts_with(['.', '/', '~']) && name.matches('/').count() <= 1 =>
        {
            Place::Instance {
                name: name.to_owned(),
                path: if path.is_empty() { "." } else { path }.to_owned(),
            }
        }
        _ => Place::Local(text.into()),
    }
}

async fn reach(context: &Context, name: &str) -> Result<(Client, InstanceKey), Failure> {
    let client = context.connect().await?;
    let instance = one_instance(&client, name).await?;
    Ok((client, instance))
}

/// What an archive of this path is of: the last name in it, or what is in the directory.
fn source_of(path: &Path) -> Source<'_> {
    let text = path.as_os_str().to_str().unwrap_or_default();
    match path.file_name().and_then(|name| name.to_str()) {
        Some(name) if !text.ends_with("/.") => Source::Named(name),
        _ => Source::Contents,
    }
}

fn root_name(source: Source<'_>) -> &str {
    match source {
        Source::Named(name) => name,
        Source::Contents | Source::Anything => ".",
    }
}

// === out of an instance ===

async fn fetch(
    client: &Client,
    terminal: Terminal,
    instance: &InstanceKey,
    path: &str,
    target: Place,
    follow: bool,
) -> Result<Exit, Failure> {
    if matches!(target, Place::Stream) && io::stdout().is_terminal() {
        return Err(Failure::Usage(
            "a tar archive is nothing for a terminal; redirect it to a file or pipe".to_owned(),
        ));
    }
    let mut command: Vec<String> =
        [chassis_init::PROGRAM, "tar-out", root_name(source_of(Path::new(path))), path]
            .map(str::to_owned)
            .into();
    // A slash at the end asks for what a link leads to, as everywhere.
    if follow || path.ends_with('/') || path.ends_with("/.") {
        command.push("--follow".to_owned());
    }
    let start = ExecStart { command, ..ExecStart::default() };
    let (_sender, mut receiver) = open(client, instance, start).await?;
    let bar = progress(terminal, instance);
    let (mut writer, reader) = pipe();
    let source = path.to_owned();
    let unpacking = tokio::task::spawn_blocking(move || unpack_to(reader, &target, &source));
    let mut complaint = Vec::new();
    let code = loop {
        match receiver.next().await? {
            ExecEvent::Stdout(bytes) => {
                bar.inc(bytes.len() as u64);
                // Whoever unpacks has said why not, or will.
                if writer.send(bytes).await.is_err() {
                    break None;
                }
            }
            ExecEvent::Stderr(bytes) => keep(&mut complaint, &bytes),
            ExecEvent::Exit(code) => break Some(code),
        }
    };
    // Nothing of an archive that was cut off is taken for its end.
    if code == Some(0) {
        writer.finish().await;
    }
    drop(writer);
    let unpacked = unpacking.await.unwrap_or_else(|error| Err(io::Error::other(error)));
    bar.finish_and_clear();
    match code {
        Some(code) if code != 0 => Err(complained(&complaint, code)),
        _ => {
            let skipped = unpacked.map_err(|source| Failure::Io {
                what: format!("cannot copy {}:{path}", instance.short_name()),
                source,
            })?;
            warn(terminal, &complaint, skipped);
            Ok(Exit::Done)
        }
    }
}

fn unpack_to(reader: PipeReader, target: &Place, path: &str) -> io::Result<u64> {
    let mut reader = BufReader::with_capacity(BUFFER, reader);
    if let Place::Local(target) = target {
        return unpack(&mut reader, target, source_of(Path::new(path)));
    }
    let mut stdout = io::stdout().lock();
    io::copy(&mut reader, &mut stdout)?;
    stdout.flush()?;
    Ok(0)
}

// === into an instance ===

async fn send(
    client: &Client,
    terminal: Terminal,
    instance: &InstanceKey,
    source: Place,
    path: &str,
    follow: bool,
) -> Result<Exit, Failure> {
    if let Place::Local(local) = &source {
        std::fs::symlink_metadata(local)
            .map_err(|source| Failure::Io { what: format!("cannot read {}", local.display()), source })?;
    }
    let kind = match &source {
        Place::Local(local) => source_of(local),
        _ => Source::Anything,
    };
    let mut command: Vec<String> = [chassis_init::PROGRAM, "tar-in", path].map(str::to_owned).into();
    match kind {
        Source::Named(name) => command.extend(["named".to_owned(), name.to_owned()]),
        Source::Contents => command.push("contents".to_owned()),
        Source::Anything => command.push("anything".to_owned()),
    }
    let start = ExecStart { command, stdin: true, ..ExecStart::default() };
    let (mut sender, receiver) = open(client, instance, start).await?;
    let bar = progress(terminal, instance);
    let (writer, mut reader) = pipe();
    let (done, packed) = oneshot::channel();
    // Not one of the runtime's: nothing would let this process end while standard input waits for somebody.
    std::thread::spawn(move || {
        let mut out = BufWriter::with_capacity(BUFFER, writer.blocking());
        let packed = pack_from(&mut out, &source, follow, terminal)
            .and_then(|()| out.into_inner().map_err(io::IntoInnerError::into_error)?.finish());
        let _ = done.send(packed);
    });
    let sending = async {
        loop {
            match reader.receive().await {
                Some(bytes) => {
                    bar.inc(bytes.len() as u64);
                    sender.input(&bytes).await?;
                }
                // Cut off: the helper must not take what it has for all there is.
                None if !reader.is_finished() => return Ok(()),
                None => {
                    sender.eof().await?;
                    return std::future::pending().await;
                }
            }
        }
    };
    let mut complaint = Vec::new();
    let code = tokio::select! {
        code = hear(receiver, &mut complaint) => Some(code?),
        ended = sending => ended.map(|()| None).map_err(|error: chassis_client::Error| Failure::from(error))?,
    };
    drop(reader);
    bar.finish_and_clear();
    if let Some(code) = code.filter(|code| *code != 0) {
        return Err(complained(&complaint, code));
    }
    let packed = packed.await.unwrap_or_else(|error| Err(io::Error::other(error)));
    packed
        .map_err(|source| Failure::Io { what: "cannot read all that is to be copied".to_owned(), source })?;
    warn(terminal, &complaint, 0);
    Ok(Exit::Done)
}

fn pack_from(out: &mut impl Write, source: &Place, follow: bool, terminal: Terminal) -> io::Result<()> {
    match source {
        Place::Local(local) => {
            let text = local.as_os_str().to_str().unwrap_or_default();
            let follow = follow || text.ends_with('/') || text.ends_with("/.") || text == ".";
            let skipped = |path: &Path| {
                terminal.say(&format!("{} is no file, directory or link; left out", path.display()));
            };
            pack(out, local, root_name(source_of(local)), follow, skipped)
        }
        _ => io::copy(&mut io::stdin().lock(), out).map(drop),
    }
}

async fn hear(mut receiver: ExecReceiver, complaint: &mut Vec<u8>) -> Result<i32, Failure> {
    loop {
        match receiver.next().await? {
            ExecEvent::Stderr(bytes) => keep(complaint, &bytes),
            ExecEvent::Stdout(_) => {}
            ExecEvent::Exit(code) => return Ok(code),
        }
    }
}

// === both ways ===

/// Starts a helper. For an instance that does not run, says where its files lie.
async fn open(
    client: &Client,
    instance: &InstanceKey,
    start: ExecStart,
) -> Result<(chassis_client::ExecSender, ExecReceiver), Failure> {
    match client.exec(instance, start).await {
        Err(error) if error.code() == "not_running" => {
            let detail = client.instance_get(instance).await?;
            let places: Vec<String> = detail
                .mounts
                .iter()
                .filter(|mount| mount.kind == "tier 1")
                .map(|mount| format!("{} is {}", mount.path, mount.source))
                .collect();
            let hint = if places.is_empty() {
                String::new()
            } else {
                format!("; meanwhile its files are on {}: {}", detail.instance.node, places.join(", "))
            };
            Err(Failure::Failed(format!("{error}{hint}")))
        }
        opened => Ok(opened?),
    }
}

fn progress(terminal: Terminal, instance: &InstanceKey) -> ProgressBar {
    if !terminal.moving() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::no_length();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {bytes} ({bytes_per_sec})") {
        bar.set_style(style);
    }
    bar.set_message(format!("copying, {}", instance.short_name()));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

fn keep(complaint: &mut Vec<u8>, bytes: &[u8]) {
    let room = LONGEST_COMPLAINT - complaint.len();
    complaint.extend_from_slice(&bytes[..bytes.len().min(room)]);
}

fn complained(complaint: &[u8], code: i32) -> Failure {
    let text = output::clean(&String::from_utf8_lossy(complaint).replace("chassis-init: ", ""));
    Failure::Failed(if text.is_empty() { format!("the copy ended with exit code {code}") } else { text })
}

fn warn(terminal: Terminal, complaint: &[u8], skipped: u64) {
    for line in String::from_utf8_lossy(complaint).lines() {
        terminal.say(&output::clean(line.trim_start_matches("chassis-init: ")));
    }
    if skipped > 0 {
        terminal.say(&format!("{skipped} that are no file, directory or link were left out"));
    }
}
