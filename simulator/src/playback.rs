//! A trace as a fleet: what a station was seen to publish is published again, at its own pace or another.
//!
//! The trace is read once to find out who published what and when; of each message its place in the file is
//! kept, 32 bytes, and its payload is read when it is due. A station's messages become a `Tape`, which a
//! publisher plays like the batches of a simulated station: with its window, its redelivery, its ledger and
//! its faults of sessions. What is not of a station goes on a tape of its own.
//!
//! The ledger gets what each payload means, by the conversion that the service does as well. Payloads that
//! are no batch of their station have no readings there: where they go is not this fleet's to say.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use loushan_schemas::ids::StationId;
use loushan_schemas::topic::{ALARMS, Channel, Topic, TopicError};

use crate::fault::FaultCounts;
use crate::options::{Qos, Share};
use crate::station::Batch;
use crate::trace::{Entry, TraceError, TraceReader};

mod identity;
mod meaning;

pub(crate) use identity::Renaming;

/// The client that publishes what is not of a station.
const OTHERS: &str = "loushan-player";

/// How a trace is played.
#[derive(Debug, Clone, PartialEq)]
pub struct TraceOptions {
    /// The file.
    pub path: PathBuf,
    /// How many times faster than it was recorded.
    pub speed: f64,
    /// Gives stations, sessions and devices other names, which follow from this number.
    pub map_identities: Option<u64>,
}

/// A message's place in the trace.
#[derive(Debug, Clone, Copy)]
struct Spot {
    /// µs since the beginning of the first recording.
    at_us: u64,
    place: u64,
    length: u32,
    /// Among the tape's topics.
    topic: u16,
    qos: Qos,
    retain: bool,
}

/// Everything that one client is to publish.
#[derive(Debug)]
pub(crate) struct Tape {
    pub(crate) name: String,
    station: Option<StationId>,
    topics: Vec<(Bytes, Option<Channel>)>,
    spots: std::vec::IntoIter<Spot>,
    file: Arc<File>,
    renaming: Option<Renaming>,
    /// Of batches.
    qos: Qos,
    start_ms: i64,
    speed: f64,
    path: PathBuf,
    /// A read failed: nothing more is played.
    failed: Option<std::io::Error>,
}

/// What a trace holds for one client, while it is sorted.
#[derive(Default)]
struct Heap {
    station: Option<StationId>,
    topics: Vec<(Arc<str>, Option<Channel>)>,
    spots: Vec<Spot>,
}

/// Whether a topic is one that brokers publish to themselves, and nobody else may: figures, alarms.
fn is_brokers(topic: &str) -> bool {
    let below = |root: &str| topic.strip_prefix(root).is_some_and(|rest| rest.starts_with('/'));
    below("$SYS") || below(ALARMS)
}

/// Whose station a message is, if it is one's, and on which channel; `None` for what is not played:
/// commands, which are the service's to give, and what a broker says of itself.
fn sender(topic: &str) -> Option<(Option<StationId>, Option<Channel>)> {
    if is_brokers(topic) {
        return None;
    }
    match Topic::parse(topic) {
        Ok(Topic { channel: Channel::Command, .. }) => None,
        Ok(topic) => Some((Some(topic.station), Some(topic.channel))),
        Err(TopicError::Foreign | TopicError::Shape | TopicError::Name(_)) => Some((None, None)),
    }
}

/// The tapes of a trace.
pub(crate) fn tapes(
    options: &TraceOptions,
    share: Share,
    qos: Qos,
    start_ms: i64,
) -> Result<Vec<Tape>, TraceError> {
    let io = |source| TraceError::Io { path: options.path.clone(), source };
    let mut reader = TraceReader::open(&options.path)?;
    let mut heaps: BTreeMap<Arc<str>, Heap> = BTreeMap::new();
    let (mut base_us, mut last_us) = (0, 0);
    while let Some(entry) = reader.next_entry()? {
        let seen = match entry {
            // Recordings follow each other without the time between them.
            Entry::Recording { .. } => {
                base_us = last_us;
                continue;
            }
            Entry::Interruption { .. } => continue,
            Entry::Message(seen) => seen,
        };
        last_us = base_us + seen.at_us;
        let Some((station, channel)) = sender(&seen.topic) else { continue };
        let name: Arc<str> = station.as_ref().map_or(OTHERS, StationId::as_str).into();
        let heap = heaps.entry(name).or_default();
        heap.station = station;
        let known = heap.topics.iter().position(|(topic, _)| *topic == seen.topic);
        let topic = known.unwrap_or_else(|| {
            heap.topics.push((Arc::clone(&seen.topic), channel));
            heap.topics.len() - 1
        });
        heap.spots.push(Spot {
            at_us: last_us,
            place: reader.payload_at(),
            length: u32::try_from(seen.payload.len()).unwrap_or(u32::MAX),
            topic: u16::try_from(topic).unwrap_or(u16::MAX),
            qos: seen.qos,
            retain: seen.retain,
        });
    }
    if reader.torn() {
        tracing::warn!(trace = %options.path.display(), "it ends in a torn block: its writer was killed");
    }
    let file = Arc::new(File::open(&options.path).map_err(io)?);
    let renaming = options.map_identities.map(Renaming);
    let tape = |(name, heap): (Arc<str>, Heap)| {
        let station = heap.station.clone();
        let renamed =
            |station: &StationId| renaming.map_or(station.clone(), |r| r.station(station));
        let topic = |(topic, channel): (Arc<str>, Option<Channel>)| {
            let parsed = Topic::parse(&topic).ok();
            let new = parsed.map(|t| Topic { station: renamed(&t.station), ..t }.to_string());
            (new.map_or_else(|| Bytes::copy_from_slice(topic.as_bytes()), Bytes::from), channel)
        };
        Tape {
            name: station.as_ref().map_or_else(|| name.to_string(), |s| renamed(s).to_string()),
            station,
            topics: heap.topics.into_iter().map(topic).collect(),
            spots: heap.spots.into_iter(),
            file: Arc::clone(&file),
            renaming,
            qos,
            start_ms,
            speed: options.speed,
            path: options.path.clone(),
            failed: None,
        }
    };
    let tapes =
        (1..).zip(heaps).filter(|(number, _)| share.has(*number)).map(|(_, heap)| tape(heap));
    Ok(tapes.collect())
}

