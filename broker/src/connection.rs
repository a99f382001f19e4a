//! One connection: CONNECT, then the socket loop until it ends, then what is left to do.
//!
//! The loop reads as much as there is, takes every packet of it, and writes everything that came of
//! it at once. While the link is paused, or the client is slow to take what is written to it, the
//! socket is not read and the keep-alive timer stands still; what was read is still served.

mod handshake;
#[cfg(test)]
mod tests;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;

use crate::broker::Shared;
use crate::link::{End, Link};
use crate::wire::decode::Decoder;

pub(crate) use handshake::serve;

/// Room made for one read: small for the many that say little, larger while reads fill it.
const READ_SMALL: usize = 4 * 1024;
const READ_LARGE: usize = 64 * 1024;

/// Bytes waiting to be written, beyond which nothing is read that might add to them.
const WRITE_HIGH: usize = 256 * 1024;

/// Bytes waiting to be written, up to which messages for the client are added: enough for one write.
const WRITE_LOW: usize = 64 * 1024;

/// How long the last words to a client may take.
const FAREWELL: Duration = Duration::from_secs(1);

/// The socket loop's state.
struct Connection<S> {
    shared: Arc<Shared>,
    read: ReadHalf<S>,
    write: WriteHalf<S>,
    decoder: Decoder,
    input: BytesMut,
    read_size: usize,
    out: BytesMut,
    link: Link,
    kick: CancellationToken,
    /// Of this connection alone, so that waiting for it takes no lock that all share.
    stop: CancellationToken,
    keep_alive: Option<KeepAlive>,
    /// The client is no longer allowed to be here.
    revoked: CancellationToken,
    /// When its credentials expire.
    expires: Option<Instant>,
    /// Since when `out` has not become less.
    stalled_since: Option<Instant>,
    timer: Pin<Box<Sleep>>,
    /// When a shutdown stops waiting for this connection's tickets.
    drain_until: Option<Instant>,
}

/// 1.5 times the client's keep-alive, from its last packet on; standing still while we do not read.
#[derive(Debug)]
struct KeepAlive {
    limit: Duration,
    deadline: Instant,
    paused_at: Option<Instant>,
}

impl KeepAlive {
    /// `seconds` as CONNECT says it; 0 is none.
    fn new(seconds: u16) -> Option<Self> {
        let limit = Duration::from_millis(u64::from(seconds) * 1500);
        (seconds > 0).then(|| Self { limit, deadline: Instant::now() + limit, paused_at: None })
    }

    fn heard(&mut self, now: Instant) {
        self.deadline = now + self.limit;
    }

    fn pause(&mut self, paused: bool) {
        match (paused, self.paused_at) {
            (true, None) => self.paused_at = Some(Instant::now()),
            (false, Some(since)) => {
                self.deadline += since.elapsed();
                self.paused_at = None;
            }
            _ => {}
        }
    }

