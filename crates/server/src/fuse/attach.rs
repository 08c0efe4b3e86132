//! `fuse-attach/1`: a command in a terminal, over a connection that was upgraded to frames.
//!
//! A frame is a byte that says what it is, three that are reserved, the length of what follows in four bytes (the largest
//! first), and that. What goes wrong before the command runs is answered over HTTP; after that the last frame has its exit
//! code. Somebody who is attached uses the environment.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Version, header};
use axum::response::{IntoResponse, Response};
use bytes::{BufMut, BytesMut};
use chassis_runtime::{Exec, ExecOptions, TerminalSize};
use futures_util::StreamExt;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::actions::enters;
use super::body::invalid;
use super::{exec, given};
use crate::api::SharedState;
use crate::api::extract::{Path, Query};
use crate::api::failure::Result;
use crate::auth::Caller;

const PROTOCOL: HeaderValue = HeaderValue::from_static("fuse-attach/1");
const LARGEST: u32 = 1 << 20;
const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const RESIZE: u8 = 3;
const EXIT: u8 = 4;
/// Without a size in the query.
const SIZE: TerminalSize = TerminalSize { columns: 80, rows: 24 };

/// What a terminal is told, and what a client tells of its own.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Size {
    rows: u16,
    cols: u16,
}

pub(super) async fn open(
    State(shared): SharedState,
    caller: Caller,
    Path(id): Path<String>,
    Query(query): Query<Vec<(String, String)>>,
    mut request: Request,
) -> Result<Response> {
    enters(&caller)?;
    let upgrade = request.extensions_mut().remove::<OnUpgrade>();
    let upgrade = upgrade.filter(|_| asks(request.headers()) && request.version() == Version::HTTP_11);
    let upgrade =
        upgrade.ok_or_else(|| invalid("attach needs HTTP/1.1 and the header `Upgrade: fuse-attach/1`"))?;
    let mut options = options(&query)?;
    caller.tell(format!("attach: {}", options.command.join(" ")));
    let (sandbox, in_use) = exec::enter(&shared, &id).await?;
    options.env = given::variables(&shared, &id).await?;
    let started = sandbox.exec(&options).await;
    let started = started.map_err(|error| exec::refused(&error))?;
    tokio::spawn(async move {
        let _in_use = in_use;
        let Ok(upgraded) = upgrade.await else { return };
        let (from, to) = tokio::io::split(TokioIo::new(upgraded));
        tokio::select! {
            () = carry(started, from, to) => {}
            () = caller.ended() => {}
        }
    });
    let connection = HeaderValue::from_static("Upgrade");
    let headers = [(header::UPGRADE, PROTOCOL), (header::CONNECTION, connection)];
    Ok((StatusCode::SWITCHING_PROTOCOLS, headers).into_response())
}

fn asks(headers: &HeaderMap) -> bool {
    headers
        .get(header::UPGRADE)
        .is_some_and(|asked| asked.as_bytes().eq_ignore_ascii_case(PROTOCOL.as_bytes()))
}

fn options(query: &[(String, String)]) -> Result<ExecOptions> {
    let values =
        |name: &'static str| query.iter().filter(move |(found, _)| found == name).map(|(_, value)| value);
    if !values("tty").any(|value| matches!(value.as_str(), "1" | "true")) {
        return Err(invalid("attach needs tty=1"));
    }
    // A size that is none is as if it had not been sent.
    let size = |name, usual| {
        values(name).find_map(|value| value.parse().ok().filter(|size| *size > 0)).unwrap_or(usual)
    };
    let mut command: Vec<String> = values("cmd").cloned().collect();
    if command.is_empty() {
        command = vec!["sh".to_owned(), "-l".to_owned()];
    }
    let terminal = TerminalSize { columns: size("cols", SIZE.columns), rows: size("rows", SIZE.rows) };
    Ok(ExecOptions { command, stdin: true, terminal: Some(terminal), ..ExecOptions::default() })
}

/// Until the command has ended, or its client has gone, which ends it.
async fn carry(exec: Exec, from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) {
    let Exec { mut output, mut input, control } = exec;
    let outward = async {
        while let Some(Ok(chunk)) = output.next().await {
            for piece in chunk.bytes.chunks(LARGEST as usize) {
                write(&mut to, STDOUT, piece).await?;
            }
        }
        // A command that cannot be asked how it ended was ended with its container.
        let exit_code = control.exit_code().await.unwrap_or(-1);
        write(&mut to, EXIT, serde_json::json!({ "exit_code": exit_code }).to_string().as_bytes()).await?;
        to.shutdown().await
    };
    let inward = async {
        let mut from = from;
        while let Ok((kind, content)) = read(&mut from).await {
            match kind {
                // A command that reads no more still runs on: what it does not want is dropped.
                STDIN => {
                    if let Some(open) = &mut input
                        && open.write_all(&content).await.is_err()
                    {
                        input = None;
                    }
                }
                RESIZE => {
                    let size: Size = serde_json::from_slice(&content).unwrap_or_default();
                    if size.rows > 0 && size.cols > 0 {
                        let size = TerminalSize { columns: size.cols, rows: size.rows };
                        // One that has just ended has no terminal any more.
                        let _ = control.resize(size).await;
                    }
                }
                _ => {}
            }
        }
    };
    tokio::select! {
        // Nobody hears what goes wrong with a connection that is gone.
        _ = outward => {}
        () = inward => {}
    }
}

async fn write(to: &mut (impl AsyncWrite + Unpin), kind: u8, content: &[u8]) -> std::io::Result<()> {
    let mut frame = BytesMut::with_capacity(8 + content.len());
    frame.put_slice(&[kind, 0, 0, 0]);
    frame.put_u32(u32::try_from(content.len()).unwrap_or(LARGEST));
    frame.put_slice(content);
    to.write_all(&frame).await?;
    to.flush().await
}

/// One frame; an error at the end of the connection, and for one that is too large.
async fn read(from: &mut (impl AsyncRead + Unpin)) -> std::io::Result<(u8, Vec<u8>)> {
    let mut head = [0; 4];
    from.read_exact(&mut head).await?;
    let length = from.read_u32().await?;
    if length > LARGEST {
        return Err(std::io::Error::from(std::io::ErrorKind::InvalidData));
    }
    let mut content = vec![0; length as usize];
    from.read_exact(&mut content).await?;
    Ok((head[0], content))
}
