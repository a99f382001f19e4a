//! Writing a memtable into files and committing them.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use loushan_schemas::ids::{Imei, StationId};
use loushan_schemas::kind::Kind;
use loushan_schemas::row::Row;
use loushan_schemas::time::DeviceTime;
use parquet::errors::ParquetError;

use super::block;
use super::manifest::{DAY_MS, Edit, FileEntry, partition_path};
use super::memtable::Memtable;
use super::schema::Table;
use super::store::Shared;
use super::write::{self, WaterInterval};
use crate::io::write_all_at;

/// A flush did not commit; its rows are where they were.
#[derive(Debug, thiserror::Error)]
pub(super) enum FlushError {
    #[error("{path}: {why}", path = path.display())]
    Io { path: PathBuf, why: io::Error },
    #[error("rows of {table} cannot be encoded: {why}")]
    Encode { table: Table, why: ParquetError },
}

/// Writes memtables into files, one at a time.
#[derive(Debug)]
pub(super) struct Flusher {
    shared: Arc<Shared>,
    /// Files of the memtable at hand that are durable while their commit failed. A crash might find
    /// their record or not, and they are right either way: the next try only commits, so that a
    /// full disk does not fill up with files of one memtable.
    written: Option<Vec<Arc<FileEntry>>>,
}

impl Flusher {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, written: None }
    }

    /// Stores the flushing memtable and moves the cursor, at once or not at all. After an error the
    /// same memtable must come again, until it is stored.
    pub(super) fn flush(&mut self, rows: &Memtable, cursor: u64) -> Result<(), FlushError> {
        let add = match self.written.take() {
            Some(written) => written,
            None => self.write_files(rows)?,
        };
        let edit = Edit {
            cursor,
            next_lsn: cursor.saturating_add(1),
            next_file: self.shared.next_file.load(Ordering::Relaxed),
            add,
            remove: Vec::new(),
        };
        if let Err(why) = self.shared.commit(&edit, true) {
            self.written = Some(edit.add);
            return Err(FlushError::Io { path: self.shared.dir.join(super::manifest::NAME), why });
        }
        Ok(())
    }

    /// Writes all files of a memtable, or leaves none.
    fn write_files(&self, memtable: &Memtable) -> Result<Vec<Arc<FileEntry>>, FlushError> {
        let mut written = Vec::new();
        let done = self.write_partitions(memtable, &mut written);
        if done.is_err() {
            // No record names them, and a full disk wants them gone now.
            written
                .iter()
                .for_each(|file| delete(&self.shared, &self.shared.dir.join(file.path())));
        }
        done.map(|()| written)
    }

    fn write_partitions(
        &self,
        memtable: &Memtable,
        written: &mut Vec<Arc<FileEntry>>,
    ) -> Result<(), FlushError> {
        let mut partitions: BTreeMap<(Kind, i64), Vec<&Row>> = BTreeMap::new();
        let mut intervals: BTreeMap<i64, BTreeMap<(Imei, DeviceTime), WaterInterval>> =
            BTreeMap::new();
        for row in memtable.all_rows() {
            let kind = row.reading.kind();
            let day = row.reading.times.effective.ms().div_euclid(DAY_MS);
            partitions.entry((kind, day)).or_default().push(row);
            for interval in write::intervals_of(row) {
                let day = interval.interval_end.ms().div_euclid(DAY_MS);
                let key = (interval.imei, interval.interval_end);
                // Rows come in rising order of lsn: the last word on an interval stands.
                intervals.entry(day).or_default().insert(key, interval);
            }
        }
        for ((kind, day), mut rows) in partitions {
            rows.sort_by(|a, b| order(a).cmp(&order(b)));
            let table = Table::Readings(kind);
            let bytes = write::encode_readings(kind, &rows)
                .map_err(|why| FlushError::Encode { table, why })?;
            let mut entry = entry(table, day, rows.iter().map(|row| row.lsn));
            for row in rows {
                let times = &row.reading.times;
                widen_ms(&mut entry, times.effective);
                if let Some(imei) = row.reading.imei {
                    FileEntry::widen(&mut entry.imei, imei.get());
                }
                match times.measured {
                    Some(measured) => FileEntry::widen(&mut entry.measured_ms, measured.ms()),
                    None => entry.unmeasured = true,
                }
            }
            self.write_file(entry, &bytes, written)?;
        }
        for (day, rows) in intervals {
            let rows: Vec<WaterInterval> = rows.into_values().collect();
            let table = Table::WaterInterval;
            let bytes =
                write::encode_intervals(&rows).map_err(|why| FlushError::Encode { table, why })?;
            let mut entry = entry(table, day, rows.iter().map(|row| row.lsn));
            for row in &rows {
                widen_ms(&mut entry, row.interval_end);
                FileEntry::widen(&mut entry.imei, row.imei.get());
            }
            self.write_file(entry, &bytes, written)?;
        }
        Ok(())
    }

    /// Makes a file and its name durable. `written` has it as soon as there may be something to
    /// delete.
    fn write_file(
        &self,
        mut entry: FileEntry,
        bytes: &[u8],
        written: &mut Vec<Arc<FileEntry>>,
    ) -> Result<(), FlushError> {
        entry.id = self.shared.next_file.fetch_add(1, Ordering::Relaxed);
        entry.bytes = bytes.len() as u64;
        entry.blocks = block::checksums(bytes);
        let folder = self.shared.dir.join(partition_path(entry.table, entry.day));
        let path = self.shared.dir.join(entry.path());
        written.push(Arc::new(entry));
        let aside = aside(&path);
        let io = &*self.shared.io;
        let manifest = self.shared.dir.join(super::manifest::NAME);
        let write = || {
            // Where the file system was taken away, the folders would be made in the bare mount point, and
            // what is written there hidden by the next mount: stored, and gone.
            if !io.exists(&manifest)? {
                let what = "the store's MANIFEST is not there: is its file system mounted?";
                return Err(std::io::Error::new(std::io::ErrorKind::NotFound, what));
            }
            io.create_dir_all(&folder)?;
            let file = io.create_new(&aside)?;
            write_all_at(&*file, bytes, 0)?;
            file.sync_data()?;
            drop(file);
            io.rename(&aside, &path)?;
            io.sync_dir(&folder)
        };
        write().map_err(|why| FlushError::Io { path: path.clone(), why })
    }
}

