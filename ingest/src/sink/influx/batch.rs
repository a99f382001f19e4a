//! What the sink holds: encoded readings, in batches that end with whole frames.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::line_protocol::write_row;
use crate::pipeline::frame::DurableFrame;

/// The lines of one reading in a batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unit {
    /// Where its lines end.
    end: usize,
    /// Its frame, by position in the batch's list.
    frame: usize,
    /// Its row in that frame.
    pub(super) row: u32,
}

/// What a refused reading's letter tells of its frame.
#[derive(Debug, Clone)]
pub(super) struct FrameNote {
    pub(super) lsn: u64,
    pub(super) received_ns: i64,
    pub(super) topic: Arc<str>,
}

/// Readings that are written in one request, if the server takes it.
#[derive(Debug)]
pub(super) struct Batch {
    lines: Bytes,
    units: Vec<Unit>,
    frames: Vec<FrameNote>,
    /// Once all of it is stored, everything up to here is.
    pub(super) up_to: u64,
    /// When its oldest reading came.
    pub(super) since: Instant,
}

impl Batch {
    /// How many readings it has.
    pub(super) fn len(&self) -> usize {
        self.units.len()
    }

    /// The lines of some of its readings.
    pub(super) fn lines(&self, range: &Range<usize>) -> Bytes {
        let start = range.start.checked_sub(1).and_then(|i| self.units.get(i)).map_or(0, |u| u.end);
        let end = range.end.checked_sub(1).and_then(|i| self.units.get(i)).map_or(0, |u| u.end);
        self.lines.slice(start..end.max(start))
    }

    /// A reading and its frame.
    pub(super) fn unit(&self, at: usize) -> Option<(&Unit, &FrameNote)> {
        let unit = self.units.get(at)?;
        Some((unit, self.frames.get(unit.frame)?))
    }

    /// About how many bytes of memory it holds.
    pub(super) fn memory_bytes(&self) -> usize {
        memory_bytes(self.lines.len(), &self.units, &self.frames)
    }
}

fn memory_bytes(lines: usize, units: &[Unit], frames: &[FrameNote]) -> usize {
    lines + size_of_val(units) + size_of_val(frames)
}

/// When a batch is full.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) readings: usize,
    pub(super) bytes: usize,
    pub(super) age: Duration,
}

/// Readings that wait to be sent.
#[derive(Debug)]
pub(super) struct Held {
    limits: Limits,
    ready: VecDeque<Batch>,
    lines: Vec<u8>,
    units: Vec<Unit>,
    frames: Vec<FrameNote>,
    up_to: u64,
    /// When the oldest reading of the unfinished batch came.
    since: Option<Instant>,
}

