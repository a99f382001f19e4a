//! Many small files of a day into few large ones, in the background.
//!
//! One step takes some files of one partition (`plan`), merges their rows in the order that a flush
//! sorts by (`merge`), writes them aside, syncs and renames them as a flush does, and then **one
//! record of the manifest** adds what was written and takes out what was merged; the cursor is not
//! touched. Before that record the new files are strays, after it the old ones are: wherever a crash
//! comes, every row is in exactly one file of the store. Rows that wait in memory are not looked at,
//! so flushes and steps commit in any order.
//!
//! # What is never done
//! * Nothing is changed but by that record: a step that ends otherwise leaves the store as it was.
//! * A file with a wrong checksum, with rows out of order or with a column that a newer program wrote
//!   is not merged and not removed; it is reported and stays where it is.
//! * No row is dropped, but of `water_interval`, where the row with the greatest lsn is the last word
//!   on an interval. If the numbers of rows do not agree, the step is undone.
//! * No bytes are written that the log's disk floor needs.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow_array::RecordBatch;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader,
    ParquetRecordBatchReaderBuilder,
};

use super::QueryError;
use super::block::BlockFile;
use super::flush::{aside, delete};
use super::manifest::{Edit, FileEntry, partition_path};
use super::schema::{Purpose, Table};
use super::store::Shared;
use super::write::{TableWriter, WriteError};
use crate::io::IoFile;

mod extent;
pub(super) mod merge;
pub(super) mod plan;

use merge::{Merge, MergeError, Why};
use plan::Job;

/// Rows of a stream decoded at once.
const ROWS_IN: usize = 4096;
/// Bytes written between two syncs. The log syncs on the same disk and would wait for all that is
/// dirty; a hundred megabytes at once would be seen in the acknowledgements.
const SYNC_EVERY: u64 = 4 << 20;
/// Batches written between two looks at the free disk.
const LOOK_EVERY: u64 = 64;

/// What a step is run with.
pub(super) struct Leave<'a> {
    /// Free disk that stays free.
    pub(super) floor_bytes: u64,
    /// Called between batches; `false` ends the step.
    pub(super) go_on: &'a mut dyn FnMut() -> bool,
}

/// What a step did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Done {
    pub(super) files_in: u64,
    pub(super) files_out: u64,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    pub(super) rows_in: u64,
    pub(super) rows_out: u64,
}

/// A step was not taken; the store is as it was.
#[derive(Debug, thiserror::Error)]
pub(super) enum CompactError {
    #[error("it was told to stop")]
    Stopped,
    #[error("merging needs {needed} bytes above the disk's floor, {free} are free")]
    NoRoom { needed: u64, free: u64 },
    /// Another change took a file first.
    #[error("a file was taken out meanwhile")]
    Overtaken,
    /// This file cannot be read now.
    #[error("{path}: {why}", path = path.display())]
    Unread { id: u64, path: PathBuf, why: std::io::Error },
    /// This file must be left alone.
    #[error("{path}: {why}", path = path.display())]
    LeaveAlone { id: u64, path: PathBuf, why: String },
    #[error("{path}: {why}", path = path.display())]
    Io { path: PathBuf, why: std::io::Error },
    #[error("{table}: {rows_in} rows would have become {rows_out}; nothing was changed")]
    Rows { table: Table, rows_in: u64, rows_out: u64 },
    #[error("{path}: rows cannot be encoded: {why}", path = path.display())]
    Encode { path: PathBuf, why: parquet::errors::ParquetError },
    /// The files are written, and a crash might find their record or not. To be committed again.
    #[error("the manifest: {why}")]
    Commit { edit: Box<Edit>, done: Done, why: std::io::Error },
}

/// Takes a step.
pub(super) fn run(shared: &Shared, job: &Job, leave: &mut Leave<'_>) -> Result<Done, CompactError> {
    room(shared, job.bytes(), leave.floor_bytes)?;
    let mut written = Vec::new();
    let mut step = Step { shared, job, written: &mut written, rows_out: 0 };
    let done = match step.write(leave) {
        Ok(done) => done,
        Err(e) => {
            discard(shared, &written);
            return Err(e);
        }
    };
    let edit = Edit {
        next_file: shared.next_file.load(Ordering::Relaxed),
        add: written.into_iter().map(Arc::new).collect(),
        remove: job.inputs.iter().map(|file| file.id).collect(),
        ..Edit::default()
    };
    commit(shared, edit, done)
}

