use proptest::prelude::*;

use super::super::codec::*;
use super::super::scan::{Item, Scanner};
use super::*;

const LOG: LogId = LogId(0x0102_0304_0506_0708, 0x1112_1314_1516_1718);
const SEGMENT: u64 = 7;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Frames as the log thread lays them out.
fn frames(bodies: &[&[u8]], segment: u64) -> Vec<u8> {
    let key = Key::new(LOG);
    let mut bytes = Vec::new();
    for (lsn, body) in (1..).zip(bodies) {
        let header = FrameHeader {
            len: u32::try_from(body.len()).unwrap(),
            lsn: Lsn(lsn),
            segment,
            durable: Lsn(lsn - 1),
            body_crc: crc32fast::hash(body),
        };
        let end = bytes.len() + usize::try_from(header.frame_len()).unwrap();
        bytes.extend_from_slice(&header.encode(&key));
        bytes.extend_from_slice(body);
        bytes.resize(end, 0);
    }
    bytes
}

/// Offsets and lsns of the frames found; stretches of bad bytes, and where their zeros begin.
type Scanned = (Vec<(u64, u64)>, Vec<(u64, u64, u64)>);

fn scan(bytes: &[u8]) -> Scanned {
    let io = SimIo::new();
    io.create_dir_all(Path::new("/")).unwrap();
    let file = io.create_new(Path::new("/segment")).unwrap();
    crate::io::write_all_at(&*file, bytes, 0).unwrap();
    let mut scanner = Scanner::new(file, Key::new(LOG), SEGMENT, 0, bytes.len() as u64);
    let (mut found, mut bad) = (Vec::new(), Vec::new());
    let mut at = 0;
    while let Some(item) = scanner.next().unwrap() {
        let (from, to) = match item {
            Item::Frame { offset, header } => {
                assert_eq!(scanner.body().len(), usize::try_from(header.len).unwrap());
                found.push((offset, header.lsn.0));
                (offset, offset + header.frame_len())
            }
            Item::Bad { from, to, used } => {
                assert!(
                    bytes[usize::try_from(used).unwrap()..usize::try_from(to).unwrap()]
                        .iter()
                        .all(|b| *b == 0)
                );
                bad.push((from, to, used));
                (from, to)
            }
        };
        assert_eq!(from, at, "nothing is passed over unseen");
        at = to;
    }
    assert_eq!(at, bytes.len() as u64);
    (found, bad)
}

#[test]
fn a_segment_header_has_these_bytes() {
    let header = SegmentHeader { log: LOG, segment: 7, base: Lsn(300), prior: Lsn(258) };
    let bytes = header.encode();
    assert_eq!(bytes.len(), 1024);
    let copy = "4c6f75736857414c\
                0100000000000000\
                08070605040302011817161514131211\
                0700000000000000\
                2c01000000000000\
                0201000000000000\
                56472da900000000";
    assert_eq!(hex(&bytes[..64]), copy);
    assert_eq!(bytes[..64], bytes[512..576]);
    assert!(bytes[64..512].iter().chain(&bytes[576..]).all(|b| *b == 0));
    assert_eq!(SegmentHeader::decode(&bytes), Ok(header));
}

#[test]
fn a_frame_has_these_bytes() {
    let header = FrameHeader {
        len: 9,
        lsn: Lsn(300),
        segment: 7,
        durable: Lsn(258),
        // The check value of CRC-32 (IEEE).
        body_crc: crc32fast::hash(b"123456789"),
    };
    let key = Key::new(LOG);
    let bytes = header.encode(&key);
    let golden = "4c734672\
                  09000000\
                  2c01000000000000\
                  0700000000000000\
                  0201000000000000\
                  2639f4cb\
                  aad22fe1";
    assert_eq!(hex(&bytes), golden);
    assert_eq!(FrameHeader::decode(&bytes, &key, 7), Some(header));
    assert_eq!(FrameHeader::decode(&bytes, &key, 8), None, "of a file's earlier life");
    let other = Key::new(LogId(LOG.0, LOG.1 + 1));
    assert_eq!(FrameHeader::decode(&bytes, &other, 7), None, "of another log");
    assert_eq!(header.frame_len(), 64);
}

