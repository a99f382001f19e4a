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
    std::fs::create_dir_all(folder).map_err(io_error(folder))?;
    if !path.try_exists().map_err(io_error(&path))? {
        make(folder, &path)?;
    }
    // The library asserts what it reads: damage may panic it.
    let opened = catch_unwind(AssertUnwindSafe(|| {
        let mut database = builder().open(&path).map_err(|e| unreadable(&path, e))?;
        if !database.check_integrity().map_err(|e| unreadable(&path, e))? {
            return Err(unreadable(&path, "checksums or references in it are wrong"));
        }
        let loaded = tables::load(&database).map_err(|e| unreadable(&path, e))?;
        Ok((database, loaded))
    }));
    let (database, loaded) =
        opened.unwrap_or_else(|_| Err(unreadable(&path, "its pages make no sense")))?;
    let reopen: Reopen = Box::new(move || Ok(builder().open(&path)?));
    Ok((database, reopen, loaded))
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
