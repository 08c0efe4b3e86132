//! Streams from a node: each is carried by a task of its own, which ends when nobody holds the stream any more, and with it the
//! connection, which is how the node knows.

use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Buf, Bytes};
use chassis_runtime::{
    Error, Exec, ExecChunk, ExecControl, ExecInput, ExecOptions, Image, LogChunk, LogOptions, LogStream,
    PortStream, PullProgress, Result, RuntimeEvent, TerminalSize,
};
use futures_util::stream::{BoxStream, unfold};
use futures_util::{SinkExt, StreamExt};
use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio_util::io::{CopyToBytes, SinkWriter, StreamReader};
use tokio_util::sync::{CancellationToken, DropGuard, PollSender};

use super::line::Line;
use crate::carried::LOG_TIME;
use crate::socket::{Inward, Lost, Outward, PIECE};
use crate::wire::{Ask, CONTROL, Failed, INPUT, STDERR, STDOUT, Said, TERM_STALE};

/// Frames that wait for a reader.
const WAITING: usize = 16;

pub(super) async fn image(
    line: &Line,
    ask: &Ask,
    progress: &(dyn Fn(PullProgress) + Send + Sync),
) -> Result<Arc<Image>> {
    let (mut outward, mut inward) = ask_for(line, ask).await?;
    loop {
        match hear(line, &mut outward, &mut inward).await? {
            Said::Progress(now) => progress(now),
            Said::Image(image) => return Ok(Arc::new(image)),
            Said::Failed(failed) => return Err(refused(line, failed)),
            _ => return Err(broken(line.node(), &Lost::Nonsense)),
        }
    }
}

pub(super) async fn events(line: &Line) -> Result<BoxStream<'static, Result<RuntimeEvent>>> {
    let (outward, inward) = open(line, &Ask::Events).await?;
    Ok(receive(line, outward, inward, |frame| match said(&frame)? {
        Said::Event(event) => Ok(Received::Item(event)),
        Said::End => Ok(Received::End),
        Said::Failed(failed) => Ok(Received::Failed(failed)),
        _ => Err(Lost::Nonsense),
    }))
}

pub(super) async fn logs(
    line: &Line,
    id: &str,
    options: &LogOptions,
) -> Result<BoxStream<'static, Result<LogChunk>>> {
    let (outward, inward) = open(line, &Ask::Logs { id: id.to_owned(), options: *options }).await?;
    Ok(receive(line, outward, inward, |frame| match frame {
        (channel @ (STDOUT | STDERR), mut bytes) if bytes.len() >= LOG_TIME => {
            let time = Timestamp::from_nanosecond(bytes.get_i128()).map_err(|_| Lost::Nonsense)?;
            Ok(Received::Item(LogChunk { time, stream: stream_of(channel), bytes }))
        }
        frame => match said(&frame)? {
            Said::End => Ok(Received::End),
            Said::Failed(failed) => Ok(Received::Failed(failed)),
            _ => Err(Lost::Nonsense),
        },
    }))
}

/// What a frame of a stream in one direction is.
enum Received<T> {
    Item(T),
    End,
    Failed(Failed),
}

fn receive<T: Send + 'static>(
    line: &Line,
    mut outward: Outward,
    mut inward: Inward,
    read: impl Fn((u8, Bytes)) -> std::result::Result<Received<T>, Lost> + Send + Sync + 'static,
) -> BoxStream<'static, Result<T>> {
    let (sender, receiver) = mpsc::channel(WAITING);
    let node = line.node().to_owned();
    tokio::spawn(async move {
        let carried = async {
            loop {
                let item = match inward.next().await.and_then(&read) {
                    Ok(Received::Item(item)) => Ok(item),
                    Ok(Received::End) => return,
                    Ok(Received::Failed(failed)) => Err(failed.into()),
                    Err(lost) => Err(broken(&node, &lost)),
                };
                let is_last = item.is_err();
                if sender.send(item).await.is_err() || is_last {
                    return;
                }
            }
        };
        tokio::select! {
            () = carried => {}
            // What is still to be read says that it broke.
            _ = outward.stay() => {
                let _ = sender.send(Err(broken(&node, &Lost::Closed))).await;
            }
            () = sender.closed() => {}
        }
    });
    unfold(receiver, async |mut receiver| Some((receiver.recv().await?, receiver))).boxed()
}

