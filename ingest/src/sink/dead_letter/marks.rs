//! Which letters were replayed: a file beside the letters, replaced whole.
//!
//! ```text
//! magic "LSREPLAY" · version u32 = 1 · log id 16 bytes · (lsn u64 · reading u32)* · CRC-32 of what stands before
//! ```
//!
//! Little endian, sorted; reading 2^32 - 1 stands for a whole publish. Losing it costs a second replay,
//! whose readings are duplicates: a file that is damaged is begun anew, loudly.

use std::collections::BTreeSet;
use std::io as stdio;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::io::{Io, read_all, replace_file};
use crate::sink::cursor_file::LogIdBytes;

use super::DeadLetter;

const MAGIC: [u8; 8] = *b"LSREPLAY";
const VERSION: u32 = 1;
const WHOLE: u32 = u32::MAX;
/// The file's name in the dead letter's folder.
const NAME: &str = "replayed";

/// The letters that were replayed.
#[derive(Debug)]
pub struct Marks {
    io: Arc<dyn Io>,
    path: PathBuf,
    log_id: Option<LogIdBytes>,
    marks: BTreeSet<(u64, u32)>,
}

impl Marks {
    /// Reads the marks in a dead letter's folder; where there are none, nothing was replayed.
    ///
    /// # Errors
    /// When the file system fails.
    pub fn read(io: Arc<dyn Io>, dir: &Path) -> stdio::Result<Self> {
        let path = dir.join(NAME);
        let mut marks = Self { io, path, log_id: None, marks: BTreeSet::new() };
        if marks.io.exists(&marks.path)? {
            let bytes = read_all(&*marks.io, &marks.path)?;
            match decode(&bytes) {
                Some((log_id, found)) => (marks.log_id, marks.marks) = (Some(log_id), found),
                None => {
                    tracing::error!(path = %marks.path.display(), "which dead letters were replayed is not known any more: the file is damaged")
                }
            }
        }
        Ok(marks)
    }

    /// Whether a letter was replayed.
    #[must_use]
    pub fn has(&self, letter: &DeadLetter) -> bool {
        self.marks.contains(&(letter.lsn, letter.reading.unwrap_or(WHOLE)))
    }

    /// A letter was replayed; known to others after [`Marks::save`].
    pub(crate) fn add(&mut self, letter: &DeadLetter) {
        self.marks.insert((letter.lsn, letter.reading.unwrap_or(WHOLE)));
    }

    /// Letters before that lsn are gone.
    pub(crate) fn forget_below(&mut self, lsn: u64) {
        self.marks = self.marks.split_off(&(lsn, 0));
    }

    /// Makes the marks durable.
    pub(crate) fn save(&self, log_id: LogIdBytes) -> stdio::Result<()> {
        let mut bytes = Vec::with_capacity(32 + self.marks.len() * 12);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&log_id);
        for (lsn, reading) in &self.marks {
            bytes.extend_from_slice(&lsn.to_le_bytes());
            bytes.extend_from_slice(&reading.to_le_bytes());
        }
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        replace_file(&*self.io, &self.path, &bytes)
    }
}

fn decode(bytes: &[u8]) -> Option<(LogIdBytes, BTreeSet<(u64, u32)>)> {
    let (body, crc) = bytes.split_last_chunk::<4>()?;
    let rest = body.strip_prefix(&MAGIC)?.strip_prefix(&VERSION.to_le_bytes())?;
    if u32::from_le_bytes(*crc) != crc32fast::hash(body) {
        return None;
    }
    let (log_id, mut rest) = rest.split_first_chunk::<16>()?;
    let mut marks = BTreeSet::new();
    while !rest.is_empty() {
        let (lsn, after) = rest.split_first_chunk::<8>()?;
        let (reading, after) = after.split_first_chunk::<4>()?;
        marks.insert((u64::from_le_bytes(*lsn), u32::from_le_bytes(*reading)));
        rest = after;
    }
    Some((*log_id, marks))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::io::sim::SimIo;

    #[test]
    fn the_bytes_on_disk_are_these_and_damaged_ones_are_none() {
        let io = SimIo::new();
        let dir = Path::new("/letters");
        io.create_dir_all(dir).unwrap();
        let mut marks = Marks::read(Arc::new(io.clone()), dir).unwrap();
        marks.marks.extend([(1, 2), (3, WHOLE)]);
        marks.save(*b"sixteen byte id.").unwrap();
        let bytes = read_all(&io, &dir.join(NAME)).unwrap();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let (body, _crc) = hex.split_at(hex.len() - 8);
        assert_eq!(
            body,
            "4c535245504c4159010000007369787465656e20627974652069642e\
             010000000000000002000000\
             0300000000000000ffffffff"
        );
        let mut again = Marks::read(Arc::new(io.clone()), dir).unwrap();
        assert_eq!(again.marks, marks.marks);
        again.forget_below(2);
        assert_eq!(again.marks.len(), 1);
        for bit in 0..bytes.len() as u64 * 8 {
            io.flip_bit(&dir.join(NAME), bit / 8, (bit % 8) as u8).unwrap();
            assert_eq!(Marks::read(Arc::new(io.clone()), dir).unwrap().marks.len(), 0);
            io.flip_bit(&dir.join(NAME), bit / 8, (bit % 8) as u8).unwrap();
        }
    }
}