/// What a trace holds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Outline {
    clients: usize,
    messages: u64,
    bytes: u64,
    interruptions: u64,
    seconds: f64,
    torn: bool,
}

/// What playing a trace would be.
///
/// # Errors
/// When it cannot be read.
#[allow(clippy::cast_precision_loss)] // for people
pub fn outline(options: &TraceOptions) -> Result<Outline, TraceError> {
    let mut reader = TraceReader::open(&options.path)?;
    let (mut outline, mut clients) = (Outline::default(), HashSet::new());
    let (mut base_us, mut last_us) = (0, 0);
    while let Some(entry) = reader.next_entry()? {
        match entry {
            Entry::Recording { .. } => base_us = last_us,
            Entry::Interruption { .. } => outline.interruptions += 1,
            Entry::Message(seen) => {
                last_us = base_us + seen.at_us;
                let Some((station, _)) = sender(&seen.topic) else { continue };
                outline.messages += 1;
                outline.bytes += seen.payload.len() as u64;
                clients.insert(station.map(|station| station.to_string()));
            }
        }
    }
    outline.clients = clients.len();
    outline.seconds = last_us as f64 / 1e6 / options.speed;
    outline.torn = reader.torn();
    Ok(outline)
}

impl fmt::Display for Outline {
    #[allow(clippy::cast_precision_loss)] // for people
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let per_s = |count: u64| count as f64 / self.seconds.max(0.001);
        writeln!(f, "clients      {}", self.clients)?;
        writeln!(f, "publishes    {}, {:.1}/s", self.messages, per_s(self.messages))?;
        writeln!(f, "payload      {:.1} kB/s", per_s(self.bytes) / 1000.0)?;
        write!(f, "takes        {:.1} s", self.seconds)?;
        if self.interruptions > 0 {
            write!(f, "\ninterrupted  {} times while it was recorded", self.interruptions)?;
        }
        if self.torn {
            write!(f, "\nit ends in a torn block: its writer was killed")?;
        }
        Ok(())
    }
}

/// Milliseconds into the run.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)] // far below 2^53 µs
fn scaled(at_us: u64, speed: f64) -> i64 {
    (at_us as f64 / 1000.0 / speed) as i64
}

impl Tape {
    /// Whether it could be played to its end.
    pub(crate) fn end(&mut self) -> Result<(), TraceError> {
        match self.failed.take() {
            None => Ok(()),
            Some(source) => Err(TraceError::Io { path: self.path.clone(), source }),
        }
    }

    /// The next message; `None` at the end, or when the trace cannot be read any more.
    pub(crate) fn next_batch(&mut self) -> Option<Batch> {
        let spot = self.spots.next()?;
        let mut payload = vec![0; spot.length as usize];
        if let Err(error) = self.file.read_exact_at(&mut payload, spot.place) {
            self.failed = Some(error);
            return None;
        }
        let (topic, channel) = self.topics.get(usize::from(spot.topic))?.clone();
        let due = self.start_ms + scaled(spot.at_us, self.speed);
        let station = self.station.as_ref();
        if let (Some(renaming), Some(station), Some(channel)) = (self.renaming, station, channel)
            && let Some(new) = renaming.payload(channel, station, &payload)
        {
            payload = new;
        }
        let own = channel.is_none_or(|c| matches!(c, Channel::State | Channel::CommandResult));
        let named = station.map(|s| self.renaming.map_or(s.clone(), |r| r.station(s)));
        let meaning = match (channel, named) {
            (Some(channel), Some(station)) => meaning::of(channel, &station, &payload),
            _ => None,
        };
        let meaning = meaning.unwrap_or_default();
        Some(Batch {
            due,
            base_ms: meaning.base_ms.unwrap_or(due),
            entered: !own,
            channel: channel.unwrap_or(Channel::Telemetry),
            topic: Some(topic),
            qos: Some(if own { spot.qos } else { self.qos }),
            // Births are kept by the broker, though who listened saw them pass.
            retain: spot.retain || channel == Some(Channel::State),
            session: meaning.session,
            seq: meaning.seq,
            payload: payload.into(),
            meant: meaning.meant.into(),
            beside: meaning.beside,
            again: false,
            faults: FaultCounts::default(),
            ledger_id: Arc::new(OnceLock::new()),
        })
    }
}

#[cfg(test)]
mod tests;
