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
/// Frames of a part that is never changed again. A reader takes the list of parts and copies less
/// than one: it holds the store's lock for microseconds, however much is in memory.
const PART_FRAMES: usize = 1024;

/// Frames in the order they came, in parts.
pub(super) type Frames = Vec<Arc<Vec<Arc<DurableFrame>>>>;

/// Rows in memory.
#[derive(Debug, Default)]
pub(super) struct Memtable {
    full: Frames,
    open: Vec<Arc<DurableFrame>>,
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
        let at = self.full.len() * PART_FRAMES + self.open.len();
        let at = u32::try_from(at).unwrap_or(u32::MAX);
        for (row, i) in frame.rows.iter().zip(0_u32..) {
            if let Some(imei) = row.reading.imei {
                self.by_device.entry(imei).or_default().push((at, i));
            }
        }
        self.rows += frame.rows.len() as u64;
        self.bytes += frame.memory_bytes() + frame.rows.len() * INDEX_BYTES_PER_ROW;
        self.open.push(Arc::clone(frame));
        if self.open.len() == PART_FRAMES {
            self.full.push(Arc::new(std::mem::take(&mut self.open)));
        }
    }

    /// What is in it now; it stays as it is while more comes.
    pub(super) fn snapshot(&self) -> Frames {
        let mut parts = Vec::with_capacity(self.full.len() + 1);
        parts.extend(self.full.iter().cloned());
        parts.push(Arc::new(self.open.clone()));
        parts
    }

    pub(super) fn frames(&self) -> impl Iterator<Item = &Arc<DurableFrame>> {
        self.full.iter().flat_map(|part| part.iter()).chain(&self.open)
    }

    pub(super) fn all_rows(&self) -> impl Iterator<Item = &Row> {
        self.frames().flat_map(|frame| &frame.rows)
    }

    /// A device's rows: the frames, and the places in them.
    pub(super) fn places_of(
        &self,
        imei: Imei,
    ) -> impl Iterator<Item = (Arc<DurableFrame>, usize)> + '_ {
        let places = self.by_device.get(&imei).into_iter().flatten();
        places.filter_map(|(frame, row)| {
            Some((Arc::clone(self.frame(*frame as usize)?), *row as usize))
        })
    }

    fn frame(&self, at: usize) -> Option<&Arc<DurableFrame>> {
        match self.full.get(at / PART_FRAMES) {
            Some(part) => part.get(at % PART_FRAMES),
            None => self.open.get(at % PART_FRAMES),
        }
    }

    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}
