//! When a rising number passed certain values, thinned out as it goes: how a time is known of a frame
//! without keeping one for each.

use std::collections::VecDeque;

/// Marks at most: 96 KiB.
const MARKS: usize = 4096;

/// One of them.
#[derive(Debug)]
struct Mark {
    number: u64,
    at_ms: i64,
    /// When its first number was reached.
    since_ms: i64,
}

/// Marks in rising order.
#[derive(Debug)]
pub(super) struct Marks {
    marks: VecDeque<Mark>,
    step_ms: i64,
    /// What lies at or below was reached before anybody looked.
    begun: u64,
}

impl Marks {
    /// Marks that are at least `step_ms` apart, for numbers above `begun`.
    pub(super) const fn new(step_ms: i64) -> Self {
        Self { marks: VecDeque::new(), step_ms, begun: 0 }
    }

    /// Numbers up to here were reached before.
    pub(super) fn begin(&mut self, at: u64) {
        self.begun = at;
    }

    /// The number is reached, now.
    pub(super) fn note(&mut self, number: u64, now_ms: i64) {
        if number <= self.begun {
            return;
        }
        if let Some(last) = self.marks.back_mut() {
            if number <= last.number {
                return;
            }
            // Within a step the mark moves on: what it is told of is late by a step at most, and never
            // before it can have been.
            if now_ms - last.since_ms < self.step_ms {
                (last.number, last.at_ms) = (number, now_ms);
                return;
            }
        }
        if self.marks.len() >= MARKS
            && let Some(gone) = self.marks.pop_front()
        {
            self.begun = gone.number;
        }
        self.marks.push_back(Mark { number, at_ms: now_ms, since_ms: now_ms });
    }

    /// When the number was reached; `None` where it was not, or nobody remembers.
    pub(super) fn reached(&self, number: u64) -> Option<i64> {
        if number <= self.begun {
            return None;
        }
        let at = self.marks.partition_point(|mark| mark.number < number);
        self.marks.get(at).map(|mark| mark.at_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_was_reached_when_the_first_mark_at_or_above_it_was_set() {
        let mut marks = Marks::new(50);
        marks.begin(10);
        for (number, ms) in [(9, 0), (12, 100), (15, 120), (20, 200)] {
            marks.note(number, ms);
        }
        let reached: Vec<_> = [10, 11, 15, 16, 20, 21].map(|n| marks.reached(n)).to_vec();
        assert_eq!(reached, [None, Some(120), Some(120), Some(200), Some(200), None]);
    }

    #[test]
    fn the_oldest_marks_go_and_what_lies_below_them_is_not_known() {
        let mut marks = Marks::new(0);
        for n in 1..=u64::try_from(MARKS).unwrap() + 5 {
            marks.note(n, i64::try_from(n).unwrap());
        }
        assert_eq!((marks.reached(5), marks.reached(6)), (None, Some(6)));
    }
}
