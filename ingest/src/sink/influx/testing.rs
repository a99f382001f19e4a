//! For tests: frames that are given out when a test says so, and rows with every field filled.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use loushan_schemas::field::{Field, FieldType, Value};
use loushan_schemas::ids::{Imei, Region, StationId};
use loushan_schemas::kind::Kind;
use loushan_schemas::quality::{Quality, QualityReason};
use loushan_schemas::reading::{Body, Common, Reading, TimeSource, Times};
use loushan_schemas::row::Row;
use loushan_schemas::time::{DeviceTime, ReceiveTime};
use tokio::sync::watch;

use crate::pipeline::frame::{DurableFrame, Reject};
use crate::sink::{Fed, FeedError, FrameSource};

#[derive(Debug, Default)]
struct State {
    frames: Vec<Arc<DurableFrame>>,
    up_to: u64,
    closed: bool,
}

/// A log in memory: every source taken from it gives out the same frames.
#[derive(Debug, Clone)]
pub struct TestLog(watch::Sender<State>);

impl Default for TestLog {
    fn default() -> Self {
        Self(watch::Sender::new(State::default()))
    }
}

impl TestLog {
    /// Adds a frame.
    pub fn push(&self, frame: DurableFrame) {
        self.0.send_modify(|state| {
            state.up_to = state.up_to.max(frame.lsn);
            state.frames.push(Arc::new(frame));
        });
    }

    /// Everything up to `lsn` is durable, whether or not there are frames.
    pub fn up_to(&self, lsn: u64) {
        self.0.send_modify(|state| state.up_to = state.up_to.max(lsn));
    }

    /// The service stops.
    pub fn close(&self) {
        self.0.send_modify(|state| state.closed = true);
    }

    /// A source of these frames.
    #[must_use]
    pub fn source(&self) -> Box<dyn FrameSource> {
        Box::new(TestSource(self.0.subscribe()))
    }
}

struct TestSource(watch::Receiver<State>);

impl TestSource {
    fn take(&mut self, after: u64, max_bytes: usize) -> Option<Fed> {
        let state = self.0.borrow_and_update();
        let mut frames = Vec::new();
        let mut bytes = 0;
        let mut up_to = state.up_to;
        for frame in state.frames.iter().filter(|f| f.lsn > after) {
            bytes += frame.memory_bytes();
            if !frames.is_empty() && bytes > max_bytes {
                up_to = frames.last().map_or(after, |f: &Arc<DurableFrame>| f.lsn);
                break;
            }
            frames.push(Arc::clone(frame));
        }
        if up_to > after {
            Some(Fed::Frames { frames, up_to })
        } else {
            state.closed.then_some(Fed::Closed)
        }
    }
}

impl FrameSource for TestSource {
    fn next(
        &mut self,
        after: u64,
        max_bytes: usize,
        wait: Duration,
    ) -> Pin<Box<dyn Future<Output = Result<Fed, FeedError>> + Send + '_>> {
        Box::pin(async move {
            let nothing = Fed::Frames { frames: Vec::new(), up_to: after };
            let deadline = tokio::time::Instant::now() + wait;
            loop {
                if let Some(fed) = self.take(after, max_bytes) {
                    return Ok(fed);
                }
                match tokio::time::timeout_at(deadline, self.0.changed()).await {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => return Ok(Fed::Closed),
                    Err(_) => return Ok(nothing),
                }
            }
        })
    }
}

/// A frame that brought these rows, each given the frame's lsn.
#[must_use]
pub fn frame(lsn: u64, mut rows: Vec<Row>) -> DurableFrame {
    for row in &mut rows {
        row.lsn = lsn;
    }
    DurableFrame {
        lsn,
        received: ReceiveTime::from_ns(1_750_000_000_000_000_000 + i64::try_from(lsn).unwrap_or(0)),
        topic: Arc::from("nb1/honghuagang/bs0001/u/t"),
        payload: Bytes::from_static(b"payload"),
        rows,
        rejects: Vec::new(),
        duplicates: 0,
    }
}

