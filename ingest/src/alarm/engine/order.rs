//! Which of two readings of a device is news.
//!
//! Three witnesses are asked, and two of them decide:
//! * the device's clock: the reading's effective time;
//! * the clock by which it was heard: ours for what comes live, the station's for what it had kept back;
//! * the device's counter: its boots, and within one its sequence number, which may wrap at 256 or 65536.
//!
//! One clock that is wrong, however wrong, is outvoted.

use std::cmp::Ordering;

use loushan_schemas::row::Row;

/// What the witnesses say of a reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// The effective time, in Unix milliseconds.
    pub(crate) effective: i64,
    /// When it was heard, in Unix milliseconds.
    pub(crate) heard: i64,
    /// The device's boots.
    pub(crate) boot_epoch: u32,
    /// The device's counter.
    pub(crate) seq: u64,
}

impl Place {
    /// Of a reading; `kept_back`: it did not come when it was heard.
    pub(crate) fn of(row: &Row, kept_back: bool) -> Self {
        let times = &row.reading.times;
        let (effective, received) = (times.effective.ms(), times.received.ms());
        let heard = match times.heard {
            Some(heard) if kept_back && heard.ms() <= received => heard.ms(),
            // A station whose clock is ahead of ours, or that has none.
            _ if kept_back => effective.min(received),
            _ => received,
        };
        Self { effective, heard, boot_epoch: row.reading.boot_epoch, seq: row.reading.seq }
    }

    /// Whether a reading is no older than what is known.
    pub(crate) fn is_news_after(&self, known: &Self) -> bool {
        let older = [
            self.effective.cmp(&known.effective),
            self.heard.cmp(&known.heard),
            self.counted(known),
        ];
        older.into_iter().filter(|of| *of == Ordering::Less).count() < 2
    }

    fn counted(&self, known: &Self) -> Ordering {
        match self.boot_epoch.cmp(&known.boot_epoch) {
            Ordering::Equal => {}
            other => return other,
        }
        // Where both would fit into one byte the counter may be one.
        let modulus: u64 = if self.seq.max(known.seq) < 256 { 256 } else { 65_536 };
        let ahead = self.seq.wrapping_sub(known.seq) % modulus;
        match ahead {
            0 => Ordering::Equal,
            ahead if ahead < modulus / 2 => Ordering::Greater,
            _ => Ordering::Less,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    fn place(effective: i64, heard: i64, seq: u64) -> Place {
        Place { effective, heard, boot_epoch: 1, seq }
    }

    #[test]
    fn one_wrong_witness_is_outvoted() {
        let known = place(1_000, 1_000, 10);
        // The clock was put back by eight hours; the counter began anew; the station's clock is behind.
        for news in
            [place(1_100 - 8 * HOUR, 1_100, 11), place(1_100, 1_100, 0), place(1_100, 900, 11)]
        {
            assert!(news.is_news_after(&known), "{news:?}");
        }
        // Live and overtaken; kept back; kept back by a station whose clock is ahead.
        for late in [place(900, 1_100, 9), place(900, 900, 9), place(900, 5_000, 9)] {
            assert!(!late.is_news_after(&known), "{late:?}");
        }
    }

    #[test]
    fn a_counter_that_wraps_goes_on() {
        for (before, after) in [(255, 0), (250, 3), (65_535, 0), (65_530, 4)] {
            assert!(place(0, 1, after).is_news_after(&place(1, 1, before)), "{before} {after}");
            assert!(!place(0, 1, before).is_news_after(&place(1, 1, after)), "{after} {before}");
        }
        let rebooted = Place { boot_epoch: 2, ..place(0, 1, 0) };
        assert!(rebooted.is_news_after(&place(1, 1, 200)));
    }
}
