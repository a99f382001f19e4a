//! Reading and writing without keeping buffers: a connection on which nothing moves has none.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::broker::Shared;

/// Bytes of one read at most.
pub(super) const READ: usize = 64 * 1024;

/// What a buffer may hold without being counted: packets of a fleet fit, so that clients who fill the
/// budget with parts of packets hold up nobody else.
pub(super) const UNCOUNTED: usize = 4 * 1024;

thread_local! {
    /// What is read goes here first. Ten thousand connections that each wait with a buffer of their
    /// own hold a buffer for every byte that does not come.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; READ]);
}

/// Reads at most `limit` bytes to the end of `input`. Returns how many; 0 is the stream's end.
pub(super) fn poll_read<S: AsyncRead + Unpin>(
    stream: &mut S,
    cx: &mut Context<'_>,
    input: &mut BytesMut,
    limit: usize,
) -> Poll<io::Result<usize>> {
    // No stream's poll_read reads through here again.
    SCRATCH.with_borrow_mut(|scratch| {
        let end = limit.min(scratch.len());
        let mut read = ReadBuf::new(scratch.get_mut(..end).unwrap_or_default());
        ready!(Pin::new(stream).poll_read(cx, &mut read))?;
        input.extend_from_slice(read.filled());
        Poll::Ready(Ok(read.filled().len()))
    })
}

/// The same, to be awaited. Cancel-safe.
pub(super) async fn read<S: AsyncRead + Unpin>(
    stream: &mut S,
    input: &mut BytesMut,
    limit: usize,
) -> io::Result<usize> {
    std::future::poll_fn(|cx| poll_read(stream, cx, input, limit)).await
}

/// What is written to a client.
#[derive(Debug, Default)]
pub(super) struct Output {
    /// Packets that the stream has not taken.
    pub(super) bytes: BytesMut,
    /// The stream has taken some and may not have passed them on: TLS and WebSocket do so on a flush.
    unflushed: bool,
}

impl From<BytesMut> for Output {
    fn from(bytes: BytesMut) -> Self {
        Self { bytes, unflushed: false }
    }
}

impl Output {
    /// Whether everything is on its way.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty() && !self.unflushed
    }

    /// Writes and flushes. Ready with the bytes written when there are some, or when all
    /// is on its way; pending where there is nothing to do.
    pub(super) fn poll_write<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if self.is_empty() {
            return Poll::Pending;
        }
        let mut wrote = 0;
        while !self.bytes.is_empty() {
            match Pin::new(&mut *stream).poll_write(cx, &self.bytes) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => {
                    self.bytes.advance(written);
                    (wrote, self.unflushed) = (wrote + written, true);
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending if wrote > 0 => return Poll::Ready(Ok(wrote)),
                Poll::Pending => return Poll::Pending,
            }
        }
        self.bytes = BytesMut::new();
        match Pin::new(stream).poll_flush(cx) {
            Poll::Pending if wrote > 0 => Poll::Ready(Ok(wrote)),
            flushed => {
                self.unflushed &= flushed.is_pending();
                flushed.map_ok(|()| wrote)
            }
        }
    }
}

/// A connection's share of the budget for buffers; given back when it is dropped.
pub(super) struct Held {
    shared: Arc<Shared>,
    bytes: usize,
}

impl Held {
    pub(super) const fn new(shared: Arc<Shared>) -> Self {
        Self { shared, bytes: 0 }
    }

    /// Whether a buffer of `len` bytes must not grow.
    pub(super) fn is_full(&self, len: usize) -> bool {
        len >= UNCOUNTED && self.shared.buffers.is_full()
    }

    /// Counts buffers that hold so many bytes now.
    pub(super) fn set(&mut self, buffers: [usize; 3]) {
        let bytes = buffers.iter().map(|len| len.saturating_sub(UNCOUNTED)).sum();
        if bytes > self.bytes {
            self.shared.buffers.take(bytes - self.bytes);
        } else if bytes < self.bytes {
            self.shared.buffers.give(self.bytes - bytes);
        }
        self.bytes = bytes;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.set([0; 3]);
    }
}
