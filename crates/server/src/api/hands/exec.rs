//! A command in an instance, for as long as its client stays.

use std::ops::ControlFlow;
use std::time::Duration;

use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{Message, WebSocketUpgrade};
use axum::response::Response;
use bytes::{BufMut, Bytes, BytesMut};
use chassis_api::hands::{CONTROL, ExecAnswer, ExecRequest, ExecStart, STDERR, STDIN, STDOUT};
use chassis_core::InstanceKey;
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
use crate::shared::Shared;

/// How long a client may take to hear how its command ended.
const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) async fn open(
    State(shared): SharedState,
    caller: Caller,
    Path((fleet, agent, number)): Path<(FleetName, AgentName, u32)>,
    upgrade: std::result::Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response> {
    let key = InstanceKey { fleet, agent, number };
    let id = running(&shared, &key)?;
    Ok(bounded(upgrade?).on_upgrade(async move |socket| {
        let carried = async {
            let (mut sender, mut receiver) = socket.split();
            let why = tokio::select! {
                () = serve(&shared, &id, &mut sender, &mut receiver) => return,
                why = stream_end(&shared, &caller) => why,
            };
            say_why(sender, receiver, why).await;
        };
        shared.closing.with_socket(carried).await;
    }))
}

async fn serve(shared: &Shared, id: &str, sender: &mut Sender, receiver: &mut Receiver) {
    let Some(options) = start(receiver).await else { return };
    match shared.runtime.exec(id, &options).await {
        Ok(exec) => carry(exec, sender, receiver).await,
        Err(error) => {
            if answer(sender, &ExecAnswer::Failed(refused(&error).into())).await.is_ok() {
                goodbye(receiver, PATIENCE).await;
            }
        }
    }
}

/// The first message, which says what is run.
async fn start(receiver: &mut Receiver) -> Option<ExecOptions> {
    loop {
        return match receiver.next().await?.ok()? {
            Message::Ping(_) | Message::Pong(_) => continue,
            Message::Binary(message) => match request(&message)? {
                ExecRequest::Start(start) => Some(options(start)),
                _ => None,
            },
            _ => None,
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

fn request(message: &[u8]) -> Option<ExecRequest> {
    let (channel, json) = message.split_first()?;
    if *channel == CONTROL { serde_json::from_slice(json).ok() } else { None }
}

/// Until the command ends or its client goes away, with which it is dropped and so ended.
async fn carry(exec: Exec, sender: &mut Sender, receiver: &mut Receiver) {
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
        while let Some(Ok(message)) = receiver.next().await {
            if take(message, &mut input, &*control).await.is_break() {
                return;
            }
        }
    };
    let client_stays = tokio::select! {
        answered = outward => answered.is_ok(),
        () = inward => false,
    };
    if client_stays {
        goodbye(receiver, PATIENCE).await;
    }
}

/// Takes one message of the client's.
async fn take(message: Message, input: &mut Option<ExecInput>, control: &dyn ExecControl) -> ControlFlow<()> {
    match message {
        Message::Binary(message) if message.first() == Some(&STDIN) => {
            // A command that reads no more still runs on: what it does not want is dropped.
            if let Some(open) = input
                && open.write_all(&message[1..]).await.is_err()
            {
                *input = None;
            }
        }
        Message::Binary(message) => match request(&message) {
            Some(ExecRequest::Eof) => {
                if let Some(mut open) = input.take() {
                    let _ = open.shutdown().await;
                }
            }
            // A command that has just ended has no terminal any more.
            Some(ExecRequest::Resize(to)) => drop(control.resize(size(to)).await),
            Some(ExecRequest::Start(_)) | None => return ControlFlow::Break(()),
        },
        Message::Close(_) => return ControlFlow::Break(()),
        Message::Text(_) | Message::Ping(_) | Message::Pong(_) => {}
    }
    ControlFlow::Continue(())
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
