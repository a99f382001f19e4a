//! From a payload to the message its topic calls for, or the one reason why not.
//!
//! A pure function of topic and payload. The steps, each bounded before the next one allocates:
//!
//! 1. **Size.** Nothing, or more than [`limits::PAYLOAD_BYTES`], is turned away.
//! 2. **Decompression** where the payload begins with the magic bytes of zstd or gzip (`inflate`);
//!    the same bound holds for what comes out. No uplink message begins with either: in both, the
//!    first tag would be a known field of the wrong type or of no type at all.
//! 3. **A pass over the wire** of our own (`wire`): prost drops unknown fields silently and
//!    allocates each element of a list before anyone can count them (1 MiB of `3a 00` is half a
//!    million empty readings). The pass checks every tag, length and varint, counts readings, bounds
//!    what is nested, and notes unknown fields.
//! 4. **prost**, reading by reading, so that a broken one costs only itself as long as the batch
//!    around it stands.
//!
//! Nothing is judged here but structure: values, identities and times are normalization's.

mod inflate;
mod wire;

use bytes::Bytes;
use loushan_schemas::ids::StationId;
use loushan_schemas::limits;
use loushan_schemas::pb;
use loushan_schemas::reject::RejectReason;
use loushan_schemas::topic::{Channel, Topic};
use prost::Message;

use wire::{Fields, Wire};

/// What a payload turned out to be.
#[derive(Debug, Clone, PartialEq)]
pub enum Decoded {
    /// Of `u/t`, `u/a` or `u/h`.
    Batch(DecodedBatch),
    /// Of `u/s`.
    Status(pb::StationStatus),
    /// Of `state`.
    State(pb::StationState),
    /// Of `u/r`.
    CommandResult(pb::CommandResult),
}

/// A batch whose structure stands; its station is the topic's.
#[derive(Debug, Clone, PartialEq)]
pub struct DecodedBatch {
    /// New on every boot of the station.
    pub session: u32,
    /// The batch's place in the session.
    pub seq: u64,
    /// Unix milliseconds that the readings' deltas count from.
    pub base_time_ms: u64,
    /// The station had kept the readings back.
    pub replay: bool,
    /// The readings by their position, 1 to [`limits::READINGS_PER_BATCH`] of them.
    pub readings: Vec<Result<pb::Reading, RejectReason>>,
    /// The batch, or a reading that decoded, carries fields this build does not know beside those
    /// it does: to be accepted, and kept for later as [`RejectReason::UnknownFields`].
    pub unknown_fields: bool,
}

/// Decodes what was published to a topic.
///
/// # Errors
/// The reason why the whole payload is rejected. The reason of a single reading is in its place in
/// [`DecodedBatch::readings`].
pub fn decode(topic: &Topic, payload: &Bytes) -> Result<Decoded, RejectReason> {
    if payload.is_empty() {
        return Err(RejectReason::Empty);
    }
    if payload.len() > limits::PAYLOAD_BYTES {
        return Err(RejectReason::PayloadTooLarge);
    }
    let inflated = inflate::inflate(payload)?;
    let payload = inflated.as_ref().unwrap_or(payload);
    if payload.is_empty() {
        return Err(RejectReason::Empty);
    }
    match topic.channel {
        Channel::Telemetry | Channel::Alarm | Channel::Replay => {
            decode_batch(&topic.station, payload).map(Decoded::Batch)
        }
        Channel::Status => {
            let status: pb::StationStatus = decode_message(wire::STATION_STATUS, payload)?;
            check_major(status.schema_major)?;
            Ok(Decoded::Status(status))
        }
        Channel::State => {
            let state: pb::StationState = decode_message(wire::STATION_STATE, payload)?;
            check_major(state.schema_major)?;
            Ok(Decoded::State(state))
        }
        Channel::CommandResult => {
            let result: pb::CommandResult = decode_message(wire::COMMAND_RESULT, payload)?;
            check_major(result.schema_major)?;
            Ok(Decoded::CommandResult(result))
        }
        // Nobody reports there; commands are ours to send.
        Channel::Command => Err(RejectReason::MalformedTopic),
    }
}

/// A payload without its compression; as it is where it has none, or cannot be had out of it.
pub(crate) fn inflated(payload: &Bytes) -> Bytes {
    inflate::inflate(payload).ok().flatten().unwrap_or_else(|| payload.clone())
}