pub(super) async fn exec(line: &Line, id: &str, options: &ExecOptions) -> Result<Exec> {
    let ask = Ask::Exec { id: id.to_owned(), options: options.clone() };
    let (mut outward, mut inward) = open(line, &ask).await?;
    let (output, chunks) = mpsc::channel(WAITING);
    let (input, mut inputs) = mpsc::channel::<Bytes>(WAITING);
    let (resize, mut sizes) = mpsc::channel(WAITING);
    let (ended, exit) = watch::channel(None);
    let dropped = CancellationToken::new();
    let guards = (dropped.clone().drop_guard(), dropped.clone().drop_guard());
    let node = line.node().to_owned();
    let mut has_input = options.stdin;
    tokio::spawn(async move {
        let carried = async {
            let outward = async {
                loop {
                    tokio::select! {
                        bytes = inputs.recv(), if has_input => {
                            has_input = bytes.is_some();
                            pass_on(&mut outward, bytes).await?;
                        }
                        Some(size) = sizes.recv() => outward.say(&Ask::Resize(size)).await?,
                        lost = outward.stay() => return Err(lost),
                    }
                }
            };
            let inward = async {
                loop {
                    match inward.next().await? {
                        (channel @ (STDOUT | STDERR), bytes) => {
                            let chunk = ExecChunk { stream: stream_of(channel), bytes };
                            // Who reads no more has dropped it.
                            let _ = output.send(Ok(chunk)).await;
                        }
                        frame => match said(&frame)? {
                            Said::Exit(code) => return Ok(Ok(code)),
                            Said::Failed(failed) => return Ok(Err(failed)),
                            _ => return Err(Lost::Nonsense),
                        },
                    }
                }
            };
            tokio::select! {
                lost = outward => lost,
                ended = inward => ended,
            }
        };
        let carried: std::result::Result<std::result::Result<i32, Failed>, Lost> = tokio::select! {
            carried = carried => carried,
            () = dropped.cancelled() => return,
        };
        let code = carried.unwrap_or_else(|lost| Err(broken(&node, &lost).into()));
        let failed = code.as_ref().err().cloned();
        ended.send_replace(Some(code));
        if let Some(failed) = failed {
            let _ = output.send(Err(failed.into())).await;
        }
    });
    let input = options.stdin.then(|| Box::pin(writer(input)) as ExecInput);
    let output =
        unfold((chunks, guards.0), async |(mut chunks, guard)| Some((chunks.recv().await?, (chunks, guard))));
    Ok(Exec { output: output.boxed(), input, control: Box::new(Control { resize, exit, _guard: guards.1 }) })
}

struct Control {
    resize: mpsc::Sender<TerminalSize>,
    exit: watch::Receiver<Option<std::result::Result<i32, Failed>>>,
    /// Without it the command is ended.
    _guard: DropGuard,
}

#[async_trait]
impl ExecControl for Control {
    async fn resize(&self, size: TerminalSize) -> Result<()> {
        self.resize.send(size).await.map_err(|_| Error::rejected("the command has ended"))
    }

    async fn exit_code(&self) -> Result<i32> {
        let mut exit = self.exit.clone();
        let exit = exit.wait_for(Option::is_some).await.ok().and_then(|exit| exit.clone());
        let exit = exit.ok_or_else(|| Error::rejected("the command was ended"))?;
        exit.map_err(Error::from)
    }
}

