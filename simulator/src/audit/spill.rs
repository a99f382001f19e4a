//! Records of one size on disk, in partitions: what does not fit into memory, sorted into heaps
//! that do.
//!
//! The files are in a temporary folder that goes with the audit. Buffers of all partitions together
//! are bounded: when they are full all are appended to their files. No file stays open, so there may
//! be as many partitions as there must.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use super::AuditError;

/// Heaps of records of `N` bytes.
#[derive(Debug)]
pub(super) struct Spill<const N: usize> {
    dir: PathBuf,
    name: String,
    heaps: Vec<Heap>,
    buffered: usize,
    budget: usize,
}

#[derive(Debug, Default)]
struct Heap {
    buffer: Vec<u8>,
    records: u64,
}

impl<const N: usize> Spill<N> {
    /// Heaps below `dir`, none of them yet; `budget` bounds the bytes of the buffers.
    pub(super) fn new(dir: &Path, name: impl Into<String>, budget: usize) -> Self {
        Self { dir: dir.to_owned(), name: name.into(), heaps: Vec::new(), buffered: 0, budget }
    }

    /// Heaps beside these, for one of them in parts.
    pub(super) fn finer(&self, divisor: u128, budget: usize) -> Self {
        Self::new(&self.dir, format!("{}-{divisor}", self.name), budget)
    }

    fn path(&self, heap: usize) -> PathBuf {
        self.dir.join(format!("{}.{heap}", self.name))
    }

    fn failed(path: PathBuf) -> impl FnOnce(io::Error) -> AuditError {
        move |source| AuditError::Temporary { path, source }
    }

    /// Puts a record on a heap.
    pub(super) fn put(&mut self, heap: usize, record: &[u8; N]) -> Result<(), AuditError> {
        if heap >= self.heaps.len() {
            self.heaps.resize_with(heap + 1, Heap::default);
        }
        let Some(at) = self.heaps.get_mut(heap) else { return Ok(()) };
        at.buffer.extend_from_slice(record);
        at.records += 1;
        self.buffered += N;
        if self.buffered >= self.budget { self.write_all() } else { Ok(()) }
    }

    /// Brings all buffers to their files and gives their memory back.
    pub(super) fn write_all(&mut self) -> Result<(), AuditError> {
        for number in 0..self.heaps.len() {
            let path = self.path(number);
            let Some(heap) = self.heaps.get_mut(number) else { continue };
            let buffer = std::mem::take(&mut heap.buffer);
            if !buffer.is_empty() {
                let append =
                    || OpenOptions::new().create(true).append(true).open(&path)?.write_all(&buffer);
                append().map_err(Self::failed(path.clone()))?;
            }
        }
        self.buffered = 0;
        Ok(())
    }

    /// Records on a heap.
    pub(super) fn records(&self, heap: usize) -> u64 {
        self.heaps.get(heap).map_or(0, |heap| heap.records)
    }

    /// Bytes of a heap.
    pub(super) fn bytes(&self, heap: usize) -> u64 {
        self.records(heap) * N as u64
    }

    /// Heaps there are.
    pub(super) const fn len(&self) -> usize {
        self.heaps.len()
    }

    /// Takes a heap away, record by record in the order they were put.
    pub(super) fn take(
        &mut self,
        heap: usize,
        mut each: impl FnMut(&[u8; N]) -> Result<(), AuditError>,
    ) -> Result<(), AuditError> {
        let path = self.path(heap);
        let Some(taken) = self.heaps.get_mut(heap).map(std::mem::take) else { return Ok(()) };
        let buffered = (taken.buffer.len() / N) as u64;
        self.buffered = self.buffered.saturating_sub(taken.buffer.len());
        if taken.records > buffered {
            let file = File::open(&path).map_err(Self::failed(path.clone()))?;
            let mut reader = BufReader::with_capacity(256 * 1024, file);
            let mut record = [0; N];
            for _ in buffered..taken.records {
                reader.read_exact(&mut record).map_err(Self::failed(path.clone()))?;
                each(&record)?;
            }
            fs::remove_file(&path).map_err(Self::failed(path))?;
        }
        let (records, _) = taken.buffer.as_chunks::<N>();
        records.iter().try_for_each(each)
    }
}

/// Puts fixed pieces into a record, and takes them out in the same order.
#[derive(Debug)]
pub(super) struct Packed<const N: usize> {
    pub(super) bytes: [u8; N],
    at: usize,
}

impl<const N: usize> Packed<N> {
    pub(super) const fn new() -> Self {
        Self { bytes: [0; N], at: 0 }
    }

    pub(super) const fn of(bytes: &[u8; N]) -> Self {
        Self { bytes: *bytes, at: 0 }
    }

    pub(super) fn put<const M: usize>(mut self, piece: [u8; M]) -> Self {
        // The records' sizes are the sums of their pieces.
        if let Some(place) = self.bytes.get_mut(self.at..self.at + M) {
            place.copy_from_slice(&piece);
        }
        self.at += M;
        self
    }

    pub(super) fn get<const M: usize>(&mut self) -> [u8; M] {
        let piece = self.bytes.get(self.at..self.at + M).and_then(|piece| piece.try_into().ok());
        self.at += M;
        piece.unwrap_or([0; M])
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn heaps_give_back_what_was_put_in_its_order_whether_it_fitted_or_not() {
        let folder = tempfile::tempdir().unwrap();
        for budget in [1, 40, 1 << 20] {
            let mut spill = Spill::<8>::new(folder.path(), format!("s{budget}"), budget);
            for n in 0_u64..100 {
                spill.put(usize::try_from(n % 3).unwrap(), &n.to_le_bytes()).unwrap();
            }
            assert_eq!((spill.len(), spill.records(0), spill.bytes(1)), (3, 34, 33 * 8));
            for heap in 0..3 {
                let mut found = Vec::new();
                let mut each = |record: &[u8; 8]| {
                    found.push(u64::from_le_bytes(*record));
                    Ok(())
                };
                spill.take(heap, &mut each).unwrap();
                spill.take(heap, &mut each).unwrap();
                let wanted: Vec<u64> = (0..100).filter(|n| n % 3 == heap as u64).collect();
                assert_eq!(found, wanted);
            }
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "budget {budget}");
        }
    }
}
