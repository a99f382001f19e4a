//! Where alarms are kept: `alarms/alarms.redb` in the data folder.
//!
//! | table | key | value |
//! |---|---|---|
//! | `meta` | a name | a number: `version` = 1, `cursor`, `next_event`, `time`, `deaf`, `deaf_until`, and `reader.NAME`, the last event that a reader of the outbox has |
//! | `log` | `id` | the log's identity |
//! | `devices`, `stations` | IMEI, name | what is remembered of them ([`super::engine`]'s codec) |
//! | `alarms` | the alarm's number | JSON ([`super::model`]) |
//! | `events` | the event's number | JSON: the outbox |
//!
//! One transaction, with one sync, takes the cursor on together with everything that follows from the
//! frames below it. So after a crash there is all of it or nothing, and what is fed again leads to the
//! same alarms under the same names. Times are those of two's complement.
//!
//! The database is redb's, over our own [`Io`]: the same seam as all else that survives a power loss.

use std::collections::BTreeMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hashbrown::HashMap;
use loushan_schemas::ids::{Imei, StationId};
use redb::{
    Builder, Database, ReadableDatabase as _, ReadableTable as _, StorageBackend, TableDefinition,
};
use serde_json::Value;

use super::engine::{Device, Ear, Kept, Station};
use super::model::{Alarm, AlarmEvent};
use crate::io::{Io, IoFile, read_exact_at, write_all_at};
use crate::sink::cursor_file::{LogIdBytes, shown};

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const LOG: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("log");
const DEVICES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("devices");
const STATIONS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("stations");
const ALARMS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("alarms");
const EVENTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("events");

const VERSION: u64 = 1;
/// The database's file in its folder.
const FILE: &str = "alarms.redb";
/// Pages of it in memory: it is read once and written from then on.
const CACHE: usize = 8 << 20;
/// Bytes of the file that are copied at once.
const COPY_BYTES: usize = 1 << 20;
/// How a reader's place is called, before its name.
const READER: &str = "reader.";

/// The alarms cannot be used. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum AlarmError {
    /// The file system refused.
    #[error("alarms {}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What it said.
        #[source]
        source: io::Error,
    },
    /// The file is there and is not what was written.
    #[error(
        "{} cannot be read: {why}; bring it back from a backup, or move it away to begin anew with \
         what the log still has (acknowledgements and what is over are lost with it)",
        path.display()
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// It counts in another log.
    #[error(
        "{} belongs to log {found}, the data folder holds log {ours}; bring the matching data folder \
         back, or move the file away", path.display()
    )]
    ForeignLog {
        /// The file.
        path: PathBuf,
        /// The log in the file.
        found: String,
        /// The log that is open.
        ours: String,
    },
    /// The log cannot be read.
    #[error(transparent)]
    Feed(#[from] crate::sink::FeedError),
    /// The thread that writes ended early: the service is being torn down.
    #[error("the alarms' write did not end")]
    Interrupted,
}

/// What is written at once.
#[derive(Debug, Default)]
pub(super) struct Commit {
    pub(super) cursor: u64,
    pub(super) next_event: u64,
    pub(super) ear: Ear,
    /// `None`: forgotten.
    pub(super) devices: Vec<(Imei, Option<Vec<u8>>)>,
    pub(super) stations: Vec<(StationId, Option<Vec<u8>>)>,
    pub(super) alarms: Vec<(u64, Option<Vec<u8>>)>,
    pub(super) events: Vec<(u64, Vec<u8>)>,
    /// Events up to here are wanted by nobody any more.
    pub(super) events_gone: u64,
    pub(super) readers: Vec<(Arc<str>, u64)>,
}

/// What was kept.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    pub(super) cursor: u64,
    pub(super) kept: Kept,
    pub(super) alarms: Vec<Arc<Alarm>>,
    pub(super) events: Vec<Arc<AlarmEvent>>,
    pub(super) readers: BTreeMap<String, u64>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Db {
    io: Arc<dyn Io>,
    path: PathBuf,
    /// `None` after an error: it is opened again before the next write, as the library takes nothing
    /// more then.
    database: Option<Database>,
}

