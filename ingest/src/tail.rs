//! The bounded tail of decided frames in memory, and the [`FrameSource`] over it and the log.
//!
//! Every decided frame enters the tail in the order of its lsn, when it is appended. Nobody sees it
//! before its lsn is durable; if its sync fails it leaves again unseen. A sync may be faster than the
//! way from the append to the tail, so what sinks see ends at the last frame that has entered, or
//! they would pass over one that is on its way. The oldest leave when the
//! tail is over its bound in bytes: a sink that still needs them reads the log's files and has the
//! verdict applied again ([`crate::pipeline::replay`]). So a slow sink costs disk, never memory, and
//! holds up nobody else.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::causes::Chain;
use crate::pipeline::ages::Marks;
use crate::pipeline::frame::DurableFrame;
use crate::pipeline::replay;
use crate::sink::{Fed, FeedError, FrameSource};
use crate::wal::{Log, Lsn, Reader};

/// How far sinks may see, and whether more will come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Progress {
    visible: u64,
    closed: bool,
}

#[derive(Debug)]
struct Frames {
    /// In rising order of lsn; the last ones may not be durable yet.
    frames: VecDeque<Arc<DurableFrame>>,
    bytes: usize,
    /// Every frame above this lsn that has entered is in here.
    complete_above: u64,
    durable: u64,
}

impl Frames {
    /// Frames up to here are durable, and have entered.
    fn visible(&self) -> u64 {
        let entered = self.frames.back().map_or(self.complete_above, |frame| frame.lsn);
        self.durable.min(entered)
    }
}

/// The tail.
#[derive(Debug)]
pub(crate) struct Tail {
    frames: Mutex<Frames>,
    progress: watch::Sender<Progress>,
    limit: usize,
    /// When frames were received, those that have left as well.
    pub(crate) marks: Mutex<Marks>,
}

/// Frames taken out of the tail, and the lsn up to which nothing is left out.
type Taken = (Vec<Arc<DurableFrame>>, u64);

impl Tail {
    /// An empty tail behind `durable`, of at most about `limit` bytes.
    pub(crate) fn new(durable: u64, limit: usize) -> Self {
        Self {
            frames: Mutex::new(Frames {
                frames: VecDeque::new(),
                bytes: 0,
                complete_above: durable,
                durable,
            }),
            progress: watch::Sender::new(Progress { visible: durable, closed: false }),
            limit,
            marks: Mutex::default(),
        }
    }

    /// A log was recovered up to `durable`: nothing of it is in here.
    pub(crate) fn recovered(&self, durable: u64) {
        self.frames.lock().complete_above = durable;
        self.durable(durable);
    }

    /// A frame was appended. The caller keeps the order of lsns.
    pub(crate) fn push(&self, frame: Arc<DurableFrame>) {
        let lsn = frame.lsn;
        self.marks.lock().note(lsn, frame.received.ns());
        let mut inner = self.frames.lock();
        inner.bytes += frame.memory_bytes();
        inner.frames.push_back(frame);
        while inner.bytes > self.limit
            && let Some(gone) = inner.frames.pop_front()
        {
            inner.bytes -= gone.memory_bytes();
            inner.complete_above = gone.lsn;
        }
        if inner.durable >= lsn {
            self.show(inner.visible());
        }
    }

    /// No frame above `above` will be durable.
    pub(crate) fn roll_back(&self, above: u64) {
        self.marks.lock().roll_back(above);
        let mut inner = self.frames.lock();
        while inner.frames.back().is_some_and(|frame| frame.lsn > above) {
            if let Some(gone) = inner.frames.pop_back() {
                inner.bytes -= gone.memory_bytes();
            }
        }
    }

    /// Frames up to `up_to` are durable: sinks may see them.
    pub(crate) fn durable(&self, up_to: u64) {
        let mut inner = self.frames.lock();
        inner.durable = inner.durable.max(up_to);
        self.show(inner.visible());
    }

    fn show(&self, visible: u64) {
        self.progress.send_if_modified(|progress| {
            let more = visible > progress.visible;
            progress.visible = progress.visible.max(visible);
            more
        });
    }

