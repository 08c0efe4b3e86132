//! Streams: what goes on for a while, in one direction or both. When the server goes away, what it carried is dropped, and so
//! ended.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::{BufMut, BytesMut};
use chassis_core::Pin;
use chassis_runtime::{
    Error, Exec, ExecInput, ExecOptions, LogChunk, LogOptions, LogStream, PortStream, Runtime,
};
use chassis_spec::ImageName;
use futures_util::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::answer::refusal;
use super::{Host, guard};
use crate::carried::LOG_TIME;
use crate::socket::{self, Inward, Lost, Outward, PIECE};
use crate::wire::{Ask, CONTROL, Failed, INPUT, STDERR, STDOUT, Said};

/// What the other end gets to hear the last of it.
const FAREWELL: Duration = Duration::from_secs(2);

pub(super) async fn stream(State(host): State<Arc<Host>>, mut request: Request) -> Response {
    let Some(accept) = accept_key(request.headers()) else {
        let message = "this address is for WebSockets, of version 13";
        return refusal(StatusCode::BAD_REQUEST, "websocket_needed", message);
    };
    let term = guard::term(request.headers());
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let upgraded = match upgrade.await {
            Ok(upgraded) => upgraded,
            Err(error) => return tracing::debug!(%error, "no upgrade to a stream"),
        };
        let (mut outward, mut inward) = socket::open(upgraded, Role::Server).await;
        match serve(&host, term, &mut outward, &mut inward).await {
            Ok(()) => {
                outward.close().await;
                // Closed while the other end still sends, the connection would be reset, and what was said last be lost.
                let _ = timeout(FAREWELL, inward.drain()).await;
            }
            Err(Lost::Closed) => {}
            Err(lost) => tracing::debug!(error = %lost, "a stream ended early"),
        }
    });
    let headers = [
        (CONNECTION, HeaderValue::from_static("Upgrade")),
        (UPGRADE, HeaderValue::from_static("websocket")),
        (SEC_WEBSOCKET_ACCEPT, accept),
    ];
    (StatusCode::SWITCHING_PROTOCOLS, headers, Body::empty()).into_response()
}

fn accept_key(headers: &HeaderMap) -> Option<HeaderValue> {
    let is = |name, wanted: &str| {
        let value = headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        value.is_some_and(|value| value.eq_ignore_ascii_case(wanted))
    };
    let key = headers.get(SEC_WEBSOCKET_KEY)?;
    let accept = HeaderValue::try_from(derive_accept_key(key.as_bytes())).ok()?;
    (is(UPGRADE, "websocket") && is(SEC_WEBSOCKET_VERSION, "13")).then_some(accept)
}

async fn serve(
    host: &Host,
    term: Option<u64>,
    outward: &mut Outward,
    inward: &mut Inward,
) -> Result<(), Lost> {
    let runtime = &*host.runtime;
    let ask = ask(inward.next().await?)?;
    if !matches!(ask, Ask::Events | Ask::Logs { .. })
        && let Err(failed) = host.terms.check(term)
    {
        return outward.say(&Said::Failed(failed)).await;
    }
    match ask {
        Ask::ImagePrepare { image } => prepare(runtime, &image, None, outward, inward).await,
        Ask::ImagePinned { image, pin } => prepare(runtime, &image, Some(&pin), outward, inward).await,
        Ask::Events => events(runtime, outward, inward).await,
        Ask::Logs { id, options } => logs(runtime, &id, &options, outward, inward).await,
        Ask::Exec { id, options } => exec(runtime, &id, &options, outward, inward).await,
        Ask::PortConnect { id, port } => {
            match opening(runtime.port_connect(&id, port), outward, inward).await? {
                Some(stream) => connected(stream, outward, inward).await,
                None => Ok(()),
            }
        }
        Ask::Resize(_) | Ask::Eof => Err(Lost::Nonsense),
    }
}

