//! Opening the store, and what its sink and its readers share.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use loushan_schemas::kind::Kind;
use parking_lot::{Mutex, RwLock};

use super::graves::Graves;
use super::manifest::{self, Contents, Edit, Manifest};
use super::memtable::Memtable;
use super::scan::Files;
use super::schema::Table;
use super::sink::EmbeddedSink;
use super::upkeep::Trouble;
use super::{EmbeddedConfig, OpenError, Removal, RetentionConfig, retain};
use crate::io::Io;
use crate::pipeline::frame::DurableFrame;
use crate::wal::LogId;

/// The store's readers' side. Clones are handles to the same store.
///
/// All questions block: ask from [`tokio::task::spawn_blocking`]. Every answer is of one moment: a
/// flush under way shows no row twice and hides none.
#[derive(Debug, Clone)]
pub struct Store(pub(super) Arc<Shared>);

/// What the sink and the readers share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) io: Arc<dyn Io>,
    pub(super) dir: PathBuf,
    pub(super) files: Files,
    /// The manifest's one writer at a time.
    pub(super) manifest: Mutex<Manifest>,
    /// The number of the next file.
    pub(super) next_file: AtomicU64,
    /// Files that are the store's no more, as long as somebody may read them.
    pub(super) graves: Graves,
    /// Held by whoever takes a snapshot.
    pub(super) snapshots: Mutex<()>,
    /// How long what is stored is kept.
    pub(super) retention: RetentionConfig,
    /// What keeps the upkeep from its work.
    pub(super) trouble: Mutex<Trouble>,
    /// Held for moments only: to look, to push frames, to publish a commit.
    pub(super) state: RwLock<State>,
}

/// What queries see.
#[derive(Debug)]
pub(super) struct State {
    pub(super) files: Arc<Contents>,
    /// Rows that are being written; they are in no file of `files`.
    pub(super) flushing: Option<Arc<Memtable>>,
    pub(super) active: Memtable,
    /// Everything of the log up to here is in one of the three.
    pub(super) position: u64,
}

impl State {
    /// Readings that are in no file yet.
    pub(super) fn memory_rows(&self) -> u64 {
        self.active.rows() + self.flushing.as_deref().map_or(0, Memtable::rows)
    }
}

/// What a store's manifest says, without opening the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreInfo {
    /// The log it was filled from.
    pub log_id: LogId,
    /// Everything of that log up to here is stored.
    pub cursor: u64,
    /// The log had given out no lsn from here on, as far as the store knows.
    pub next_lsn: u64,
}

/// How much a table holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TableStats {
    /// Its files.
    pub files: u64,
    /// Rows in them.
    pub rows: u64,
    /// Bytes of them.
    pub bytes: u64,
}

/// How much the store holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreStats {
    /// By table, also of those that are empty.
    pub tables: BTreeMap<Table, TableStats>,
    /// Readings in memory, in no file yet.
    pub memory_rows: u64,
    /// About the bytes of memory they take.
    pub memory_bytes: usize,
    /// Bytes of footers and filters of files that are kept in memory.
    pub cached_bytes: usize,
}

impl Store {
    /// What the manifest in `dir` says; `None` where there is no store yet. Changes nothing.
    ///
    /// # Errors
    /// When the manifest cannot be read or is damaged.
    pub fn peek(io: &dyn Io, dir: &Path) -> Result<Option<StoreInfo>, OpenError> {
        let found = Manifest::find(io, dir)?;
        Ok(found.map(|found| StoreInfo {
            log_id: found.log_id,
            cursor: found.contents.cursor,
            next_lsn: found.contents.next_lsn,
        }))
    }

