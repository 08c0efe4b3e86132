//! Streams into instances: a command's, and a port's, over web sockets.

use bytes::{BufMut, Bytes, BytesMut};
use chassis_api::InstanceKey;
use chassis_api::hands::{
    CONTROL, ExecAnswer, ExecRequest, ExecStart, LONGEST_MESSAGE, PORT_EOF, STDERR, STDIN, STDOUT,
    TerminalSize,
};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use http::{HeaderValue, Method, StatusCode};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error as SocketError, Message};

use crate::client::{Body, instance_path};
use crate::{Client, Error, ServerAddress};

/// For each stream; messages may be larger.
const BUFFER: usize = 16 << 10;

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// What a command does.
#[derive(Debug)]
pub enum ExecEvent {
    Stdout(Bytes),
    Stderr(Bytes),
    /// It has ended, and this is the last event.
    Exit(i32),
}

/// To a command. Dropping both this and the [`ExecReceiver`] ends it.
#[derive(Debug)]
pub struct ExecSender(Sender);

/// From a command.
#[derive(Debug)]
pub struct ExecReceiver(Receiver);

/// To a port.
#[derive(Debug)]
pub struct PortSender(Sender);

/// From a port.
#[derive(Debug)]
pub struct PortReceiver(Receiver);

#[derive(Debug)]
struct Sender {
    address: ServerAddress,
    sink: SplitSink<Socket, Message>,
}

#[derive(Debug)]
struct Receiver {
    address: ServerAddress,
    stream: SplitStream<Socket>,
}

impl Client {
    /// Runs a command in an instance.
    pub async fn exec(
        &self,
        instance: &InstanceKey,
        start: ExecStart,
    ) -> Result<(ExecSender, ExecReceiver), Error> {
        let (sender, receiver) = self.socket(&format!("{}/exec", instance_path(instance))).await?;
        let mut sender = ExecSender(sender);
        sender.request(&ExecRequest::Start(start)).await?;
        Ok((sender, ExecReceiver(receiver)))
    }

    /// Connects to a port of an instance.
    pub async fn port_connect(
        &self,
        instance: &InstanceKey,
        port: u16,
    ) -> Result<(PortSender, PortReceiver), Error> {
        let (sender, receiver) = self.socket(&format!("{}/ports/{port}", instance_path(instance))).await?;
        Ok((PortSender(sender), PortReceiver(receiver)))
    }

    /// Fails if the server would not let this caller connect to ports of the instance; opens nothing.
    pub async fn port_check(&self, instance: &InstanceKey, port: u16) -> Result<(), Error> {
        let request =
            self.request(Method::GET, &format!("{}/ports/{port}", instance_path(instance)), Body::None)?;
        let (_connection, response) = self.exchange_request(request).await?;
        match response.status() {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(self.refusal(response).await),
            // What it says of a request that asks for no connection.
            _ => Ok(()),
        }
    }

    /// A WebSocket on a connection of its own.
    async fn socket(&self, path: &str) -> Result<(Sender, Receiver), Error> {
        let key = generate_key();
        let mut request = self.request(Method::GET, path, Body::None)?;
        let headers = request.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        let value = HeaderValue::try_from(&key).map_err(|error| self.not_understood(error.to_string()))?;
        headers.insert(SEC_WEBSOCKET_KEY, value);
        let (_connection, response) = self.exchange_request(request).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(self.refusal(response).await);
        }
        let accepted = response.headers().get(SEC_WEBSOCKET_ACCEPT).map(HeaderValue::as_bytes);
        if accepted != Some(derive_accept_key(key.as_bytes()).as_bytes()) {
            return Err(self.not_understood("an upgrade to something else than a WebSocket".to_owned()));
        }
        let upgraded = hyper::upgrade::on(response).await.map_err(|error| self.broken(error))?;
        let config = WebSocketConfig::default()
            .read_buffer_size(BUFFER)
            .write_buffer_size(0)
            .max_write_buffer_size(2 * LONGEST_MESSAGE)
            .max_message_size(Some(LONGEST_MESSAGE))
            .max_frame_size(Some(LONGEST_MESSAGE));
        let socket =
            WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, Some(config)).await;
        let (sink, stream) = socket.split();
        let address = self.address().clone();
        Ok((Sender { address: address.clone(), sink }, Receiver { address, stream }))
    }
}

