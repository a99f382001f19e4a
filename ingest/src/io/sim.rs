//! A file system in memory that loses power, for tests.
//!
//! Each file has its contents as a program sees them and as they lie on the disk; a sync copies what
//! was written in between. Names are kept the same way, by folder. [`SimIo::power_loss`] forgets what
//! was not synced, or keeps a random part of it, and returns the file system as the next boot finds
//! it; everything that still holds the old one gets errors, as threads of a dead process would run
//! no more. [`SimIo::kill`] does the same to a process, whose writes the kernel keeps.
//!
//! Faults are planned with [`SimIo::inject`]. What is never modelled: permissions, links, folders
//! that lose their own names.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::{Io, IoFile};

mod fault;
#[cfg(test)]
mod tests;

pub use fault::{Failure, Fault, Op, PowerLoss};

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;
const ENOSPC: i32 = 28;
const EIO: i32 = 5;

/// One boot of a file system in memory. Clones share it.
#[derive(Debug, Clone)]
pub struct SimIo {
    world: Arc<World>,
    boot: u64,
}

#[derive(Debug, Default)]
struct World {
    boot: AtomicU64,
    names: Mutex<Names>,
    faults: Mutex<Vec<Fault>>,
    /// Sum of the files' lengths.
    used: AtomicU64,
    capacity: Mutex<Capacity>,
}

#[derive(Debug, Default)]
struct Capacity {
    bytes: Option<u64>,
    /// Overrides what would be computed.
    free: Option<u64>,
}

#[derive(Debug, Default)]
struct Names {
    now: BTreeMap<PathBuf, Arc<Node>>,
    on_disk: BTreeMap<PathBuf, Arc<Node>>,
    folders: BTreeSet<PathBuf>,
}

#[derive(Debug, Default)]
struct Node(Mutex<Contents>);

#[derive(Debug, Default)]
struct Contents {
    now: Vec<u8>,
    on_disk: Vec<u8>,
    /// Offsets and lengths written since the last sync.
    unsynced: Vec<(usize, usize)>,
}

#[derive(Debug)]
struct SimFile {
    io: SimIo,
    node: Arc<Node>,
    path: PathBuf,
    writable: bool,
}

impl Default for SimIo {
    fn default() -> Self {
        Self::new()
    }
}

impl SimIo {
    /// An empty file system without bound.
    #[must_use]
    pub fn new() -> Self {
        Self { world: Arc::default(), boot: 0 }
    }

    /// Cuts the power. Returns the file system as the next boot finds it; this one is dead. The same
    /// seed loses the same.
    #[must_use]
    pub fn power_loss(&self, seed: u64, mode: PowerLoss) -> Self {
        let next = self.next_boot();
        let mut dice = Dice(seed);
        let mut names = self.world.names.lock();
        let mut survivors = names.on_disk.clone();
        let paths: BTreeSet<_> = names.now.keys().chain(names.on_disk.keys()).cloned().collect();
        // One decision for each file, since a journal renames whole or not at all.
        let mut fates: BTreeMap<*const Node, bool> = BTreeMap::new();
        for path in paths {
            let (now, on_disk) = (names.now.get(&path), names.on_disk.get(&path));
            let (now_at, on_disk_at) = (now.map(Arc::as_ptr), on_disk.map(Arc::as_ptr));
            let Some(file) = now_at.or(on_disk_at).filter(|_| now_at != on_disk_at) else {
                continue;
            };
            let happened = *fates
                .entry(file)
                .or_insert_with(|| mode == PowerLoss::RandomPart && dice.roll(2) == 0);
            match now {
                _ if !happened => {}
                Some(node) => drop(survivors.insert(path, Arc::clone(node))),
                None => drop(survivors.remove(&path)),
            }
        }
        for node in survivors.values() {
            node.0.lock().lose_power(mode, &mut dice);
        }
        let used = survivors.values().map(|node| node.0.lock().now.len() as u64).sum();
        self.world.used.store(used, Ordering::SeqCst);
        names.now = survivors.clone();
        names.on_disk = survivors;
        self.world.faults.lock().clear();
        next
    }

    /// Kills the process: whoever holds this file system gets errors, nothing written is lost.
    #[must_use]
    pub fn kill(&self) -> Self {
        let _between_calls = self.world.names.lock();
        self.next_boot()
    }

    fn next_boot(&self) -> Self {
        let boot = self.world.boot.fetch_add(1, Ordering::SeqCst) + 1;
        Self { world: Arc::clone(&self.world), boot }
    }

    /// Plans a failure.
    pub fn inject(&self, fault: Fault) {
        self.world.faults.lock().push(fault);
    }

    /// Forgets all planned failures; whether any was still to come.
    pub fn clear_faults(&self) -> bool {
        let mut faults = self.world.faults.lock();
        let any = faults.iter().any(|fault| fault.times > 0);
        faults.clear();
        any
    }

