//! A TCP connection into an instance.

use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{Message, WebSocketUpgrade};
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use chassis_api::hands::PORT_EOF;
use chassis_core::InstanceKey;
use chassis_runtime::PortStream;
use chassis_spec::{AgentName, FleetName};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{MissedTickBehavior, interval};

use super::{PING, Receiver, Sender, bounded, refused, running, say_why};
use crate::api::SharedState;
use crate::api::extract::Path;
use crate::api::failure::Result;
use crate::auth::Caller;
use crate::closing::stream_end;

/// Bytes are passed on in pieces of at most this size.
const PIECE: usize = 32 << 10;

pub(crate) async fn open(
    State(shared): SharedState,
    caller: Caller,
    Path((fleet, agent, number, port)): Path<(FleetName, AgentName, u32, u16)>,
    upgrade: std::result::Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response> {
    let upgrade = bounded(upgrade?);
    let key = InstanceKey { fleet, agent, number };
    let id = running(&shared, &key)?;
    let stream = shared.runtime_of(&key).port_connect(&id, port).await.map_err(|error| refused(&error))?;
    Ok(upgrade.on_upgrade(async move |socket| {
        let carried = async {
            let (mut sender, mut receiver) = socket.split();
            let why = tokio::select! {
                () = carry(stream, &mut sender, &mut receiver) => return,
                why = stream_end(&shared, &caller) => why,
            };
            say_why(sender, receiver, why).await;
        };
        shared.closing.with_socket(carried).await;
    }))
}

/// Until both halves are closed, or either end is gone.
async fn carry(stream: Box<dyn PortStream>, sender: &mut Sender, receiver: &mut Receiver) {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let outward = async {
        let mut ping = interval(PING);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut piece = BytesMut::new();
        let mut open = true;
        loop {
            piece.reserve(PIECE);
            tokio::select! {
                count = reader.read_buf(&mut piece), if open => {
                    if count? == 0 {
                        open = false;
                        sender.send(Message::Text(PORT_EOF.into())).await.map_err(std::io::Error::other)?;
                    } else {
                        let bytes = piece.split().freeze();
                        sender.send(Message::Binary(bytes)).await.map_err(std::io::Error::other)?;
                    }
                }
                _ = ping.tick() => {
                    sender.send(Message::Ping(Bytes::new())).await.map_err(std::io::Error::other)?;
                }
            }
        }
    };
    let inward = async {
        while let Some(Ok(message)) = receiver.next().await {
            match message {
                Message::Binary(bytes) => writer.write_all(&bytes).await?,
                Message::Text(_) => writer.shutdown().await?,
                Message::Close(_) => break,
                Message::Ping(_) | Message::Pong(_) => {}
            }
        }
        std::io::Result::Ok(())
    };
    // The client closes when it has both ends; until then either half may be open alone.
    let ended: std::io::Result<()> = tokio::select! {
        ended = outward => ended,
        ended = inward => ended,
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection into an instance broke");
    }
}
