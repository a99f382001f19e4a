//! Keeping what is corrupt: the segment it lies in will be deleted one day.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::io;
use std::path::{Path, PathBuf};

use crate::io::{Io, IoFile, read_exact_at, write_all_at};

/// Where corrupt bytes are kept, within the log's folder.
const DIR: &str = "corrupt";
/// One read and write.
const CHUNK: usize = 1 << 20;

/// Copies the bytes `from..to` of segment `id` at `path` to a file of their own, durably, and returns
/// its path. What an earlier start has kept is not copied again.
pub(super) fn keep(
    io: &dyn Io,
    log_dir: &Path,
    path: &Path,
    id: u64,
    from: u64,
    to: u64,
) -> io::Result<PathBuf> {
    let dir = log_dir.join(DIR);
    let aside = dir.join(format!("{id:020}-{from:012}.bin"));
    if io.exists(&aside)? {
        return Ok(aside);
    }
    io.create_dir_all(&dir)?;
    let unfinished = aside.with_extension("tmp");
    if io.exists(&unfinished)? {
        io.remove_file(&unfinished)?;
    }
    let target = io.create_new(&unfinished)?;
    copy(&*io.open_read(path)?, from, to, &*target)?;
    target.sync_data()?;
    io.rename(&unfinished, &aside)?;
    io.sync_dir(&dir)?;
    Ok(aside)
}

/// Copies a part of a file to the start of another.
fn copy(source: &dyn IoFile, from: u64, to: u64, target: &dyn IoFile) -> io::Result<()> {
    let mut at = from;
    let mut chunk = vec![0; CHUNK];
    while at < to {
        let want = usize::try_from(to.saturating_sub(at)).unwrap_or(CHUNK).min(CHUNK);
        let Some(part) = chunk.get_mut(..want) else { break };
        read_exact_at(source, part, at)?;
        write_all_at(target, part, at.saturating_sub(from))?;
        at = at.saturating_add(want as u64);
    }
    Ok(())
}
