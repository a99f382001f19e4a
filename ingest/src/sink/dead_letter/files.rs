//! The segment files of a dead letter folder, and who may write, cut and delete them.
//!
//! Life of a segment: made with its header synced and its name synced into the folder; appended to,
//! one synced group at a time; left behind when it is full or a write to it failed; deleted whole
//! when it is the oldest and the folder is over its quota. Only the newest is ever written.
//!
//! After a failed write or sync nothing more goes into that segment: the group is written again
//! into a new one, whose header names the cursor as it was. So whatever became of the failed group on
//! disk, it does not count.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io as stdio;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::record::{
    BadHeader, HEADER_BYTES, Header, NewLetter, Scan, push_commit, push_letter, scan,
};
use super::{DeadLetterConfig, DeadLetterError, HEAD_BYTES, KEEP_BYTES};
use crate::io::{Io, IoFile, read_all, write_all_at};
use crate::sink::cursor_file::{LogIdBytes, shown};

/// Ends the name of a segment.
const SUFFIX: &str = ".dead";
/// Quotas are enforced by deleting whole segments: a sixteenth of the total is given back at a time.
const SEGMENTS: u64 = 16;
/// Segments are read whole, so they end here however great the quota is.
const SEGMENT_BYTES: u64 = 16 * 1024 * 1024;
/// Stations that have an account of their own; senders choose names, so the rest share one.
const STATIONS: usize = 10_000;

/// A segment's file name.
fn name(number: u64) -> String {
    format!("{number:016}{SUFFIX}")
}

fn number(name: &str) -> Option<u64> {
    name.strip_suffix(SUFFIX).filter(|digits| digits.len() == 16)?.parse().ok()
}

/// The numbers of a folder's segments, oldest first.
pub(super) fn numbers(io: &dyn Io, dir: &Path) -> stdio::Result<Vec<u64>> {
    let mut numbers: Vec<u64> = io.list(dir)?.iter().filter_map(|n| number(n)).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// A segment's path.
pub(super) fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(name(number))
}

#[derive(Debug)]
struct Segment {
    number: u64,
    bytes: u64,
    letters: u64,
    /// Payload bytes kept, by station.
    kept: BTreeMap<Arc<str>, u64>,
}

#[derive(Debug)]
struct Open {
    file: Box<dyn IoFile>,
    len: u64,
}

/// The writer of a dead letter folder. Its calls block.
#[derive(Debug)]
pub(crate) struct LetterFiles {
    io: Arc<dyn Io>,
    dir: PathBuf,
    log_id: LogIdBytes,
    config: DeadLetterConfig,
    /// All of them, oldest first; the last is the one written to while `open` is.
    segments: VecDeque<Segment>,
    /// `None` before the first letter and after a failure.
    open: Option<Open>,
    next_number: u64,
    cursor: u64,
    stations: HashMap<Arc<str>, u64>,
    corrupt: u64,
}

impl LetterFiles {
    /// Opens a folder, which is made if it is missing: cuts a torn tail, and finds the cursor.
    pub(crate) fn open(
        io: Arc<dyn Io>,
        dir: PathBuf,
        log_id: LogIdBytes,
        config: DeadLetterConfig,
    ) -> Result<Self, DeadLetterError> {
        let failed = |source| DeadLetterError::Io { path: dir.clone(), source };
        io.create_dir_all(&dir).map_err(failed)?;
        let numbers = numbers(&*io, &dir).map_err(failed)?;
        let mut files = Self {
            io,
            log_id,
            config,
            segments: VecDeque::new(),
            open: None,
            next_number: numbers.last().map_or(0, |n| n + 1),
            cursor: 0,
            stations: HashMap::new(),
            corrupt: 0,
            dir,
        };
        let newest = numbers.last().copied();
        for number in numbers {
            files.take_in(number, newest == Some(number))?;
        }
        Ok(files)
    }

    /// Everything up to here is durably kept, as far as letters alone can tell.
    pub(crate) fn cursor(&self) -> u64 {
        self.cursor
    }

    /// Damaged stretches met in the files since they were opened.
    pub(crate) fn corrupt(&self) -> u64 {
        self.corrupt
    }