impl Db {
    /// Opens the folder, which is made if it is missing. Blocks.
    pub(super) fn open(
        io: Arc<dyn Io>,
        dir: &Path,
        log_id: LogIdBytes,
    ) -> Result<(Self, Loaded), AlarmError> {
        let path = dir.join(FILE);
        let failed = |source| AlarmError::Io { path: path.clone(), source };
        if !io.exists(&path).map_err(failed)? {
            io.create_dir_all(dir).map_err(failed)?;
            make(&*io, dir, &path, log_id)?;
        }
        let unreadable = |why: String| AlarmError::Unreadable { path: path.clone(), why };
        // The library asserts what it reads: damage may panic it.
        let opened = catch_unwind(AssertUnwindSafe(|| {
            let mut database = database(&*io, &path).map_err(|e| unreadable(e.to_string()))?;
            if !database.check_integrity().map_err(|e| unreadable(e.to_string()))? {
                return Err(unreadable("checksums or references in it are wrong".to_owned()));
            }
            let loaded = load(&database, &path, log_id)?;
            Ok((database, loaded))
        }));
        let (database, loaded) =
            opened.unwrap_or_else(|_| Err(unreadable("its pages make no sense".to_owned())))?;
        Ok((Self { io, path, database: Some(database) }, loaded))
    }

    /// Writes all of it, or nothing. After an error it is not known which; writing the same again is
    /// right in either case. Blocks for a sync.
    pub(super) fn write(&mut self, commit: &Commit) -> Result<(), String> {
        let open = match self.database.take() {
            Some(database) => database,
            None => self.again().map_err(|e| format!("{}: {e}", self.path.display()))?,
        };
        // Dropped on an error: nothing is written over what a failed sync may have lost.
        let written = catch_unwind(AssertUnwindSafe(|| write(&open, commit)));
        match written {
            Ok(Ok(())) => {
                self.database = Some(open);
                Ok(())
            }
            Ok(Err(error)) => Err(format!("{}: {error}", self.path.display())),
            Err(_) => Err(format!("{}: its pages make no sense", self.path.display())),
        }
    }
}

impl Db {
    /// Opens it after an error. A failed sync may have lost pages that still read well: all of it is
    /// written once more, to a file of its own.
    fn again(&self) -> Result<Database, redb::Error> {
        let new = self.path.with_extension("new");
        if self.io.exists(&new)? {
            self.io.remove_file(&new)?;
        }
        let (from, to) = (self.io.open_read(&self.path)?, self.io.create_new(&new)?);
        let (len, mut at) = (from.size()?, 0);
        let mut bytes = vec![0; COPY_BYTES];
        while at < len {
            let part = usize::try_from(len - at).unwrap_or(usize::MAX).min(COPY_BYTES);
            let part = bytes.get_mut(..part).unwrap_or_default();
            read_exact_at(&*from, part, at)?;
            write_all_at(&*to, part, at)?;
            at += part.len() as u64;
        }
        to.sync_data()?;
        drop((from, to));
        self.io.rename(&new, &self.path)?;
        if let Some(dir) = self.path.parent() {
            self.io.sync_dir(dir)?;
        }
        database(&*self.io, &self.path)
    }
}

fn database(io: &dyn Io, path: &Path) -> Result<Database, redb::Error> {
    let file = io.open(path).map_err(redb::Error::from)?;
    Ok(builder().create_with_backend(Backend(file))?)
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE);
    builder
}

/// Made beside its place and renamed into it: a kill leaves no half of one there.
fn make(io: &dyn Io, dir: &Path, path: &Path, log_id: LogIdBytes) -> Result<(), AlarmError> {
    let new = path.with_extension("new");
    let made = || -> Result<(), redb::Error> {
        if io.exists(&new)? {
            io.remove_file(&new)?;
        }
        let database = builder().create_with_backend(Backend(io.create_new(&new)?))?;
        let txn = database.begin_write()?;
        {
            txn.open_table(META)?.insert("version", VERSION)?;
            txn.open_table(LOG)?.insert("id", log_id.as_slice())?;
            txn.open_table(DEVICES)?;
            txn.open_table(STATIONS)?;
            txn.open_table(ALARMS)?;
            txn.open_table(EVENTS)?;
        }
        txn.commit()?;
        drop(database);
        io.rename(&new, path)?;
        io.sync_dir(dir)?;
        Ok(())
    };
    made().map_err(|e| AlarmError::Io { path: path.to_owned(), source: io::Error::other(e) })
}

