//! One connection: CONNECT, then the socket loop until it ends, then what is left to do.
//!
//! The loop reads as much as there is, takes every packet of it, and writes everything that came of
//! it at once. While the link is paused, the client is slow to take what is written to it, it has sent
//! faster than it may, or memory is short, the socket is not read and the keep-alive timer stands
//! still; what was read is still served. While nothing moves, no buffer is kept.

mod handshake;
mod io;
mod pace;
#[cfg(test)]
mod tests;

use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;

use crate::broker::Shared;
use crate::link::{End, Link};
use crate::listen::Stream;
use crate::wire::Packet;
use crate::wire::decode::Decoder;
use io::{Held, Output, READ, UNCOUNTED};
use pace::Pace;

pub(crate) use handshake::serve;
pub(crate) use pace::Debts;

/// Bytes waiting to be written, beyond which nothing is read that might add to them.
const WRITE_HIGH: usize = 256 * 1024;

/// Bytes waiting to be written, up to which messages for the client are added: enough for one write.
const WRITE_LOW: usize = 64 * 1024;

/// How long a connection may hold part of a packet while the budget for buffers is full. Those who hold
/// most of it would otherwise keep it for as long as they please, for no timer of theirs runs.
const MEMORY_PATIENCE: Duration = Duration::from_secs(5);

/// How long a message that nobody else would get waits for a subscription that arrived just before it by
/// another connection.
const GRACE: Duration = Duration::from_millis(2);
/// No connection is given [`GRACE`] more often.
const GRACE_EVERY: Duration = Duration::from_millis(100);

/// How long the last words to a client may take.
const FAREWELL: Duration = Duration::from_secs(1);

/// The socket loop's state.
struct Connection<S> {
    shared: Arc<Shared>,
    stream: S,
    decoder: Decoder,
    input: BytesMut,
    out: Output,
    /// What of the two counts against the budget for buffers.
    held: Held,
    pace: Pace,
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
    /// Since when there is no room for the rest of a packet.
    starved_since: Option<Instant>,
    /// The client has been faster than it may, and this was counted.
    slowed: bool,
    /// From when on a message of its may be given time for a subscription ([`GRACE`]).
    grace_from: std::time::Instant,
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

/// What a turn of the loop waited for.
enum Moved {
    /// So many bytes; 0 where what was written before is on its way now.
    Wrote(usize),
    /// So many bytes; 0 is the stream's end.
    Read(usize),
    /// So many bytes of the transport's own.
    Overhead(usize),
}

impl<S: Stream> Connection<S> {
    /// Runs until the connection ends, and says why it did.
    async fn run(&mut self) -> End {
        loop {
            match self.turn().await {
                Ok(()) => {}
                Err(end) => {
                    if matches!(end, End::Client { .. }) {
                        // What came with DISCONNECT and is taken is acknowledged all the same. The
                        // connection has ended: a failure ends nothing more.
                        let _ended = self.link.acknowledge(&mut self.out.bytes);
                    }
                    return end;
                }
            }
        }
    }

    async fn turn(&mut self) -> Result<(), End> {
        self.take_packets().await?;
        self.link.count_traffic();
        // First the offers: what is not for the handler is acknowledged at once.
        self.link.retry();
        self.link.acknowledge(&mut self.out.bytes)?;
        let room = if self.shared.buffers.is_full() { UNCOUNTED } else { WRITE_LOW };
        self.link.send_messages(&mut self.out.bytes, room)?;
        if self.drain_until.is_some() && self.link.pending() == 0 && self.out.is_empty() {
            return Err(End::Shutdown);
        }
        let draining = self.drain_until.is_some();
        let paused = self.link.is_paused();
        let slowed_until = self.slow_down();
        self.held.set([self.input.len(), self.out.bytes.len(), self.stream.buffered()]);
        let starved = self.starve();
        let reading = !paused
            && !draining
            && !starved
            && slowed_until.is_none()
            && self.out.bytes.len() < WRITE_HIGH;
        if let Some(keep_alive) = &mut self.keep_alive {
            keep_alive.pause(!reading);
        }
        if self.out.is_empty() {
            self.stalled_since = None;
        } else if self.stalled_since.is_none() {
            self.stalled_since = Some(Instant::now());
        }
        let due = [self.due(), slowed_until].into_iter().flatten().min();
        if let Some(due) = due.filter(|due| *due < self.timer.deadline()) {
            self.timer.as_mut().reset(due);
        }
        // Where memory is short, nobody reads more than what does not count.
        let limit = if self.shared.buffers.is_full() { UNCOUNTED } else { READ };
        let Self { stream, input, out, link, kick, revoked, stop, timer, shared, .. } = self;
        let (acks, session) = (Arc::clone(link.acks()), Arc::clone(link.session()));
        let moved = std::future::poll_fn(|cx| {
            if let Poll::Ready(written) = out.poll_write(stream, cx) {
                return Poll::Ready(written.map(Moved::Wrote));
            }
            if !reading {
                return Poll::Pending;
            }
            match io::poll_read(stream, cx, input, limit) {
                Poll::Ready(read) => Poll::Ready(read.map(Moved::Read)),
                Poll::Pending => match stream.take_overhead() {
                    0 => Poll::Pending,
                    bytes => Poll::Ready(Ok(Moved::Overhead(bytes))),
                },
            }
        });
        tokio::select! {
            biased;
            () = kick.cancelled() => return Err(End::TakenOver),
            () = revoked.cancelled() => return Err(End::Revoked),
            moved = moved => match moved? {
                Moved::Wrote(bytes) => {
                    link.tally.bytes_sent += bytes;
                    self.stalled_since = None;
                }
                Moved::Read(0) => return Err(End::Closed),
                Moved::Read(bytes) => {
                    link.tally.bytes_received += bytes;
                    self.pace.read(bytes);
                }
                Moved::Overhead(bytes) => self.pace.read(bytes),
            },
            () = acks.wake.notified() => {}
            () = session.wake.notified() => {}
            () = link.unpaused(), if paused => {}
            () = shared.buffers.available(), if starved => {}
            () = stop.cancelled(), if !draining => {
                self.drain_until = Some(Instant::now() + self.shared.config.drain_timeout);
            }
            () = timer.as_mut(), if due.is_some() => {
                // The timer is set rarely and fires early: what counts is what is due.
                let now = Instant::now();
                self.expired(now)?;
                let slowed = slowed_until.filter(|until| *until > now);
                if let Some(due) = [self.due(), slowed].into_iter().flatten().min() {
                    self.timer.as_mut().reset(due);
                }
            }
        }
        Ok(())
    }