    /// Bytes of all segments.
    pub(crate) fn bytes(&self) -> u64 {
        self.segments.iter().map(|s| s.bytes).sum()
    }

    fn take_in(&mut self, number: u64, newest: bool) -> Result<(), DeadLetterError> {
        let path = path(&self.dir, number);
        let failed = |source| DeadLetterError::Io { path: path.clone(), source };
        let bytes = Bytes::from(read_all(&*self.io, &path).map_err(failed)?);
        let found = match scan(&bytes) {
            Ok(found) => found,
            Err(BadHeader::Version(found)) => {
                return Err(DeadLetterError::Version { path, found });
            }
            Err(BadHeader::Corrupt) if bytes.len() <= HEADER_BYTES => {
                // It was never finished making: no letter can be in it.
                self.io.remove_file(&path).map_err(failed)?;
                self.io.sync_dir(&self.dir).map_err(failed)?;
                return Ok(());
            }
            Err(BadHeader::Corrupt) => {
                tracing::error!(path = %path.display(), "dead letter segment without a sound header: left as it is");
                self.corrupt += 1;
                self.account(number, bytes.len() as u64, None);
                return Ok(());
            }
        };
        if found.header.log_id != self.log_id {
            return Err(DeadLetterError::ForeignLog {
                path,
                found: shown(found.header.log_id),
                ours: shown(self.log_id),
            });
        }
        for range in &found.corrupt {
            tracing::error!(path = %path.display(), ?range, "damaged dead letters: left as they are");
            self.corrupt += 1;
        }
        // What earlier segments hold above this was never acknowledged, and is written again here.
        self.cursor = found.header.after;
        if let Some(group) = found.groups.last() {
            self.cursor = group.cursor;
        }
        let end = found.end() as u64;
        if newest {
            let file = self.io.open(&path).map_err(failed)?;
            if end < bytes.len() as u64 {
                tracing::warn!(path = %path.display(), bytes = bytes.len() as u64 - end, "torn dead letters cut; they come again");
                file.set_len(end).map_err(failed)?;
            }
            // What was read may not have reached the disk before the crash.
            file.sync_data().map_err(failed)?;
            self.open = Some(Open { file, len: end });
        }
        self.account(number, end, Some(&found));
        Ok(())
    }

    fn account(&mut self, number: u64, bytes: u64, found: Option<&Scan>) {
        let mut segment = Segment { number, bytes, letters: 0, kept: BTreeMap::new() };
        for letter in found.iter().flat_map(|f| &f.groups).flat_map(|g| &g.letters) {
            let station = self.station_account(letter.station.as_deref());
            let kept = letter.payload.len() as u64;
            *self.stations.entry(Arc::clone(&station)).or_default() += kept;
            *segment.kept.entry(station).or_default() += kept;
            segment.letters += 1;
        }
        self.segments.push_back(segment);
    }

    /// The account a station's bytes are put down to.
    fn station_account(&self, station: Option<&str>) -> Arc<str> {
        let station = station.unwrap_or("");
        match self.stations.get_key_value(station) {
            Some((account, _)) => Arc::clone(account),
            None if self.stations.len() < STATIONS => Arc::from(station),
            None => Arc::from(""),
        }
    }

