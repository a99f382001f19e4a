//! The critical section: dedup, counters, verdict and lsn are one step.
//!
//! `State` is what earlier frames left behind. A `Decider` changes it together with the log:
//! either a publish is appended and everything it brought is remembered under its lsn, or nothing
//! has happened. `State::apply` does to another state what a frame of the log did to this one; by
//! it the state is rebuilt at start, and kept by the snapshot's task.

use hashbrown::HashMap;
use loushan_schemas::reject::RejectReason;
use loushan_schemas::topic::{Channel, Topic};
use xxhash_rust::xxh3::xxh3_128;

use super::counts::Tally;
use super::decode::{Decoded, decode};
use super::dedup::batches::{Answer, BatchId, Batches, Seen, Stream};
use super::dedup::devices::{Devices, Known, Question};
use super::dedup::{Key, ReadingKey};
use super::frame::DurableFrame;
use super::normalize::{Previous, check_against_previous, next_previous};
use super::prepare::{Content, Prepared, Readings};
use super::verdict::Encoder;
use crate::wal::{AppendError, Log};

/// Bounds of the state, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateLimits {
    /// For the devices' last readings and counters. It must hold what the embedded store has not
    /// stored yet, or the pipeline waits for the store.
    pub devices: usize,
    /// For the stations' last batches.
    pub batches: usize,
}

impl Default for StateLimits {
    fn default() -> Self {
        Self { devices: 256 << 20, batches: 64 << 20 }
    }
}

/// What earlier frames left behind.
#[derive(Debug, Clone)]
pub(crate) struct State {
    pub(crate) devices: Devices<Previous>,
    pub(crate) batches: Batches,
}

impl State {
    /// The state before the first frame, or with `mark` after frames nothing is known of.
    pub(crate) fn new(limits: StateLimits, mark: i64) -> Self {
        Self { devices: Devices::new(limits.devices, mark), batches: Batches::new(limits.batches) }
    }

    /// Remembers what a durable frame brought.
    pub(crate) fn apply(&mut self, frame: &DurableFrame) {
        for row in &frame.rows {
            let key = Key::of(row);
            let slot = self.devices.slot_of(key.device);
            let next = next_previous(self.devices.previous(slot).copied(), &row.reading);
            self.devices.enter(slot, &key, Some(next));
        }
        self.devices.place(frame.lsn);
        self.devices.settle(frame.lsn);
        self.devices.make_room();
        if let Some(id) = name_of(frame) {
            let tally = Tally {
                accepted: u32::try_from(frame.rows.len()).unwrap_or(u32::MAX),
                duplicate: frame.duplicates,
                rejected: reading_rejects(frame).collect(),
            };
            let answer = Answer::of(&tally);
            let digest = xxh3_128(&frame.payload);
            self.batches.note(&id, Seen { seq: id.seq, digest, lsn: frame.lsn, answer });
        }
    }
}

/// The reasons of rejected readings, as opposed to what the dead letter keeps of the whole publish.
fn reading_rejects(frame: &DurableFrame) -> impl Iterator<Item = RejectReason> {
    frame.rejects.iter().filter(|reject| reject.reading.is_some()).map(|reject| reject.reason)
}

/// The name of the publish in a frame; `None` for those without one.
fn name_of(frame: &DurableFrame) -> Option<BatchId> {
    if let Some(row) = frame.rows.first() {
        let status = row.reading.imei.is_none();
        let stream = if status { Stream::Status } else { Stream::Batches };
        let (session, seq) = (row.session, row.batch_seq);
        return Some(BatchId { station: row.station.clone(), stream, session, seq });
    }
    let rejected_whole =
        |r: &super::frame::Reject| r.reading.is_none() && r.reason != RejectReason::UnknownFields;
    if frame.rejects.iter().any(rejected_whole) {
        return None;
    }
    // Rare: nothing of the batch was accepted, or it is no batch.
    let topic = Topic::parse(&frame.topic).ok().filter(|t| t.channel != Channel::State)?;
    let (stream, session, seq) = match decode(&topic, &frame.payload).ok()? {
        Decoded::Batch(batch) => (Stream::Batches, batch.session, batch.seq),
        Decoded::Status(status) => (Stream::Status, status.session, status.seq),
        Decoded::CommandResult(result) => (Stream::Commands, result.session, result.seq),
        Decoded::State(_) => return None,
    };
    Some(BatchId { station: topic.station, stream, session, seq })
}

/// What the store said, by the hash of the key: whether it has the reading.
pub(crate) type Answers = HashMap<u64, bool>;

/// What came out of a decision.
#[derive(Debug)]
pub(crate) enum Decision {
    /// It is frame `lsn`; [`Decider::duplicates`] says which of its rows are not new.
    Appended { lsn: u64, answer: Answer, tally: Tally, reused: bool, unknown_fields: bool },
    /// Everything in it came before, the last of it with frame `lsn`. Nothing was appended.
    Known { lsn: u64, answer: Answer, tally: Tally, redelivered: bool },
    /// The store must be asked for these first. Nothing has happened.
    Ask(Question, Vec<(u64, ReadingKey)>),
    /// The state is full of readings that the store has not stored yet. Nothing has happened.
    Full,
    /// The log did not take it. Nothing has happened.
    Refused(AppendError),
}