#[test]
fn either_copy_of_a_segment_header_is_enough_and_another_version_is_told_from_rot() {
    let header = SegmentHeader { log: LOG, segment: 7, base: Lsn(1), prior: Lsn(0) };
    let sound = header.encode();
    for damaged in 0..512 {
        let mut bytes = sound.clone();
        bytes[damaged] ^= 1;
        assert_eq!(SegmentHeader::decode(&bytes), Ok(header));
        bytes[512] ^= 1;
        let both = SegmentHeader::decode(&bytes);
        assert_eq!(both, if damaged < 60 { Err(BadSegment::Corrupt) } else { Ok(header) });
    }
    let mut newer = sound;
    newer[8] = 2;
    let sum = crc32fast::hash(&newer[..56]);
    newer[56..60].copy_from_slice(&sum.to_le_bytes());
    assert_eq!(SegmentHeader::decode(&newer), Err(BadSegment::Version(2)));
}

#[test]
fn a_scanner_finds_the_next_frame_behind_each_kind_of_damage() {
    let sound = frames(&[b"first", &[7; 100], b"third"], SEGMENT);
    assert_eq!(scan(&sound), (vec![(0, 1), (48, 2), (192, 3)], vec![]));
    // Every bit of the second frame's header and body matters; its padding does not.
    for at in 48..188 {
        let mut bytes = sound.clone();
        bytes[at] ^= 1;
        assert_eq!(scan(&bytes), (vec![(0, 1), (192, 3)], vec![(48, 192, 192)]), "byte {at}");
    }
    let mut zeroed = sound.clone();
    zeroed[48..192].fill(0);
    assert_eq!(scan(&zeroed), (vec![(0, 1), (192, 3)], vec![(48, 192, 48)]));
}

#[test]
fn a_frame_inside_a_damaged_frames_body_is_found_only_with_the_logs_key() {
    // What a client could send who had read our format, but not our disk.
    let mut forged = frames(&[b"forged"], SEGMENT);
    let mut sum = crc32fast::Hasher::new();
    sum.update(&[0; 16]);
    sum.update(&forged[..36]);
    forged[36..40].copy_from_slice(&sum.finalize().to_le_bytes());
    let mut body = vec![0; 8];
    body.extend(forged);
    let mut bytes = frames(&[&body, b"second"], SEGMENT);
    let second = u64::try_from(bytes.len() - 48).unwrap();
    bytes[0] ^= 1;
    assert_eq!(scan(&bytes), (vec![(second, 2)], vec![(0, second, second)]));
}

proptest! {
    #[test]
    fn any_bytes_are_scanned_from_end_to_end(
        parts in prop::collection::vec(
            prop_oneof![
                prop::collection::vec(any::<u8>(), 0..200),
                Just(frames(&[b"a", &[1; 70]], SEGMENT)),
                Just(frames(&[b"stale"], SEGMENT + 1)),
                Just(vec![0; 64]),
                Just(FRAME_MAGIC.to_vec()),
            ],
            0..20,
        ),
        flips in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
    ) {
        let mut bytes = parts.concat();
        if !bytes.is_empty() {
            for flip in flips {
                let bit = flip.index(bytes.len() * 8);
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
        }
        scan(&bytes);
    }

    #[test]
    fn any_bytes_as_segments_are_opened_or_refused_and_never_panic(
        segments in prop::collection::vec(
            (1_u64..5, 0_u64..6, 0_u64..6, any::<bool>(), prop::collection::vec(any::<u8>(), 0..300)),
            1..4,
        ),
    ) {
        let (io, dir) = sim();
        io.create_dir_all(&dir).unwrap();
        for (id, base, prior, sound, junk) in segments {
            let mut bytes = SegmentHeader {
                log: LOG, segment: id, base: Lsn(base), prior: Lsn(prior),
            }.encode();
            if !sound {
                bytes[..junk.len()].copy_from_slice(&junk);
                bytes[512..512 + junk.len()].copy_from_slice(&junk);
            }
            bytes.extend(frames(&[b"one", &junk, b"three"], id));
            bytes.extend(junk);
            let path = super::super::segment::path(&dir, id);
            if let Ok(file) = io.create_new(&path) {
                crate::io::write_all_at(&*file, &bytes, 0).unwrap();
            }
        }
        let told = Arc::new(Told::default());
        match Log::open(Arc::new(io), &dir, small(), Lsn::ZERO, told) {
            Ok((log, _)) => {
                let mut reader = log.reader(Lsn::ZERO);
                let mut last = Lsn::ZERO;
                while let Some(frame) = reader.next().unwrap() {
                    prop_assert!(frame.lsn > last);
                    last = frame.lsn;
                }
                prop_assert!(log.append(b"goes on").unwrap() > last);
            }
            Err(error) => prop_assert!(
                matches!(error, OpenError::Unreadable { .. }), "{error:?}"
            ),
        }
    }
}
