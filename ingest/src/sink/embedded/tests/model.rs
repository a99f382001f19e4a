//! The store beside a list of rows: whatever is asked at whatever moment, both answer the same.

use std::ops::ControlFlow;
use std::sync::Arc;

use loushan_schemas::kind::Kind;
use loushan_schemas::row::Row;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::super::manifest::date_of;
use super::super::upkeep::Turn;
use super::super::{KindRetention, Position, RetentionConfig, retain};
use super::compaction::{config, keeper};
use super::support::{
    DAY, DAY_MS, Driven, any_kind, any_row, cases, exported, frame, imei, open, rows_of, sorted,
};
use crate::io::sim::{Failure, Fault, Op, PowerLoss, SimIo};
use crate::pipeline::frame::DurableFrame;

#[derive(Debug, Clone)]
enum Step {
    Push(Vec<Row>),
    BeginFlush,
    FinishFlush,
    FailingFlush(u8),
    Compact,
    FailingCompact(u8),
    Retain(Kind),
    Kill,
    PowerLoss(u64),
    History { device: u64, from: i64, len: i64, limit: usize },
    Latest { device: u64, before: i64 },
    Count { kind: Option<Kind>, from: i64, len: i64 },
    Export { after: Index },
    Contains { of: Index, change: u8 },
}

fn any_step() -> impl Strategy<Value = Step> {
    let from = || -> BoxedStrategy<i64> {
        prop_oneof![3 => DAY - DAY_MS..DAY + 3 * DAY_MS, 1 => Just(0), 1 => Just(DAY + DAY_MS)]
            .boxed()
    };
    let len = || prop_oneof![3 => 0..2 * DAY_MS, 1 => Just(i64::MAX / 4)];
    let rows = vec(any_kind().prop_flat_map(any_row), 0..8);
    prop_oneof![
        6 => rows.prop_map(Step::Push),
        2 => Just(Step::BeginFlush),
        3 => Just(Step::FinishFlush),
        1 => any::<u8>().prop_map(Step::FailingFlush),
        3 => Just(Step::Compact),
        1 => any::<u8>().prop_map(Step::FailingCompact),
        1 => any_kind().prop_map(Step::Retain),
        1 => Just(Step::Kill),
        1 => any::<u64>().prop_map(Step::PowerLoss),
        3 => (0..7_u64, from(), len(), 1..20_usize)
            .prop_map(|(device, from, len, limit)| Step::History { device, from, len, limit }),
        2 => (0..7_u64, prop_oneof![from(), Just(i64::MAX)])
            .prop_map(|(device, before)| Step::Latest { device, before }),
        3 => (proptest::option::of(any_kind()), from(), len())
            .prop_map(|(kind, from, len)| Step::Count { kind, from, len }),
        2 => any::<Index>().prop_map(|after| Step::Export { after }),
        3 => (any::<Index>(), 0..6_u8).prop_map(|(of, change)| Step::Contains { of, change }),
    ]
}

/// Opens again; the log brings back what lies above the cursor.
fn reopen(io: &SimIo, log: &[Arc<DurableFrame>]) -> Driven {
    let driven = Driven::with(open(io.clone()).0);
    let cursor = driven.store.cursor();
    let above: Vec<_> = log.iter().filter(|frame| frame.lsn > cursor).cloned().collect();
    driven.push(&above);
    driven
}

fn check(driven: &Driven, log: &[Arc<DurableFrame>], step: &Step) -> Result<(), TestCaseError> {
    let all = rows_of(log);
    let at = |row: &Row| row.reading.times.effective.ms();
    let store = &driven.store;
    match step {
        Step::History { device, from, len, limit } => {
            let to = from.saturating_add(*len);
            let found = store.history(imei(*device), *from, to, *limit).unwrap();
            let mut mine: Vec<Row> = all
                .into_iter()
                .filter(|row| row.reading.imei == Some(imei(*device)))
                .filter(|row| (*from..to).contains(&at(row)))
                .collect();
            mine.sort_by_key(at);
            prop_assert!(found.is_sorted_by_key(at));
            prop_assert_eq!(found.len(), mine.len().min(*limit));
            // Of rows of one time, a limit may keep any.
            let times: Vec<i64> = mine.iter().take(*limit).map(at).collect();
            prop_assert_eq!(found.iter().map(at).collect::<Vec<_>>(), times);
            prop_assert!(found.iter().all(|row| mine.contains(row)));
            if mine.len() <= *limit {
                prop_assert_eq!(sorted(found), sorted(mine));
            }
        }
        Step::Latest { device, before } => {
            let mine = all
                .into_iter()
                .filter(|row| row.reading.imei == Some(imei(*device)) && at(row) < *before)
                .max_by_key(Position::of);
            prop_assert_eq!(store.latest(imei(*device), *before).unwrap(), mine);
        }
        Step::Count { kind, from, len } => {
            let to = from.saturating_add(*len);
            let mine = all
                .iter()
                .filter(|row| kind.is_none_or(|kind| kind == row.reading.kind()))
                .filter(|row| (*from..to).contains(&at(row)))
                .count();
            prop_assert_eq!(store.count(*kind, *from, to).unwrap(), mine as u64);
        }
        Step::Export { after } => {
            let after = after.index(log.len() + 1) as u64 * 2;
            let mine: Vec<Row> = all.into_iter().filter(|row| row.lsn > after).collect();
            prop_assert_eq!(exported(store, after), mine);
        }
        Step::Contains { of, change } if !all.is_empty() => {
            let row = &all[of.index(all.len())];
            let r = &row.reading;
            let (mut seq, mut measured) = (r.seq, r.times.measured);
            match change {
                0 => seq ^= 1,
                1 => measured = measured.xor(loushan_schemas::time::DeviceTime::from_ms(DAY)),
                _ => {}
            }
            let same = |other: &&Row| {
                let o = &other.reading;
                (o.imei, o.seq, o.times.measured, o.kind()) == (r.imei, seq, measured, r.kind())
                    && match r.imei {
                        Some(_) => o.boot_epoch == r.boot_epoch,
                        None => (&other.station, other.session) == (&row.station, row.session),
                    }
            };
            let expected = all.iter().any(|other| same(&other));
            let found = match r.imei {
                Some(imei) => store.contains(imei, r.boot_epoch, seq, r.kind(), measured),
                None => store.contains_status(&row.station, row.session, seq, measured),
            };
            prop_assert_eq!(found.unwrap(), expected);
        }
        _ => {}
    }
    Ok(())
}