    /// Nothing more will be durable: sinks end when they have got everything.
    pub(crate) fn close(&self) {
        self.progress.send_modify(|progress| progress.closed = true);
    }

    /// Bytes held, about.
    pub(crate) fn bytes(&self) -> usize {
        self.frames.lock().bytes
    }

    /// The durable frames above `after`; `None` if some of them have left the tail.
    fn take(&self, after: u64, visible: u64, max_bytes: usize) -> Option<Taken> {
        let inner = self.frames.lock();
        if after < inner.complete_above {
            return None;
        }
        let start = inner.frames.partition_point(|frame| frame.lsn <= after);
        let mut taken = Vec::new();
        let mut bytes = 0;
        for frame in inner.frames.range(start..).take_while(|frame| frame.lsn <= visible) {
            if bytes >= max_bytes {
                let up_to = taken.last().map_or(after, |frame: &Arc<DurableFrame>| frame.lsn);
                return Some((taken, up_to));
            }
            bytes += frame.memory_bytes();
            taken.push(Arc::clone(frame));
        }
        Some((taken, visible.max(after)))
    }
}

/// Reads the tail, or the log where the tail does not reach back far enough.
pub(crate) struct LogSource {
    tail: Arc<Tail>,
    log: Log,
    progress: watch::Receiver<Progress>,
    /// Kept while the sink is behind the tail, so that it reads on where it was.
    reader: Option<Reader>,
    /// A read of what is behind an lsn. Who waits for it may go and come again, and it is not begun
    /// anew then: to find the place in a large segment may take longer than anybody's patience.
    under_way: Option<(u64, JoinHandle<ReadOn>)>,
}

impl LogSource {
    pub(crate) fn new(tail: &Arc<Tail>, log: Log) -> Self {
        let progress = tail.progress.subscribe();
        Self { tail: Arc::clone(tail), log, progress, reader: None, under_way: None }
    }

    async fn read(
        &mut self,
        after: u64,
        max_bytes: usize,
        wait: Duration,
    ) -> Result<Fed, FeedError> {
        let deadline = tokio::time::Instant::now() + wait;
        loop {
            let progress = *self.progress.borrow_and_update();
            if progress.visible > after {
                if let Some((frames, up_to)) = self.tail.take(after, progress.visible, max_bytes) {
                    (self.reader, self.under_way) = (None, None);
                    return Ok(Fed::Frames { frames, up_to });
                }
                return self.read_log(after, progress.visible, max_bytes).await;
            }
            if progress.closed {
                return Ok(Fed::Closed);
            }
            match tokio::time::timeout_at(deadline, self.progress.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Ok(Fed::Closed),
                Err(_) => return Ok(Fed::Frames { frames: Vec::new(), up_to: after }),
            }
        }
    }

    async fn read_log(
        &mut self,
        after: u64,
        visible: u64,
        max_bytes: usize,
    ) -> Result<Fed, FeedError> {
        let read = match self.under_way.take().filter(|(at, _)| *at == after) {
            Some((_, read)) => read,
            None => {
                let kept = self.reader.take().filter(|reader| reader.position().0 == after);
                let mut reader = kept.unwrap_or_else(|| self.log.reader(Lsn(after)));
                tokio::task::spawn_blocking(move || {
                    read_some(&mut reader, visible, max_bytes).map(|taken| (taken, reader))
                })
            }
        };
        let (_, read) = self.under_way.insert((after, read));
        let read = read.await;
        self.under_way = None;
        let read = read.unwrap_or_else(|panicked| Err(Unread::Ever(panicked.to_string())));
        let ((frames, up_to), reader) = read.map_err(|unread| match unread {
            Unread::Now(why) => FeedError { after, why, passing: true },
            Unread::Ever(why) => FeedError { after, why, passing: false },
        })?;
        self.reader = Some(reader);
        Ok(Fed::Frames { frames, up_to: up_to.max(after) })
    }
}

/// What was read, and the reader to read on with.
type ReadOn = Result<(Taken, Reader), Unread>;

/// Why frames could not be read.
enum Unread {
    /// The file system failed: it may be well again.
    Now(String),
    /// This build cannot give them back, however often it tries.
    Ever(String),
}