impl Held {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            ready: VecDeque::new(),
            lines: Vec::new(),
            units: Vec::new(),
            frames: Vec::new(),
            up_to: 0,
            since: None,
        }
    }

    /// Takes in what a feed gave.
    pub(super) fn add(&mut self, frames: &[Arc<DurableFrame>], up_to: u64, now: Instant) {
        for frame in frames.iter().filter(|f| !f.rows.is_empty()) {
            self.since.get_or_insert(now);
            self.frames.push(FrameNote {
                lsn: frame.lsn,
                received_ns: frame.received.ns(),
                topic: Arc::clone(&frame.topic),
            });
            for (row, position) in frame.rows.iter().zip(0..) {
                write_row(row, &mut self.lines);
                let frame = self.frames.len() - 1;
                self.units.push(Unit { end: self.lines.len(), frame, row: position });
            }
            self.up_to = frame.lsn;
            if self.units.len() >= self.limits.readings || self.lines.len() >= self.limits.bytes {
                self.finish();
            }
        }
        // Frames without readings need no storing, so they go with what lies before them.
        if !self.units.is_empty() {
            self.up_to = up_to;
        } else if let Some(last) = self.ready.back_mut() {
            last.up_to = up_to;
        }
    }

    /// Ends the unfinished batch, if it has anything in it.
    pub(super) fn finish(&mut self) {
        if let Some(since) = self.since.take() {
            self.ready.push_back(Batch {
                since,
                lines: std::mem::take(&mut self.lines).into(),
                units: std::mem::take(&mut self.units),
                frames: std::mem::take(&mut self.frames),
                up_to: self.up_to,
            });
        }
    }

    /// The next batch that is full.
    pub(super) fn pop(&mut self) -> Option<Batch> {
        self.ready.pop_front()
    }

    /// When the unfinished batch is old enough to be sent as it is.
    pub(super) fn due(&self) -> Option<Instant> {
        self.since.map(|since| since + self.limits.age)
    }

    /// When the oldest reading that waits came.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.ready.front().map(|batch| batch.since).or(self.since)
    }

    /// How many readings wait.
    pub(super) fn readings(&self) -> usize {
        self.ready.iter().map(Batch::len).sum::<usize>() + self.units.len()
    }

    /// About how many bytes of memory they take.
    pub(super) fn memory_bytes(&self) -> usize {
        self.ready.iter().map(Batch::memory_bytes).sum::<usize>()
            + memory_bytes(self.lines.len(), &self.units, &self.frames)
    }

    /// Bodies were too large for the server, and one of so many bytes was not: from now on they are
    /// ended at half of that, as the frame that fills one goes in whole.
    pub(super) fn shrink(&mut self, fits: usize) {
        /// About ten points; below it the limit cannot be meant for us.
        const LEAST: usize = 4096;
        self.limits.bytes = self.limits.bytes.min((fits / 2).max(LEAST));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use loushan_schemas::kind::Kind;

    use super::*;
    use crate::sink::influx::testing::{frame, row};

    fn held(readings: usize) -> Held {
        Held::new(Limits { readings, bytes: 1 << 20, age: Duration::from_secs(1) })
    }

    fn frames(readings: &[(u64, u32)]) -> Vec<Arc<DurableFrame>> {
        let rows = |count: u32| (0..count).map(|n| row(Kind::Smoke, n)).collect();
        readings.iter().map(|(lsn, count)| Arc::new(frame(*lsn, rows(*count)))).collect()
    }

    #[test]
    fn a_batch_ends_with_a_whole_frame_and_its_end_passes_no_reading_outside_it() {
        let mut held = held(5);
        let now = Instant::now();
        held.add(&frames(&[(3, 4), (5, 3), (8, 0), (9, 6), (12, 0)]), 20, now);
        let (first, second) = (held.pop().unwrap(), held.pop().unwrap());
        assert_eq!((first.len(), first.up_to), (7, 5));
        // What holds no readings behind the last one goes with it.
        assert_eq!((second.len(), second.up_to), (6, 20));
        assert!(held.pop().is_none() && held.due().is_none());

        held.add(&frames(&[(21, 5), (22, 1)]), 25, now);
        let full = held.pop().unwrap();
        assert_eq!((full.len(), full.up_to), (5, 21));
        assert_eq!((held.readings(), held.due()), (1, Some(now + Duration::from_secs(1))));
        held.add(&frames(&[]), 30, now);
        held.finish();
        assert_eq!(held.pop().unwrap().up_to, 30);
    }

    #[test]
    fn ranges_of_a_batch_are_its_readings_lines() {
        let mut held = held(3);
        held.add(&frames(&[(1, 3)]), 1, Instant::now());
        let batch = held.pop().unwrap();
        let parts: Vec<Bytes> = (0..3).map(|i| batch.lines(&(i..i + 1))).collect();
        assert_eq!(parts.concat(), batch.lines(&(0..3)));
        assert!(parts.iter().all(|lines| lines.starts_with(b"smoke,") && lines.ends_with(b"\n")));
        let (unit, note) = batch.unit(2).unwrap();
        assert_eq!((unit.row, note.lsn), (2, 1));
    }
}