/// Commits what was written, for the first time or again.
pub(super) fn commit(shared: &Shared, edit: Edit, done: Done) -> Result<Done, CompactError> {
    match shared.replace(&edit) {
        Ok(true) => Ok(done),
        // Nothing that was committed, or may have been, names them: a change that came between has
        // written the whole manifest anew, if the commit before had failed.
        Ok(false) => {
            let added: Vec<FileEntry> = edit.add.iter().map(|file| (**file).clone()).collect();
            discard(shared, &added);
            Err(CompactError::Overtaken)
        }
        Err(why) => Err(CompactError::Commit { edit: Box::new(edit), done, why }),
    }
}

fn discard(shared: &Shared, written: &[FileEntry]) {
    written.iter().for_each(|file| delete(shared, &shared.dir.join(file.path())));
}

fn room(shared: &Shared, needed: u64, floor: u64) -> Result<(), CompactError> {
    let failed = |why| CompactError::Io { path: shared.dir.clone(), why };
    let free = shared.io.free_bytes(&shared.dir).map_err(failed)?;
    let needed = needed.saturating_add(floor);
    if free < needed { Err(CompactError::NoRoom { needed, free }) } else { Ok(()) }
}

/// A step under way.
struct Step<'a> {
    shared: &'a Shared,
    job: &'a Job,
    /// What must be deleted if the step is not committed.
    written: &'a mut Vec<FileEntry>,
    rows_out: u64,
}

impl Step<'_> {
    fn write(&mut self, leave: &mut Leave<'_>) -> Result<Done, CompactError> {
        let table = self.job.partition.0;
        let inputs = &self.job.inputs;
        let streams = inputs.iter().map(|file| self.open(file)).collect::<Result<Vec<_>, _>>()?;
        let mut merge = Merge::new(table, streams).map_err(|e| self.unmerged(e))?;
        let mut to_device = false;
        let mut output: Option<TableWriter> = None;
        for batches in 1_u64.. {
            if !(leave.go_on)() {
                return Err(CompactError::Stopped);
            }
            if batches.is_multiple_of(LOOK_EVERY) {
                room(self.shared, 0, leave.floor_bytes)?;
            }
            let merged = merge.next(to_device).map_err(|e| self.unmerged(e))?;
            if let Some(batch) = merged.batch {
                let writer = match &mut output {
                    Some(writer) => writer,
                    None => output.insert(self.begin()?),
                };
                writer.write(&batch).map_err(|e| self.unwritten(e))?;
                if let Some(entry) = self.written.last_mut() {
                    extent::widen(entry, &batch);
                }
            }
            to_device = output
                .as_ref()
                .is_some_and(|writer| writer.bytes_written() as u64 >= self.job.part_bytes);
            if (merged.at_end || (to_device && merged.at_device))
                && let Some(writer) = output.take()
            {
                self.end(writer)?;
                to_device = false;
            }
            if merged.at_end {
                break;
            }
        }
        let done = Done {
            files_in: inputs.len() as u64,
            files_out: self.written.len() as u64,
            bytes_in: self.job.bytes(),
            bytes_out: self.written.iter().map(|file| file.bytes).sum(),
            rows_in: inputs.iter().map(|file| file.rows).sum(),
            rows_out: self.rows_out,
        };
        let right = match table {
            Table::Readings(_) => done.rows_out == done.rows_in,
            Table::WaterInterval => done.rows_out > 0 && done.rows_out <= done.rows_in,
        };
        match right {
            true => Ok(done),
            false => {
                Err(CompactError::Rows { table, rows_in: done.rows_in, rows_out: done.rows_out })
            }
        }
    }

    fn path(&self, file: &FileEntry) -> PathBuf {
        self.shared.dir.join(file.path())
    }

    /// The path of the file at hand.
    fn at_hand(&self) -> PathBuf {
        self.written.last().map_or_else(PathBuf::new, |file| self.path(file))
    }

    fn open(&self, file: &Arc<FileEntry>) -> Result<Stream, CompactError> {
        let unreadable = |why| self.unreadable(file, why);
        let blocks =
            BlockFile::open(&*self.shared.io, &self.shared.dir, file).map_err(unreadable)?;
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let footer = ArrowReaderMetadata::load(&blocks, options);
        let footer = footer.map_err(|e| unreadable(blocks.error(&e)))?;
        let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(blocks.clone(), footer)
            .with_batch_size(ROWS_IN)
            .build();
        let reader = reader.map_err(|e| unreadable(blocks.error(&e)))?;
        Ok(Stream { blocks, reader })
    }

    fn unreadable(&self, file: &FileEntry, why: QueryError) -> CompactError {
        match why {
            QueryError::Io { path, why } => CompactError::Unread { id: file.id, path, why },
            why => self.left_alone(file, why.to_string()),
        }
    }

    fn left_alone(&self, file: &FileEntry, why: String) -> CompactError {
        CompactError::LeaveAlone { id: file.id, path: self.path(file), why }
    }

    fn unmerged(&self, error: MergeError) -> CompactError {
        let Some(file) = self.job.inputs.get(error.input) else {
            return CompactError::Overtaken;
        };
        match error.why {
            Why::Read(why) => self.unreadable(file, why),
            why => self.left_alone(file, why.to_string()),
        }
    }

    fn unwritten(&self, error: WriteError) -> CompactError {
        let path = self.at_hand();
        match error {
            WriteError::Io(why) => CompactError::Io { path, why },
            WriteError::Encode(why) => CompactError::Encode { path, why },
        }
    }

    /// Begins the next file.
    fn begin(&mut self) -> Result<TableWriter, CompactError> {
        let (table, day) = self.job.partition;
        let id = self.shared.next_file.fetch_add(1, Ordering::Relaxed);
        self.written.push(FileEntry { level: self.job.level, ..FileEntry::new(id, table, day) });
        let path = self.at_hand();
        let io = &*self.shared.io;
        let file = io.create_new(&aside(&path));
        let file = Trickle::new(file.map_err(|why| CompactError::Io { path, why })?);
        TableWriter::new(table, Purpose::Compact, Box::new(file)).map_err(|e| self.unwritten(e))
    }

    /// Makes the file at hand and its name durable.
    fn end(&mut self, writer: TableWriter) -> Result<(), CompactError> {
        let whole = writer.finish().map_err(|e| self.unwritten(e))?;
        let path = self.at_hand();
        let (table, day) = self.job.partition;
        if let Some(entry) = self.written.last_mut() {
            (entry.rows, entry.bytes, entry.blocks) = (whole.rows, whole.bytes, whole.blocks);
        }
        self.rows_out += whole.rows;
        let name = || {
            whole.file.sync_data()?;
            drop(whole.file);
            self.shared.io.rename(&aside(&path), &path)?;
            self.shared.io.sync_dir(&self.shared.dir.join(partition_path(table, day)))
        };
        name().map_err(|why| CompactError::Io { path: path.clone(), why })
    }
}