fn ask((channel, bytes): (u8, bytes::Bytes)) -> Result<Ask, Lost> {
    if channel != CONTROL {
        return Err(Lost::Nonsense);
    }
    serde_json::from_slice(&bytes).map_err(|_| Lost::Nonsense)
}

/// Does something while the other end stays; nothing is expected from it.
async fn while_there<T>(
    work: impl Future<Output = T>,
    outward: &mut Outward,
    inward: &mut Inward,
) -> Result<T, Lost> {
    tokio::select! {
        done = work => Ok(done),
        lost = outward.stay() => Err(lost),
        heard = inward.next() => Err(heard.err().unwrap_or(Lost::Nonsense)),
    }
}

/// Opens what was asked for, and says whether that went well; nothing if not.
async fn opening<T>(
    work: impl Future<Output = Result<T, Error>>,
    outward: &mut Outward,
    inward: &mut Inward,
) -> Result<Option<T>, Lost> {
    match while_there(work, outward, inward).await? {
        Ok(open) => {
            outward.say(&Said::Open).await?;
            Ok(Some(open))
        }
        Err(error) => {
            outward.say(&Said::Failed(error.into())).await?;
            Ok(None)
        }
    }
}

async fn prepare(
    runtime: &dyn Runtime,
    image: &ImageName,
    pin: Option<&Pin>,
    outward: &mut Outward,
    inward: &mut Inward,
) -> Result<(), Lost> {
    // A slow reader misses what is out of date anyway.
    let (sender, mut progress) = watch::channel(None);
    let report = move |now| {
        sender.send_replace(Some(now));
    };
    let work = async {
        match pin {
            None => runtime.image_prepare(image, &report).await,
            Some(pin) => runtime.image_pinned(image, pin, &report).await,
        }
    };
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => {
                let said = done.map_or_else(|error| Said::Failed(error.into()), |image| Said::Image((*image).clone()));
                return outward.say(&said).await;
            }
            Ok(()) = progress.changed() => {
                let now = *progress.borrow_and_update();
                if let Some(now) = now {
                    outward.say(&Said::Progress(now)).await?;
                }
            }
            lost = outward.stay() => return Err(lost),
            heard = inward.next() => return Err(heard.err().unwrap_or(Lost::Nonsense)),
        }
    }
}

async fn events(runtime: &dyn Runtime, outward: &mut Outward, inward: &mut Inward) -> Result<(), Lost> {
    let Some(mut events) = opening(runtime.events(), outward, inward).await? else { return Ok(()) };
    loop {
        let said = match while_there(events.next(), outward, inward).await? {
            Some(Ok(event)) => Said::Event(event),
            Some(Err(error)) => return outward.say(&Said::Failed(error.into())).await,
            None => return outward.say(&Said::End).await,
        };
        send_while_there(outward, inward, CONTROL, &serde_json::to_vec(&said).map_err(|_| Lost::Nonsense)?)
            .await?;
    }
}

async fn logs(
    runtime: &dyn Runtime,
    id: &str,
    options: &LogOptions,
    outward: &mut Outward,
    inward: &mut Inward,
) -> Result<(), Lost> {
    let Some(mut chunks) = opening(runtime.logs(id, options), outward, inward).await? else { return Ok(()) };
    loop {
        match while_there(chunks.next(), outward, inward).await? {
            Some(Ok(chunk)) => {
                send_while_there(outward, inward, channel(chunk.stream), &timed(&chunk)).await?;
            }
            Some(Err(error)) => return outward.say(&Said::Failed(error.into())).await,
            None => return outward.say(&Said::End).await,
        }
    }
}

/// A reader that is slow holds this up, and is noticed all the same when it is gone.
async fn send_while_there(
    outward: &mut Outward,
    inward: &mut Inward,
    channel: u8,
    bytes: &[u8],
) -> Result<(), Lost> {
    tokio::select! {
        sent = outward.send(channel, bytes) => sent,
        heard = inward.next() => Err(heard.err().unwrap_or(Lost::Nonsense)),
    }
}