    /// Opens the store in `dir`, or makes one, for the log with that id: readers' side and sink.
    /// Deletes files of the store that no record of the manifest names (a flush that was cut off, or
    /// what was merged or had expired and was still being read).
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(
        io: Arc<dyn Io>,
        dir: &Path,
        config: EmbeddedConfig,
        log_id: LogId,
    ) -> Result<(Self, EmbeddedSink), OpenError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |why| OpenError::Io { path, why }
        };
        io.create_dir_all(dir).map_err(failed(dir))?;
        sync_folders(&*io, dir).map_err(failed(dir))?;
        let found = Manifest::find(&*io, dir)?;
        let (present, empty) = data_files(&*io, dir)?;
        if let (None, Some(path)) = (&found, present.first()) {
            return Err(OpenError::NoManifest { path: dir.join(path) });
        }
        let manifest = Manifest::open(Arc::clone(&io), dir, log_id, found)?;
        let contents = Arc::clone(manifest.contents());
        let named: BTreeSet<PathBuf> = contents.files.values().map(|file| file.path()).collect();
        for file in contents.files.values() {
            check_size(&*io, &dir.join(file.path()), file.bytes)?;
        }
        for stray in present.iter().filter(|path| !named.contains(*path)) {
            tracing::info!(file = %stray.display(), "deleted a file that no version of the store names");
            io.remove_file(&dir.join(stray)).map_err(failed(&dir.join(stray)))?;
        }
        remove_empty_days(&*io, dir, &empty);
        let shared = Arc::new(Shared::new(io, dir, &config, manifest));
        Ok((Self(Arc::clone(&shared)), EmbeddedSink::new(shared, config)))
    }

    /// Opens the store in `dir` to ask it, while nobody writes to it; `None` where there is none.
    /// Changes nothing.
    ///
    /// # Errors
    /// When the manifest cannot be read or is damaged.
    pub fn open_read_only(
        io: Arc<dyn Io>,
        dir: &Path,
        config: &EmbeddedConfig,
    ) -> Result<Option<Self>, OpenError> {
        let Some(found) = Manifest::find(&*io, dir)? else { return Ok(None) };
        let manifest = Manifest::read_only(Arc::clone(&io), dir, found);
        Ok(Some(Self(Arc::new(Shared::new(io, dir, config, manifest)))))
    }

    /// The sink's cursor: everything of the log up to here is in files.
    #[must_use]
    pub fn cursor(&self) -> u64 {
        self.0.state.read().files.cursor
    }

    /// Everything of the log up to here is seen by queries, from files or from memory.
    #[must_use]
    pub fn as_of_lsn(&self) -> u64 {
        self.0.state.read().position
    }

    /// The greatest lsn the store knows of: the log goes on above it.
    #[must_use]
    pub fn max_lsn(&self) -> u64 {
        let state = self.0.state.read();
        state.position.max(state.files.next_lsn.saturating_sub(1))
    }

    /// How much each kind has of each day, `YYYY-MM-DD`. Of water's intervals the bytes and files
    /// count, and not the rows, which are no readings.
    #[must_use]
    pub fn days(&self) -> BTreeMap<(Kind, String), TableStats> {
        let files = Arc::clone(&self.0.state.read().files);
        let mut days: BTreeMap<(Kind, String), TableStats> = BTreeMap::new();
        for file in files.files.values() {
            let kind = retain::kind_of(file.table);
            let day = days.entry((kind, manifest::date_of(file.day))).or_default();
            day.files += 1;
            day.rows += if file.table.kind().is_some() { file.rows } else { 0 };
            day.bytes += file.bytes;
        }
        days
    }

    /// What retention would remove now. Nothing is changed.
    #[must_use]
    pub fn expired(&self, now_ms: i64) -> Vec<Removal> {
        let files = Arc::clone(&self.0.state.read().files);
        retain::plan(&files, &self.0.retention, now_ms)
    }

    /// Removes what retention is to remove now; returns what went. Blocks.
    ///
    /// # Errors
    /// When the manifest cannot be written: nothing was removed then, as far as anybody sees.
    pub fn expire(&self, now_ms: i64) -> std::io::Result<Vec<Removal>> {
        retain::run(&self.0, &self.0.retention, now_ms)
    }

    /// How long what is stored is kept.
    #[must_use]
    pub fn retention(&self) -> &RetentionConfig {
        &self.0.retention
    }

    /// Where snapshots are kept that are asked for by name alone.
    #[must_use]
    pub fn snapshots_dir(&self) -> PathBuf {
        self.0.dir.with_file_name("snapshots")
    }

    /// What keeps the store's upkeep from its work, for people.
    #[must_use]
    pub fn upkeep_trouble(&self) -> Option<String> {
        self.0.trouble.lock().text()
    }

    /// How much the store holds.
    #[must_use]
    pub fn stats(&self) -> StoreStats {
        let (files, memory_rows, memory_bytes) = {
            let state = self.0.state.read();
            let flushing = state.flushing.as_deref();
            let rows = state.memory_rows();
            let bytes = state.active.bytes() + flushing.map_or(0, Memtable::bytes);
            (Arc::clone(&state.files), rows, bytes)
        };
        let mut tables: BTreeMap<Table, TableStats> =
            Table::ALL.into_iter().map(|table| (table, TableStats::default())).collect();
        for file in files.files.values() {
            let table = tables.entry(file.table).or_default();
            table.files += 1;
            table.rows += file.rows;
            table.bytes += file.bytes;
        }
        let cached_bytes = self.0.files.cached_bytes();
        StoreStats { tables, memory_rows, memory_bytes, cached_bytes }
    }
}