/// The state, and what is needed to change it.
#[derive(Debug)]
pub(crate) struct Decider {
    pub(crate) state: State,
    encoder: Encoder,
    looks: Vec<(Option<u32>, Known)>,
    duplicate: Vec<bool>,
}

impl Decider {
    pub(crate) fn new(state: State) -> Self {
        Self { state, encoder: Encoder::default(), looks: Vec::new(), duplicate: Vec::new() }
    }

    /// For each row of the publish decided last, whether it is a duplicate.
    pub(crate) fn duplicates(&self) -> &[bool] {
        &self.duplicate
    }

    /// Decides a publish and appends it, if there is anything new in it. `answers` are the store's,
    /// to an earlier call's questions. Readings that are accepted are judged against their device's
    /// earlier ones in place.
    pub(crate) fn decide(
        &mut self,
        log: &Log,
        publish: &mut Prepared,
        answers: &Answers,
    ) -> Decision {
        let digest = publish.digest;
        let mut reused = false;
        if let Some(id) = publish.id()
            && let Some(seen) = self.state.batches.find(id)
        {
            if seen.digest == digest {
                let Seen { lsn, answer, .. } = *seen;
                let tally = Tally { duplicate: publish.readings(), ..Tally::default() };
                return Decision::Known { lsn, answer, tally, redelivered: true };
            }
            reused = true;
        }
        let decision = match &mut publish.content {
            Content::Readings(readings) => {
                self.duplicate.clear();
                if let Some(early) = self.weigh(readings, answers) {
                    return early;
                }
                let tally = readings.tally(&self.duplicate);
                let body = self.encoder.readings(
                    &publish.topic,
                    &publish.payload,
                    publish.received,
                    readings.outcomes(&self.duplicate),
                    readings.unknown_fields,
                );
                log.append(body).map(|lsn| (lsn.0, tally))
            }
            Content::Recorded(_) => {
                let body =
                    self.encoder.recorded(&publish.topic, &publish.payload, publish.received);
                log.append(body).map(|lsn| (lsn.0, Tally::default()))
            }
            Content::Rejected(reason) => {
                let tally = Tally { rejected: vec![*reason], ..Tally::default() };
                let body = self.encoder.rejected(
                    &publish.topic,
                    &publish.payload,
                    publish.received,
                    publish.cut_from,
                    *reason,
                );
                log.append(body).map(|lsn| (lsn.0, tally))
            }
        };
        match decision {
            Ok((lsn, tally)) => {
                self.state.devices.place(lsn);
                let answer = Answer::of(&tally);
                if let Some(id) = publish.id() {
                    self.state.batches.note(id, Seen { seq: id.seq, digest, lsn, answer });
                }
                let unknown_fields =
                    matches!(&publish.content, Content::Readings(r) if r.unknown_fields);
                Decision::Appended { lsn, answer, tally, reused, unknown_fields }
            }
            Err(error) => {
                self.state.devices.take_back();
                Decision::Refused(error)
            }
        }
    }

    /// Lets the new readings enter. `None` if there is something to append.
    fn weigh(&mut self, readings: &mut Readings, answers: &Answers) -> Option<Decision> {
        let devices = &mut self.state.devices;
        devices.make_room();
        if devices.full() {
            return Some(Decision::Full);
        }
        // First look, so that nothing has happened yet if the store must be asked.
        self.looks.clear();
        let mut unsure = Vec::new();
        for (key, row) in readings.keys.iter().zip(&readings.rows) {
            let (slot, mut known) = devices.look(key);
            if known == Known::Unsure {
                match answers.get(&key.hash) {
                    Some(true) => known = Known::Before(0),
                    Some(false) => known = Known::New,
                    None => unsure.push((key.hash, ReadingKey::of(row))),
                }
            }
            self.looks.push((slot, known));
        }
        if !unsure.is_empty() {
            return Some(Decision::Ask(devices.ask(), unsure));
        }
        let mut latest = 0;
        let mut news = false;
        let rows = readings.rows.iter_mut().zip(&readings.keys).zip(&self.looks);
        for ((row, key), (slot, known)) in rows {
            let duplicate = match known {
                Known::Before(lsn) => {
                    latest = latest.max(*lsn);
                    true
                }
                Known::New | Known::Unsure => {
                    let slot = slot.unwrap_or_else(|| devices.slot_of(key.device));
                    let repeated = devices.in_this_batch(slot, key.hash);
                    if !repeated {
                        let previous = devices.previous(slot).copied();
                        check_against_previous(previous.as_ref(), &mut row.reading);
                        let next = next_previous(previous, &row.reading);
                        devices.enter(slot, key, Some(next));
                        news = true;
                    }
                    repeated
                }
            };
            self.duplicate.push(duplicate);
        }
        if news || !readings.rejects.is_empty() {
            return None;
        }
        let tally = readings.tally(&self.duplicate);
        let answer = Answer::of(&tally);
        Some(Decision::Known { lsn: latest, answer, tally, redelivered: false })
    }
}
