//! A part of a batch that is sent in one request, and how it is divided when that is refused.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;

use super::answer::NamedLine;
use super::batch::Batch;

/// What a server says of a reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NamedUnit {
    /// Its words for it, if it has any of its own.
    pub(super) words: String,
    /// It repeated the line: it means this point, however it counts.
    pub(super) repeated: bool,
}

/// Measurement with tags, and time: a point's key. Servers that repeat a line may write its fields in a
/// way of their own. No tag of ours has a space in it.
fn key(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut words = line.trim_ascii_end().split(|byte| *byte == b' ');
    Some((words.next()?, words.next_back()?))
}

/// Readings of a batch, in its order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    /// In rising order, none empty.
    ranges: Vec<Range<usize>>,
    /// All of it was named by the server as wrong.
    pub(super) suspects: bool,
}

impl Piece {
    /// The whole batch.
    pub(super) fn whole(batch: &Batch) -> Self {
        Self { ranges: std::iter::once(0..batch.len()).collect(), suspects: false }
    }

    /// How many readings it has.
    pub(super) fn len(&self) -> usize {
        self.ranges.iter().map(ExactSizeIterator::len).sum()
    }

    /// Their positions in the batch.
    pub(super) fn units(&self) -> impl Iterator<Item = usize> + '_ {
        self.ranges.iter().cloned().flatten()
    }

    /// Their lines; copied only where they do not lie together.
    pub(super) fn lines(&self, batch: &Batch) -> Bytes {
        match self.ranges.as_slice() {
            [range] => batch.lines(range),
            ranges => {
                let parts: Vec<Bytes> = ranges.iter().map(|range| batch.lines(range)).collect();
                parts.concat().into()
            }
        }
    }

    /// Both halves; the second is empty where there is one reading.
    pub(super) fn halves(self) -> (Self, Self) {
        let mut room = self.len().div_ceil(2);
        let (mut first, mut second) = (Vec::new(), Vec::new());
        for range in self.ranges {
            let middle = range.start + range.len().min(room);
            room -= middle - range.start;
            for (half, part) in
                [(&mut first, range.start..middle), (&mut second, middle..range.end)]
            {
                if !part.is_empty() {
                    half.push(part);
                }
            }
        }
        let suspects = self.suspects;
        (Self { ranges: first, suspects }, Self { ranges: second, suspects })
    }

    /// Its readings that have one of these lines (counted from 0 in this piece's own lines).
    pub(super) fn named(
        &self,
        batch: &Batch,
        lines: &BTreeMap<usize, NamedLine>,
    ) -> BTreeMap<usize, NamedUnit> {
        let mut named = BTreeMap::new();
        if lines.is_empty() {
            return named;
        }
        let mut number = 0;
        for unit in self.units() {
            let of_unit = batch.lines(&(unit..unit + 1));
            for line in of_unit.split_inclusive(|byte| *byte == b'\n') {
                if let Some(said) = lines.get(&number) {
                    let repeated = key(said.repeated.as_bytes()) == key(line);
                    let unit = named.entry(unit).or_insert_with(|| NamedUnit {
                        words: said.words.clone(),
                        repeated: false,
                    });
                    unit.repeated |= repeated;
                }
                number += 1;
            }
        }
        named
    }

    /// Those that were named, and the others.
    pub(super) fn divided(&self, named: &BTreeMap<usize, NamedUnit>) -> (Self, Self) {
        let (mut suspects, mut rest) = (Vec::new(), Vec::new());
        for unit in self.units() {
            let ranges: &mut Vec<Range<usize>> =
                if named.contains_key(&unit) { &mut suspects } else { &mut rest };
            match ranges.last_mut() {
                Some(last) if last.end == unit => last.end = unit + 1,
                _ => ranges.push(unit..unit + 1),
            }
        }
        (Self { ranges: suspects, suspects: true }, Self { ranges: rest, suspects: false })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use loushan_schemas::kind::Kind;
    use proptest::prelude::*;

    use super::*;
    use crate::sink::influx::testing::{batch, row};

    #[test]
    fn a_line_of_a_reading_with_several_names_the_reading() {
        let batch = batch(vec![row(Kind::Smoke, 1), row(Kind::Water, 2), row(Kind::Smoke, 3)]);
        // A water meter's own line, and one for each hour of its history.
        let all = batch.lines(&(0..3));
        let lines = all.iter().filter(|byte| **byte == b'\n').count();
        assert_eq!(lines, 6);
        let texts: Vec<_> = std::str::from_utf8(&all).unwrap().lines().collect();
        for line in 0..lines {
            let unit = match line {
                0 => 0,
                1..=4 => 1,
                _ => 2,
            };
            let other = texts[if unit == 0 { 5 } else { 0 }];
            let cut = texts[line].get(..60).unwrap();
            let own_way = texts[line].replace('"', "");
            for (repeats, certain) in
                [("", false), (cut, false), (other, false), (texts[line], true), (&own_way, true)]
            {
                let said = NamedLine { words: "w".into(), repeated: repeats.into() };
                let named = Piece::whole(&batch).named(&batch, &BTreeMap::from([(line, said)]));
                let expected = NamedUnit { words: "w".into(), repeated: certain };
                assert_eq!(named, BTreeMap::from([(unit, expected)]), "line {line} {repeats}");
            }
        }
        let said = NamedLine::default();
        let beyond = BTreeMap::from([(lines, said.clone()), (usize::MAX, said)]);
        assert!(Piece::whole(&batch).named(&batch, &beyond).is_empty());
    }

    proptest! {
        #[test]
        fn however_a_piece_is_divided_no_reading_is_lost_or_doubled(
            count in 1..60_u32,
            named in proptest::collection::btree_set(0..60_usize, 0..20),
        ) {
            let batch = batch((0..count).map(|n| row(Kind::Smoke, n)).collect());
            let said = NamedUnit { words: String::new(), repeated: false };
            let named = named.into_iter().map(|unit| (unit, said.clone())).collect();
            let (suspects, rest) = Piece::whole(&batch).divided(&named);
            let mut all: Vec<usize> = Vec::new();
            for part in [suspects, rest] {
                let units: Vec<usize> = part.units().collect();
                prop_assert_eq!(units.len(), part.len());
                prop_assert!(units.iter().all(|unit| named.contains_key(unit) == part.suspects));
                let lines: Vec<Bytes> = units.iter().map(|u| batch.lines(&(*u..u + 1))).collect();
                prop_assert_eq!(lines.concat(), part.lines(&batch));
                let (first, second) = part.clone().halves();
                prop_assert!(first.len() - second.len() <= 1);
                let halves: Vec<usize> = first.units().chain(second.units()).collect();
                prop_assert_eq!(&halves, &units);
                all.extend(units);
            }
            all.sort_unstable();
            prop_assert_eq!(all, (0..count as usize).collect::<Vec<_>>());
        }
    }
}
