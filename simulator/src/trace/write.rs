//! Writing a trace.

use std::fs::{File, OpenOptions};
use std::io::{BufReader, Write as _};
use std::path::{Path, PathBuf};

use hashbrown::HashMap;

use super::{
    BUFFER_BYTES, INTERRUPTION, MAGIC, MESSAGE, MOST_TOPICS, RECORDING, RETAINED, TOPIC, TOPICS,
    TraceError, TraceReader,
};
use crate::block;
use crate::code::put;
use crate::options::Qos;

/// A trace that is being recorded.
#[derive(Debug)]
pub struct TraceWriter {
    path: PathBuf,
    file: File,
    /// The block that is being filled; empty if it has no record.
    block: Vec<u8>,
    /// When the record before was, in µs since the recording began.
    last_us: u64,
    topics: HashMap<Box<str>, u64>,
    failed: bool,
}

impl TraceWriter {
    /// Begins a recording, making the file if there is none, and cutting a torn tail.
    ///
    /// # Errors
    /// When the file cannot be used, or is none of this program's.
    pub fn begin(path: &Path, at_ms: i64) -> Result<Self, TraceError> {
        let io = |source| TraceError::Io { path: path.to_owned(), source };
        let mut file =
            OpenOptions::new().create(true).read(true).append(true).open(path).map_err(io)?;
        let mut whole = 0;
        if file.metadata().map_err(io)?.len() > 0 {
            let mut reader = TraceReader::new(BufReader::new(&file), path)?;
            while reader.next_entry()?.is_some() {}
            whole = reader.whole();
        }
        file.set_len(whole).map_err(io)?;
        if whole == 0 {
            file.write_all(&MAGIC).map_err(io)?;
        }
        let path = path.to_owned();
        let (block, topics) = (Vec::new(), HashMap::new());
        let mut writer = Self { path, file, block, last_us: 0, topics, failed: false };
        writer.open();
        writer.block.push(RECORDING);
        writer.block.extend_from_slice(&at_ms.to_le_bytes());
        writer.write()?;
        Ok(writer)
    }

    /// Begins a block, if none is begun.
    fn open(&mut self) {
        if self.block.is_empty() {
            block::begin(&mut self.block);
            put(&mut self.block, self.last_us);
        }
    }

    /// Time goes on only; a clock that went back stands still.
    fn time(&mut self, at_us: u64) {
        let passed = at_us.saturating_sub(self.last_us);
        self.last_us += passed;
        put(&mut self.block, passed);
    }

    /// Puts a message behind all others.
    ///
    /// # Errors
    /// When a full buffer cannot be written.
    pub fn message(
        &mut self,
        at_us: u64,
        topic: &str,
        qos: Qos,
        retain: bool,
        payload: &[u8],
    ) -> Result<(), TraceError> {
        self.open();
        if self.topics.len() >= MOST_TOPICS && !self.topics.contains_key(topic) {
            self.topics.clear();
            self.block.push(TOPICS);
        }
        let number = match self.topics.get(topic) {
            Some(number) => *number,
            None => {
                self.block.push(TOPIC);
                put(&mut self.block, topic.len() as u64);
                self.block.extend_from_slice(topic.as_bytes());
                let number = self.topics.len() as u64;
                self.topics.insert(topic.into(), number);
                number
            }
        };
        self.block.push(MESSAGE | qos.number() << 4 | if retain { RETAINED } else { 0 });
        self.time(at_us);
        put(&mut self.block, number);
        put(&mut self.block, payload.len() as u64);
        self.block.extend_from_slice(payload);
        if self.block.len() < BUFFER_BYTES { Ok(()) } else { self.write() }
    }

    /// Notes that the connection was lost.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn interruption(&mut self, at_us: u64) -> Result<(), TraceError> {
        self.open();
        self.block.push(INTERRUPTION);
        self.time(at_us);
        self.write()
    }

    /// Brings everything to the disk.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn flush(&mut self) -> Result<(), TraceError> {
        self.write()?;
        self.file.sync_data().map_err(|source| {
            self.failed = true;
            TraceError::Io { path: self.path.clone(), source }
        })
    }

    /// Hands the block to the operating system.
    fn write(&mut self) -> Result<(), TraceError> {
        if self.failed {
            // The tail may be torn; writing behind it would hide all of that from readers.
            self.block.clear();
            return Err(TraceError::Failed { path: self.path.clone() });
        }
        if self.block.is_empty() {
            return Ok(());
        }
        block::seal(&mut self.block);
        let written = self.file.write_all(&self.block);
        self.block.clear();
        written.map_err(|source| {
            self.failed = true;
            TraceError::Io { path: self.path.clone(), source }
        })
    }
}
