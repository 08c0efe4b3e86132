//! A command in an instance, for as long as its client stays.

use std::ops::ControlFlow;
use std::time::Duration;

use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseCode, CloseFrame, Message, WebSocketUpgrade, close_code};
use axum::response::Response;
use bytes::{BufMut, Bytes, BytesMut};
use chassis_api::hands::{CONTROL, ExecAnswer, ExecRequest, ExecStart, STDERR, STDIN, STDOUT};
use chassis_core::{InstanceKey, Role, environment};
use chassis_runtime::{Exec, ExecControl, ExecInput, ExecOptions, LogStream, TerminalSize};
use chassis_spec::{AgentName, FleetName};
use futures_util::{SinkExt, StreamExt};
use tokio::io::AsyncWriteExt;
use tokio::time::{MissedTickBehavior, interval};

use super::{PING, Receiver, Sender, bounded, goodbye, refused, running, say_why};
use crate::api::SharedState;
use crate::api::extract::Path;
use crate::api::failure::{Failure, Result};
use crate::auth::Caller;
use crate::closing::stream_end;
use crate::error::chain;
use crate::shared::Shared;

/// How long a client may take to hear how its command ended.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of a reason in a Close frame.
const REASON: usize = 123;
const ONLY_BINARY: &str = "messages here are binary; see docs/api.md";