    fn due(&self) -> Option<Instant> {
        self.paused_at.is_none().then_some(self.deadline)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Runs until the connection ends, and says why it did.
    async fn run(&mut self) -> End {
        loop {
            match self.turn().await {
                Ok(()) => {}
                Err(end) => return end,
            }
        }
    }

    async fn turn(&mut self) -> Result<(), End> {
        self.take_packets()?;
        self.link.count_traffic();
        // First the offers: what is not for the handler is acknowledged at once.
        self.link.retry();
        self.link.acknowledge(&mut self.out)?;
        self.link.send_messages(&mut self.out, WRITE_LOW)?;
        if self.drain_until.is_some() && self.link.pending() == 0 && self.out.is_empty() {
            return Err(End::Shutdown);
        }
        let draining = self.drain_until.is_some();
        let paused = self.link.is_paused();
        let reading = !paused && !draining && self.out.len() < WRITE_HIGH;
        if let Some(keep_alive) = &mut self.keep_alive {
            keep_alive.pause(!reading);
        }
        if self.out.is_empty() {
            self.stalled_since = None;
        } else if self.stalled_since.is_none() {
            self.stalled_since = Some(Instant::now());
        }
        let due = self.due();
        if let Some(due) = due.filter(|due| *due < self.timer.deadline()) {
            self.timer.as_mut().reset(due);
        }
        let acks = Arc::clone(self.link.acks());
        let session = Arc::clone(self.link.session());
        if self.input.capacity() - self.input.len() < self.read_size {
            self.input.reserve(self.read_size);
        }
        let room = self.input.capacity() - self.input.len();
        tokio::select! {
            biased;
            () = self.kick.cancelled() => return Err(End::TakenOver),
            () = self.revoked.cancelled() => return Err(End::Revoked),
            written = self.write.write_buf(&mut self.out), if !self.out.is_empty() => {
                match written? {
                    0 => return Err(End::Closed),
                    written => self.link.tally.bytes_sent += written,
                }
                self.stalled_since = None;
            }
            () = acks.wake.notified() => {}
            () = session.wake.notified() => {}
            () = self.link.unpaused(), if paused => {}
            read = self.read.read_buf(&mut self.input), if reading => {
                let read = read?;
                self.link.tally.bytes_received += read;
                self.read_size = match read {
                    0 => return Err(End::Closed),
                    filled if filled == room => (self.read_size * 4).min(READ_LARGE),
                    few if few < self.read_size / 4 => (self.read_size / 2).max(READ_SMALL),
                    _ => self.read_size,
                };
            }
            () = self.stop.cancelled(), if !draining => {
                self.drain_until = Some(Instant::now() + self.shared.config.drain_timeout);
            }
            () = self.timer.as_mut(), if due.is_some() => {
                // The timer is set rarely and fires early: what counts is what is due.
                let now = Instant::now();
                self.expired(now)?;
                if let Some(due) = self.due() {
                    self.timer.as_mut().reset(due);
                }
            }
        }
        Ok(())
    }

    fn take_packets(&mut self) -> Result<(), End> {
        let received = std::time::Instant::now();
        let mut heard = false;
        while let Some(packet) = self.decoder.next(&mut self.input)? {
            heard = true;
            self.link.packet(packet, received, &mut self.out)?;
        }
        if let Some(keep_alive) = self.keep_alive.as_mut().filter(|_| heard) {
            keep_alive.heard(Instant::now());
        }
        Ok(())
    }

    /// The earliest of the deadlines that run.
    fn due(&self) -> Option<Instant> {
        let keep_alive = self.keep_alive.as_ref().and_then(KeepAlive::due);
        let write = self.stalled_since.map(|since| since + self.shared.config.write_timeout);
        [keep_alive, write, self.drain_until, self.expires].into_iter().flatten().min()
    }

    fn expired(&self, now: Instant) -> Result<(), End> {
        if self.keep_alive.as_ref().and_then(KeepAlive::due).is_some_and(|due| due <= now) {
            return Err(End::KeepAlive);
        }
        if self.stalled_since.is_some_and(|since| since + self.shared.config.write_timeout <= now) {
            return Err(End::WriteTimeout);
        }
        if self.drain_until.is_some_and(|until| until <= now) {
            return Err(End::Shutdown);
        }
        if self.expires.is_some_and(|expires| expires <= now) {
            return Err(End::Expired);
        }
        Ok(())
    }

    /// Writes what is due to a client that can still be told something, and closes. What it goes on
    /// to send is read for a while and thrown away: a socket closed on unread bytes is reset, and
    /// the last words may go with it.
    async fn farewell(&mut self, end: &End) {
        if matches!(end, End::Socket(_) | End::Closed | End::WriteTimeout) {
            return;
        }
        self.link.say_goodbye(end, &mut self.out);
        let out = std::mem::take(&mut self.out);
        let last_words = async {
            self.write.write_all(&out).await?;
            self.write.shutdown().await?;
            self.input.clear();
            while end.reason().is_some() && self.read.read_buf(&mut self.input).await? > 0 {
                self.input.clear();
            }
            Ok::<_, std::io::Error>(())
        };
        // Nobody is left to tell that the client did not listen.
        let _unheard = tokio::time::timeout(FAREWELL, last_words).await;
    }
}