    /// Writes letters (in rising order of lsn) and syncs them; then everything up to `cursor` is
    /// kept. Gives how many letters were cut short by a quota. `contexts` are the letters', or less.
    ///
    /// # Errors
    /// When a file cannot be written; nothing was kept then, and the call may be made again.
    pub(crate) fn append_with(
        &mut self,
        letters: &[NewLetter<'_>],
        contexts: &[&[u8]],
        cursor: u64,
    ) -> stdio::Result<u64> {
        let mut bytes = Vec::new();
        let mut added: BTreeMap<Arc<str>, u64> = BTreeMap::new();
        let mut cut = 0;
        for (at, letter) in letters.iter().enumerate() {
            let account = self.station_account(letter.station);
            let kept = self.stations.get(&account).copied().unwrap_or(0)
                + added.get(&account).copied().unwrap_or(0);
            let whole = letter.subject.len();
            let fits = letter.keep_whole
                && whole <= KEEP_BYTES
                && kept + whole as u64 <= self.config.station_bytes;
            let keep = if fits { whole } else { whole.min(HEAD_BYTES) };
            cut += u64::from(keep < whole);
            // One of a reading cut short can be replayed by nobody.
            let context = contexts.get(at).filter(|_| fits).copied().unwrap_or_default();
            push_letter(&self.log_id, letter, keep, context, &mut bytes);
            *added.entry(account).or_default() += keep as u64;
        }
        push_commit(&self.log_id, cursor, &mut bytes);
        self.write(&bytes)?;
        self.cursor = self.cursor.max(cursor);
        for (account, kept) in &added {
            *self.stations.entry(Arc::clone(account)).or_default() += kept;
        }
        if let Some(segment) = self.segments.back_mut() {
            segment.letters += letters.len() as u64;
            segment.bytes += bytes.len() as u64;
            for (account, kept) in added {
                *segment.kept.entry(account).or_default() += kept;
            }
        }
        Ok(cut)
    }

    /// The same, of letters that need none.
    #[cfg(test)]
    pub(crate) fn append(&mut self, letters: &[NewLetter<'_>], cursor: u64) -> stdio::Result<u64> {
        self.append_with(letters, &[], cursor)
    }

    fn write(&mut self, bytes: &[u8]) -> stdio::Result<()> {
        let full = (self.config.total_bytes / SEGMENTS).min(SEGMENT_BYTES);
        let mut open = match self.open.take() {
            Some(open) if open.len < full => open,
            _ => self.create()?,
        };
        let written =
            write_all_at(&*open.file, bytes, open.len).and_then(|()| open.file.sync_data());
        if let Err(error) = written {
            self.leave(&open);
            return Err(error);
        }
        open.len += bytes.len() as u64;
        self.open = Some(open);
        Ok(())
    }

    /// Gives back the room of what failed, or attempts on a full disk would fill it further. Whether
    /// that works changes nothing about what counts.
    fn leave(&mut self, open: &Open) {
        let left = if open.len > HEADER_BYTES as u64 {
            open.file.set_len(open.len)
        } else {
            let empty = self.segments.pop_back();
            empty.map_or(Ok(()), |empty| self.io.remove_file(&path(&self.dir, empty.number)))
        };
        if let Err(error) = left {
            tracing::debug!(%error, "what was left of a failed dead letter segment stays");
        }
    }

    fn create(&mut self) -> stdio::Result<Open> {
        let number = self.next_number;
        // A number is used once, also when what follows fails halfway.
        self.next_number += 1;
        let file = self.io.create_new(&path(&self.dir, number))?;
        let len = HEADER_BYTES as u64;
        self.segments.push_back(Segment { number, bytes: len, letters: 0, kept: BTreeMap::new() });
        let open = Open { file, len };
        let header = Header { log_id: self.log_id, after: self.cursor }.encode();
        let made = write_all_at(&*open.file, &header, 0)
            .and_then(|()| open.file.sync_data())
            .and_then(|()| self.io.sync_dir(&self.dir));
        if let Err(error) = made {
            self.leave(&open);
            return Err(error);
        }
        Ok(open)
    }

    /// Deletes the oldest segments until the folder keeps to its quota. Gives how many letters went.
    ///
    /// # Errors
    /// When a file cannot be removed; the call may be made again.
    pub(crate) fn enforce_quota(&mut self) -> stdio::Result<u64> {
        let mut gone = 0;
        while self.segments.len() > 1 && self.bytes() > self.config.total_bytes {
            let Some(oldest) = self.segments.front() else { break };
            match self.io.remove_file(&path(&self.dir, oldest.number)) {
                Err(e) if e.kind() != stdio::ErrorKind::NotFound => return Err(e),
                _ => self.io.sync_dir(&self.dir)?,
            }
            let Some(oldest) = self.segments.pop_front() else { break };
            gone += oldest.letters;
            for (station, kept) in oldest.kept {
                if let Some(account) = self.stations.get_mut(&station) {
                    *account = account.saturating_sub(kept);
                    if *account == 0 {
                        self.stations.remove(&station);
                    }
                }
            }
        }
        Ok(gone)
    }
}
