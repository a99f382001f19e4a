//! A trace: what a broker's subscribers saw, in the order they saw it.
//!
//! # Format
//!
//! An append-only file: the magic `LSTRCE` and the format's version in two digits, `01`; then blocks
//! (see `block`). A body begins with what its times are reckoned from, as a number *n*: microseconds since
//! the recording began; then come records, each begun by its type in the low four bits of a byte. *n* is a
//! number of as few bytes as it needs, seven bits a byte:
//!
//! | type | record |
//! |---|---|
//! | 1 recording | when it began, Unix ms i64: topics and times begin anew |
//! | 2 topic | length n · its bytes, UTF-8 |
//! | 3 message | µs since the record before, n · topic n · length n · payload |
//! | 4 interruption | µs since the record before, n: the connection was lost, and messages may be missing |
//! | 5 topics | all that were named so far are forgotten |
//!
//! A message's QoS is in bits 4 and 5 of its first byte, and whether it was retained in bit 6. Topics are known
//! by the ordinals of their names. So a message costs some six bytes beside its payload.
//!
//! # Order
//!
//! Blocks are handed to the operating system at least once a second, and synced; whoever is killed loses that
//! second, and what was half written is cut off by the next recording into the same file. A recording into a
//! file that has some already goes behind them.
//!
//! # Reading
//!
//! The first block that is cut short or fails its checksum ends the file. A trace of another version is
//! refused, and so is a record that this build does not know.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use crate::options::Qos;

mod read;
mod write;

pub use read::TraceReader;
pub use write::TraceWriter;

const MAGIC_WITHOUT_VERSION: [u8; 6] = *b"LSTRCE";
pub(crate) const MAGIC: [u8; 8] = *b"LSTRCE01";
const VERSION: u32 = 1;

const RECORDING: u8 = 1;
const TOPIC: u8 = 2;
const MESSAGE: u8 = 3;
const INTERRUPTION: u8 = 4;
const TOPICS: u8 = 5;
const TYPE: u8 = 0x0f;
const RETAINED: u8 = 0x40;

/// The longest packet that is recorded, and so the longest payload.
pub const MESSAGE_BYTES: usize = 16 * 1024 * 1024;
/// A block is written when it is so long; behind that comes one message at most.
const BUFFER_BYTES: usize = 64 * 1024;
const BLOCK_BYTES: usize = MESSAGE_BYTES + 4 * BUFFER_BYTES;
/// Topics that are known by number at a time; with one more all are forgotten.
const MOST_TOPICS: usize = 65_536;

/// What is wrong with a trace.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The file could not be opened, read or written.
    #[error("trace {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is something else.
    #[error("{path} is not a trace of this program; give a file that `loushan record` wrote")]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The file is a trace of another time.
    #[error("trace {path} is of version {found}, this program reads and writes version {VERSION}")]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// A block that is whole holds what this build does not know.
    #[error("trace {path}: the block before byte {at} holds a record this program does not know")]
    Unknown {
        /// The file.
        path: PathBuf,
        /// Where that block ends.
        at: u64,
    },
    /// A write failed before; what came behind it could not be read.
    #[error("trace {path}: an earlier write failed, so nothing more is written to it")]
    Failed {
        /// The file.
        path: PathBuf,
    },
}

/// One entry of a trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A recording begins.
    Recording {
        /// When: Unix ms.
        at_ms: i64,
    },
    /// A message was seen.
    Message(Seen),
    /// The connection was lost: what was published until it was back is not here.
    Interruption {
        /// When: µs since the recording began.
        at_us: u64,
    },
}

/// A message as a subscriber saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// When: µs since the recording began.
    pub at_us: u64,
    /// Where.
    pub topic: Arc<str>,
    /// At which quality of service it came.
    pub qos: Qos,
    /// It was retained.
    pub retain: bool,
    /// What.
    pub payload: Bytes,
}

#[cfg(test)]
mod tests;
