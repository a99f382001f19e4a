//! Rows of any content, frames of them, and a store that a test drives step by step.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use loushan_schemas::field::{Field, FieldType};
use loushan_schemas::ids::{Imei, Region, StationId};
use loushan_schemas::kind::Kind;
use loushan_schemas::quality::{Quality, QualityReason};
use loushan_schemas::reading::{Body, Common, Reading, TimeSource, Times};
use loushan_schemas::row::Row;
use loushan_schemas::sample::arbitrary::Owned;
use loushan_schemas::time::{DeviceTime, ReceiveTime};
use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::*;

use super::super::flush::{FlushError, Flusher};
use super::super::{EmbeddedConfig, EmbeddedSink, Store};
use crate::io::Io;
use crate::io::sim::SimIo;
use crate::pipeline::frame::DurableFrame;
use crate::wal::LogId;

/// 2026-11-24 00:00 UTC.
pub(crate) const DAY: i64 = 1_795_478_400_000;
pub(super) const DAY_MS: i64 = 86_400_000;

/// So many cases of a property; the environment may ask for more.
pub(super) fn cases(n: u32) -> ProptestConfig {
    let asked = std::env::var_os("PROPTEST_CASES").map(|_| ProptestConfig::default().cases);
    ProptestConfig { max_shrink_iters: 2000, ..ProptestConfig::with_cases(asked.unwrap_or(n)) }
}

pub(super) fn log_id() -> LogId {
    LogId::from_bytes(*b"the log of tests")
}

pub(crate) fn imei(n: u64) -> Imei {
    Imei::from_body(86_000_000_000_000 + n)
}

fn field_value(field: &Field) -> BoxedStrategy<Option<Owned>> {
    let enum_number = prop_oneof![4 => 1..20_i32, 1 => any::<i32>()];
    let value = match field.ty {
        FieldType::Int => any::<i64>().prop_map(Owned::Int).boxed(),
        FieldType::Float => {
            use proptest::num::f64::{NEGATIVE, NORMAL, POSITIVE, SUBNORMAL, ZERO};
            (POSITIVE | NEGATIVE | NORMAL | SUBNORMAL | ZERO).prop_map(Owned::Float).boxed()
        }
        FieldType::Bool => any::<bool>().prop_map(Owned::Bool).boxed(),
        FieldType::Enum(_) => enum_number.prop_map(Owned::Enum).boxed(),
        FieldType::EnumList(_) => btree_set(enum_number, 1..6)
            .prop_map(|set| Owned::EnumList(set.into_iter().collect()))
            .boxed(),
        FieldType::IntList => vec(any::<i32>(), 1..25).prop_map(Owned::IntList).boxed(),
    };
    option::of(value).boxed()
}

fn values(fields: &'static [Field]) -> BoxedStrategy<Vec<Option<Owned>>> {
    fields.iter().map(field_value).collect::<Vec<_>>().boxed()
}

fn any_time() -> impl Strategy<Value = DeviceTime> {
    let max = 253_402_300_799_999_i64;
    let ms = prop_oneof![8 => DAY..DAY + 3 * DAY_MS, 1 => 0..=max, 1 => Just(max)];
    ms.prop_map(|ms| DeviceTime::from_ms(ms).unwrap())
}

/// A row of one of few devices, with any content.
pub(super) fn any_row(kind: Kind) -> BoxedStrategy<Row> {
    let identity = (0..6_u64, 0..3_u64, any::<u32>(), any::<u64>(), any::<u32>(), any::<u64>());
    let times = (option::of(any_time()), option::of(any_time()), any::<i64>(), any_time(), 1..4_u8);
    let verdict = (1..5_u8, option::of(1..13_u8), any::<bool>());
    (identity, times, verdict, values(kind.common_fields()), values(kind.fields()))
        .prop_map(move |(identity, times, verdict, commons, bodies)| {
            let mut common = Common::default();
            for (i, v) in commons.iter().enumerate() {
                v.iter().for_each(|v| common.set(i, v.value()).unwrap());
            }
            let mut body = Body::empty(kind);
            for (i, v) in bodies.iter().enumerate() {
                v.iter().for_each(|v| body.set(i, v.value()).unwrap());
            }
            let (device, station, boot_epoch, seq, session, batch_seq) = identity;
            let (quality, reason, replay) = verdict;
            Row {
                lsn: 0,
                region: Region::new(if station == 0 { "honghuagang" } else { "r1" }).unwrap(),
                station: StationId::new(&format!("bs{station:04}")).unwrap(),
                session,
                batch_seq,
                replay,
                reading: Reading {
                    imei: (kind != Kind::StationStatus).then(|| imei(device)),
                    boot_epoch,
                    seq,
                    times: Times {
                        measured: times.0,
                        heard: times.1,
                        received: ReceiveTime::from_ns(times.2 / 1000 * 1000),
                        effective: times.3,
                        source: TimeSource::from_number(times.4).unwrap(),
                    },
                    common,
                    body,
                    quality: Quality::from_number(quality).unwrap(),
                    reason: reason.and_then(QualityReason::from_number),
                },
            }
        })
        .boxed()
}