    /// Bounds the sum of all lengths; beyond it there is ENOSPC.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.world.capacity.lock().bytes = bytes;
    }

    /// Has [`Io::free_bytes`] say this, whatever the truth.
    pub fn set_free_bytes(&self, free: Option<u64>) {
        self.world.capacity.lock().free = free;
    }

    /// Sum of the lengths of all files.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.world.used.load(Ordering::SeqCst)
    }

    /// Rots one bit, as the program and as the disk sees it.
    ///
    /// # Errors
    /// If there is no such byte.
    pub fn flip_bit(&self, path: &Path, offset: u64, bit: u8) -> io::Result<()> {
        let node = self.node(path)?;
        let mut contents = node.0.lock();
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        let mask = 1 << (bit % 8);
        *contents.now.get_mut(offset).ok_or(io::ErrorKind::UnexpectedEof)? ^= mask;
        if let Some(byte) = contents.on_disk.get_mut(offset) {
            *byte ^= mask;
        }
        Ok(())
    }

    fn node(&self, path: &Path) -> io::Result<Arc<Node>> {
        let names = self.world.names.lock();
        names.now.get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Every call begins here: is this boot alive, and is there a fault planned?
    fn enter(&self, op: Option<Op>, path: &Path) -> io::Result<Option<Failure>> {
        if self.world.boot.load(Ordering::SeqCst) != self.boot {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        let Some(op) = op else { return Ok(None) };
        let mut faults = self.world.faults.lock();
        let path = path.to_string_lossy();
        for fault in faults.iter_mut() {
            if fault.op != op || fault.times == 0 || !path.contains(&fault.path) {
                continue;
            }
            if fault.after > 0 {
                fault.after -= 1;
                continue;
            }
            fault.times -= 1;
            return match fault.failure {
                Failure::Errno(errno) => Err(io::Error::from_raw_os_error(errno)),
                other => Ok(Some(other)),
            };
        }
        Ok(None)
    }

    fn open_as(&self, path: &Path, writable: bool) -> io::Result<Box<dyn IoFile>> {
        self.enter(None, path)?;
        let node = self.node(path)?;
        Ok(Box::new(SimFile { io: self.clone(), node, path: path.to_owned(), writable }))
    }

    /// Takes room for a file that grows, or gives some back.
    fn resize(&self, contents: &mut Contents, len: usize) -> io::Result<()> {
        let old = contents.now.len();
        if len > old {
            let more = (len - old) as u64;
            let capacity = self.world.capacity.lock();
            let free = capacity.bytes.map_or(u64::MAX, |all| all.saturating_sub(self.used_bytes()));
            if more > free {
                return Err(io::Error::from_raw_os_error(ENOSPC));
            }
            self.world.used.fetch_add(more, Ordering::SeqCst);
        } else {
            self.world.used.fetch_sub((old - len) as u64, Ordering::SeqCst);
        }
        if old == 0 {
            // Zeroed by the allocator, untouched until used.
            contents.now = vec![0; len];
        } else {
            contents.now.resize(len, 0);
        }
        Ok(())
    }
}

impl Contents {
    fn sync(&mut self) {
        if self.on_disk.is_empty() {
            self.on_disk = vec![0; self.now.len()];
        } else {
            self.on_disk.resize(self.now.len(), 0);
        }
        for (at, len) in self.unsynced.drain(..) {
            let end = (at + len).min(self.now.len());
            if at < end {
                self.on_disk[at..end].copy_from_slice(&self.now[at..end]);
            }
        }
    }

    fn lose_power(&mut self, mode: PowerLoss, dice: &mut Dice) {
        if mode == PowerLoss::RandomPart {
            if dice.one_in(2) {
                self.on_disk.resize(self.now.len(), 0);
            }
            let limit = self.on_disk.len().min(self.now.len());
            for (at, len) in std::mem::take(&mut self.unsynced) {
                let fate = dice.roll(3);
                let end = (at + len).min(limit);
                let mut from = at;
                while from < end {
                    let to = ((from / SECTOR + 1) * SECTOR).min(end);
                    if fate == 0 || (fate == 1 && dice.one_in(2)) {
                        self.on_disk[from..to].copy_from_slice(&self.now[from..to]);
                    }
                    from = to;
                }
            }
        }
        self.unsynced.clear();
        self.now.clone_from(&self.on_disk);
    }
}

/// SplitMix64: small, and the same everywhere.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }

    fn one_in(&mut self, odds: u64) -> bool {
        self.roll(odds) == 0
    }
}

