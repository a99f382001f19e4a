//! The manifest: the one truth about which files are the store's and how far the sink is.
//!
//! # Format
//! Lines of text: the CRC-32 of the JSON in eight hex digits, a space, one JSON object, a newline.
//! The first names the format, the log and record 0; each further one is a record:
//!
//! ```text
//! 5d1c5a0e {"n":0,"loushan_manifest":1,"log":"00000000000000010000000000000002"}
//! 91f0b3d2 {"n":1,"cursor":120,"next_lsn":121,"next_file":2,"add":[{"file":1,"table":"water",…}],"remove":[]}
//! ```
//!
//! `n` counts up by one. A record **atomically** adds files, removes files and says where the cursor
//! is now; only a flush moves it. A file's `level` is left out where a flush wrote it. A record is
//! committed when its line is synced, and only then is the next one written. A file it adds has
//! been synced, and so has its name, before the record is written.
//!
//! # Recovery
//! As each record is synced before the next is written, only the last line can be torn: a bad line
//! with nothing valid behind it is cut, one with a valid line behind it is corruption and the store
//! does not open. What was read is written anew, aside, and renamed over what was found: a record of
//! which nobody knows whether its sync succeeded would else be believed now and gone later.
//!
//! After a failed write or sync the end of the file is unknown. It is never written again: the next
//! commit writes a whole new manifest aside and renames it over this one. The same happens when
//! the records have become many, so that the file stays small.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{DateTime, NaiveDate};
use serde::{Deserialize, Serialize};

use super::OpenError;
use super::schema::Table;
use crate::io::{Io, IoFile, read_all, replace_file, write_all_at};
use crate::wal::LogId;

/// The manifest's name in the store's folder.
pub(super) const NAME: &str = "MANIFEST";
const FORMAT: u32 = 1;
/// Records after which the manifest is written anew: a day of one flush a minute.
const RECORDS_BEFORE_CHECKPOINT: u64 = 1500;
pub(super) const DAY_MS: i64 = 24 * 3600 * 1000;

/// A file of the store, and what lets a query pass it by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileEntry {
    /// Its number, never used again.
    #[serde(rename = "file")]
    pub(super) id: u64,
    #[serde(with = "table_name")]
    pub(super) table: Table,
    /// Days since 1970 of the effective times in it.
    #[serde(rename = "date", with = "date_text")]
    pub(super) day: i64,
    pub(super) rows: u64,
    pub(super) bytes: u64,
    pub(super) min_lsn: u64,
    pub(super) max_lsn: u64,
    /// Smallest and greatest time the rows are sorted under.
    pub(super) min_ms: i64,
    pub(super) max_ms: i64,
    /// Smallest and greatest IMEI, where it has any.
    pub(super) imei: Option<(u64, u64)>,
    /// Smallest and greatest measured time, where it has any.
    pub(super) measured_ms: Option<(i64, i64)>,
    /// Whether some rows have no measured time.
    pub(super) unmeasured: bool,
    /// CRC-32 of each block of [`super::block::BLOCK_BYTES`], the last one shorter.
    pub(super) blocks: Vec<u32>,
    /// How it came to be.
    #[serde(default, skip_serializing_if = "Level::is_flushed")]
    pub(super) level: Level,
}

/// How a file came to be; what compaction does with it follows from that.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub(super) enum Level {
    /// By a flush.
    #[default]
    Flushed,
    /// Merged of several while its day was live.
    Merged,
    /// Of a day's last merge: no two such files of a partition have a device in common.
    Settled,
}

impl Level {
    #[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
    fn is_flushed(&self) -> bool {
        *self == Self::Flushed
    }
}

impl FileEntry {
    /// The entry of a file without rows yet.
    pub(super) fn new(id: u64, table: Table, day: i64) -> Self {
        Self {
            id,
            table,
            day,
            rows: 0,
            bytes: 0,
            min_lsn: u64::MAX,
            max_lsn: 0,
            min_ms: i64::MAX,
            max_ms: i64::MIN,
            imei: None,
            measured_ms: None,
            unmeasured: false,
            blocks: Vec::new(),
            level: Level::Flushed,
        }
    }