pub(super) fn aside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    PathBuf::from(name)
}

/// Deletes a file, wherever its writing had got to. What cannot be deleted now is at the next start.
pub(super) fn delete(shared: &Shared, path: &Path) {
    for path in [path.to_owned(), aside(path)] {
        if shared.io.exists(&path).unwrap_or(false)
            && let Err(e) = shared.io.remove_file(&path)
        {
            tracing::warn!(path = %path.display(), error = %e, "a stray file stays until the next start");
        }
    }
}

/// Device, then time; what follows makes the order, and so the bytes, the same every time.
pub(super) fn order(row: &Row) -> (Option<Imei>, Option<&StationId>, DeviceTime, u32, u64, u64) {
    let r = &row.reading;
    let station = r.imei.is_none().then_some(&row.station);
    (r.imei, station, r.times.effective, r.boot_epoch, r.seq, row.lsn)
}

fn entry(table: Table, day: i64, lsns: impl ExactSizeIterator<Item = u64>) -> FileEntry {
    let mut entry = FileEntry::new(0, table, day);
    entry.rows = lsns.len() as u64;
    for lsn in lsns {
        entry.min_lsn = entry.min_lsn.min(lsn);
        entry.max_lsn = entry.max_lsn.max(lsn);
    }
    entry
}

fn widen_ms(entry: &mut FileEntry, time: DeviceTime) {
    entry.min_ms = entry.min_ms.min(time.ms());
    entry.max_ms = entry.max_ms.max(time.ms());
}
