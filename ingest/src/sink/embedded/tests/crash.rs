//! The machine stops at every single step of a flush.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use loushan_schemas::kind::Kind;

use super::super::manifest::Manifest;
use super::super::{EmbeddedConfig, Store};
use super::support::{DAY, DAY_MS, Driven, dir, exported, frame, log_id, row, rows_of};
use crate::io::sim::{PowerLoss, SimIo};
use crate::io::{Io, IoFile};
use crate::pipeline::frame::DurableFrame;

/// A file system of which only so many more changes are left.
#[derive(Debug, Clone)]
pub(super) struct Fuel {
    io: SimIo,
    left: Arc<AtomicI64>,
}

impl Fuel {
    /// Without bound yet.
    pub(super) fn full(io: &SimIo) -> Self {
        Self { io: io.clone(), left: Arc::new(AtomicI64::new(i64::MAX)) }
    }

    /// From now on so many changes are left.
    pub(super) fn leave(&self, changes: i64) {
        self.left.store(changes, Ordering::SeqCst);
    }

    fn burn(&self) -> io::Result<()> {
        if self.left.fetch_sub(1, Ordering::SeqCst) > 0 { Ok(()) } else { self.alive() }
    }

    fn alive(&self) -> io::Result<()> {
        if self.left.load(Ordering::SeqCst) >= 0 { Ok(()) } else { Err(io::Error::other("dead")) }
    }
}

#[derive(Debug)]
struct FuelFile {
    file: Box<dyn IoFile>,
    fuel: Fuel,
}

impl Fuel {
    fn file(&self, file: Box<dyn IoFile>) -> Box<dyn IoFile> {
        Box::new(FuelFile { file, fuel: self.clone() })
    }
}

impl Io for Fuel {
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn IoFile>> {
        self.burn()?;
        Ok(self.file(self.io.create_new(path)?))
    }
    fn open(&self, path: &Path) -> io::Result<Box<dyn IoFile>> {
        self.alive()?;
        Ok(self.file(self.io.open(path)?))
    }
    fn open_read(&self, path: &Path) -> io::Result<Box<dyn IoFile>> {
        self.alive()?;
        Ok(self.file(self.io.open_read(path)?))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.burn()?;
        self.io.rename(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.burn()?;
        self.io.remove_file(path)
    }
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.burn()?;
        self.io.create_dir_all(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.burn()?;
        self.io.sync_dir(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.alive()?;
        self.io.list(dir)
    }
    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.alive()?;
        self.io.exists(path)
    }
    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        self.io.free_bytes(path)
    }
}

impl IoFile for FuelFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.fuel.burn()?;
        self.file.write_at(bytes, offset)
    }
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.fuel.alive()?;
        self.file.read_at(bytes, offset)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.fuel.burn()?;
        self.file.sync_data()
    }
    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.fuel.burn()?;
        self.file.set_len(len)
    }
    fn allocate(&self, len: u64) -> io::Result<()> {
        self.fuel.burn()?;
        self.file.allocate(len)
    }
}

/// Frames that touch several kinds and dates.
fn log() -> Vec<Arc<DurableFrame>> {
    let rows = |lsn: u64| {
        let at = DAY + i64::try_from(lsn).unwrap() * 1000;
        vec![
            row(Kind::Water, 1, lsn, at),
            row(Kind::Water, 2, lsn, at - DAY_MS),
            row(Kind::StationStatus, 3, lsn, at),
        ]
    };
    (1..=8).map(|lsn| frame(lsn, rows(lsn))).collect()
}

pub(super) fn data_files(io: &SimIo) -> Vec<String> {
    let mut files = Vec::new();
    for kind in io.list(&dir()).unwrap().iter().filter(|name| name.starts_with("kind=")) {
        for date in io.list(&dir().join(kind)).unwrap() {
            let folder = Path::new(kind).join(date);
            let names = io.list(&dir().join(&folder)).unwrap();
            files.extend(names.iter().map(|name| folder.join(name).display().to_string()));
        }
    }
    files.sort();
    files
}

/// Stores half of the log, then the rest with that many changes left to the file system. Says
/// whether the second flush came through, and leaves the file system as the crash found it.
fn run_out(fuel: i64) -> (SimIo, bool) {
    let io = SimIo::new();
    let tank = Fuel::full(&io);
    let mut driven = Driven::open(tank.clone());
    let log = log();
    driven.push(&log[..4]);
    driven.flush().unwrap();
    driven.push(&log[4..]);
    tank.leave(fuel);
    let done = driven.flush().is_ok();
    // What a query sees does not hang on whether the flush came through.
    if done {
        assert_eq!(exported(&driven.store, 0), rows_of(&log));
    }
    (io, done)
}

