//! A copy of one version of the store, for readers outside and for backups.
//!
//! It is a folder of hard links, or of copies where there can be none: it costs no disk until the
//! store lets go of the files, is never changed, and opens with whatever reads Parquet. The manifest
//! is written into it last: a folder without one is a snapshot that was cut off, and is good for
//! nothing. With it the folder is a store, as of its cursor, that goes with the same log.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::manifest::{self, Contents, partition_path};
use super::store::Store;
use crate::io::write_all_at;

/// Bytes of a snapshot's name.
const MAX_NAME: usize = 64;

/// A snapshot that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Its folder.
    pub path: PathBuf,
    /// Everything of the log up to here is in it.
    pub cursor: u64,
    /// Its files.
    pub files: u64,
    /// Readings in them.
    pub rows: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// A snapshot was not taken.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The name will not do.
    #[error("{0:?} is no name of a snapshot: 1 to 64 of a-z A-Z 0-9 . _ -, the first no dot")]
    Name(String),
    /// There is one already, or what is left of one.
    #[error("{} is there already; take another name, or remove it", .0.display())]
    Exists(PathBuf),
    /// The file system refused.
    #[error("{path}: {why}", path = path.display())]
    Io {
        /// Which file or folder.
        path: PathBuf,
        /// What it said.
        #[source]
        why: io::Error,
    },
}

impl Store {
    /// Makes the folder `name` in `parent` a snapshot of what is in files now. Blocks.
    ///
    /// # Errors
    /// See [`SnapshotError`]. What was made of the folder until then is removed as far as that goes.
    pub fn snapshot(&self, parent: &Path, name: &str) -> Result<Snapshot, SnapshotError> {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if name.is_empty()
            || name.len() > MAX_NAME
            || name.starts_with('.')
            || !name.chars().all(fits)
        {
            return Err(SnapshotError::Name(name.chars().take(MAX_NAME).collect()));
        }
        let path = parent.join(name);
        // Of two of one name the second one finds the first, and does not clear it away.
        let _one_at_a_time = self.0.snapshots.lock();
        if self.0.io.exists(&path).map_err(failed(&path))? {
            return Err(SnapshotError::Exists(path));
        }
        // As long as we hold it none of its files is deleted.
        let contents = Arc::clone(&self.0.state.read().files);
        if let Err(e) = self.write_snapshot(&contents, &path) {
            self.remove_snapshot(&contents, &path);
            return Err(e);
        }
        let files = contents.files.values();
        let readings = files.clone().filter(|file| file.table.kind().is_some());
        Ok(Snapshot {
            cursor: contents.cursor,
            files: contents.files.len() as u64,
            rows: readings.map(|file| file.rows).sum(),
            bytes: files.map(|file| file.bytes).sum(),
            path,
        })
    }

    fn write_snapshot(&self, contents: &Contents, path: &Path) -> Result<(), SnapshotError> {
        let io = &*self.0.io;
        let folders = folders(contents, path);
        for folder in folders.iter().chain([&path.to_owned()]) {
            io.create_dir_all(folder).map_err(failed(folder))?;
        }
        for file in contents.files.values() {
            let (from, to) = (self.0.dir.join(file.path()), path.join(file.path()));
            io.link_or_copy(&from, &to).map_err(failed(&to))?;
        }
        folders.iter().try_for_each(|folder| io.sync_dir(folder).map_err(failed(folder)))?;
        let named = path.join(manifest::NAME);
        let write = || {
            let log_id = self.0.manifest.lock().log_id();
            let bytes = manifest::whole(log_id, contents)?;
            let file = io.create_new(&named)?;
            write_all_at(&*file, &bytes, 0)?;
            file.sync_data()?;
            io.sync_dir(path)
        };
        write().map_err(failed(&named))
    }

    /// Removes what there is of a snapshot. What cannot be removed stays, without a manifest.
    fn remove_snapshot(&self, contents: &Contents, path: &Path) {
        let io = &*self.0.io;
        let made = contents.files.values().map(|file| path.join(file.path()));
        for file in std::iter::once(path.join(manifest::NAME)).chain(made) {
            if let Err(e) = io.remove_file(&file)
                && e.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(path = %file.display(), error = %e, "a part of a snapshot stays");
            }
        }
        let folders = folders(contents, path);
        let above: BTreeSet<&Path> = folders.iter().flat_map(|folder| folder.parent()).collect();
        for folder in folders.iter().map(PathBuf::as_path).chain(above).chain([path]) {
            let gone = io.remove_empty_dir(folder);
            tracing::debug!(folder = %folder.display(), ?gone, "a snapshot's folder");
        }
    }
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> SnapshotError + use<> {
    let path = path.to_owned();
    move |why| SnapshotError::Io { path, why }
}

/// The folders of its days.
fn folders(contents: &Contents, path: &Path) -> BTreeSet<PathBuf> {
    let days = contents.files.values().map(|file| partition_path(file.table, file.day));
    days.map(|day| path.join(day)).collect()
}