/// A log's line, with its time in front: nanoseconds since 1970.
fn timed(chunk: &LogChunk) -> BytesMut {
    let mut frame = BytesMut::with_capacity(LOG_TIME + chunk.bytes.len());
    frame.put_i128(chunk.time.as_nanosecond());
    frame.put_slice(&chunk.bytes);
    frame
}

fn channel(stream: LogStream) -> u8 {
    match stream {
        LogStream::Stdout => STDOUT,
        LogStream::Stderr => STDERR,
    }
}

async fn exec(
    runtime: &dyn Runtime,
    id: &str,
    options: &ExecOptions,
    outward: &mut Outward,
    inward: &mut Inward,
) -> Result<(), Lost> {
    let Some(exec) = opening(runtime.exec(id, options), outward, inward).await? else { return Ok(()) };
    let Exec { mut output, mut input, control } = exec;
    let outward = async {
        let ended = loop {
            tokio::select! {
                chunk = output.next() => match chunk {
                    Some(Ok(chunk)) => {
                        for piece in chunk.bytes.chunks(PIECE) {
                            outward.send(channel(chunk.stream), piece).await?;
                        }
                    }
                    Some(Err(error)) => break Err(error),
                    None => break Ok(()),
                },
                lost = outward.stay() => return Err(lost),
            }
        };
        let ended = match ended {
            Ok(()) => control.exit_code().await,
            Err(error) => Err(error),
        };
        outward.say(&ended.map_or_else(|error| Said::Failed(error.into()), Said::Exit)).await
    };
    let inward = async {
        loop {
            match inward.next().await? {
                (INPUT, bytes) => write(&mut input, &bytes).await,
                frame => match ask(frame)? {
                    Ask::Eof => end(&mut input).await,
                    // A command that has just ended has no terminal any more.
                    Ask::Resize(size) => drop(control.resize(size).await),
                    _ => return Err::<Infallible, _>(Lost::Nonsense),
                },
            }
        }
    };
    tokio::select! {
        said = outward => said,
        Err(lost) = inward => Err(lost),
    }
}

/// A command that reads no more still runs on: what it does not want is dropped.
async fn write(input: &mut Option<ExecInput>, bytes: &[u8]) {
    if let Some(open) = input
        && open.write_all(bytes).await.is_err()
    {
        *input = None;
    }
}

async fn end(input: &mut Option<ExecInput>) {
    if let Some(mut open) = input.take() {
        let _ = open.shutdown().await;
    }
}

/// Until both halves are closed, or either end is gone.
async fn connected(
    stream: Box<dyn PortStream>,
    outward: &mut Outward,
    inward: &mut Inward,
) -> Result<(), Lost> {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let (sender, mut done) = watch::channel(false);
    let outward = async {
        let mut piece = BytesMut::with_capacity(PIECE);
        let mut open = true;
        while open || !*done.borrow() {
            tokio::select! {
                read = reader.read_buf(&mut piece), if open => match read {
                    Ok(count) if count > 0 => outward.send(STDOUT, &piece.split()).await?,
                    Ok(_) => {
                        open = false;
                        outward.say(&Said::Eof).await?;
                    }
                    Err(error) => {
                        let error = Error::rejected("the connection into the instance broke").caused_by(error);
                        return outward.say(&Said::Failed(Failed::from(error))).await;
                    }
                },
                Ok(()) = done.changed() => {}
                lost = outward.stay() => return Err(lost),
            }
            piece.reserve(PIECE);
        }
        outward.say(&Said::End).await
    };
    let inward = async {
        loop {
            match inward.next().await? {
                // One that takes no more says so by its other half, or breaks.
                (INPUT, bytes) => drop(writer.write_all(&bytes).await),
                frame => match ask(frame)? {
                    Ask::Eof => {
                        let _ = writer.shutdown().await;
                        sender.send_replace(true);
                    }
                    _ => return Err::<Infallible, _>(Lost::Nonsense),
                },
            }
        }
    };
    tokio::select! {
        said = outward => said,
        Err(lost) = inward => Err(lost),
    }
}
