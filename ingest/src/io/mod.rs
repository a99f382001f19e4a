//! The seam between us and the file system, where tests put faults.
//!
//! Everything that must survive a power loss goes through [`Io`]: the log, the snapshot, the
//! manifest, the store's files, cursors. [`real`] is the operating system; `sim` (feature
//! `testing`) is a file system in memory that forgets what was not synced.
//!
//! What callers may rely on after a power loss:
//! * bytes written before a successful [`IoFile::sync_data`] of that file;
//! * a file's *name* (created, renamed, removed) only after [`Io::sync_dir`] of its folder.

use std::fmt;
use std::io;
use std::path::Path;

pub mod real;
#[cfg(feature = "testing")]
pub mod sim;

/// Bytes of a file that are copied at once.
const COPY_BYTES: usize = 1 << 20;

/// A file system.
pub trait Io: Send + Sync + fmt::Debug + 'static {
    /// Creates a file that must not exist, for reading and writing.
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn IoFile>>;
    /// Creates a file that must not exist and that only its owner can read, where there are owners.
    fn create_private(&self, path: &Path) -> io::Result<Box<dyn IoFile>> {
        self.create_new(path)
    }
    /// Whether only its owner can read a file, where there are owners.
    fn is_private(&self, _path: &Path) -> io::Result<bool> {
        Ok(true)
    }
    /// Opens an existing file for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Box<dyn IoFile>>;
    /// Opens an existing file for reading.
    fn open_read(&self, path: &Path) -> io::Result<Box<dyn IoFile>>;
    /// Renames within one folder, replacing the target. Durable after [`Io::sync_dir`].
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file. Durable after [`Io::sync_dir`].
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Gives a file a second name that must not exist, in any folder: a hard link, or a synced copy
    /// where there can be none. Durable after [`Io::sync_dir`].
    fn link_or_copy(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (source, target) = (self.open_read(from)?, self.create_new(to)?);
        let mut bytes = vec![0; COPY_BYTES];
        let mut at = 0;
        loop {
            match source.read_at(&mut bytes, at) {
                Ok(0) => return target.sync_data(),
                Ok(n) => {
                    write_all_at(&*target, bytes.get(..n).unwrap_or_default(), at)?;
                    at += n as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }
    /// Removes a folder; whether it was empty and is gone. Durable after [`Io::sync_dir`].
    fn remove_empty_dir(&self, _path: &Path) -> io::Result<bool> {
        Ok(false)
    }
    /// Makes a folder and those above it, each synced into its parent.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Makes the folder's entries durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Names of the files and folders in a folder, sorted.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Whether there is a file or folder.
    fn exists(&self, path: &Path) -> io::Result<bool>;
    /// Bytes that may still be written to the file system that holds `path`.
    fn free_bytes(&self, path: &Path) -> io::Result<u64>;
}

/// An open file. Positions are explicit, so that readers and a writer may share it.
pub trait IoFile: Send + Sync + fmt::Debug + 'static {
    /// Writes some of `bytes` at `offset`; fewer than all is no error, zero is the caller's to refuse.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;
    /// Reads some bytes at `offset`; zero at the end of the file.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Makes the contents, and the length, durable. After an error nothing written since the last
    /// success may be trusted, ever (the kernel may have marked the pages clean).
    fn sync_data(&self) -> io::Result<()>;
    /// The file's length.
    fn size(&self) -> io::Result<u64>;
    /// Sets the length; what is added reads as zeros.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Reserves disk space up to `len`, which also becomes the length; what is added reads as zeros.
    fn allocate(&self, len: u64) -> io::Result<()>;
}

/// Writes all of `bytes` at `offset`.
///
/// # Errors
/// What the file says, and [`io::ErrorKind::WriteZero`] when it takes nothing more.
pub fn write_all_at(file: &dyn IoFile, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write_at(bytes, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => {
                bytes = bytes.get(n..).unwrap_or_default();
                offset += n as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Fills `bytes` from `offset`.
///
/// # Errors
/// What the file says, and [`io::ErrorKind::UnexpectedEof`] when it ends before.
pub fn read_exact_at(file: &dyn IoFile, bytes: &mut [u8], mut offset: u64) -> io::Result<()> {
    let mut rest = bytes;
    while !rest.is_empty() {
        match file.read_at(rest, offset) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => {
                rest = rest.get_mut(n..).unwrap_or_default();
                offset += n as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Reads a whole file.
///
/// # Errors
/// What the file system says.
pub fn read_all(io: &dyn Io, path: &Path) -> io::Result<Vec<u8>> {
    let file = io.open_read(path)?;
    let len = usize::try_from(file.size()?).map_err(io::Error::other)?;
    let mut bytes = vec![0; len];
    read_exact_at(&*file, &mut bytes, 0)?;
    Ok(bytes)
}

/// Replaces a file whole: written aside, synced, renamed, its folder synced. After a power loss
/// there is the old content or the new, never a mixture.
///
/// # Errors
/// What the file system says; the old content then still stands.
pub fn replace_file(io: &dyn Io, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let mut aside = path.as_os_str().to_owned();
    aside.push(".tmp");
    let aside = std::path::PathBuf::from(aside);
    if io.exists(&aside)? {
        io.remove_file(&aside)?;
    }
    let file = io.create_new(&aside)?;
    write_all_at(&*file, bytes, 0)?;
    file.sync_data()?;
    drop(file);
    io.rename(&aside, path)?;
    io.sync_dir(dir)
}
