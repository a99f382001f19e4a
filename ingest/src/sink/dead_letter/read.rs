//! Reading dead letters, also while the sink writes them.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::DeadLetterError;
use super::files::{numbers, path};
use super::record::{BadHeader, DeadLetter, HEADER_BYTES, Header, scan};
use crate::io::{Io, read_all, read_exact_at};

/// The letters of a folder, oldest first, read one segment at a time.
///
/// Only committed groups are given out. A group may be seen a moment before its sync has returned;
/// it is kept all the same, as the log still holds its frames until then. A segment that the quota
/// deletes meanwhile is passed over.
#[derive(Debug)]
pub struct DeadLetters {
    io: Arc<dyn Io>,
    dir: PathBuf,
    numbers: VecDeque<u64>,
    letters: std::vec::IntoIter<DeadLetter>,
    corrupt: u64,
}

impl DeadLetters {
    /// Opens a folder for reading; one that does not exist has no letters.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub fn open_read(io: Arc<dyn Io>, dir: &Path) -> Result<Self, DeadLetterError> {
        let numbers = match io
            .exists(dir)
            .and_then(|there| if there { numbers(&*io, dir) } else { Ok(Vec::new()) })
        {
            Ok(numbers) => numbers.into(),
            Err(source) => return Err(DeadLetterError::Io { path: dir.to_owned(), source }),
        };
        let dir = dir.to_owned();
        Ok(Self { io, dir, numbers, letters: Vec::new().into_iter(), corrupt: 0 })
    }

    /// Damaged stretches that were passed over so far.
    #[must_use]
    pub fn corrupt(&self) -> u64 {
        self.corrupt
    }

    fn next_segment(&mut self, number: u64) -> Result<Vec<DeadLetter>, DeadLetterError> {
        let path = path(&self.dir, number);
        let bytes = match read_all(&*self.io, &path) {
            Ok(bytes) => Bytes::from(bytes),
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(DeadLetterError::Io { path, source }),
        };
        match scan(&bytes) {
            Ok(found) => {
                self.corrupt += found.corrupt.len() as u64;
                let limit = self.limit()?;
                let groups = found.groups.into_iter().filter(|group| group.cursor <= limit);
                Ok(groups.flat_map(|group| group.letters).collect())
            }
            Err(BadHeader::Version(found)) => Err(DeadLetterError::Version { path, found }),
            Err(BadHeader::Corrupt) => {
                self.corrupt += 1;
                Ok(Vec::new())
            }
        }
    }

    /// Groups above the next segment's start were written again there.
    fn limit(&self) -> Result<u64, DeadLetterError> {
        for number in &self.numbers {
            let path = path(&self.dir, *number);
            let mut header = [0; HEADER_BYTES];
            let read = self.io.open_read(&path).and_then(|f| read_exact_at(&*f, &mut header, 0));
            match read {
                Ok(()) => {
                    if let Ok(header) = Header::decode(&header) {
                        return Ok(header.after);
                    }
                }
                // Deleted meanwhile, or just being made.
                Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::UnexpectedEof) => {}
                Err(source) => return Err(DeadLetterError::Io { path, source }),
            }
        }
        Ok(u64::MAX)
    }
}

impl Iterator for DeadLetters {
    type Item = Result<DeadLetter, DeadLetterError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(letter) = self.letters.next() {
                return Some(Ok(letter));
            }
            let number = self.numbers.pop_front()?;
            match self.next_segment(number) {
                Ok(letters) => self.letters = letters.into_iter(),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

impl DeadLetter {
    /// Appends the letter as one JSON object without a line feed: `lsn`, `received_us`, `topic`,
    /// `station` (if the topic names one), `reason`, `reading` (if it is about one),
    /// `payload_digest` (32 hex digits, xxh3-128 of all bytes), `payload_bytes` (how many these
    /// are), `payload` (hex), `truncated`, and `detail` if there is one.
    pub fn write_json(&self, out: &mut String) {
        let mut write = |args: std::fmt::Arguments<'_>| {
            let written = out.write_fmt(args);
            debug_assert!(written.is_ok(), "writing to a string cannot fail");
        };
        // serde_json's text form is its JSON form, escapes included.
        let text = |text: &str| serde_json::Value::from(text);
        write(format_args!(
            "{{\"lsn\":{},\"received_us\":{},\"topic\":{}",
            self.lsn,
            self.received_ns.div_euclid(1000),
            text(&self.topic)
        ));
        if let Some(station) = &self.station {
            write(format_args!(",\"station\":{}", text(station)));
        }
        write(format_args!(",\"reason\":\"{}\"", self.why.as_str()));
        if let Some(reading) = self.reading {
            write(format_args!(",\"reading\":{reading}"));
        }
        write(format_args!(
            ",\"payload_digest\":\"{:032x}\",\"payload_bytes\":{},\"payload\":\"",
            self.digest, self.subject_bytes
        ));
        for byte in &self.payload {
            write(format_args!("{byte:02x}"));
        }
        write(format_args!("\",\"truncated\":{}", self.truncated));
        if !self.detail.is_empty() {
            write(format_args!(",\"detail\":{}", text(&self.detail)));
        }
        write(format_args!("}}"));
    }
}