fn check_major(schema_major: u32) -> Result<(), RejectReason> {
    if schema_major == limits::SCHEMA_MAJOR { Ok(()) } else { Err(RejectReason::SchemaMajor) }
}

fn decode_message<M: Message + Default>(
    shape: wire::Shapes,
    payload: &Bytes,
) -> Result<M, RejectReason> {
    wire::check(shape, payload, &mut wire::Lists::default())?;
    M::decode(payload.clone()).map_err(|_| RejectReason::Undecodable)
}

/// The batch's own fields, and how many readings follow.
#[derive(Default)]
struct Envelope<'a> {
    schema_major: u32,
    station: &'a [u8],
    session: u32,
    seq: u64,
    base_time_ms: u64,
    replay: bool,
    readings: usize,
    unknown: bool,
}

impl<'a> Envelope<'a> {
    #[allow(clippy::cast_possible_truncation)] // protobuf cuts an over-long uint32 to its low bits
    fn read(payload: &'a [u8]) -> Result<Self, RejectReason> {
        let mut envelope = Self::default();
        for field in Fields::of(payload) {
            match field? {
                (1, Wire::Varint(v)) => envelope.schema_major = v as u32,
                (2, Wire::Bytes(text)) => envelope.station = text,
                (3, Wire::Fixed32(v)) => envelope.session = v,
                (4, Wire::Varint(v)) => envelope.seq = v,
                (5, Wire::Fixed64(v)) => envelope.base_time_ms = v,
                (6, Wire::Varint(v)) => envelope.replay = v != 0,
                (READINGS, Wire::Bytes(_)) => {
                    envelope.readings += 1;
                    // What follows need not be looked at: the batch is rejected either way.
                    if envelope.readings > limits::READINGS_PER_BATCH {
                        break;
                    }
                }
                (1..=READINGS, _) => return Err(RejectReason::Undecodable),
                _ => envelope.unknown = true,
            }
        }
        Ok(envelope)
    }

    /// The first reason against the batch as a whole. The generation comes first: of another one
    /// nothing else can be said.
    fn check(&self, station: &StationId) -> Result<(), RejectReason> {
        check_major(self.schema_major)?;
        let named = std::str::from_utf8(self.station).map_err(|_| RejectReason::Undecodable)?;
        if named != station.as_str() {
            return Err(match StationId::new(named) {
                Ok(_) => RejectReason::WrongStation,
                Err(_) => RejectReason::BadStation,
            });
        }
        match self.readings {
            0 => Err(RejectReason::NoReadings),
            n if n > limits::READINGS_PER_BATCH => Err(RejectReason::TooManyReadings),
            _ => Ok(()),
        }
    }
}

/// Number of `UplinkBatch.readings`, the last field of a batch.
const READINGS: u32 = 7;

fn decode_batch(station: &StationId, payload: &Bytes) -> Result<DecodedBatch, RejectReason> {
    let envelope = Envelope::read(payload)?;
    envelope.check(station)?;
    let mut unknown_fields = envelope.unknown;
    let mut readings = Vec::with_capacity(envelope.readings);
    for field in Fields::of(payload) {
        if let (READINGS, Wire::Bytes(bytes)) = field? {
            readings.push(decode_reading(payload, bytes, &mut unknown_fields));
        }
    }
    Ok(DecodedBatch {
        session: envelope.session,
        seq: envelope.seq,
        base_time_ms: envelope.base_time_ms,
        replay: envelope.replay,
        readings,
        unknown_fields,
    })
}

/// Decodes one reading, `bytes` being a part of `payload`.
fn decode_reading(
    payload: &Bytes,
    bytes: &[u8],
    unknown_fields: &mut bool,
) -> Result<pb::Reading, RejectReason> {
    if bytes.len() > limits::READING_BYTES {
        return Err(RejectReason::NestedTooLarge);
    }
    let found = wire::check(wire::READING, bytes, &mut wire::Lists::default())?;
    if !found.has_any(wire::READING_BODIES) && found.unknown_here {
        return Err(RejectReason::NewerSchema);
    }
    // From `Bytes`, a raw body is a view of the payload; from a slice, typed ones decode faster.
    let reading = if found.has_any(wire::READING_RAW) {
        pb::Reading::decode(payload.slice_ref(bytes))
    } else {
        pb::Reading::decode(bytes)
    };
    let reading = reading.map_err(|_| RejectReason::Undecodable)?;
    *unknown_fields |= found.unknown_here || found.unknown_below;
    Ok(reading)
}

#[cfg(test)]
mod tests;