    /// Widens one of its ranges to a value.
    pub(super) fn widen<T: Ord + Copy>(range: &mut Option<(T, T)>, value: T) {
        let (low, high) = range.unwrap_or((value, value));
        *range = Some((low.min(value), high.max(value)));
    }

    /// Where it is, against the store's folder.
    pub(super) fn path(&self) -> PathBuf {
        partition_path(self.table, self.day).join(format!("{:010}.parquet", self.id))
    }
}

/// A day as `YYYY-MM-DD`.
pub(super) fn date_of(day: i64) -> String {
    date_text::text(day)
}

/// The folder of a table's day, against the store's folder.
pub(super) fn partition_path(table: Table, day: i64) -> PathBuf {
    PathBuf::from(format!("kind={table}")).join(format!("date={}", date_text::text(day)))
}

/// What the records add up to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Contents {
    /// Everything of the log up to here is in the files, or needs none.
    pub(super) cursor: u64,
    /// The log had given out no lsn from here on, as far as the store knows.
    pub(super) next_lsn: u64,
    /// The number of the next file.
    pub(super) next_file: u64,
    pub(super) files: BTreeMap<u64, Arc<FileEntry>>,
}

/// A change, committed by one record.
#[derive(Debug, Default)]
pub(super) struct Edit {
    /// Where the cursor goes; it stays where it is if this is below it.
    pub(super) cursor: u64,
    pub(super) next_lsn: u64,
    pub(super) next_file: u64,
    pub(super) add: Vec<Arc<FileEntry>>,
    pub(super) remove: Vec<u64>,
}

#[derive(Serialize, Deserialize)]
struct Header {
    n: u64,
    loushan_manifest: u32,
    log: String,
}

#[derive(Serialize, Deserialize)]
struct Record<F> {
    n: u64,
    cursor: u64,
    next_lsn: u64,
    next_file: u64,
    add: Vec<F>,
    remove: Vec<u64>,
}

impl Contents {
    fn apply(&mut self, edit: &Edit) {
        self.cursor = self.cursor.max(edit.cursor);
        self.next_lsn = self.next_lsn.max(edit.next_lsn);
        self.next_file = self.next_file.max(edit.next_file);
        for id in &edit.remove {
            self.files.remove(id);
        }
        for file in &edit.add {
            self.files.insert(file.id, Arc::clone(file));
        }
    }
}

/// A manifest as it was found.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) log_id: LogId,
    pub(super) contents: Contents,
    torn: bool,
}

/// The manifest, open for records.
#[derive(Debug)]
pub(super) struct Manifest {
    io: Arc<dyn Io>,
    path: PathBuf,
    log_id: LogId,
    contents: Arc<Contents>,
    /// Lines after the header.
    records: u64,
    /// Where the next record goes; `None` when the end of the file cannot be trusted.
    tail: Option<(Box<dyn IoFile>, u64)>,
}

impl Manifest {
    /// Reads the manifest of a store's folder, if there is one. Changes nothing.
    pub(super) fn find(io: &dyn Io, dir: &Path) -> Result<Option<Found>, OpenError> {
        let path = dir.join(NAME);
        let failed = |why| OpenError::Io { path: path.clone(), why };
        if !io.exists(&path).map_err(failed)? {
            return Ok(None);
        }
        let bytes = read_all(io, &path).map_err(failed)?;
        parse(&bytes).map(Some).map_err(|why| OpenError::Corrupt { path: path.clone(), why })
    }

