//! A disk that stops syncing when a test says so.

use std::io as stdio;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::io::real::RealIo;
use crate::io::{Io, IoFile};

/// The operating system's files, whose syncs and creations fail when told to.
#[derive(Debug, Default)]
pub(super) struct FailingIo {
    pub(super) failing: Arc<AtomicBool>,
    pub(super) failures: Arc<AtomicU32>,
}

#[derive(Debug)]
struct FailingFile {
    file: Box<dyn IoFile>,
    failing: Arc<AtomicBool>,
    failures: Arc<AtomicU32>,
}

impl FailingIo {
    fn wrap(&self, file: Box<dyn IoFile>) -> Box<dyn IoFile> {
        let (failing, failures) = (Arc::clone(&self.failing), Arc::clone(&self.failures));
        Box::new(FailingFile { file, failing, failures })
    }
}

impl Io for FailingIo {
    fn create_new(&self, path: &Path) -> stdio::Result<Box<dyn IoFile>> {
        RealIo.create_new(path).map(|file| self.wrap(file))
    }
    fn open(&self, path: &Path) -> stdio::Result<Box<dyn IoFile>> {
        RealIo.open(path).map(|file| self.wrap(file))
    }
    fn open_read(&self, path: &Path) -> stdio::Result<Box<dyn IoFile>> {
        RealIo.open_read(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> stdio::Result<()> {
        RealIo.rename(from, to)
    }
    fn remove_file(&self, path: &Path) -> stdio::Result<()> {
        RealIo.remove_file(path)
    }
    fn create_dir_all(&self, path: &Path) -> stdio::Result<()> {
        RealIo.create_dir_all(path)
    }
    fn sync_dir(&self, path: &Path) -> stdio::Result<()> {
        RealIo.sync_dir(path)
    }
    fn list(&self, dir: &Path) -> stdio::Result<Vec<String>> {
        RealIo.list(dir)
    }
    fn exists(&self, path: &Path) -> stdio::Result<bool> {
        RealIo.exists(path)
    }
    fn free_bytes(&self, path: &Path) -> stdio::Result<u64> {
        RealIo.free_bytes(path)
    }
}

impl IoFile for FailingFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> stdio::Result<usize> {
        self.file.write_at(bytes, offset)
    }
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> stdio::Result<usize> {
        self.file.read_at(bytes, offset)
    }
    fn sync_data(&self) -> stdio::Result<()> {
        if self.failing.load(Ordering::SeqCst) {
            self.failures.fetch_add(1, Ordering::SeqCst);
            return Err(stdio::Error::other("the disk does not sync"));
        }
        self.file.sync_data()
    }
    fn size(&self) -> stdio::Result<u64> {
        self.file.size()
    }
    fn set_len(&self, len: u64) -> stdio::Result<()> {
        // The worst disk: what failed to sync is there after all, and cannot be cut.
        if self.failing.load(Ordering::SeqCst) { Ok(()) } else { self.file.set_len(len) }
    }
    fn allocate(&self, len: u64) -> stdio::Result<()> {
        self.file.allocate(len)
    }
}
