//! Bodies of requests that must come, and bodies of answers whose end is noted.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use super::activity::Request;
use super::limits::{BODY_PAUSE, BODY_RATE, BODY_TIME};

/// The body of a request, which fails if it pauses for too long, or comes too slowly. It is timed only while somebody waits
/// for it.
#[derive(Debug)]
pub(super) struct Paced {
    body: Incoming,
    /// Set when it fails for its slowness.
    late: Arc<AtomicBool>,
    begun: Option<Instant>,
    received: u64,
    limit: Option<Pin<Box<Sleep>>>,
}

impl Paced {
    pub(super) fn new(body: Incoming, late: Arc<AtomicBool>) -> Self {
        Paced { body, late, begun: None, received: 0, limit: None }
    }

    fn deadline(&mut self) -> Instant {
        let now = Instant::now();
        let begun = *self.begun.get_or_insert(now);
        let earned = Duration::from_secs(self.received / BODY_RATE);
        (now + BODY_PAUSE).min(begun + BODY_TIME + earned)
    }
}

impl HttpBody for Paced {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) {
            this.limit = None;
            let frame = frame.map(|frame| frame.map_err(io::Error::other));
            if let Some(data) = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref()) {
                this.received += data.len() as u64;
            }
            return Poll::Ready(frame);
        }
        if this.limit.is_none() {
            this.limit = Some(Box::pin(sleep_until(this.deadline())));
        }
        match this.limit.as_mut().map(|limit| limit.as_mut().poll(context)) {
            Some(Poll::Ready(())) => {
                this.late.store(true, Ordering::Relaxed);
                Poll::Ready(Some(Err(io::ErrorKind::TimedOut.into())))
            }
            _ => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of an answer; its request ends with it.
#[derive(Debug)]
pub(super) struct Answer {
    body: Body,
    _request: Request,
}

impl Answer {
    pub(super) fn new(body: Body, mut request: Request) -> Self {
        if body.size_hint().exact().is_none() {
            request.becomes_stream();
        }
        Answer { body, _request: request }
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