/// A batch of these rows, all of one frame.
#[cfg(test)]
pub(super) fn batch(rows: Vec<Row>) -> super::batch::Batch {
    let limits = super::batch::Limits { readings: 1, bytes: 1, age: Duration::ZERO };
    let mut held = super::batch::Held::new(limits);
    held.add(&[Arc::new(frame(1, rows))], 1, tokio::time::Instant::now());
    held.pop().unwrap_or_else(|| unreachable!("there are rows"))
}

/// A frame from which something was rejected.
#[must_use]
pub fn rejected(lsn: u64, topic: &str, payload: &[u8], rejects: Vec<Reject>) -> DurableFrame {
    let payload = Bytes::copy_from_slice(payload);
    DurableFrame { topic: Arc::from(topic), payload, rejects, ..frame(lsn, Vec::new()) }
}

/// The `n`th row of a kind, every field filled, and no two alike.
#[must_use]
pub fn row(kind: Kind, n: u32) -> Row {
    let at = 1_750_000_000_000 + i64::from(n) * 60_000;
    let effective = DeviceTime::from_ms(at).unwrap_or_else(|| unreachable!("n ends before 9999"));
    let region = Region::new("honghuagang");
    let station = StationId::new(&format!("bs{:04}", n % 500));
    let mut common = Common::default();
    for (i, field) in kind.common_fields().iter().enumerate() {
        with_value(field, n, i, |v| common.set(i, v).is_ok());
    }
    let mut body = Body::empty(kind);
    for (i, field) in kind.fields().iter().enumerate() {
        with_value(field, n, i + 20, |v| body.set(i, v).is_ok());
    }
    if let Body::Water(water) = &mut body {
        water.history_first_end_s = Some(-7200);
        water.history_interval_s = Some(3600);
    }
    let device = u64::from(kind.number()) * 1_000_000 + u64::from(n % 100);
    Row {
        lsn: 0,
        region: region.unwrap_or_else(|_| unreachable!("a region's name")),
        station: station.unwrap_or_else(|_| unreachable!("a station's name")),
        session: 7,
        batch_seq: u64::from(n),
        replay: false,
        reading: Reading {
            imei: (kind != Kind::StationStatus)
                .then(|| Imei::from_body(35_000_000_000_000 + device)),
            boot_epoch: 3,
            seq: u64::from(n),
            times: Times {
                measured: Some(effective),
                heard: DeviceTime::from_ms(at + 1500),
                received: ReceiveTime::from_ns((at + 2000) * 1_000_000),
                effective,
                source: TimeSource::Measured,
            },
            common,
            body,
            quality: if n.is_multiple_of(5) { Quality::Suspicious } else { Quality::Accepted },
            reason: n.is_multiple_of(5).then_some(QualityReason::OverRange),
        },
    }
}

/// Sets a value that differs from row to row and from field to field.
fn with_value(field: &Field, n: u32, position: usize, set: impl FnOnce(Value<'_>) -> bool) {
    let n = i32::try_from(n as usize % 1000 + position).unwrap_or(0);
    let fits = match field.ty {
        FieldType::Int => set(Value::Int(i64::from(n) + 1)),
        FieldType::Float => set(Value::Float(f64::from(n) / 4.0 + 0.1)),
        FieldType::Bool => set(Value::Bool(n % 2 == 0)),
        FieldType::Enum(table) => {
            let known = i32::try_from(table.values.len()).unwrap_or(1).max(1);
            set(Value::Enum(n % known + 1))
        }
        FieldType::EnumList(_) => set(Value::EnumList(&[1, 3])),
        FieldType::IntList => set(Value::IntList(&[n, n + 1, n + 2])),
    };
    debug_assert!(fits, "the field's own type");
}
