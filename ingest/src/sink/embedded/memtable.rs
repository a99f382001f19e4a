//! What the sink was given and no file has yet.
//!
//! The frames themselves are kept, as they came: nothing is copied, and a reader that wants all of
//! it takes a list of references. One device's rows are found through an index.

use std::collections::HashMap;
use std::sync::Arc;

use loushan_schemas::ids::Imei;
use loushan_schemas::row::Row;

use crate::pipeline::frame::DurableFrame;

/// Bytes of the index and of the list per row, roughly.
const INDEX_BYTES_PER_ROW: usize = 24;

/// Rows in memory.
#[derive(Debug, Default)]
pub(super) struct Memtable {
    frames: Vec<Arc<DurableFrame>>,
    /// Frame and row of each of a device's rows.
    by_device: HashMap<Imei, Vec<(u32, u32)>>,
    rows: u64,
    bytes: usize,
}

impl Memtable {
    /// Takes a frame. One without rows is not kept.
    pub(super) fn push(&mut self, frame: &Arc<DurableFrame>) {
        if frame.rows.is_empty() {
            return;
        }
        // A table holds at most as many frames as its bound in bytes allows: far below 2^32.
        let at = u32::try_from(self.frames.len()).unwrap_or(u32::MAX);
        for (row, i) in frame.rows.iter().zip(0_u32..) {
            if let Some(imei) = row.reading.imei {
                self.by_device.entry(imei).or_default().push((at, i));
            }
        }
        self.rows += frame.rows.len() as u64;
        self.bytes += frame.memory_bytes() + frame.rows.len() * INDEX_BYTES_PER_ROW;
        self.frames.push(Arc::clone(frame));
    }

    pub(super) fn frames(&self) -> &[Arc<DurableFrame>] {
        &self.frames
    }

    pub(super) fn all_rows(&self) -> impl Iterator<Item = &Row> {
        self.frames.iter().flat_map(|frame| &frame.rows)
    }

    pub(super) fn rows_of(&self, imei: Imei) -> impl Iterator<Item = &Row> {
        let places = self.by_device.get(&imei).into_iter().flatten();
        places.filter_map(|(frame, row)| self.frames.get(*frame as usize)?.rows.get(*row as usize))
    }

    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}