    /// Takes a found manifest, or makes one.
    pub(super) fn open(
        io: Arc<dyn Io>,
        dir: &Path,
        log_id: LogId,
        found: Option<Found>,
    ) -> Result<Self, OpenError> {
        let path = dir.join(NAME);
        let failed = |why| OpenError::Io { path: path.clone(), why };
        let contents = match found {
            Some(found) if found.log_id != log_id => {
                return Err(OpenError::ForeignLog { path, store: found.log_id, log: log_id });
            }
            Some(found) => {
                if found.torn {
                    tracing::warn!(path = %path.display(), "cut the torn end of the manifest");
                }
                found.contents
            }
            None => Contents { next_lsn: 1, next_file: 1, ..Contents::default() },
        };
        let contents = Arc::new(contents);
        let mut manifest = Self {
            io,
            path: path.clone(),
            log_id,
            contents: Arc::clone(&contents),
            records: 0,
            tail: None,
        };
        manifest.rewrite(contents).map_err(failed)?;
        Ok(manifest)
    }

    /// A found manifest, to be read by: nothing is written, and no record can be committed.
    pub(super) fn read_only(io: Arc<dyn Io>, dir: &Path, found: Found) -> Self {
        let (path, log_id) = (dir.join(NAME), found.log_id);
        let contents = Arc::new(found.contents);
        Self { io, path, log_id, contents, records: 0, tail: None }
    }

    pub(super) fn contents(&self) -> &Arc<Contents> {
        &self.contents
    }

    pub(super) fn log_id(&self) -> LogId {
        self.log_id
    }

    /// Commits a change: when this returns well, it is durable; when it fails, the change may or may
    /// not be found after a crash, so the files it adds must stay.
    pub(super) fn commit(&mut self, edit: &Edit) -> io::Result<()> {
        let mut contents = Contents::clone(&self.contents);
        contents.apply(edit);
        let contents = Arc::new(contents);
        let Some((file, at)) =
            self.tail.take().filter(|_| self.records < RECORDS_BEFORE_CHECKPOINT)
        else {
            return self.rewrite(contents);
        };
        let line = record_line(self.records + 1, &contents, &edit.add, &edit.remove)?;
        // While this can fail, `tail` is gone.
        write_all_at(&*file, &line, at)?;
        file.sync_data()?;
        self.tail = Some((file, at + line.len() as u64));
        self.records += 1;
        self.contents = contents;
        Ok(())
    }

    fn rewrite(&mut self, contents: Arc<Contents>) -> io::Result<()> {
        self.tail = None;
        let bytes = whole(self.log_id, &contents)?;
        replace_file(&*self.io, &self.path, &bytes)?;
        self.tail = Some((self.io.open(&self.path)?, bytes.len() as u64));
        self.records = 1;
        self.contents = contents;
        Ok(())
    }
}

/// A manifest with everything in one record.
pub(super) fn whole(log_id: LogId, contents: &Contents) -> io::Result<Vec<u8>> {
    let header = Header { n: 0, loushan_manifest: FORMAT, log: log_id.to_string() };
    let mut bytes = line(&header)?;
    bytes.extend(record_line(1, contents, contents.files.values(), &[])?);
    Ok(bytes)
}

/// The record after which the manifest says `now`.
fn record_line<'a>(
    n: u64,
    now: &Contents,
    add: impl IntoIterator<Item = &'a Arc<FileEntry>>,
    remove: &[u64],
) -> io::Result<Vec<u8>> {
    line(&Record {
        n,
        cursor: now.cursor,
        next_lsn: now.next_lsn,
        next_file: now.next_file,
        add: add.into_iter().map(|file| &**file).collect(),
        remove: remove.to_vec(),
    })
}

fn line(json: &impl Serialize) -> io::Result<Vec<u8>> {
    let json = serde_json::to_vec(json).map_err(io::Error::other)?;
    let mut line = format!("{:08x} ", crc32fast::hash(&json)).into_bytes();
    line.extend_from_slice(&json);
    line.push(b'\n');
    Ok(line)
}

/// The JSON of a line, if its checksum is right.
fn unline(line: &[u8]) -> Option<&[u8]> {
    let (crc, json) = line.split_at_checked(9)?;
    let crc = std::str::from_utf8(crc).ok()?.strip_suffix(' ')?;
    let crc = u32::from_str_radix(crc, 16).ok()?;
    (crc == crc32fast::hash(json)).then_some(json)
}