pub(super) async fn port(line: &Line, id: &str, port: u16) -> Result<Box<dyn PortStream>> {
    let (mut outward, mut inward) = open(line, &Ask::PortConnect { id: id.to_owned(), port }).await?;
    let (output, pieces) = mpsc::channel::<io::Result<Bytes>>(WAITING);
    let (input, mut inputs) = mpsc::channel::<Bytes>(WAITING);
    let node = line.node().to_owned();
    tokio::spawn(async move {
        let unread = output.clone();
        let outward = async {
            let mut open = true;
            loop {
                tokio::select! {
                    bytes = inputs.recv(), if open => {
                        open = bytes.is_some();
                        pass_on(&mut outward, bytes).await?;
                    }
                    lost = outward.stay() => return Err::<(), _>(lost),
                }
            }
        };
        let inward = async {
            let mut output = Some(output);
            loop {
                match inward.next().await? {
                    (STDOUT, bytes) => {
                        if let Some(output) = &output {
                            let _ = output.send(Ok(bytes)).await;
                        }
                    }
                    frame => match said(&frame)? {
                        // To the reader this is the end; the other half may be open still.
                        Said::Eof => {
                            if let Some(output) = output.take() {
                                let _ = output.send(Ok(Bytes::new())).await;
                            }
                        }
                        Said::End => return Ok(()),
                        Said::Failed(failed) => {
                            if let Some(output) = &output {
                                let _ = output.send(Err(io::Error::other(Error::from(failed)))).await;
                            }
                            return Ok(());
                        }
                        _ => return Err(Lost::Nonsense),
                    },
                }
            }
        };
        tokio::select! {
            carried = async { tokio::select! { ended = outward => ended, ended = inward => ended } } => {
                if let Err(lost) = carried {
                    let _ = unread.send(Err(io::Error::other(broken(&node, &lost)))).await;
                }
            }
            // Both halves belong to one value.
            () = unread.closed() => {}
        }
    });
    let pieces = unfold(pieces, async |mut pieces| match pieces.recv().await? {
        Ok(bytes) if bytes.is_empty() => None,
        piece => Some((piece, pieces)),
    });
    Ok(Box::new(tokio::io::join(StreamReader::new(Box::pin(pieces)), Box::pin(writer(input)))))
}

/// Bytes into a channel; the end of them closes it.
fn writer(sender: mpsc::Sender<Bytes>) -> impl tokio::io::AsyncWrite + Send {
    let sink = PollSender::new(sender).sink_map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe));
    SinkWriter::new(CopyToBytes::new(sink))
}

/// Bytes, or the end of them.
async fn pass_on(outward: &mut Outward, bytes: Option<Bytes>) -> std::result::Result<(), Lost> {
    let Some(bytes) = bytes else { return outward.say(&Ask::Eof).await };
    for piece in bytes.chunks(PIECE) {
        outward.send(INPUT, piece).await?;
    }
    Ok(())
}

/// A stream on which something was asked for.
async fn ask_for(line: &Line, ask: &Ask) -> Result<(Outward, Inward)> {
    let (mut outward, inward) = line.stream().await?;
    outward.say(ask).await.map_err(|lost| line.unreachable(lost))?;
    Ok((outward, inward))
}

/// One that the node has opened.
async fn open(line: &Line, ask: &Ask) -> Result<(Outward, Inward)> {
    let (mut outward, mut inward) = ask_for(line, ask).await?;
    match hear(line, &mut outward, &mut inward).await? {
        Said::Open => Ok((outward, inward)),
        Said::Failed(failed) => Err(refused(line, failed)),
        _ => Err(broken(line.node(), &Lost::Nonsense)),
    }
}

async fn hear(line: &Line, outward: &mut Outward, inward: &mut Inward) -> Result<Said> {
    let frame = tokio::select! {
        frame = inward.next() => frame,
        lost = outward.stay() => Err(lost),
    };
    frame.and_then(|frame| said(&frame)).map_err(|lost| broken(line.node(), &lost))
}

fn said((channel, bytes): &(u8, Bytes)) -> std::result::Result<Said, Lost> {
    if *channel != CONTROL {
        return Err(Lost::Nonsense);
    }
    serde_json::from_slice(bytes).map_err(|_| Lost::Nonsense)
}

fn stream_of(channel: u8) -> LogStream {
    if channel == STDERR { LogStream::Stderr } else { LogStream::Stdout }
}

fn refused(line: &Line, failed: Failed) -> Error {
    if failed.code == TERM_STALE { line.refused(failed).into() } else { failed.into() }
}

fn broken(node: &str, lost: &Lost) -> Error {
    let message = format!(
        "{node} went away in the middle of a stream ({lost}); check that `chassis node` runs there, and that this machine may \
         reach it"
    );
    Error::unavailable(message)
}