impl Io for SimIo {
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn IoFile>> {
        self.enter(Some(Op::Create), path)?;
        let mut names = self.world.names.lock();
        if path.parent().is_none_or(|dir| !names.folders.contains(dir)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        if names.now.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        names.now.insert(path.to_owned(), Arc::default());
        drop(names);
        self.open_as(path, true)
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn IoFile>> {
        self.open_as(path, true)
    }

    fn open_read(&self, path: &Path) -> io::Result<Box<dyn IoFile>> {
        self.open_as(path, false)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.enter(Some(Op::Rename), from)?;
        if from.parent() != to.parent() {
            return Err(io::ErrorKind::CrossesDevices.into());
        }
        let mut names = self.world.names.lock();
        let node = names.now.remove(from).ok_or(io::ErrorKind::NotFound)?;
        if let Some(old) = names.now.insert(to.to_owned(), node) {
            self.world.used.fetch_sub(old.0.lock().now.len() as u64, Ordering::SeqCst);
        }
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.enter(Some(Op::Remove), path)?;
        let mut names = self.world.names.lock();
        let node = names.now.remove(path).ok_or(io::ErrorKind::NotFound)?;
        self.world.used.fetch_sub(node.0.lock().now.len() as u64, Ordering::SeqCst);
        Ok(())
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.enter(None, path)?;
        self.world.names.lock().folders.extend(path.ancestors().map(Path::to_owned));
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.enter(Some(Op::SyncDir), path)?;
        let mut names = self.world.names.lock();
        let Names { now, on_disk, folders } = &mut *names;
        if !folders.contains(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        on_disk.retain(|at, _| at.parent() != Some(path));
        let here = now.iter().filter(|(at, _)| at.parent() == Some(path));
        on_disk.extend(here.map(|(at, node)| (at.clone(), Arc::clone(node))));
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.enter(None, dir)?;
        let names = self.world.names.lock();
        if !names.folders.contains(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let all = names.now.keys().chain(&names.folders).filter(|at| at.parent() == Some(dir));
        let mut listed: Vec<_> =
            all.filter_map(|at| at.file_name()?.to_str().map(str::to_owned)).collect();
        listed.sort();
        Ok(listed)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.enter(None, path)?;
        let names = self.world.names.lock();
        Ok(names.now.contains_key(path) || names.folders.contains(path))
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        self.enter(None, path)?;
        let capacity = self.world.capacity.lock();
        let computed = capacity.bytes.map_or(u64::MAX, |all| all.saturating_sub(self.used_bytes()));
        Ok(capacity.free.unwrap_or(computed))
    }
}

impl SimFile {
    fn enter(&self, op: Option<Op>) -> io::Result<Option<Failure>> {
        self.io.enter(op, &self.path)
    }

    /// The contents, for a change that this boot may still make.
    fn contents(&self) -> io::Result<parking_lot::MutexGuard<'_, Contents>> {
        let contents = self.node.0.lock();
        // Again, under the lock: the power may have gone in between.
        self.io.enter(None, &self.path)?;
        Ok(contents)
    }

    fn grow_or_shrink(&self, len: u64, only_grow: bool) -> io::Result<()> {
        if !self.writable {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let len = usize::try_from(len).map_err(io::Error::other)?;
        let mut contents = self.contents()?;
        let old = contents.now.len();
        if len < old && only_grow {
            return Ok(());
        }
        self.io.resize(&mut contents, len)?;
        if len < old {
            // What is cut off and grown again reads as zeros, also on the disk after a sync.
            contents.unsynced.push((len, old - len));
        }
        Ok(())
    }
}

impl IoFile for SimFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        if !self.writable {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let bytes = match self.enter(Some(Op::Write))? {
            Some(Failure::Short(most)) => &bytes[..bytes.len().min(most)],
            _ => bytes,
        };
        let at = usize::try_from(offset).map_err(io::Error::other)?;
        let end = at.checked_add(bytes.len()).ok_or(io::ErrorKind::FileTooLarge)?;
        let mut contents = self.contents()?;
        if end > contents.now.len() {
            self.io.resize(&mut contents, end)?;
        }
        contents.now[at..end].copy_from_slice(bytes);
        contents.unsynced.push((at, bytes.len()));
        Ok(bytes.len())
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.enter(Some(Op::Read))?;
        let contents = self.contents()?;
        let at = usize::try_from(offset).unwrap_or(usize::MAX).min(contents.now.len());
        let len = bytes.len().min(contents.now.len() - at);
        bytes[..len].copy_from_slice(&contents.now[at..at + len]);
        Ok(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        let failure = self.enter(Some(Op::Sync))?;
        let mut contents = self.contents()?;
        match failure {
            Some(Failure::SyncLosesPages) => {
                contents.unsynced.clear();
                Err(io::Error::from_raw_os_error(EIO))
            }
            Some(Failure::SyncKeepsPages) => {
                contents.sync();
                Err(io::Error::from_raw_os_error(EIO))
            }
            _ => {
                contents.sync();
                Ok(())
            }
        }
    }

    fn size(&self) -> io::Result<u64> {
        self.enter(None)?;
        Ok(self.contents()?.now.len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.grow_or_shrink(len, false)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.enter(Some(Op::Allocate))?;
        self.grow_or_shrink(len, true)
    }
}
