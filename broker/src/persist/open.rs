//! Opening the database, and making it where there is none.
//!
//! A file that is there and cannot be read is an error: it is never replaced by an empty one. It is
//! made beside its place and renamed into it, so that a kill leaves no half of one there.

use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use redb::{Builder, Database};

use super::tables::{self, Loaded};

/// The database's file in its folder.
const FILE: &str = "sessions.redb";

/// Pages of the database in memory. It is read once, at the start, and written from then on.
const CACHE: usize = 8 * 1024 * 1024;

/// A file of fewer bytes is not worth the time.
const WORTH_COMPACTING: u64 = 64 * 1024 * 1024;

/// Opens the database again after an error of its disk: it takes nothing more otherwise.
pub(super) type Reopen = Box<dyn Fn() -> Result<Database, redb::Error> + Send>;

/// The database cannot be used. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file system refused.
    #[error("{}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What it said.
        #[source]
        source: io::Error,
    },
    /// The file is there and is not what was written.
    #[error(
        "{} cannot be read: {why}; it holds the retained messages, the sessions and the messages that \
         wait for absent clients: bring it back from a backup, or move it away to start without them \
         (telemetry is not in it)",
        path.display()
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// No thread for it.
    #[error("there is no thread for the database of sessions")]
    Thread(#[source] io::Error),
}

pub(super) fn open(folder: Option<&Path>) -> Result<(Database, Reopen, Loaded), OpenError> {
    let Some(folder) = folder else {
        // A disk in memory never fails: it is not opened again.
        let reopen: Reopen = Box::new(|| Err(io::Error::from(io::ErrorKind::Unsupported).into()));
        let path = Path::new("memory");
        let memory = || {
            let database = builder().create_with_backend(redb::backends::InMemoryBackend::new())?;
            tables::begin(&database)?;
            Ok(database)
        };
        return Ok((
            memory().map_err(|e: redb::Error| unreadable(path, e))?,
            reopen,
            Loaded::default(),
        ));
    };
    let path = folder.join(FILE);
    let io_error = |path: &Path| {
        let path = path.to_owned();
        move |source| OpenError::Io { path, source }
    };
    if !path.try_exists().map_err(io_error(&path))? {
        std::fs::create_dir_all(folder).map_err(io_error(folder))?;
        if let Some(parent) = folder.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            // Else a power loss may take the folder with all that was committed in it.
            File::open(parent).and_then(|it| it.sync_all()).map_err(io_error(parent))?;
        }
        make(folder, &path)?;
    }
    // The library asserts what it reads: damage may panic it.
    let opened = catch_unwind(AssertUnwindSafe(|| {
        let mut database = builder().open(&path).map_err(|e| unreadable(&path, e))?;
        if !database.check_integrity().map_err(|e| unreadable(&path, e))? {
            return Err(unreadable(&path, "checksums or references in it are wrong"));
        }
        let loaded = tables::load(&database).map_err(|e| unreadable(&path, e))?;
        let database =
            compacted(database, &path, WORTH_COMPACTING).map_err(|e| unreadable(&path, e))?;
        Ok((database, loaded))
    }));
    let (database, loaded) =
        opened.unwrap_or_else(|_| Err(unreadable(&path, "its pages make no sense")))?;
    let reopen: Reopen = Box::new(move || Ok(builder().open(&path)?));
    Ok((database, reopen, loaded))
}

/// Gives back to the file system what a file that was once full holds for nothing. Its size is bounded
/// without that, by what the broker's limits let be in it at a time (with the copies of pages that a commit
/// makes): free pages are used again.
pub(super) fn compacted(
    mut database: Database,
    path: &Path,
    worth: u64,
) -> Result<Database, redb::Error> {
    let before = std::fs::metadata(path)?.len();
    if before < worth {
        return Ok(database);
    }
    let used = {
        let txn = database.begin_write()?;
        let stats = txn.stats()?;
        txn.abort()?;
        stats.allocated_pages().saturating_mul(stats.page_size() as u64)
    };
    if used > before / 4 {
        return Ok(database);
    }
    if let Err(error) = database.compact() {
        // On a full disk, say: nothing is lost, but the library takes no more until it is opened anew.
        tracing::warn!(%error, "the database of sessions could not be made smaller");
        drop(database);
        return Ok(builder().open(path)?);
    }
    let after = std::fs::metadata(path)?.len();
    tracing::info!(before, after, "the database of sessions was made smaller");
    Ok(database)
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE);
    builder
}

fn make(folder: &Path, path: &Path) -> Result<(), OpenError> {
    let io_error = |source| OpenError::Io { path: path.to_owned(), source };
    let new = path.with_extension("new");
    match std::fs::remove_file(&new) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(io_error(e)),
        _ => {}
    }
    let made = || {
        let database = builder().create(&new)?;
        tables::begin(&database)
    };
    made().map_err(|e: redb::Error| unreadable(&new, e))?;
    std::fs::rename(&new, path).map_err(io_error)?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(io_error)
}

fn unreadable(path: &Path, why: impl ToString) -> OpenError {
    OpenError::Unreadable { path: path.to_owned(), why: why.to_string() }
}
