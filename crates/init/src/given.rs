//! Receives what the instance is given at this start, secrets among it: one frame on standard input, which is `/dev/null`
//! from then on.

use std::time::{Duration, Instant};

use chassis_init::frame::{self, Entry, HEADER_LENGTH, Kind};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, read};
use zeroize::Zeroizing;

use crate::Failure;

/// The server sends the frame before it starts the container.
const DEADLINE: Duration = Duration::from_secs(10);

/// A frame that arrived whole.
pub(crate) struct Given {
    header: [u8; HEADER_LENGTH],
    payload: Zeroizing<Vec<u8>>,
}

impl Given {
    pub(crate) fn entries(&self, kind: Kind) -> impl Iterator<Item = Entry<'_>> {
        let all = frame::decode(&self.header, &self.payload).unwrap_or_default();
        all.into_iter().filter(move |entry| entry.kind == kind)
    }
}

pub(crate) fn receive() -> Result<Given, Failure> {
    let none = || {
        Failure::misconfigured(
            "no secrets arrived: was this container started by hand? use `chassis start …`".to_owned(),
        )
    };
    let deadline = Instant::now() + DEADLINE;
    let mut header = [0; HEADER_LENGTH];
    fill(&mut header, deadline).ok_or_else(none)?;
    let length = frame::payload_length(&header).ok_or_else(none)?;
    let mut payload = Zeroizing::new(vec![0; length]);
    fill(&mut payload, deadline).ok_or_else(none)?;
    frame::decode(&header, &payload).ok_or_else(none)?;
    close_input().map_err(|error| Failure::misconfigured(format!("cannot open /dev/null: {error}")))?;
    Ok(Given { header, payload })
}

/// Fills the buffer from standard input. `None` if that ends or the deadline passes.
fn fill(mut buffer: &mut [u8], deadline: Instant) -> Option<()> {
    let input = rustix::stdio::stdin();
    while !buffer.is_empty() {
        let left = Timespec::try_from(deadline.checked_duration_since(Instant::now())?).ok()?;
        match poll(&mut [PollFd::new(&input, PollFlags::IN)], Some(&left)) {
            Ok(0) => return None,
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(_) => return None,
        }
        match read(input, &mut *buffer) {
            Ok(0) => return None,
            Ok(count) => buffer = buffer.get_mut(count..)?,
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(_) => return None,
        }
    }
    Some(())
}

fn close_input() -> rustix::io::Result<()> {
    let null = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdin(null)
}
