//! `chassis exec`: a command in an instance, with this terminal or this pipe as its own.

use std::io::{self, IsTerminal, Read};

use chassis_api::hands::{ExecStart, TerminalSize};
use chassis_client::{ExecEvent, ExecReceiver, ExecSender};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::args::Exec;
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output::{RawMode, terminal_size};
use crate::scope::one_instance;

/// Input is read in pieces of this size, and so many are read ahead.
const PIECE: usize = 32 << 10;
const PIECES: usize = 4;
/// The connection broke, so that nobody knows how the command ended; as `ssh` does.
const LOST: u8 = 255;

pub(super) async fn run(context: &Context, args: Exec) -> Result<Exit, Failure> {
    if args.tty && !(io::stdin().is_terminal() && io::stdout().is_terminal()) {
        return Err(Failure::Usage(
            "-t needs a terminal on both standard input and output; leave it out in scripts and pipes"
                .to_owned(),
        ));
    }
    let client = context.connect().await?;
    let instance = one_instance(&client, &args.id).await?;
    let mut env = args.env;
    if args.tty
        && let Ok(term) = std::env::var("TERM")
    {
        env.insert(0, ("TERM".to_owned(), term));
    }
    let start = ExecStart {
        command: args.command,
        env,
        working_dir: args.workdir,
        stdin: args.stdin,
        terminal: args.tty.then(size),
    };
    let (sender, receiver) = client.exec(&instance, start).await?;
    let raw = if args.tty && args.stdin { Some(RawMode::enter().map_err(not_raw)?) } else { None };
    let ended = session(sender, receiver, args.stdin, args.tty).await;
    drop(raw);
    match ended {
        Err(Failure::Client(error)) if error.code() == "connection_broken" => {
            context.terminal.error(&format!("{error}; nobody sees any more what the command does"));
            Ok(Exit::Of(LOST))
        }
        ended => ended,
    }
}

/// Carries everything both ways until the command ends, or somebody ends this one.
async fn session(
    sender: ExecSender,
    receiver: ExecReceiver,
    stdin: bool,
    tty: bool,
) -> Result<Exit, Failure> {
    let signals = |kind| {
        signal(kind).map_err(|source| Failure::Io { what: "cannot receive signals".to_owned(), source })
    };
    let resized = if tty { Some(signals(SignalKind::window_change())?) } else { None };
    // These would end the process at once, and leave the terminal as it is.
    let mut terminate = signals(SignalKind::terminate())?;
    let mut hangup = signals(SignalKind::hangup())?;
    tokio::select! {
        code = receive(receiver) => Ok(Exit::Of(code?)),
        never = send(sender, stdin, resized) => match never {},
        _ = terminate.recv() => Ok(Exit::Of(128 + 15)),
        _ = hangup.recv() => Ok(Exit::Of(128 + 1)),
    }
}

async fn receive(mut receiver: ExecReceiver) -> Result<u8, Failure> {
    let (mut stdout, mut stderr) = (tokio::io::stdout(), tokio::io::stderr());
    loop {
        match receiver.next().await? {
            ExecEvent::Stdout(bytes) => print(&mut stdout, &bytes).await?,
            ExecEvent::Stderr(bytes) => print(&mut stderr, &bytes).await?,
            ExecEvent::Exit(code) => return Ok(u8::try_from(code).unwrap_or(LOST)),
        }
    }
}

async fn print(mut stream: impl AsyncWrite + Unpin, bytes: &[u8]) -> Result<(), Failure> {
    stream.write_all(bytes).await.map_err(Failure::Print)?;
    stream.flush().await.map_err(Failure::Print)
}

/// Sends input and sizes for as long as that is possible; how it all ends, the receiver learns.
async fn send(mut sender: ExecSender, stdin: bool, mut resized: Option<Signal>) -> std::convert::Infallible {
    let mut input = stdin.then(input);
    loop {
        let sent = tokio::select! {
            piece = next(input.as_mut()) => if let Some(bytes) = piece {
                sender.input(&bytes).await
            } else {
                input = None;
                sender.eof().await
            },
            () = next_size(resized.as_mut()) => sender.resize(size()).await,
        };
        if sent.is_err() {
            return std::future::pending().await;
        }
    }
}

async fn next(input: Option<&mut mpsc::Receiver<Vec<u8>>>) -> Option<Vec<u8>> {
    match input {
        Some(input) => input.recv().await,
        None => std::future::pending().await,
    }
}

async fn next_size(resized: Option<&mut Signal>) {
    match resized {
        Some(resized) => drop(resized.recv().await),
        None => std::future::pending().await,
    }
}

/// Standard input, read by a thread of its own: nothing else would let this process end while a read waits.
fn input() -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel(PIECES);
    std::thread::spawn(move || {
        let mut stdin = io::stdin();
        loop {
            let mut piece = vec![0; PIECE];
            match stdin.read(&mut piece) {
                Ok(0) => return,
                Ok(count) => {
                    piece.truncate(count);
                    if sender.blocking_send(piece).is_err() {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    });
    receiver
}

fn size() -> TerminalSize {
    let (columns, rows) = terminal_size();
    TerminalSize {
        columns: u16::try_from(columns).unwrap_or(u16::MAX),
        rows: u16::try_from(rows).unwrap_or(u16::MAX),
    }
}

fn not_raw(source: io::Error) -> Failure {
    Failure::Io { what: "cannot change the terminal".to_owned(), source }
}