pub(super) fn any_kind() -> impl Strategy<Value = Kind> {
    proptest::sample::select(&Kind::ALL[..])
}

/// A plain row: device `n`'s reading number `seq`.
pub(crate) fn row(kind: Kind, n: u64, seq: u64, effective_ms: i64) -> Row {
    let time = DeviceTime::from_ms(effective_ms).unwrap();
    Row {
        lsn: 0,
        region: Region::new("r1").unwrap(),
        station: StationId::new(&format!("bs{:04}", n % 7)).unwrap(),
        session: 1,
        batch_seq: seq,
        replay: false,
        reading: Reading {
            imei: (kind != Kind::StationStatus).then(|| imei(n)),
            boot_epoch: 1,
            seq,
            times: Times {
                measured: Some(time),
                heard: None,
                received: ReceiveTime::from_ns(effective_ms * 1_000_000 + 5_000),
                effective: time,
                source: TimeSource::Measured,
            },
            common: Common::default(),
            body: Body::empty(kind),
            quality: Quality::Accepted,
            reason: None,
        },
    }
}

/// A frame of rows; their lsn becomes the frame's.
pub(super) fn frame(lsn: u64, mut rows: Vec<Row>) -> Arc<DurableFrame> {
    rows.iter_mut().for_each(|row| row.lsn = lsn);
    Arc::new(DurableFrame {
        lsn,
        received: ReceiveTime::from_ns(0),
        topic: "nb1/r1/bs0001/u/h".into(),
        payload: Bytes::new(),
        rows,
        rejects: Vec::new(),
        duplicates: 0,
    })
}

pub(super) fn rows_of(frames: &[Arc<DurableFrame>]) -> Vec<Row> {
    sorted(frames.iter().flat_map(|frame| frame.rows.clone()).collect())
}

/// In an order of their own, to compare sets.
pub(super) fn sorted(mut rows: Vec<Row>) -> Vec<Row> {
    rows.sort_by_cached_key(|row| (row.lsn, row.reading.digest(), format!("{row:?}")));
    rows
}

pub(super) fn exported(store: &Store, after: u64) -> Vec<Row> {
    let mut rows = Vec::new();
    store
        .export(after, &mut |row| {
            rows.push(row);
            ControlFlow::Continue(())
        })
        .unwrap();
    sorted(rows)
}

pub(super) fn dir() -> PathBuf {
    PathBuf::from("/data/store")
}

/// A store whose sink is the test.
pub(super) struct Driven {
    pub(super) store: Store,
    flusher: Flusher,
    /// What the flush begun last sets the cursor to.
    cursor: u64,
}

impl Driven {
    pub(super) fn open(io: impl Io) -> Self {
        Self::with(open(io).0)
    }

    pub(super) fn with(store: Store) -> Self {
        let flusher = Flusher::new(Arc::clone(&store.0));
        Self { store, flusher, cursor: 0 }
    }

    pub(super) fn push(&self, frames: &[Arc<DurableFrame>]) {
        let up_to = frames.last().map_or(0, |frame| frame.lsn);
        self.store.0.take(frames, up_to);
    }

    /// Flushes, or tries again what failed before.
    pub(super) fn flush(&mut self) -> Result<(), FlushError> {
        self.begin();
        self.finish()
    }

    pub(super) fn begin(&mut self) {
        if self.store.0.state.read().flushing.is_none() {
            self.cursor = self.store.0.begin_flush().1;
        }
    }

    pub(super) fn finish(&mut self) -> Result<(), FlushError> {
        let flushing = self.store.0.state.read().flushing.clone();
        flushing.map_or(Ok(()), |rows| self.flusher.flush(&rows, self.cursor))
    }
}

pub(super) fn open(io: impl Io) -> (Store, EmbeddedSink) {
    open_with(io, EmbeddedConfig::default())
}

pub(super) fn open_with(io: impl Io, config: EmbeddedConfig) -> (Store, EmbeddedSink) {
    Store::open(Arc::new(io), &dir(), config, log_id()).unwrap()
}

/// A store with these rows, each list a frame and a file of its own; the last stays in memory.
pub(crate) fn store_of(io: &SimIo, lists: Vec<Vec<Row>>) -> Store {
    let mut driven = Driven::open(io.clone());
    let last = lists.len();
    for (rows, lsn) in lists.into_iter().zip(1..) {
        driven.push(&[frame(lsn, rows)]);
        if lsn as usize != last {
            driven.flush().unwrap();
        }
    }
    driven.store
}
