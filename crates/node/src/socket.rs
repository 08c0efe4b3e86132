//! A stream between a server and a node: frames over a WebSocket, with signs of life both ways.
//!
//! Each end sends one every [`PING`], and takes silence of [`SILENCE`] for the end, but only while it reads: an end that is
//! held up by its own reader judges nobody.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error as SocketError, Message};

use crate::wire::CONTROL;

/// Between signs of life.
pub(crate) const PING: Duration = Duration::from_secs(4);
/// An end that says nothing for this long is gone.
pub(crate) const SILENCE: Duration = Duration::from_secs(12);
/// The most bytes in one frame.
const LONGEST: usize = 4 << 20;
/// For each stream; frames may be larger.
const BUFFER: usize = 16 << 10;
/// Bytes of commands and ports are passed on in pieces of at most this size.
pub(crate) const PIECE: usize = 32 << 10;

/// Why a stream is at its end before it should be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Lost {
    #[error("nothing was heard for {} s", SILENCE.as_secs())]
    Silent,
    #[error("the connection broke")]
    Broken(#[from] SocketError),
    #[error("the other end closed the connection")]
    Closed,
    #[error("it said something that is not the protocol of nodes")]
    Nonsense,
}

#[derive(Debug)]
pub(crate) struct Outward {
    sink: SplitSink<WebSocketStream<TokioIo<Upgraded>>, Message>,
    next_ping: Instant,
}

#[derive(Debug)]
pub(crate) struct Inward(SplitStream<WebSocketStream<TokioIo<Upgraded>>>);

pub(crate) async fn open(upgraded: Upgraded, role: Role) -> (Outward, Inward) {
    let config = WebSocketConfig::default()
        .read_buffer_size(BUFFER)
        .write_buffer_size(0)
        .max_write_buffer_size(2 * LONGEST)
        .max_message_size(Some(LONGEST))
        .max_frame_size(Some(LONGEST));
    let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), role, Some(config)).await;
    let (sink, stream) = socket.split();
    (Outward { sink, next_ping: Instant::now() + PING }, Inward(stream))
}

impl Outward {
    pub(crate) async fn send(&mut self, channel: u8, bytes: &[u8]) -> Result<(), Lost> {
        let mut frame = BytesMut::with_capacity(1 + bytes.len());
        frame.put_u8(channel);
        frame.put_slice(bytes);
        self.next_ping = Instant::now() + PING;
        Ok(self.sink.send(Message::Binary(frame.freeze())).await?)
    }

    pub(crate) async fn say<T: Serialize + Sync>(&mut self, said: &T) -> Result<(), Lost> {
        let json = serde_json::to_vec(said).map_err(|_| Lost::Nonsense)?;
        self.send(CONTROL, &json).await
    }

    pub(crate) async fn close(&mut self) {
        // Who is gone hears nothing.
        let _ = timeout(PING, self.sink.send(Message::Close(None))).await;
    }

    /// Sends signs of life, where nothing else is sent, until that fails.
    pub(crate) async fn stay(&mut self) -> Lost {
        loop {
            sleep_until(self.next_ping).await;
            self.next_ping = Instant::now() + PING;
            if let Err(error) = self.sink.send(Message::Ping(Bytes::new())).await {
                return error.into();
            }
        }
    }
}

impl Inward {
    /// The next frame: its channel and its content.
    pub(crate) async fn next(&mut self) -> Result<(u8, Bytes), Lost> {
        loop {
            let message = timeout(SILENCE, self.0.next()).await.map_err(|_| Lost::Silent)?;
            match message.ok_or(Lost::Closed)?? {
                Message::Binary(mut bytes) => {
                    let channel = bytes.split_to(bytes.len().min(1));
                    return Ok((*channel.first().ok_or(Lost::Nonsense)?, bytes));
                }
                Message::Close(_) => return Err(Lost::Closed),
                _ => {}
            }
        }
    }

    /// Reads until the other end has closed, or is silent.
    pub(crate) async fn drain(&mut self) {
        while self.next().await.is_ok() {}
    }
}
