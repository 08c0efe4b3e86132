//! What a connection is doing, and how long it may go on with it. One look at it decides; nothing else has timers, but for
//! the handshake before and the bodies of requests.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::limits::{HEAD, IDLE, STALL, Slot};

/// What should become of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is fine; look again after this time.
    Fine(Duration),
    /// It has nothing to do: say goodbye.
    End,
    /// It takes what is not its.
    Cut,
}

#[derive(Debug)]
pub(super) struct Activity {
    /// Whether a byte between requests begins the next one, which is so in HTTP/1.
    bytes_begin_requests: bool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    requests: usize,
    /// Those of the requests whose answer goes on for as long as somebody reads it.
    streams: usize,
    had_request: bool,
    idle_since: Instant,
    first_byte: Option<Instant>,
    write_stalled_since: Option<Instant>,
}

/// A request, until its answer has been handed over.
#[derive(Debug)]
pub(super) struct Request {
    activity: Arc<Activity>,
    is_stream: bool,
}

/// The stream of a connection, with its slot; tells of what goes through it.
#[derive(Debug)]
pub(super) struct Watched<S> {
    stream: S,
    activity: Arc<Activity>,
    _slot: Slot,
}

impl Activity {
    pub(super) fn new(bytes_begin_requests: bool) -> Arc<Activity> {
        let state = State {
            requests: 0,
            streams: 0,
            had_request: false,
            idle_since: Instant::now(),
            first_byte: None,
            write_stalled_since: None,
        };
        Arc::new(Activity { bytes_begin_requests, state: Mutex::new(state) })
    }

    pub(super) fn request(self: &Arc<Self>) -> Request {
        let mut state = self.state();
        state.requests += 1;
        state.had_request = true;
        state.first_byte = None;
        Request { activity: Arc::clone(self), is_stream: false }
    }

    pub(super) fn verdict(&self, now: Instant) -> Verdict {
        let state = self.state();
        let until = |begin: Instant, patience: Duration, late: Verdict| match (begin + patience)
            .checked_duration_since(now)
        {
            Some(left) if !left.is_zero() => Verdict::Fine(left),
            _ => late,
        };
        match (state.write_stalled_since, state.first_byte) {
            // Whoever follows a stream may pause it: an answer that goes on is bounded by its own buffers.
            (Some(since), _) if state.streams == 0 => until(since, STALL, Verdict::Cut),
            _ if state.requests > 0 => Verdict::Fine(STALL),
            _ if !state.had_request => until(state.idle_since, HEAD, Verdict::Cut),
            (_, Some(first)) if self.bytes_begin_requests => until(first, HEAD, Verdict::Cut),
            _ => until(state.idle_since, IDLE, Verdict::End),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_read(&self) {
        let mut state = self.state();
        if state.requests == 0 && state.first_byte.is_none() {
            state.first_byte = Some(Instant::now());
        }
    }

    fn has_written(&self, stalled: bool) {
        let mut state = self.state();
        match (stalled, state.write_stalled_since) {
            (true, None) => state.write_stalled_since = Some(Instant::now()),
            (false, Some(_)) => state.write_stalled_since = None,
            _ => {}
        }
    }
}

impl Request {
    /// Its answer goes on until somebody ends it.
    pub(super) fn becomes_stream(&mut self) {
        if !self.is_stream {
            self.is_stream = true;
            self.activity.state().streams += 1;
        }
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        let mut state = self.activity.state();
        state.requests -= 1;
        state.streams -= usize::from(self.is_stream);
        state.idle_since = Instant::now();
    }
}

impl<S> Watched<S> {
    pub(super) fn new(stream: S, activity: Arc<Activity>, slot: Slot) -> Self {
        Watched { stream, activity, _slot: slot }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            this.activity.has_read();
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.activity.has_written(polled.is_pending());
        polled
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write_vectored(context, buffers);
        this.activity.has_written(polled.is_pending());
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_flush(context);
        this.activity.has_written(polled.is_pending());
        polled
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(activity: &Activity, seconds: u64) -> Verdict {
        activity.verdict(Instant::now() + Duration::from_secs(seconds))
    }

    #[test]
    fn who_asks_nothing_is_cut_and_who_rests_is_told() {
        let activity = Activity::new(true);
        assert!(matches!(after(&activity, 9), Verdict::Fine(_)));
        assert_eq!(after(&activity, 11), Verdict::Cut);
        drop(activity.request());
        assert!(matches!(after(&activity, 60), Verdict::Fine(_)));
        assert_eq!(after(&activity, 80), Verdict::End);
        activity.has_read();
        assert_eq!(after(&activity, 11), Verdict::Cut, "a head that began, and never ends");
    }

    #[test]
    fn only_a_stream_may_be_left_unread() {
        let activity = Activity::new(true);
        let mut request = activity.request();
        assert!(matches!(after(&activity, 600), Verdict::Fine(_)), "a slow answer");
        activity.has_written(true);
        assert_eq!(after(&activity, 31), Verdict::Cut);
        request.becomes_stream();
        assert!(matches!(after(&activity, 600), Verdict::Fine(_)));
        drop(request);
        assert_eq!(after(&activity, 31), Verdict::Cut, "the rest of it, in the buffers");
        activity.has_written(false);
        assert!(matches!(after(&activity, 31), Verdict::Fine(_)));
    }
}
