//! One connection, from its first request to its end.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Version, header};
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1::UpgradeableConnection;
use hyper::server::conn::{http1, http2};
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::activity::{Activity, Verdict, Watched};
use super::body::{Answer, Paced};
use super::limits::{BODY_PAUSE, HEAD, HEAD_SIZE, HEADERS, STREAMS, Slot};
use crate::api::failure::Failure;
use crate::auth::Peer;

/// What a client gets to end after a goodbye.
const GOODBYE: Duration = Duration::from_secs(5);
/// Before a silent HTTP/2 client is asked whether it is there.
const PING: Duration = Duration::from_secs(30);
/// What an HTTP/2 client may send ahead: of one request, and of all.
const WINDOW: u32 = 64 << 10;
const WINDOWS: u32 = 256 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

/// Serves requests until one side has had enough, or `ending` says so.
pub(super) async fn serve<S>(
    stream: S,
    protocol: Protocol,
    peer: Peer,
    slot: Slot,
    router: Router,
    ending: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let activity = Activity::new(protocol == Protocol::Http1);
    let io = TokioIo::new(Watched::new(stream, Arc::clone(&activity), slot));
    let router = TowerToHyperService::new(router);
    let service = {
        let activity = Arc::clone(&activity);
        service_fn(move |request| answer(router.clone(), peer, Arc::clone(&activity), request))
    };
    match protocol {
        Protocol::Http1 => {
            let mut http = http1::Builder::new();
            http.timer(TokioTimer::new())
                .header_read_timeout(None)
                .max_buf_size(HEAD_SIZE as usize)
                .max_headers(HEADERS);
            let connection = http.serve_connection(io, service).with_upgrades();
            drive(connection, UpgradeableConnection::graceful_shutdown, &activity, ending).await;
        }
        Protocol::Http2 => {
            let mut http = http2::Builder::new(TokioExecutor::new());
            http.timer(TokioTimer::new())
                .keep_alive_interval(PING)
                .max_concurrent_streams(STREAMS)
                .max_header_list_size(HEAD_SIZE)
                .max_send_buf_size(HEAD_SIZE as usize)
                .initial_stream_window_size(WINDOW)
                .initial_connection_window_size(WINDOWS);
            let connection = http.serve_connection(io, service);
            drive(connection, http2::Connection::graceful_shutdown, &activity, ending).await;
        }
    }
}

async fn drive<C>(
    connection: C,
    say_goodbye: impl Fn(Pin<&mut C>),
    activity: &Activity,
    mut ending: watch::Receiver<bool>,
) where
    C: Future<Output = hyper::Result<()>>,
{
    let mut connection = pin!(connection);
    let mut next_look = pin!(sleep(Duration::ZERO));
    let mut said_goodbye = false;
    loop {
        tokio::select! {
            ended = &mut connection => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection broke");
                }
                return;
            }
            () = &mut next_look => {
                let now = Instant::now();
                let wait = match activity.verdict(now) {
                    Verdict::Fine(wait) => wait,
                    Verdict::End if !said_goodbye => {
                        said_goodbye = true;
                        say_goodbye(connection.as_mut());
                        GOODBYE
                    }
                    Verdict::End | Verdict::Cut => {
                        tracing::debug!("cut a connection that asks nothing, or takes no answer");
                        return;
                    }
                };
                next_look.as_mut().reset(now + wait.min(HEAD));
            }
            _ = ending.wait_for(|ending| *ending), if !said_goodbye => {
                said_goodbye = true;
                say_goodbye(connection.as_mut());
            }
        }
    }
}

async fn answer(
    router: TowerToHyperService<Router>,
    peer: Peer,
    activity: Arc<Activity>,
    request: hyper::Request<Incoming>,
) -> Result<Response<Answer>, Infallible> {
    let guard = activity.request();
    let is_http1 = request.version() <= Version::HTTP_11;
    let late = Arc::new(AtomicBool::new(false));
    let mut request = request.map(|body| Body::new(Paced::new(body, Arc::clone(&late))));
    request.extensions_mut().insert(ConnectInfo(peer));
    let mut response = router.call(request).await?;
    if late.load(Ordering::Relaxed) {
        response = too_slow(response.headers());
        if is_http1 {
            // What else of the body comes is not waited for.
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
    }
    Ok(response.map(|body| Answer::new(body, guard)))
}

/// In place of an answer to what came of the request, whose id stays.
fn too_slow(answered: &HeaderMap) -> Response {
    let detail = format!(
        "the body of the request came too slowly, or paused for {} s; look at the network between, and try again",
        BODY_PAUSE.as_secs()
    );
    Failure::new(StatusCode::REQUEST_TIMEOUT, "body_too_slow", detail).in_place_of(answered)
}
