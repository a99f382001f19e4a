#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use xxhash_rust::xxh3::xxh3_64;

use super::*;

fn entries(path: &Path) -> (Vec<Entry>, bool) {
    let mut reader = TraceReader::open(path).unwrap();
    let mut entries = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        if let Entry::Message(seen) = &entry {
            // A player finds it again by its place.
            let file = fs::read(path).unwrap();
            let at = usize::try_from(reader.payload_at()).unwrap();
            assert_eq!(file[at..at + seen.payload.len()], seen.payload);
        }
        entries.push(entry);
    }
    (entries, reader.torn())
}

#[derive(Debug, Clone)]
enum Step {
    Message { after: u64, topic: usize, qos: usize, retain: bool, payload: Vec<u8> },
    Interruption { after: u64 },
    Flush,
    Reopen,
}

fn any_step() -> impl Strategy<Value = Step> {
    let payload = proptest::collection::vec(any::<u8>(), 0..40);
    prop_oneof![
        6 => (0_u64..1 << 40, 0_usize..5, 0_usize..3, any::<bool>(), payload)
            .prop_map(|(after, topic, qos, retain, payload)| Step::Message { after, topic, qos, retain, payload }),
        1 => (0_u64..1000).prop_map(|after| Step::Interruption { after }),
        1 => Just(Step::Flush),
        1 => Just(Step::Reopen),
    ]
}

proptest! {
    /// Cut anywhere, a trace is a beginning of what was recorded, and can be gone on with.
    #[test]
    fn a_trace_cut_anywhere_reads_as_a_beginning_and_goes_on_from_there(
        steps in proptest::collection::vec(any_step(), 1..20), cut in any::<prop::sample::Index>(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trace");
        let mut writer = TraceWriter::begin(&path, -5).unwrap();
        let mut written = vec![Entry::Recording { at_ms: -5 }];
        let mut now = 0;
        for step in steps {
            match step {
                Step::Message { after, topic, qos, retain, payload } => {
                    now += after;
                    let (topic, qos) = (format!("nb1/regio·n/{topic}"), Qos::ALL[qos]);
                    writer.message(now, &topic, qos, retain, &payload).unwrap();
                    let (topic, payload) = (topic.into(), payload.into());
                    written.push(Entry::Message(Seen { at_us: now, topic, qos, retain, payload }));
                }
                Step::Interruption { after } => {
                    now += after;
                    writer.interruption(now).unwrap();
                    written.push(Entry::Interruption { at_us: now });
                }
                Step::Flush => {
                    writer.flush().unwrap();
                    prop_assert_eq!(&entries(&path).0, &written);
                }
                Step::Reopen => {
                    writer.flush().unwrap();
                    writer = TraceWriter::begin(&path, 7).unwrap();
                    written.push(Entry::Recording { at_ms: 7 });
                    now = 0;
                }
            }
        }
        writer.flush().unwrap();
        drop(writer);
        prop_assert_eq!(entries(&path), (written.clone(), false));

        let bytes = fs::read(&path).unwrap();
        let cut = MAGIC.len() + cut.index(bytes.len() + 1 - MAGIC.len());
        fs::write(&path, &bytes[..cut]).unwrap();
        let (mut beginning, _) = entries(&path);
        prop_assert_eq!(&beginning[..], &written[..beginning.len()]);
        drop(TraceWriter::begin(&path, 9).unwrap());
        beginning.push(Entry::Recording { at_ms: 9 });
        prop_assert_eq!(entries(&path), (beginning, false));
    }

    #[test]
    fn a_flipped_bit_never_gives_another_entry(at in any::<prop::sample::Index>(), bit in 0_u8..8) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trace");
        let mut writer = TraceWriter::begin(&path, 1).unwrap();
        for n in 0..4 {
            writer.message(n, "a", Qos::AtLeastOnce, false, b"payload").unwrap();
            writer.flush().unwrap();
        }
        let good = entries(&path).0;
        let mut bytes = fs::read(&path).unwrap();
        let at = MAGIC.len() + at.index(bytes.len() - MAGIC.len());
        bytes[at] ^= 1 << bit;
        fs::write(&path, &bytes).unwrap();
        let (all, torn) = entries(&path);
        prop_assert!(torn && all.len() < good.len());
        prop_assert_eq!(&all[..], &good[..all.len()]);
    }

    /// Whole blocks of any bytes: an error or entries, never a panic.
    #[test]
    fn a_block_of_any_bytes_is_read_or_refused(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&u32::try_from(body.len()).unwrap().to_le_bytes());
        bytes.extend_from_slice(&xxh3_64(&body).to_le_bytes());
        bytes.extend_from_slice(&body);
        let mut reader = TraceReader::new(bytes.as_slice(), Path::new("it")).unwrap();
        while let Ok(Some(_)) = reader.next_entry() {}
    }
}

#[test]
fn a_file_of_something_else_or_of_another_version_is_refused_and_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trace");
    for bytes in [&b"something else"[..], b"LSTR", b"LSLEDG02 and more"] {
        fs::write(&path, bytes).unwrap();
        assert!(matches!(TraceWriter::begin(&path, 1), Err(TraceError::Foreign { .. })));
        assert_eq!(fs::read(&path).unwrap(), bytes);
    }
    fs::write(&path, b"LSTRCE02 and what version 2 wrote").unwrap();
    let error = TraceWriter::begin(&path, 1).unwrap_err().to_string();
    assert!(error.contains("is of version 2, this program reads and writes version 1"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), b"LSTRCE02 and what version 2 wrote");
}

#[test]
fn more_topics_than_are_known_by_number_are_no_bound() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trace");
    let mut writer = TraceWriter::begin(&path, 1).unwrap();
    let topic = |n: usize| format!("t/{n}");
    for n in 0..MOST_TOPICS + 10 {
        writer.message(0, &topic(n), Qos::AtMostOnce, false, b"").unwrap();
    }
    writer.flush().unwrap();
    let mut reader = TraceReader::open(&path).unwrap();
    assert!(matches!(reader.next_entry().unwrap(), Some(Entry::Recording { .. })));
    for n in 0..MOST_TOPICS + 10 {
        let Some(Entry::Message(seen)) = reader.next_entry().unwrap() else { panic!("{n}") };
        assert_eq!(*seen.topic, *topic(n));
    }
}

#[test]
fn version_1_is_these_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trace");
    let mut writer = TraceWriter::begin(&path, 1_790_000_000_000).unwrap();
    writer.message(1_500_000, "nb1/a/b/u/t", Qos::AtLeastOnce, false, b"\x01\x02").unwrap();
    writer.message(1_500_100, "nb1/a/b/state", Qos::ExactlyOnce, true, b"").unwrap();
    writer.message(1_500_100, "nb1/a/b/u/t", Qos::AtMostOnce, false, b"\xff").unwrap();
    writer.interruption(2_000_000).unwrap();
    writer.flush().unwrap();
    let hex: String = fs::read(&path).unwrap().iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(hex, GOLDEN);
}

/// A new one goes with another [`VERSION`].
const GOLDEN: &str = concat!(
    "4c535452434530310a0000009ace8660820f82780001006c50c4a001000032000000e14cc555f936c8e100020b",
    "6e62312f612f622f752f7413e0c65b00020102020d6e62312f612f622f73746174656364010003000001ff04bc",
    "c11e",
);
