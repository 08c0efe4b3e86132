//! A bounded pipe between what is asynchronous and a thread that blocks. An end that was not announced is an error: half
//! an archive must never pass for a whole one.

use std::io::{self, Read, Write};

use bytes::{Buf, Bytes};
use tokio::sync::mpsc;

/// Pieces on their way.
const PIECES: usize = 8;

pub(super) fn pipe() -> (PipeWriter, PipeReader) {
    let (sender, receiver) = mpsc::channel(PIECES);
    (PipeWriter { sender }, PipeReader { receiver, piece: Bytes::new(), finished: false })
}

pub(super) struct PipeWriter {
    sender: mpsc::Sender<Option<Bytes>>,
}

pub(super) struct PipeReader {
    receiver: mpsc::Receiver<Option<Bytes>>,
    piece: Bytes,
    finished: bool,
}

/// The writing end, for a thread.
pub(super) struct BlockingWriter(PipeWriter);

impl PipeWriter {
    /// Fails if nobody reads.
    pub(super) async fn send(&mut self, bytes: Bytes) -> Result<(), ()> {
        self.sender.send(Some(bytes)).await.map_err(drop)
    }

    /// All was sent.
    pub(super) async fn finish(&mut self) {
        let _ = self.sender.send(None).await;
    }

    pub(super) fn blocking(self) -> BlockingWriter {
        BlockingWriter(self)
    }
}

impl BlockingWriter {
    /// All was written.
    pub(super) fn finish(self) -> io::Result<()> {
        self.0.sender.blocking_send(None).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for BlockingWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = Some(Bytes::copy_from_slice(bytes));
        self.0.sender.blocking_send(piece).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl PipeReader {
    /// The next piece, or `None` at the end; whether that was announced, `is_finished` tells.
    pub(super) async fn receive(&mut self) -> Option<Bytes> {
        let piece = self.receiver.recv().await?;
        self.finished = piece.is_none();
        piece
    }

    pub(super) fn is_finished(&self) -> bool {
        self.finished
    }
}

impl Read for PipeReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() && !self.finished {
            match self.receiver.blocking_recv() {
                Some(Some(piece)) => self.piece = piece,
                Some(None) => self.finished = true,
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
        let count = self.piece.len().min(buffer.len());
        self.piece.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}