/// Whether a bad line ends with a valid record: the newline before it is what was damaged.
fn hides_record(line: &[u8]) -> bool {
    const START: &[u8] = b" {\"n\":";
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let starts = line.windows(START.len()).enumerate().filter(|(_, window)| *window == START);
    // One that begins the line only lacks its newline: torn.
    let lines = starts.filter(|(at, _)| *at > 8).filter_map(|(at, _)| line.get(at - 8..));
    lines.filter_map(unline).next().is_some()
}

fn parse(bytes: &[u8]) -> Result<Found, String> {
    let mut lines = Vec::new();
    let mut bad = None;
    for (i, whole) in bytes.split_inclusive(|b| *b == b'\n').enumerate() {
        let json = whole.strip_suffix(b"\n").and_then(unline);
        match (json, bad) {
            (Some(json), None) => lines.push(json),
            (Some(_), Some(bad)) => {
                return Err(format!("line {bad} is damaged, and a valid one follows it"));
            }
            (None, _) => {
                let first = *bad.get_or_insert(i + 1);
                if hides_record(whole) {
                    return Err(format!("line {first} is damaged, and a valid one follows it"));
                }
            }
        }
    }
    let mut lines = lines.into_iter();
    let header = lines.next().ok_or("its first line is damaged")?;
    let header: Header =
        serde_json::from_slice(header).map_err(|e| format!("its first line is no header: {e}"))?;
    if header.loushan_manifest != FORMAT {
        return Err(format!(
            "it is of format {}, this program knows {FORMAT}; use the program that wrote it",
            header.loushan_manifest
        ));
    }
    let log_id = log_id_of(&header.log).ok_or("its log id is none")?;
    let mut contents = Contents::default();
    let mut records = 0;
    for json in lines {
        let record: Record<FileEntry> = serde_json::from_slice(json)
            .map_err(|e| format!("record {} cannot be read: {e}", records + 1))?;
        if record.n != records + 1 {
            return Err(format!("record {} stands where {} should", record.n, records + 1));
        }
        records += 1;
        contents.apply(&Edit {
            cursor: record.cursor,
            next_lsn: record.next_lsn,
            next_file: record.next_file,
            add: record.add.into_iter().map(Arc::new).collect(),
            remove: record.remove,
        });
    }
    if records == 0 {
        // Header and first record are written together, aside, and renamed into place.
        return Err("its first record is damaged".to_owned());
    }
    Ok(Found { log_id, contents, torn: bad.is_some() })
}

/// What a log id prints as, read back.
fn log_id_of(text: &str) -> Option<LogId> {
    let (high, low) = text.split_at_checked(16)?;
    let mut bytes = [0; 16];
    let (a, b) = bytes.split_at_mut(8);
    a.copy_from_slice(&u64::from_str_radix(high, 16).ok()?.to_le_bytes());
    b.copy_from_slice(&u64::from_str_radix(low, 16).ok()?.to_le_bytes());
    Some(LogId::from_bytes(bytes)).filter(|id| id.to_string() == text)
}

mod table_name {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use super::Table;

    #[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
    pub(super) fn serialize<S: Serializer>(table: &Table, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(table.as_str())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Table, D::Error> {
        let text = String::deserialize(from)?;
        Table::from_text(&text).ok_or_else(|| D::Error::custom(format!("no table {text:?}")))
    }
}

/// Days since 1970 as `YYYY-MM-DD`.
mod date_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use super::{DAY_MS, DateTime, NaiveDate};

    pub(super) fn text(day: i64) -> String {
        let date = DateTime::from_timestamp_millis(day.saturating_mul(DAY_MS)).unwrap_or_default();
        date.format("%Y-%m-%d").to_string()
    }

    #[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
    pub(super) fn serialize<S: Serializer>(day: &i64, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&text(*day))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<i64, D::Error> {
        let text = String::deserialize(from)?;
        let date: NaiveDate = text.parse().map_err(D::Error::custom)?;
        Ok(date.signed_duration_since(NaiveDate::default()).num_days())
    }
}

#[cfg(test)]
#[path = "manifest_tests.rs"]
mod tests;