impl ExecSender {
    /// Standard input; waits while the command does not read.
    pub async fn input(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.0.send(Message::Binary(framed(STDIN, bytes))).await
    }

    /// The end of standard input.
    pub async fn eof(&mut self) -> Result<(), Error> {
        self.request(&ExecRequest::Eof).await
    }

    pub async fn resize(&mut self, size: TerminalSize) -> Result<(), Error> {
        self.request(&ExecRequest::Resize(size)).await
    }

    async fn request(&mut self, request: &ExecRequest) -> Result<(), Error> {
        let json = serde_json::to_vec(request).unwrap_or_default();
        self.0.send(Message::Binary(framed(CONTROL, &json))).await
    }
}

impl ExecReceiver {
    /// What happens next.
    pub async fn next(&mut self) -> Result<ExecEvent, Error> {
        loop {
            let Some(Message::Binary(mut bytes)) = self.0.next().await? else {
                return Err(self.0.lost());
            };
            let channel = bytes.split_to(bytes.len().min(1));
            match channel.first() {
                Some(&STDOUT) => return Ok(ExecEvent::Stdout(bytes)),
                Some(&STDERR) => return Ok(ExecEvent::Stderr(bytes)),
                Some(&CONTROL) => match serde_json::from_slice(&bytes) {
                    Ok(ExecAnswer::Exit(code)) => return Ok(ExecEvent::Exit(code)),
                    Ok(ExecAnswer::Failed(problem)) => return Err(Error::Problem(Box::new(problem))),
                    Err(error) => return Err(self.0.not_understood(error.to_string())),
                },
                _ => {}
            }
        }
    }
}

impl PortSender {
    /// Waits while the other side does not read.
    pub async fn send(&mut self, bytes: Bytes) -> Result<(), Error> {
        self.0.send(Message::Binary(bytes)).await
    }

    /// No more will come from this side.
    pub async fn eof(&mut self) -> Result<(), Error> {
        self.0.send(Message::Text(PORT_EOF.into())).await
    }

    /// Both sides are done.
    pub async fn close(&mut self) -> Result<(), Error> {
        self.0.send(Message::Close(None)).await
    }
}

impl PortReceiver {
    /// The next bytes, or `None` when no more will come from the other side.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        match self.0.next().await? {
            Some(Message::Binary(bytes)) => Ok(Some(bytes)),
            Some(_) => Ok(None),
            None => Err(self.0.lost()),
        }
    }
}

impl Sender {
    async fn send(&mut self, message: Message) -> Result<(), Error> {
        self.sink.send(message).await.map_err(|source| lost(&self.address, source))
    }
}

impl Receiver {
    /// The next message with content, or `None` if the server closed.
    async fn next(&mut self) -> Result<Option<Message>, Error> {
        loop {
            match self.stream.next().await {
                Some(Ok(message @ (Message::Binary(_) | Message::Text(_)))) => return Ok(Some(message)),
                Some(Ok(Message::Close(Some(why)))) if !why.reason.is_empty() => {
                    let reason = why.reason.to_string();
                    return Err(Error::StreamEnded { address: self.address.clone(), reason });
                }
                Some(Ok(Message::Close(_))) | None => return Ok(None),
                Some(Ok(_)) => {}
                Some(Err(source)) => return Err(lost(&self.address, source)),
            }
        }
    }

    fn lost(&self) -> Error {
        lost(&self.address, SocketError::ConnectionClosed)
    }

    fn not_understood(&self, what: String) -> Error {
        Error::Protocol { address: self.address.clone(), what }
    }
}

fn lost(address: &ServerAddress, source: SocketError) -> Error {
    Error::StreamBroken { address: address.clone(), source: Box::new(source) }
}

fn framed(channel: u8, bytes: &[u8]) -> Bytes {
    let mut message = BytesMut::with_capacity(1 + bytes.len());
    message.put_u8(channel);
    message.put_slice(bytes);
    message.freeze()
}