/// What became of frames that were taken.
#[derive(Debug)]
pub(super) struct Taken {
    /// Whether the store's position moved.
    pub(super) moved: bool,
    /// Readings that had been taken before.
    pub(super) replayed: u64,
    /// Readings that are in no file yet.
    pub(super) memory_rows: u64,
}

impl Shared {
    fn new(io: Arc<dyn Io>, dir: &Path, config: &EmbeddedConfig, manifest: Manifest) -> Self {
        let files = Arc::clone(manifest.contents());
        Self {
            files: Files::new(Arc::clone(&io), dir.to_owned(), config.footer_cache_bytes),
            io,
            dir: dir.to_owned(),
            manifest: Mutex::new(manifest),
            next_file: AtomicU64::new(files.next_file),
            graves: Graves::default(),
            snapshots: Mutex::default(),
            retention: config.retention.clone(),
            trouble: Mutex::default(),
            state: RwLock::new(State {
                position: files.cursor,
                files,
                flushing: None,
                active: Memtable::default(),
            }),
        }
    }

    /// Puts frames into memory, where queries see them from now on.
    pub(super) fn take(&self, frames: &[Arc<DurableFrame>], up_to: u64) -> Taken {
        let mut state = self.state.write();
        let before = state.position;
        let mut replayed = 0;
        for frame in frames {
            // The feed goes on from the cursor, and the cursor moved with the files: nothing comes
            // twice. Were it otherwise, this keeps it from being stored twice.
            if frame.lsn <= state.position {
                replayed += frame.rows.len() as u64;
                continue;
            }
            state.active.push(frame);
            state.position = frame.lsn;
        }
        state.position = state.position.max(up_to);
        Taken { moved: state.position > before, replayed, memory_rows: state.memory_rows() }
    }

    /// Makes the active memtable the flushing one. With it goes the cursor that its commit sets.
    /// The one before must have been committed.
    pub(super) fn begin_flush(&self) -> (Arc<Memtable>, u64) {
        let mut state = self.state.write();
        debug_assert!(state.flushing.is_none());
        let rows = Arc::new(std::mem::take(&mut state.active));
        state.flushing = Some(Arc::clone(&rows));
        (rows, state.position)
    }

    /// Commits a change and shows it to queries in the same moment. `flushed` says that the rows
    /// of the flushing memtable are in the files the change adds.
    pub(super) fn commit(&self, edit: &Edit, flushed: bool) -> std::io::Result<()> {
        self.publish(&mut self.manifest.lock(), edit, flushed)
    }