#[test]
fn whenever_the_machine_stops_the_files_and_the_log_above_the_cursor_are_all_rows_once() {
    let log = log();
    let mut done_at = None;
    let mut cursors = [0, 0];
    for fuel in 0..200 {
        let endings: [fn(&SimIo) -> SimIo; 5] = [
            SimIo::kill,
            |io| io.power_loss(1, PowerLoss::ForgetAll),
            |io| io.power_loss(2, PowerLoss::RandomPart),
            |io| io.power_loss(3, PowerLoss::RandomPart),
            |io| io.power_loss(4, PowerLoss::RandomPart),
        ];
        for end in endings {
            let (io, done) = run_out(fuel);
            let io = end(&io);
            let mut driven = Driven::open(io.clone());
            let cursor = driven.store.cursor();
            assert!(cursor == 8 || (cursor == 4 && !done), "fuel {fuel}: cursor {cursor}");
            cursors[usize::from(cursor == 8)] += 1;
            let stored: Vec<_> = log.iter().filter(|f| f.lsn <= cursor).cloned().collect();
            assert_eq!(exported(&driven.store, 0), rows_of(&stored), "fuel {fuel}");
            let named = Manifest::find(&io, &dir()).unwrap().unwrap().contents.files;
            let mut named: Vec<_> =
                named.values().map(|file| file.path().display().to_string()).collect();
            named.sort();
            assert_eq!(data_files(&io), named, "fuel {fuel}");
            // The log gives everything again, also what is stored.
            driven.push(&log);
            driven.flush().unwrap();
            assert_eq!(exported(&driven.store, 0), rows_of(&log), "fuel {fuel}");
            if done {
                done_at = Some(fuel);
            }
        }
        if done_at.is_some() {
            break;
        }
    }
    assert!(done_at.is_some_and(|fuel| fuel > 15), "a flush has that many steps: {done_at:?}");
    assert!(cursors.iter().all(|n| *n > 0), "both outcomes were seen: {cursors:?}");
}

#[test]
fn opening_may_be_cut_off_at_every_step_too() {
    let log = log();
    for crashed_at in [5, 9, 14] {
        for fuel in 0.. {
            let io = run_out(crashed_at).0.power_loss(5, PowerLoss::RandomPart);
            let tank = Fuel { io: io.clone(), left: Arc::new(AtomicI64::new(fuel)) };
            let opened = Store::open(Arc::new(tank), &dir(), EmbeddedConfig::default(), log_id());
            let done = opened.is_ok();
            drop(opened);
            let io = io.power_loss(6, PowerLoss::RandomPart);
            let mut driven = Driven::open(io.clone());
            let cursor = driven.store.cursor();
            let stored: Vec<_> = log.iter().filter(|f| f.lsn <= cursor).cloned().collect();
            assert_eq!(exported(&driven.store, 0), rows_of(&stored), "{crashed_at}, fuel {fuel}");
            driven.push(&log);
            driven.flush().unwrap();
            assert_eq!(exported(&driven.store, 0), rows_of(&log), "{crashed_at}, fuel {fuel}");
            if done {
                assert!(fuel > 4, "opening takes some steps");
                break;
            }
        }
    }
}

#[test]
fn a_store_without_its_manifest_is_refused_and_nothing_is_deleted() {
    let (io, _) = run_out(i64::MAX);
    let before = data_files(&io);
    io.remove_file(&dir().join("MANIFEST")).unwrap();
    let error = Store::open(Arc::new(io.clone()), &dir(), EmbeddedConfig::default(), log_id());
    let error = error.unwrap_err();
    assert!(error.to_string().contains("no MANIFEST"), "{error}");
    assert_eq!(data_files(&io), before);
    assert!(!before.is_empty());
}

#[test]
fn others_files_in_the_folder_are_left_alone() {
    let (io, _) = run_out(i64::MAX);
    let folder = dir().join("kind=water/date=2026-11-24");
    for name in ["notes.txt", "mine.parquet"] {
        io.create_new(&folder.join(name)).unwrap();
    }
    io.create_new(&folder.join("0000000999.parquet.tmp")).unwrap();
    io.create_new(&folder.join("0000000999.parquet")).unwrap();
    drop(Driven::open(io.clone()));
    let left = io.list(&folder).unwrap();
    assert!(left.contains(&"notes.txt".to_owned()) && left.contains(&"mine.parquet".to_owned()));
    assert!(!left.iter().any(|name| name.contains("999")), "{left:?}");
}
