//! The operating system's files.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::{Io, IoFile};

/// The operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealIo;

#[derive(Debug)]
struct RealFile(File);

fn boxed(file: File) -> Box<dyn IoFile> {
    Box::new(RealFile(file))
}

impl Io for RealIo {
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn IoFile>> {
        OpenOptions::new().read(true).write(true).create_new(true).open(path).map(boxed)
    }

    fn create_private(&self, path: &Path) -> io::Result<Box<dyn IoFile>> {
        use std::os::unix::fs::OpenOptionsExt as _;

        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600).open(path).map(boxed)
    }

    fn is_private(&self, path: &Path) -> io::Result<bool> {
        use std::os::unix::fs::PermissionsExt as _;

        Ok(std::fs::metadata(path)?.permissions().mode() & 0o077 == 0)
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn IoFile>> {
        OpenOptions::new().read(true).write(true).open(path).map(boxed)
    }

    fn open_read(&self, path: &Path) -> io::Result<Box<dyn IoFile>> {
        File::open(path).map(boxed)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn link_or_copy(&self, from: &Path, to: &Path) -> io::Result<()> {
        match std::fs::hard_link(from, to) {
            Ok(()) => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Err(e),
            // Another file system, or one without links.
            Err(_) => {}
        }
        let mut target = OpenOptions::new().write(true).create_new(true).open(to)?;
        io::copy(&mut File::open(from)?, &mut target)?;
        target.sync_all()
    }

    fn remove_empty_dir(&self, path: &Path) -> io::Result<bool> {
        match std::fs::remove_dir(path) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(false),
            Err(e) => Err(e),
        }
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        // From the top, so that each new entry can be synced into its parent.
        let mut missing = Vec::new();
        let mut at = Some(path);
        while let Some(dir) = at.filter(|dir| !dir.as_os_str().is_empty() && !dir.exists()) {
            missing.push(dir);
            at = dir.parent();
        }
        for dir in missing.into_iter().rev() {
            match std::fs::create_dir(dir) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
                _ => {}
            }
            let parent = dir.parent().filter(|p| !p.as_os_str().is_empty());
            if let Err(error) = self.sync_dir(parent.unwrap_or(Path::new("."))) {
                // One that is there would be taken for durable by the next try. It is empty; where it
                // cannot be removed either, the disk is in more trouble than that.
                drop(std::fs::remove_dir(dir));
                return Err(error);
            }
        }
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            // Names that are not UTF-8 are not ours.
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        match path.try_exists() {
            // Below a file there is nothing.
            Err(e) if e.kind() == io::ErrorKind::NotADirectory => Ok(false),
            answer => answer,
        }
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(path)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

impl IoFile for RealFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.0.write_at(bytes, offset)
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        use rustix::fs::{FallocateFlags, fallocate};
        match fallocate(&self.0, FallocateFlags::empty(), 0, len) {
            // File systems without fallocate (some network and overlay ones) still work, slower.
            Err(rustix::io::Errno::OPNOTSUPP) => self.0.set_len(len),
            other => Ok(other?),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn below_a_file_there_is_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("orders.json");
        assert!(!RealIo.exists(&file).unwrap());
        std::fs::write(&file, "{}").unwrap();
        assert!(RealIo.exists(&file).unwrap());
        assert!(!RealIo.exists(&file.join("refused")).unwrap());
    }
}
