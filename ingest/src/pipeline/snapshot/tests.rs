#![allow(clippy::unwrap_used)]

use std::path::PathBuf;

use super::*;
use crate::io::sim::SimIo;
use crate::pipeline::decide::StateLimits;
use crate::pipeline::dedup::Key;
use crate::pipeline::dedup::devices::{EVERYTHING, Known, NOTHING};
use crate::registry::RegistryLimits;

const LOG: [u8; 16] = [7; 16];

fn empty() -> (State, Registry) {
    let registry = Registry::new(RegistryLimits::default());
    (State::new(StateLimits::default(), NOTHING), registry)
}

fn filled() -> (State, Registry) {
    let (mut state, registry) = empty();
    let slot = state.devices.slot_of(9);
    let previous = Previous::from_bytes(&{
        let mut bytes = [0; Previous::BYTES];
        bytes[0] = 5;
        bytes
    });
    state.devices.enter(slot, &Key { device: 9, hash: 0xabcd, measured: 1000 }, previous);
    state.devices.place(3);
    state.devices.settle(3);
    let id = BatchId {
        station: StationId::new("bs1").unwrap(),
        stream: Stream::Batches,
        session: 8,
        seq: 2,
    };
    let answer = Answer {
        readings: 3,
        rejected: 1,
        reason: Some(RejectReason::BadImei),
        nothing_accepted: false,
    };
    state.batches.note(&id, Seen { seq: 2, digest: 0x0102 << 64 | 0x0304, lsn: 3, answer });
    (state, registry)
}

#[test]
fn the_bytes_are_pinned() {
    let (state, registry) = filled();
    let bytes = encode(3, LogId::from_bytes(LOG), &state, &registry);
    // 16,384 marks of one byte, each -2 as zigzag, in a record of a known length.
    let marks = [vec![0x03; 1 << 14]].concat();
    let at = bytes.windows(marks.len()).position(|window| window == marks).unwrap();
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    assert_eq!(
        hex(&bytes[..at]),
        concat!(
            "4c6f757368534e50", // LoushSNP
            "180a160801",
            "1003",
            "1a10",
            "07070707070707070707070707070707", // head
            "88800122",
            "848001",
            "0a808001", // marks
        )
    );
    let rest = &bytes[at + marks.len()..bytes.len() - DIGEST_BYTES];
    let device = concat!(
        "51124f",               // device
        "090900000000000000",   // id
        "1003",                 // mark
        "1a08cdab000000000000", // hash
        "2202d00f",             // measured
        "2a0103",               // lsn
        "323105",               // previous
    );
    let session = concat!(
        "2c1a2a",             // session
        "0a03627331",         // station
        "1001",               // stream
        "1d08000000",         // session
        "221c0802",           // seen, seq
        "110201000000000000", // digest
        "190403000000000000", // digest
        "20032803",           // lsn, readings
        "3001380e",           // rejected, reason
    );
    let previous = "00".repeat(Previous::BYTES - 1);
    assert_eq!(hex(rest), format!("{device}{previous}{session}023801"));
}

#[test]
fn what_is_written_is_read() {
    let (state, registry) = filled();
    let bytes = encode(3, LogId::from_bytes(LOG), &state, &registry);
    let snapshot = decode(&bytes).unwrap();
    assert_eq!(snapshot.lsn(), 3);
    assert!(snapshot.fits(LogId::from_bytes(LOG), 3), "the log begins right after it");
    assert!(!snapshot.fits(LogId::from_bytes(LOG), 4), "a frame between them is gone");
    assert!(!snapshot.fits(LogId::from_bytes([8; 16]), 0), "another log's");
    let (mut restored, registry) = empty();
    snapshot.restore(&mut restored, &registry);
    assert_eq!(encode(3, LogId::from_bytes(LOG), &restored, &registry), bytes);
    let key = Key { device: 9, hash: 0xabcd, measured: 1000 };
    assert_eq!(restored.devices.look(&key).1, Known::Before(3));
}

#[test]
fn no_damage_goes_unseen() {
    let (state, registry) = filled();
    let bytes = encode(3, LogId::from_bytes(LOG), &state, &registry);
    for at in (0..bytes.len()).step_by(97).chain([0, 8, bytes.len() - 17, bytes.len() - 1]) {
        let mut rotten = bytes.clone();
        rotten[at] ^= 1;
        assert!(decode(&rotten).is_err(), "bit of byte {at}");
        assert!(decode(&bytes[..at]).is_err(), "cut at {at}");
    }
    assert_eq!(decode(b"").unwrap_err(), Unusable::Magic);
}

#[test]
fn a_later_version_and_a_file_without_its_end_are_refused_with_the_reason() {
    let with = |parts: Vec<Part>| {
        let mut out = MAGIC.to_vec();
        for part in parts {
            pb::Record { record: Some(part) }.encode_length_delimited(&mut out).unwrap();
        }
        out.extend_from_slice(&xxh3_128(&out).to_le_bytes());
        decode(&out).unwrap_err()
    };
    let head = |version| Part::Head(pb::Head { version, lsn: 1, log_id: LOG.to_vec() });
    assert_eq!(with(vec![head(2), Part::End(true)]), Unusable::Version(2));
    assert_eq!(with(vec![head(1)]), Unusable::Missing("end"));
    assert_eq!(with(vec![Part::End(true)]), Unusable::Missing("head"));
}

#[test]
fn marks_in_another_number_of_buckets_become_the_greatest_of_them_everywhere() {
    let (mut state, registry) = empty();
    let marks = Part::Marks(pb::Marks { mark: vec![5, 900, 7] });
    let snapshot = Snapshot { lsn: 1, log_id: LOG.to_vec(), parts: vec![marks] };
    snapshot.restore(&mut state, &registry);
    let key = |measured| Key { device: 1, hash: 1, measured };
    assert_eq!(state.devices.look(&key(900)).1, Known::Unsure);
    assert_eq!(state.devices.look(&key(901)).1, Known::New);
    let none = Part::Marks(pb::Marks { mark: Vec::new() });
    Snapshot { lsn: 1, log_id: LOG.to_vec(), parts: vec![none] }.restore(&mut state, &registry);
    assert_eq!(state.devices.look(&key(EVERYTHING)).1, Known::Unsure);
}

#[test]
fn a_missing_file_is_none_and_so_is_a_file_that_is_no_snapshot() {
    let io = SimIo::new();
    let path = PathBuf::from("/data/pipeline.snapshot");
    io.create_dir_all(path.parent().unwrap()).unwrap();
    assert!(read(&io, &path).unwrap().is_none());
    crate::io::replace_file(&io, &path, b"LoushSNP and then nothing good").unwrap();
    assert!(read(&io, &path).unwrap().is_none());
}
