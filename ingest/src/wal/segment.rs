//! Segment files: their names, their making, and what is known of them in memory.

use std::io;
use std::path::{Path, PathBuf};

use super::Lsn;
use super::codec::{SEGMENT_DATA, SegmentHeader};
use crate::io::{Io, IoFile, write_all_at};

/// Of a finished segment.
const SUFFIX: &str = ".wal";
/// Of a segment in the making; whatever bears it at start is deleted.
pub(super) const UNFINISHED: &str = ".new";

/// What is known of a segment while the log is open.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    pub(super) id: u64,
    pub(super) path: PathBuf,
    /// The lsn of its first frame.
    pub(super) base: Lsn,
    /// The greatest lsn that was durable when it was made.
    pub(super) prior: Lsn,
    /// Its last durable frame or, while it has none, what was durable when it was made. Frames
    /// above it are void for ever once there is a later segment.
    pub(super) last: Lsn,
    /// The offset behind the last durable frame. Nothing behind it is ever read.
    pub(super) end: u64,
    /// What it takes on the disk.
    pub(super) size: u64,
}

pub(super) fn path(dir: &Path, id: u64) -> PathBuf {
    dir.join(format!("segment-{id:020}{SUFFIX}"))
}

/// The id in a segment's file name.
pub(super) fn id_of(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("segment-")?.strip_suffix(SUFFIX)?;
    (digits.len() == 20).then(|| digits.parse().ok()).flatten()
}

/// Makes a segment of `size` bytes under a name that nobody reads, lets `fill` write its first
/// frames, syncs it, and only then gives it its name. So a segment with a name has a whole header,
/// and a bad one means a bad disk.
///
/// # Errors
/// What the file system says; the caller tries again with a new id.
pub(super) fn create(
    io: &dyn Io,
    dir: &Path,
    header: &SegmentHeader,
    size: u64,
    fill: impl FnOnce(&dyn IoFile) -> io::Result<u64>,
) -> io::Result<(Box<dyn IoFile>, Segment)> {
    let path = path(dir, header.segment);
    let mut aside = path.clone().into_os_string();
    aside.push(UNFINISHED);
    let aside = PathBuf::from(aside);
    let made = (|| {
        let file = io.create_new(&aside)?;
        file.allocate(size)?;
        write_all_at(&*file, &header.encode(), 0)?;
        let end = fill(&*file)?;
        file.sync_data()?;
        io.rename(&aside, &path)?;
        io.sync_dir(dir)?;
        Ok((file, end))
    })();
    match made {
        Ok((file, end)) => {
            let segment = Segment {
                id: header.segment,
                path,
                base: header.base,
                prior: header.prior,
                last: header.prior,
                end,
                size,
            };
            Ok((file, segment))
        }
        Err(error) => {
            // At best effort: a name that stays holds no frame that anybody was told of, and the
            // id is never used again.
            io.remove_file(&aside).or_else(|_| io.remove_file(&path)).ok();
            Err(error)
        }
    }
}

/// A segment without frames.
pub(super) fn create_empty(
    io: &dyn Io,
    dir: &Path,
    header: &SegmentHeader,
    size: u64,
) -> io::Result<(Box<dyn IoFile>, Segment)> {
    create(io, dir, header, size, |_| Ok(SEGMENT_DATA))
}