    /// Deletes files that are the store's no more and that nobody reads; returns how many are read.
    /// Blocks.
    pub(super) fn clear_graves(&self) -> usize {
        self.graves.clear(&*self.io, &self.dir)
    }

    /// Commits a change that takes files out, if all of them are still there; says whether.
    pub(super) fn replace(&self, edit: &Edit) -> std::io::Result<bool> {
        let mut manifest = self.manifest.lock();
        if !edit.remove.iter().all(|id| manifest.contents().files.contains_key(id)) {
            return Ok(false);
        }
        self.publish(&mut manifest, edit, false).map(|()| true)
    }

    fn publish(&self, manifest: &mut Manifest, edit: &Edit, flushed: bool) -> std::io::Result<()> {
        let before = Arc::clone(manifest.contents());
        manifest.commit(edit)?;
        {
            let mut state = self.state.write();
            state.files = Arc::clone(manifest.contents());
            if flushed {
                state.flushing = None;
            }
        }
        let removed = edit.remove.iter().filter_map(|id| before.files.get(id));
        self.graves.bury(removed.cloned());
        Ok(())
    }
}

/// The store's data files and what was to become one, and the days' folders in which there is
/// nothing, against its folder. Others' files are not looked at.
fn data_files(io: &dyn Io, dir: &Path) -> Result<(Vec<PathBuf>, Vec<PathBuf>), OpenError> {
    let list =
        |path: &Path| io.list(path).map_err(|why| OpenError::Io { path: path.to_owned(), why });
    let (mut files, mut empty) = (Vec::new(), Vec::new());
    for kind in list(dir)?.iter().filter(|name| name.starts_with("kind=")) {
        for date in list(&dir.join(kind))?.iter().filter(|name| name.starts_with("date=")) {
            let folder = Path::new(kind).join(date);
            let names = list(&dir.join(&folder))?;
            let ours = names.iter().filter(|name| {
                let stem = name.strip_suffix(".tmp").unwrap_or(name).strip_suffix(".parquet");
                stem.is_some_and(|stem| {
                    !stem.is_empty() && stem.bytes().all(|b| b.is_ascii_digit())
                })
            });
            files.extend(ours.map(|name| folder.join(name)));
            if names.is_empty() {
                empty.push(folder);
            }
        }
    }
    Ok((files, empty))
}

/// Makes the names of the folders that are there durable. A kill may have come between the making of
/// one and the sync of its name, and whoever finds a folder takes it for durable.
fn sync_folders(io: &dyn Io, dir: &Path) -> std::io::Result<()> {
    for kind in io.list(dir)?.iter().filter(|name| name.starts_with("kind=")) {
        io.sync_dir(&dir.join(kind))?;
    }
    io.sync_dir(dir)
}

/// Removes the folders of days that went. Only now: while the store runs a flush may be about to put
/// a file there.
fn remove_empty_days(io: &dyn Io, dir: &Path, folders: &[PathBuf]) {
    for folder in folders {
        if let Err(e) = io.remove_empty_dir(&dir.join(folder)) {
            tracing::debug!(folder = %folder.display(), error = %e, "an empty folder stays");
        }
    }
}

fn check_size(io: &dyn Io, path: &Path, bytes: u64) -> Result<(), OpenError> {
    let size = match io.open_read(path).and_then(|file| file.size()) {
        Ok(size) => size,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let why = format!("it is missing; the {} names it", manifest::NAME);
            return Err(OpenError::Corrupt { path: path.to_owned(), why });
        }
        Err(why) => return Err(OpenError::Io { path: path.to_owned(), why }),
    };
    if size != bytes {
        let why = format!("it has {size} bytes, the {} says {bytes}", manifest::NAME);
        return Err(OpenError::Corrupt { path: path.to_owned(), why });
    }
    Ok(())
}
