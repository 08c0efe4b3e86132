//! `chassis port forward`: ports of this machine that lead into an instance, through its restarts, until it is gone.

mod listen;
mod watch;

use std::io;
use std::sync::Arc;

use bytes::BytesMut;
use chassis_api::InstanceKey;
use chassis_client::{Client, Error};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use self::listen::{Listening, listen};
use crate::args::Forward;
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output::{self, Terminal};
use crate::scope::one_instance;

/// Bytes are passed on in pieces of at most this size.
const PIECE: usize = 32 << 10;
/// Before connections are accepted again, after one could not be.
const ACCEPT_PAUSE: std::time::Duration = std::time::Duration::from_millis(100);

pub(super) async fn forward(context: &Context, args: Forward) -> Result<Exit, Failure> {
    let client = Arc::new(context.connect().await?);
    let instance = one_instance(&client, &args.id).await?;
    let listening = listen(&args, context.terminal).await?;
    // One that does not exist or run is told at once, and not by the first connection.
    watch::check(&client, &instance).await?;
    if let Some(first) = listening.first() {
        client.port_check(&instance, first.remote).await?;
    }
    let name = instance.short_name();
    for Listening { listener, address, remote } in listening {
        output::data(&format!("Forwarding {address} -> {name}:{remote}\n"))?;
        tokio::spawn(accept(Arc::clone(&client), instance.clone(), listener, remote, context.terminal));
    }
    watch::until_gone(&client, &instance, context.terminal).await
}

/// Takes connections for as long as this command runs.
async fn accept(
    client: Arc<Client>,
    instance: InstanceKey,
    listener: TcpListener,
    remote: u16,
    terminal: Terminal,
) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let (client, instance) = (Arc::clone(&client), instance.clone());
                tokio::spawn(async move {
                    if let Err(error) = carry(&client, &instance, stream, remote).await {
                        terminal.error(&format!("a connection to port {remote}: {error}"));
                    }
                });
            }
            Err(error) => {
                terminal.error(&format!("cannot take a connection: {error}"));
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// One connection, until both halves are closed. One that could not be made or broke off is reset, so that whoever made it
/// does not take it for one that ended.
async fn carry(
    client: &Client,
    instance: &InstanceKey,
    mut stream: TcpStream,
    remote: u16,
) -> Result<(), Error> {
    let (mut sender, mut receiver) = match client.port_connect(instance, remote).await {
        Ok(connection) => connection,
        Err(error) => {
            let _ = stream.set_zero_linger();
            return Err(error);
        }
    };
    let _ = stream.set_nodelay(true);
    let (mut reader, mut writer) = stream.split();
    let outward = async {
        let mut piece = BytesMut::new();
        loop {
            piece.reserve(PIECE);
            if reader.read_buf(&mut piece).await? == 0 {
                sender.eof().await.map_err(io::Error::other)?;
                return Ok(sender);
            }
            sender.send(piece.split().freeze()).await.map_err(io::Error::other)?;
        }
    };
    let inward = async {
        while let Some(bytes) = receiver.next().await.map_err(io::Error::other)? {
            writer.write_all(&bytes).await?;
        }
        writer.shutdown().await
    };
    match tokio::try_join!(outward, inward) {
        Ok((mut sender, ())) => {
            let _ = sender.close().await;
        }
        // Either end may break a connection at any time: whoever used it sees that.
        Err::<_, io::Error>(_) => {
            let _ = stream.set_zero_linger();
        }
    }
    Ok(())
}