pub(crate) async fn open(
    State(shared): SharedState,
    caller: Caller,
    Path((fleet, agent, number)): Path<(FleetName, AgentName, u32)>,
    upgrade: std::result::Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response> {
    if environment::is_fleet(&fleet) {
        // As in the dialect of those who make them.
        caller.require_role(Role::Admin, &fleet)?;
    }
    let key = InstanceKey { fleet, agent, number };
    let id = running(&shared, &key)?;
    Ok(bounded(upgrade?).on_upgrade(async move |socket| {
        let carried = async {
            let (mut sender, mut receiver) = socket.split();
            let why = tokio::select! {
                ended = serve(&shared, &key, &id, &mut sender, &mut receiver) => match ended {
                    Ok(()) => return,
                    Err(why) => why,
                },
                why = stream_end(&shared, &caller) => why,
            };
            say_why(sender, receiver, why).await;
        };
        shared.closing.with_socket(carried).await;
    }))
}

/// Fails with what the client did wrong.
async fn serve(
    shared: &Shared,
    key: &InstanceKey,
    id: &str,
    sender: &mut Sender,
    receiver: &mut Receiver,
) -> std::result::Result<(), CloseFrame> {
    let Some(options) = start(receiver).await? else { return Ok(()) };
    match shared.runtime_of(key).exec(id, &options).await {
        Ok(exec) => carry(exec, sender, receiver).await,
        Err(error) => {
            if answer(sender, &ExecAnswer::Failed(refused(&error).into())).await.is_ok() {
                goodbye(receiver, PATIENCE).await;
            }
            Ok(())
        }
    }
}

/// The first message, which says what is run; none if the client went away instead.
async fn start(receiver: &mut Receiver) -> std::result::Result<Option<ExecOptions>, CloseFrame> {
    loop {
        let message = match receiver.next().await {
            Some(Ok(message)) => message,
            Some(Err(error)) => return Err(broken(&error)),
            None => return Ok(None),
        };
        return match message {
            Message::Ping(_) | Message::Pong(_) => continue,
            Message::Close(_) => Ok(None),
            Message::Text(_) => Err(wrong(close_code::UNSUPPORTED, ONLY_BINARY)),
            Message::Binary(message) => match request(&message)? {
                ExecRequest::Start(start) => Ok(Some(options(start))),
                _ => Err(wrong(close_code::PROTOCOL, "the first message must be `start`")),
            },
        };
    }
}

fn options(start: ExecStart) -> ExecOptions {
    ExecOptions {
        command: start.command,
        env: start.env,
        working_dir: start.working_dir,
        stdin: start.stdin,
        terminal: start.terminal.map(size),
    }
}

fn size(size: chassis_api::hands::TerminalSize) -> TerminalSize {
    TerminalSize { columns: size.columns, rows: size.rows }
}

fn request(message: &[u8]) -> std::result::Result<ExecRequest, CloseFrame> {
    let Some((&CONTROL, json)) = message.split_first() else {
        let why = "a message begins with a byte: 0 for input, 3 for JSON, of which `start` comes first";
        return Err(wrong(close_code::PROTOCOL, why));
    };
    serde_json::from_slice(json)
        .map_err(|error| wrong(close_code::INVALID, &format!("the JSON after byte 3: {error}")))
}

fn wrong(code: CloseCode, why: &str) -> CloseFrame {
    // A control frame holds no more.
    CloseFrame { code, reason: why.chars().filter(char::is_ascii).take(REASON).collect::<String>().into() }
}

/// What the WebSocket itself does not take, such as a message that is too large.
fn broken(error: &axum::Error) -> CloseFrame {
    wrong(close_code::PROTOCOL, &chain(error))
}

/// Until the command ends or its client goes away, with which it is dropped and so ended.
async fn carry(
    exec: Exec,
    sender: &mut Sender,
    receiver: &mut Receiver,
) -> std::result::Result<(), CloseFrame> {
    let Exec { mut output, mut input, control } = exec;
    let outward = async {
        let mut ping = interval(PING);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let ended = loop {
            tokio::select! {
                chunk = output.next() => match chunk {
                    Some(Ok(chunk)) => {
                        let channel = if chunk.stream == LogStream::Stderr { STDERR } else { STDOUT };
                        sender.send(Message::Binary(framed(channel, &chunk.bytes))).await?;
                    }
                    Some(Err(error)) => break Err(error),
                    None => break Ok(()),
                },
                _ = ping.tick() => sender.send(Message::Ping(Bytes::new())).await?,
            }
        };
        let ended = match ended {
            Ok(()) => control.exit_code().await,
            Err(error) => Err(error),
        };
        answer(
            sender,
            &ended.map_or_else(|error| ExecAnswer::Failed(refused(&error).into()), ExecAnswer::Exit),
        )
        .await
    };
    let inward = async {
        while let Some(message) = receiver.next().await {
            let message = message.map_err(|error| broken(&error))?;
            if take(message, &mut input, &*control).await?.is_break() {
                break;
            }
        }
        Ok(())
    };
    let client_stays = tokio::select! {
        answered = outward => answered.is_ok(),
        ended = inward => {
            ended?;
            false
        }
    };
    if client_stays {
        goodbye(receiver, PATIENCE).await;
    }
    Ok(())
}

/// Takes one message of the client's.
async fn take(
    message: Message,
    input: &mut Option<ExecInput>,
    control: &dyn ExecControl,
) -> std::result::Result<ControlFlow<()>, CloseFrame> {
    match message {
        Message::Binary(message) if message.first() == Some(&STDIN) => {
            // A command that reads no more still runs on: what it does not want is dropped.
            if let Some(open) = input
                && open.write_all(&message[1..]).await.is_err()
            {
                *input = None;
            }
        }
        Message::Binary(message) => match request(&message)? {
            ExecRequest::Eof => {
                if let Some(mut open) = input.take() {
                    let _ = open.shutdown().await;
                }
            }
            // A command that has just ended has no terminal any more.
            ExecRequest::Resize(to) => drop(control.resize(size(to)).await),
            ExecRequest::Start(_) => {
                return Err(wrong(close_code::PROTOCOL, "the command was started already"));
            }
        },
        Message::Close(_) => return Ok(ControlFlow::Break(())),
        Message::Text(_) => return Err(wrong(close_code::UNSUPPORTED, ONLY_BINARY)),
        Message::Ping(_) | Message::Pong(_) => {}
    }
    Ok(ControlFlow::Continue(()))
}

fn framed(channel: u8, bytes: &[u8]) -> Bytes {
    let mut message = BytesMut::with_capacity(1 + bytes.len());
    message.put_u8(channel);
    message.put_slice(bytes);
    message.freeze()
}

/// Says how it ended, which is the last message.
async fn answer(sender: &mut Sender, answer: &ExecAnswer) -> std::result::Result<(), axum::Error> {
    let json = serde_json::to_vec(answer).unwrap_or_default();
    sender.send(Message::Binary(framed(CONTROL, &json))).await?;
    sender.close().await
}

impl From<WebSocketUpgradeRejection> for Failure {
    fn from(rejection: WebSocketUpgradeRejection) -> Self {
        let detail = format!("{}; this address is for WebSockets", rejection.body_text());
        Failure::new(rejection.status(), "websocket_needed", detail)
    }
}
