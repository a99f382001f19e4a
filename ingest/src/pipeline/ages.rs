//! When frames were received, without reading all of them: how far a sink is behind in seconds, and
//! where in the log a time lies.
//!
//! Live frames leave a mark a second; when there are too many marks every second one goes, so that
//! their distance grows with the time they span. What was in the log before the start is known by the
//! first frame of each segment, which is read when somebody asks, and remembered.

use std::collections::{BTreeMap, VecDeque};

use parking_lot::Mutex;

use super::verdict;
use crate::wal::{Log, Lsn, ReadError};

/// Between two marks.
const STEP_NS: i64 = 1_000_000_000;
/// Marks at most: 64 KiB.
const MARKS: usize = 4096;

/// Marks of live frames, in rising order of lsn.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    marks: VecDeque<(u64, i64)>,
    step_ns: i64,
}

impl Marks {
    /// A frame was appended.
    pub(crate) fn note(&mut self, lsn: u64, received_ns: i64) {
        let due = self.marks.back().is_none_or(|(_, at)| received_ns - at >= self.step_ns);
        if !due {
            return;
        }
        self.marks.push_back((lsn, received_ns));
        if self.marks.len() > MARKS {
            let mut keep = false;
            self.marks.retain(|_| {
                keep = !keep;
                keep
            });
            self.step_ns = self.step_ns.max(STEP_NS) * 2;
        } else {
            self.step_ns = self.step_ns.max(STEP_NS);
        }
    }

    /// Frames above were not made durable.
    pub(crate) fn roll_back(&mut self, above: u64) {
        while self.marks.back().is_some_and(|(lsn, _)| *lsn > above) {
            self.marks.pop_back();
        }
    }

    /// When the newest frame with a mark was received, in Unix ns.
    pub(crate) fn last(&self) -> Option<i64> {
        self.marks.back().map(|(_, at)| *at)
    }

    /// The last mark at or before a frame.
    fn before(&self, lsn: u64) -> Option<(u64, i64)> {
        let after = self.marks.partition_point(|(at, _)| *at <= lsn);
        self.marks.get(after.checked_sub(1)?).copied()
    }
}

/// Receive times of the first frames of segments, by their lsn.
#[derive(Debug, Default)]
pub(crate) struct Ages {
    firsts: Mutex<BTreeMap<u64, i64>>,
}

impl Ages {
    /// About when the frame was received: at most a step earlier than it was, or, for what was in the
    /// log before the start, when the first of its segment was. `None` where the log has it no more.
    /// May read the beginning of a segment.
    pub(crate) fn received(
        &self,
        log: &Log,
        marks: &Mutex<Marks>,
        lsn: u64,
    ) -> Result<Option<i64>, ReadError> {
        let mark = marks.lock().before(lsn);
        let spans = log.spans();
        let span = spans.iter().rev().find(|span| span.base.0 <= lsn && span.last >= span.base);
        let Some(base) = span.map(|span| span.base.0) else { return Ok(mark.map(|(_, at)| at)) };
        if let Some((_, at)) = mark.filter(|(at, _)| *at >= base) {
            return Ok(Some(at));
        }
        self.first(log, base)
    }

    /// When the first frame at or above `base`, the beginning of a segment, was received.
    pub(crate) fn first(&self, log: &Log, base: u64) -> Result<Option<i64>, ReadError> {
        if let Some(at) = self.firsts.lock().get(&base) {
            return Ok(Some(*at));
        }
        let frame = log.reader(Lsn(base.saturating_sub(1))).next()?;
        let at = frame.and_then(|frame| verdict::decode(frame.body).ok()).map(|b| b.received.ns());
        let mut firsts = self.firsts.lock();
        // Those of segments that are gone.
        *firsts = firsts.split_off(&log.stats().first.0.min(base));
        if let Some(at) = at {
            firsts.insert(base, at);
        }
        Ok(at)
    }

    /// The lsn behind which the log has everything that was received at `time_ns` or later, by our
    /// clock; `None` if it has no frame so old, so that there may have been others before.
    pub(crate) fn before(&self, log: &Log, time_ns: i64) -> Result<Option<u64>, ReadError> {
        // Receive times rise but for replayed dead letters, which have the time they first came, and
        // clocks that are set back: a segment that begins before the one before it says nothing, and
        // one more is read than seems needed.
        let (mut from, mut latest) = ([None, None], i64::MIN);
        for span in log.spans().iter().filter(|span| span.last >= span.base) {
            match self.first(log, span.base.0)? {
                Some(first) if first >= time_ns => break,
                Some(first) if first >= latest => {
                    from = [from[1].or(Some(span.base.0)), Some(span.base.0)];
                    latest = first;
                }
                _ => {}
            }
        }
        let Some(from) = from[0] else { return Ok(None) };
        let mut reader = log.reader(Lsn(from.saturating_sub(1)));
        let mut last = from;
        while let Some(frame) = reader.next()? {
            let received = verdict::decode(frame.body).ok().map(|body| body.received.ns());
            if received.is_some_and(|received| received >= time_ns) {
                return Ok(Some(last));
            }
            last = frame.lsn.0;
        }
        Ok(Some(last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_a_second_apart_and_thin_out() {
        let mut marks = Marks::default();
        for lsn in 1..=100_000_u64 {
            marks.note(lsn, i64::try_from(lsn).unwrap_or(0) * STEP_NS / 2);
        }
        assert!(marks.marks.len() <= MARKS);
        assert_eq!(marks.before(0), None);
        let (lsn, at) = marks.before(50_000).unwrap_or_default();
        assert!((49_900..=50_000).contains(&lsn), "{lsn}");
        assert_eq!(at, i64::try_from(lsn).unwrap_or(0) * STEP_NS / 2);
        marks.roll_back(10);
        assert!(marks.before(u64::MAX).is_some_and(|(lsn, _)| lsn <= 10));
    }
}
