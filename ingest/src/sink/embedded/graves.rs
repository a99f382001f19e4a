//! Files that a commit took out of the store, until nobody can read them any more.
//!
//! Whoever answers a question holds a version of the manifest, and through it the entries of all its
//! files. An entry that only the graves hold is in no version that anybody holds, nor will be again:
//! its file is deleted. What a crash leaves behind is named by no record, and deleted at the next start.

use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use super::manifest::FileEntry;
use crate::io::Io;

/// Files to be deleted.
#[derive(Debug, Default)]
pub(super) struct Graves(Mutex<Vec<Arc<FileEntry>>>);

impl Graves {
    pub(super) fn bury(&self, files: impl IntoIterator<Item = Arc<FileEntry>>) {
        self.0.lock().extend(files);
    }

    /// Deletes the files that nobody reads; returns how many wait on. Blocks.
    pub(super) fn clear(&self, io: &dyn Io, dir: &Path) -> usize {
        // Not locked while files are deleted: commits bury more.
        let buried = std::mem::take(&mut *self.0.lock());
        let mut read = Vec::new();
        for file in buried {
            match Arc::try_unwrap(file) {
                Ok(file) => delete(io, &dir.join(file.path())),
                Err(file) => read.push(file),
            }
        }
        let mut graves = self.0.lock();
        graves.extend(read);
        graves.len()
    }

    /// Files that wait, and their bytes.
    pub(super) fn waiting(&self) -> (u64, u64) {
        let graves = self.0.lock();
        (graves.len() as u64, graves.iter().map(|file| file.bytes).sum())
    }
}

fn delete(io: &dyn Io, path: &Path) {
    match io.remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), error = %e, "a file that was merged or has expired stays until the next start");
        }
        _ => {}
    }
}