fn load(database: &Database, path: &Path, log_id: LogIdBytes) -> Result<Loaded, AlarmError> {
    let unreadable = |why: &str| AlarmError::Unreadable { path: path.into(), why: why.into() };
    let read = || -> Result<Result<Loaded, AlarmError>, redb::Error> {
        let txn = database.begin_read()?;
        let mut meta = HashMap::new();
        for entry in txn.open_table(META)?.iter()? {
            let (name, value) = entry?;
            meta.insert(name.value().to_owned(), value.value());
        }
        let number = |name: &str| meta.get(name).copied().unwrap_or(0);
        if number("version") != VERSION {
            let why = format!(
                "it has version {}, this build reads {VERSION}; use the newer build",
                number("version")
            );
            return Ok(Err(unreadable(&why)));
        }
        let id = txn.open_table(LOG)?.get("id")?.map(|id| id.value().to_vec()).unwrap_or_default();
        if id != log_id {
            let found: LogIdBytes = id.try_into().unwrap_or_default();
            let (found, ours) = (shown(found), shown(log_id));
            return Ok(Err(AlarmError::ForeignLog { path: path.into(), found, ours }));
        }
        let mut loaded = Loaded { cursor: number("cursor"), ..Loaded::default() };
        let readers = meta.iter().filter_map(|(name, at)| Some((name.strip_prefix(READER)?, *at)));
        loaded.readers = readers.map(|(name, at)| (name.to_owned(), at)).collect();
        let kept = &mut loaded.kept;
        kept.next_event = number("next_event");
        kept.ear = Ear {
            time: number("time").cast_signed(),
            deaf: number("deaf").cast_signed(),
            deaf_until: number("deaf_until").cast_signed(),
        };
        for entry in txn.open_table(DEVICES)?.iter()? {
            let (imei, bytes) = entry?;
            let device = Imei::new(imei.value()).ok().zip(Device::decode(bytes.value()));
            let Some((imei, device)) = device else {
                return Ok(Err(unreadable("a device in it is none")));
            };
            kept.devices.insert(imei, device);
        }
        for entry in txn.open_table(STATIONS)?.iter()? {
            let (name, bytes) = entry?;
            let station = StationId::new(name.value()).ok().zip(Station::decode(bytes.value()));
            let Some((name, station)) = station else {
                return Ok(Err(unreadable("a station in it is none")));
            };
            kept.stations.insert(name, station);
        }
        let json = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).ok();
        for entry in txn.open_table(ALARMS)?.iter()? {
            let (_, bytes) = entry?;
            let Some(alarm) = json(bytes.value()).and_then(|json| Alarm::from_json(&json)) else {
                return Ok(Err(unreadable("an alarm in it is none")));
            };
            loaded.alarms.push(Arc::new(alarm));
        }
        for entry in txn.open_table(EVENTS)?.iter()? {
            let (_, bytes) = entry?;
            let event = json(bytes.value());
            let event = event.as_ref().and_then(Value::as_object).and_then(AlarmEvent::from_json);
            let Some(event) = event else {
                return Ok(Err(unreadable("an event in it is none")));
            };
            loaded.events.push(Arc::new(event));
        }
        Ok(Ok(loaded))
    };
    read().map_err(|e| unreadable(&e.to_string()))?
}

fn write(database: &Database, commit: &Commit) -> Result<(), redb::Error> {
    let txn = database.begin_write()?;
    {
        let mut meta = txn.open_table(META)?;
        let ear = &commit.ear;
        for (name, value) in [
            ("cursor", commit.cursor),
            ("next_event", commit.next_event),
            ("time", ear.time.cast_unsigned()),
            ("deaf", ear.deaf.cast_unsigned()),
            ("deaf_until", ear.deaf_until.cast_unsigned()),
        ] {
            meta.insert(name, value)?;
        }
        for (name, at) in &commit.readers {
            meta.insert([READER, name].concat().as_str(), at)?;
        }
        let mut devices = txn.open_table(DEVICES)?;
        for (imei, bytes) in &commit.devices {
            match bytes {
                Some(bytes) => drop(devices.insert(imei.get(), bytes.as_slice())?),
                None => drop(devices.remove(imei.get())?),
            }
        }
        let mut stations = txn.open_table(STATIONS)?;
        for (name, bytes) in &commit.stations {
            match bytes {
                Some(bytes) => drop(stations.insert(name.as_str(), bytes.as_slice())?),
                None => drop(stations.remove(name.as_str())?),
            }
        }
        let mut alarms = txn.open_table(ALARMS)?;
        for (number, bytes) in &commit.alarms {
            match bytes {
                Some(bytes) => drop(alarms.insert(number, bytes.as_slice())?),
                None => drop(alarms.remove(number)?),
            }
        }
        let mut events = txn.open_table(EVENTS)?;
        for (number, bytes) in &commit.events {
            events.insert(number, bytes.as_slice())?;
        }
        events.retain_in(..=commit.events_gone, |_, _| false)?;
    }
    txn.commit()?;
    Ok(())
}

/// A file of ours under the database.
#[derive(Debug)]
struct Backend(Box<dyn IoFile>);

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.0.size()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        read_exact_at(&*self.0, out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        write_all_at(&*self.0, data, offset)
    }
}