fn read_some(reader: &mut Reader, visible: u64, max_bytes: usize) -> Result<Taken, Unread> {
    let mut frames = Vec::new();
    let mut bytes = 0;
    while bytes < max_bytes {
        // The log may be further than what has been published: what it hands out is durable.
        let next = match reader.next() {
            Ok(next) => next,
            // What was read so far is whole; the next call meets the error again.
            Err(_) if !frames.is_empty() => break,
            Err(e) => return Err(Unread::Now(format!("{:#}", Chain(&e)))),
        };
        let Some(frame) = next else {
            return Ok((frames, visible.max(reader.position().0)));
        };
        let frame =
            replay::frame(frame.lsn.0, frame.body).map_err(|e| Unread::Ever(e.to_string()))?;
        bytes += frame.memory_bytes();
        frames.push(Arc::new(frame));
    }
    Ok((frames, reader.position().0))
}

impl FrameSource for LogSource {
    fn next(
        &mut self,
        after: u64,
        max_bytes: usize,
        wait: Duration,
    ) -> Pin<Box<dyn Future<Output = Result<Fed, FeedError>> + Send + '_>> {
        Box::pin(self.read(after, max_bytes, wait))
    }

    fn closing(&self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let mut progress = self.progress.clone();
        // One that is dropped closes as well.
        Box::pin(async move { drop(progress.wait_for(|progress| progress.closed).await) })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use loushan_schemas::time::ReceiveTime;

    use super::*;

    fn frame(lsn: u64) -> Arc<DurableFrame> {
        Arc::new(DurableFrame {
            lsn,
            received: ReceiveTime::from_ns(0),
            topic: Arc::from("t"),
            payload: Bytes::from_static(b"payload"),
            rows: Vec::new(),
            rejects: Vec::new(),
            duplicates: 0,
        })
    }

    fn visible(tail: &Tail) -> u64 {
        tail.progress.borrow().visible
    }

    fn lsns(taken: Option<Taken>) -> Option<(Vec<u64>, u64)> {
        taken.map(|(frames, up_to)| (frames.iter().map(|f| f.lsn).collect(), up_to))
    }

    #[test]
    fn a_frame_that_was_durable_before_it_entered_is_not_passed_over() {
        let tail = Tail::new(0, 1 << 20);
        tail.push(frame(1));
        tail.durable(2);
        assert_eq!(visible(&tail), 1);
        assert_eq!(lsns(tail.take(0, visible(&tail), 1 << 20)), Some((vec![1], 1)));
        tail.push(frame(2));
        assert_eq!(visible(&tail), 2);
        assert_eq!(lsns(tail.take(1, visible(&tail), 1 << 20)), Some((vec![2], 2)));
    }

    #[test]
    fn frames_are_not_seen_before_they_are_durable_and_leave_unseen_if_they_fail() {
        let tail = Tail::new(0, 1 << 20);
        for lsn in 1..=4 {
            tail.push(frame(lsn));
        }
        assert_eq!(visible(&tail), 0);
        tail.durable(2);
        assert_eq!(lsns(tail.take(0, visible(&tail), 1 << 20)), Some((vec![1, 2], 2)));
        tail.roll_back(2);
        assert_eq!(tail.bytes(), 2 * frame(1).memory_bytes());
        tail.push(frame(7));
        tail.durable(7);
        assert_eq!(lsns(tail.take(2, visible(&tail), 1 << 20)), Some((vec![7], 7)));
    }

    #[test]
    fn over_its_bound_the_oldest_leave_and_whoever_needs_them_is_sent_to_the_log() {
        let tail = Tail::new(0, 3 * frame(1).memory_bytes());
        for lsn in 1..=5 {
            tail.push(frame(lsn));
        }
        tail.durable(5);
        assert_eq!(lsns(tail.take(1, 5, 1 << 20)), None);
        assert_eq!(lsns(tail.take(2, 5, 1 << 20)), Some((vec![3, 4, 5], 5)));
        assert_eq!(lsns(tail.take(2, 5, 1)), Some((vec![3], 3)), "one at a time if need be");
    }
}