/// One failure on the way of a file, or of the manifest.
fn fault(how: u8) -> Fault {
    let ops = [Op::Create, Op::Write, Op::Sync, Op::SyncDir, Op::Rename];
    Fault {
        op: ops[usize::from(how) % ops.len()],
        path: if how.is_multiple_of(2) { "MANIFEST".to_owned() } else { String::new() },
        after: u64::from(how / 16) % 3,
        times: 1,
        failure: Failure::Errno(28),
    }
}

/// Removes a kind's days before the third one, from the store and from the list.
fn remove(driven: &Driven, kind: Kind, log: &mut [Arc<DurableFrame>]) {
    let limits = KindRetention { age: None, bytes: Some(0) };
    let config = RetentionConfig { bytes: None, kinds: [(kind, limits)].into() };
    let cursor = driven.store.cursor();
    let went = retain::run(&driven.store.0, &config, DAY + 2 * DAY_MS).unwrap();
    let gone = |row: &Row| {
        let day = date_of(row.reading.times.effective.ms().div_euclid(DAY_MS));
        // What is in memory is of no day yet.
        row.lsn <= cursor
            && went.iter().any(|went| (went.kind, &went.date) == (row.reading.kind(), &day))
    };
    for at in log {
        let rows = at.rows.iter().filter(|row| !gone(row)).cloned().collect();
        *at = frame(at.lsn, rows);
    }
}

proptest! {
    #![proptest_config(cases(64))]

    #[test]
    fn every_answer_is_that_of_a_list_of_the_rows(steps in vec(any_step(), 1..40)) {
        let mut io = SimIo::new();
        let mut driven = reopen(&io, &[]);
        let mut upkeep = keeper(&driven.store, &config());
        let mut log: Vec<Arc<DurableFrame>> = Vec::new();
        for step in &steps {
            match step {
                Step::Push(rows) => {
                    // Odd lsns do not come to this sink.
                    let frame = frame((log.len() as u64 + 1) * 2, rows.clone());
                    log.push(Arc::clone(&frame));
                    driven.push(&[frame]);
                }
                Step::BeginFlush => driven.begin(),
                Step::FinishFlush => {
                    driven.begin();
                    driven.finish().unwrap();
                }
                Step::FailingFlush(how) => {
                    io.inject(fault(*how));
                    driven.begin();
                    // Whether it fails or the fault was never met, no row may be lost or doubled.
                    let _either = driven.finish();
                    io.clear_faults();
                }
                Step::Compact => {
                    upkeep.turn();
                    driven.store.0.clear_graves();
                }
                Step::FailingCompact(how) => {
                    io.inject(fault(*how));
                    upkeep.turn();
                    driven.store.0.clear_graves();
                    io.clear_faults();
                }
                Step::Retain(kind) => remove(&driven, *kind, &mut log),
                Step::Kill => {
                    io = io.kill();
                    driven = reopen(&io, &log);
                    upkeep = keeper(&driven.store, &config());
                }
                Step::PowerLoss(seed) => {
                    let mode = if seed % 2 == 0 { PowerLoss::ForgetAll } else { PowerLoss::RandomPart };
                    io = io.power_loss(*seed, mode);
                    driven = reopen(&io, &log);
                    upkeep = keeper(&driven.store, &config());
                }
                question => check(&driven, &log, question)?,
            }
            let last = log.last().map_or(0, |frame| frame.lsn);
            prop_assert_eq!(driven.store.as_of_lsn(), last);
            prop_assert!(driven.store.cursor() <= last);
        }
        driven.flush().unwrap();
        prop_assert_eq!(exported(&driven.store, 0), rows_of(&log));
        driven.flush().unwrap();
        prop_assert_eq!(driven.store.stats().memory_rows, 0);
        while upkeep.turn() == Turn::Again {}
        prop_assert_eq!(exported(&driven.store, 0), rows_of(&log));
    }
}

#[test]
fn an_export_ends_where_it_is_told_to() {
    let mut driven = Driven::open(SimIo::new());
    let rows = |seq| super::support::row(Kind::Water, seq, seq, DAY);
    driven.push(&[frame(1, (0..10).map(rows).collect())]);
    driven.flush().unwrap();
    driven.push(&[frame(2, (10..20).map(rows).collect())]);
    for wanted in [1, 10, 11] {
        let mut given = 0;
        let as_of = driven.store.export(0, &mut |_| {
            given += 1;
            if given == wanted { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert_eq!((given, as_of.unwrap()), (wanted, 2));
    }
}