    async fn take_packets(&mut self) -> Result<(), End> {
        let received = std::time::Instant::now();
        let (mut heard, mut yielded, mut publishes) = (false, false, 0);
        while let Some(packet) = self.decoder.next(&mut self.input)? {
            heard = true;
            publishes += usize::from(matches!(packet, Packet::Publish(_)));
            if !yielded && self.link.shows_at_once(&packet) {
                yielded = true;
                self.give_way(&packet, received).await;
            }
            self.link.packet(packet, received, &mut self.out.bytes)?;
        }
        if self.input.is_empty() {
            self.input = BytesMut::new();
        }
        self.pace.published(publishes);
        if let Some(keep_alive) = self.keep_alive.as_mut().filter(|_| heard) {
            keep_alive.heard(Instant::now());
        }
        Ok(())
    }

    /// Lets a SUBSCRIBE that arrived just before this packet, by another connection, be served before
    /// it: who waits for no SUBACK expects the order of the wire all the same.
    async fn give_way(&mut self, packet: &Packet, received: std::time::Instant) {
        // Two connections may be served by two threads at once.
        if received >= self.grace_from {
            self.grace_from = received + GRACE_EVERY;
            if self.link.is_for_nobody_else(packet) {
                tokio::time::sleep(GRACE).await;
                return;
            }
        }
        // Of tasks that are woken together the scheduler runs the last one first. It does so once more
        // where it looks for packets between two tasks, which it does not do twice running.
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
    }

    /// Until when the client has to be read no more, because it was faster than it may be.
    fn slow_down(&mut self) -> Option<Instant> {
        let until = self.pace.wait();
        if until.is_some() && !self.slowed {
            self.shared.metrics.read_pauses_rate.increment(1);
        }
        self.slowed = until.is_some();
        until
    }

    /// Whether there is no room for the rest of the packet that the client has begun.
    fn starve(&mut self) -> bool {
        if !self.held.is_full(self.input.len()) {
            self.starved_since = None;
        } else if self.starved_since.is_none() {
            self.starved_since = Some(Instant::now());
            self.shared.metrics.read_pauses_memory.increment(1);
        }
        self.starved_since.is_some()
    }

    /// The earliest of the deadlines that run.
    fn due(&self) -> Option<Instant> {
        let keep_alive = self.keep_alive.as_ref().and_then(KeepAlive::due);
        let write = self.stalled_since.map(|since| since + self.shared.config.write_timeout);
        let memory = self.starved_since.map(|since| since + MEMORY_PATIENCE);
        [keep_alive, write, memory, self.drain_until, self.expires].into_iter().flatten().min()
    }

    fn expired(&self, now: Instant) -> Result<(), End> {
        if self.keep_alive.as_ref().and_then(KeepAlive::due).is_some_and(|due| due <= now) {
            return Err(End::KeepAlive);
        }
        if self.stalled_since.is_some_and(|since| since + self.shared.config.write_timeout <= now) {
            return Err(End::WriteTimeout);
        }
        if self.starved_since.is_some_and(|since| since + MEMORY_PATIENCE <= now) {
            return Err(End::NoMemory);
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
        self.link.say_goodbye(end, &mut self.out.bytes);
        let out = std::mem::take(&mut self.out.bytes);
        // What is left of a packet is of no use any more, and others may need the memory.
        self.input = BytesMut::new();
        self.held.set([0, out.len(), 0]);
        let last_words = async {
            self.stream.write_all(&out).await?;
            self.stream.shutdown().await?;
            while end.reason().is_some()
                && io::read(&mut self.stream, &mut self.input, UNCOUNTED).await? > 0
            {
                self.input.clear();
            }
            Ok::<_, std::io::Error>(())
        };
        // Nobody is left to tell that the client did not listen.
        let _unheard = tokio::time::timeout(FAREWELL, last_words).await;
    }
}
