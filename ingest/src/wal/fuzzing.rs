//! A folder of segments, built and then damaged, as a start finds it.
//!
//! Whatever the damage, and also where no log ever wrote such headers: recovery does not panic; what
//! is read afterwards lay in the files, whole, in order and not above what is called durable; it is
//! as many frames as were reported, and no more are passed over than were reported; no lsn that was
//! given out is given out again; and the next start finds the same.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use super::codec::{
    ALIGN_LEN, FRAME_HEADER, FrameHeader, Key, SEGMENT_DATA, SEGMENT_DATA_LEN, SegmentHeader,
};
use super::log::{Shared, drop_empty};
use super::recovery::{Recovered, recover};
use super::{LogId, LogOptions, Lsn, Reader, segment};
use crate::io::sim::SimIo;
use crate::io::{Io, write_all_at};

const LOG: LogId = LogId(7, 11);
const MAX_SEGMENTS: usize = 6;
const MAX_SEGMENT_BYTES: usize = 16 << 10;

type Frames = Vec<(u64, Vec<u8>)>;

struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        let Some((byte, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *byte
    }

    /// Small ones mostly, so that they meet.
    fn lsn(&mut self) -> Lsn {
        let byte = u64::from(self.byte());
        Lsn(if byte < 250 { byte } else { byte << 40 })
    }

    fn offset(&mut self, len: usize) -> usize {
        usize::from(u16::from_le_bytes([self.byte(), self.byte()])) % len.max(1)
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        let (bytes, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        bytes.to_vec()
    }
}

/// Segment files by the id in their names.
fn files(input: &mut Input<'_>) -> BTreeMap<u64, Vec<u8>> {
    let key = Key::new(LOG);
    let mut files = BTreeMap::new();
    let (mut id, mut lsn, mut file) = (0, Lsn(1), Vec::new());
    while !input.0.is_empty() && files.len() < MAX_SEGMENTS {
        match input.byte() % 16 {
            // A segment: the one before is finished.
            0 | 1 => {
                files.insert(id, std::mem::take(&mut file));
                id += 1 + u64::from(input.byte() & 1);
                let how = input.byte();
                let base = if how & 1 != 0 { lsn } else { input.lsn() };
                let prior = if how & 2 != 0 { base.prev() } else { input.lsn() };
                let log = if how & 0xfc == 0xfc { LogId(1, 2) } else { LOG };
                file = SegmentHeader { log, segment: id, base, prior }.encode();
                lsn = base;
            }
            2..9 if !file.is_empty() => {
                let how = input.byte();
                let at = if how & 0x0f != 0 { lsn } else { input.lsn() };
                let durable = if how & 0x30 != 0 { at.prev() } else { input.lsn() };
                let len = usize::from(input.byte() & 0x7f);
                let body = input.bytes(len);
                let header = FrameHeader {
                    len: u32::try_from(body.len()).unwrap_or(0),
                    lsn: at,
                    segment: if how & 0xc0 == 0xc0 { id + 1 } else { id },
                    durable,
                    body_crc: crc32fast::hash(&body),
                };
                file.extend_from_slice(&header.encode(&key));
                file.extend_from_slice(&body);
                file.resize(file.len().next_multiple_of(ALIGN_LEN), 0);
                lsn = at.next();
            }
            9 => {
                let len = usize::from(input.byte());
                file.extend(input.bytes(len));
            }
            10 => file.resize(file.len() + usize::from(input.byte()), 0),
            11 | 12 => {
                let at = input.offset(file.len());
                let bit = 1 << (input.byte() % 8);
                if let Some(byte) = file.get_mut(at) {
                    *byte ^= bit;
                }
            }
            13 => {
                let len = input.offset(file.len());
                file.truncate(len);
            }
            // Both headers go.
            14 => {
                for copy in [20, 532] {
                    if let Some(byte) = file.get_mut(copy) {
                        *byte ^= 1;
                    }
                }
            }
            _ => file.resize(file.len().next_multiple_of(ALIGN_LEN), 0),
        }
        file.truncate(MAX_SEGMENT_BYTES);
    }
    files.insert(id, file);
    files.remove(&0);
    files
}

/// Every whole frame there is in the files, wherever it lies.
fn whole_frames(files: &BTreeMap<u64, Vec<u8>>) -> BTreeSet<(u64, Vec<u8>)> {
    let key = Key::new(LOG);
    let mut found = BTreeSet::new();
    for (id, file) in files {
        for at in (SEGMENT_DATA_LEN..file.len()).step_by(ALIGN_LEN) {
            let rest = file.get(at..).unwrap_or_default();
            let Some(header) = FrameHeader::decode(rest, &key, *id) else { continue };
            let body = rest.get(FRAME_HEADER..).and_then(|rest| rest.get(..header.len as usize));
            if let Some(body) = body.filter(|body| crc32fast::hash(body) == header.body_crc) {
                found.insert((header.lsn.0, body.to_vec()));
            }
        }
    }
    found
}

/// What a reader gets, and how many frames it missed.
fn read(io: &SimIo, dir: &Path, recovered: &Recovered) -> (Frames, u64) {
    // Nothing is appended: room for frames would only be made and thrown away.
    let options = LogOptions { buffer_bytes: 0, ..LogOptions::default() };
    let segments = recovered.segments.clone();
    let shared = Shared::new(Arc::new(io.clone()), dir.to_owned(), options, recovered, segments);
    let mut reader = Reader::new(Arc::new(shared), Lsn::ZERO);
    let mut frames = Frames::new();
    while let Some(frame) = reader.next().expect("nothing fails in memory") {
        frames.push((frame.lsn.0, frame.body.to_vec()));
    }
    (frames, reader.skipped())
}

/// Holds what was recovered to what a reader gets.
fn check(io: &SimIo, dir: &Path, recovered: &Recovered) -> Frames {
    let (frames, skipped) = read(io, dir, recovered);
    let Recovered { report, durable, next, .. } = recovered;
    assert!(frames.is_sorted_by(|a, b| a.0 < b.0), "out of order: {frames:?}");
    assert_eq!(frames.len() as u64, report.frames, "{report:?}");
    assert_eq!(frames.iter().map(|(_, body)| body.len() as u64).sum::<u64>(), report.bytes);
    assert_eq!(frames.first().map(|frame| Lsn(frame.0)), report.first);
    assert_eq!(frames.last().map(|frame| Lsn(frame.0)), report.last);
    assert!(report.last.is_none_or(|last| last <= *durable), "{report:?}, durable {durable}");
    assert!(durable < next, "{durable} was given out");
    assert!(skipped <= report.corrupt_frames, "{skipped} missed: {report:?}");
    frames
}

pub(crate) fn recovery(data: &[u8]) {
    let mut input = Input(data);
    let how = input.byte();
    let floor = if how & 2 != 0 { input.lsn() } else { Lsn::ZERO };
    let files = files(&mut input);
    let (io, dir) = (SimIo::new(), Path::new("/wal"));
    io.create_dir_all(dir).expect("nothing fails in memory");
    for (id, bytes) in &files {
        let file = io.create_new(&segment::path(dir, *id)).expect("nothing fails in memory");
        write_all_at(&*file, bytes, 0).expect("nothing fails in memory");
    }
    let Ok(first) = recover(&io, dir, floor) else {
        assert!(recover(&io, dir, floor).is_err(), "refused, and then not");
        return;
    };
    assert!(first.next > floor);
    let frames = check(&io, dir, &first);
    let whole = whole_frames(&files);
    assert!(frames.iter().all(|frame| whole.contains(frame)), "a frame that nobody wrote");
    let opened = how & 1 != 0;
    if opened {
        // As the log does when it opens; else it is killed before it comes to that.
        let header = SegmentHeader {
            log: first.report.log_id,
            segment: first.next_segment,
            base: first.next,
            prior: first.durable,
        };
        let made = segment::create_empty(&io, dir, &header, SEGMENT_DATA);
        made.expect("nothing fails in memory");
        first.rename(&io, dir).expect("nothing fails in memory");
        if first.consistent {
            drop_empty(&io, dir, &mut first.segments.clone()).expect("nothing fails in memory");
        }
    }
    let again = recover(&io, dir, floor).expect("what opened once opens again");
    assert!(again.next >= first.next, "an lsn is given out twice");
    assert!(again.next_segment >= first.next_segment + u64::from(opened), "an id is used twice");
    assert_eq!(check(&io, dir, &again), frames, "the next start finds something else");
    assert!(!opened || again.report.rewritten_frames == 0, "{:?}", again.report);
}