/// A file's batches out of checked blocks.
struct Stream {
    blocks: BlockFile,
    reader: ParquetRecordBatchReader,
}

impl Iterator for Stream {
    type Item = Result<RecordBatch, QueryError>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.reader.next()?.map_err(|e| self.blocks.error(&e)))
    }
}

/// A file that is synced as it grows.
#[derive(Debug)]
struct Trickle {
    file: Box<dyn IoFile>,
    unsynced: AtomicU64,
}

impl Trickle {
    fn new(file: Box<dyn IoFile>) -> Self {
        Self { file, unsynced: AtomicU64::new(0) }
    }
}

impl IoFile for Trickle {
    fn write_at(&self, bytes: &[u8], offset: u64) -> std::io::Result<usize> {
        if self.unsynced.load(Ordering::Relaxed) >= SYNC_EVERY {
            self.sync_data()?;
        }
        let written = self.file.write_at(bytes, offset)?;
        self.unsynced.fetch_add(written as u64, Ordering::Relaxed);
        Ok(written)
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> std::io::Result<usize> {
        self.file.read_at(bytes, offset)
    }

    fn sync_data(&self) -> std::io::Result<()> {
        self.file.sync_data()?;
        self.unsynced.store(0, Ordering::Relaxed);
        Ok(())
    }

    fn size(&self) -> std::io::Result<u64> {
        self.file.size()
    }

    fn set_len(&self, len: u64) -> std::io::Result<()> {
        self.file.set_len(len)
    }

    fn allocate(&self, len: u64) -> std::io::Result<()> {
        self.file.allocate(len)
    }
}
