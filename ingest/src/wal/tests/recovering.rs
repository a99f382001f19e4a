//! What a start makes of damage.

use super::super::codec::{FrameHeader, Key, SegmentHeader};
use super::super::segment;
use super::*;
use crate::io::sim::PowerLoss;

fn flip(io: &SimIo, dir: &Path, segment: u64, offset: u64) {
    io.flip_bit(&segment::path(dir, segment), offset, 3).unwrap();
}

#[test]
fn a_corrupt_frame_in_the_middle_is_set_aside_and_counted_and_the_others_are_read() {
    let (io, dir) = sim();
    let opened = open(&io, &dir);
    for _ in 0..5 {
        opened.append_durably(&[0x55; 24]);
    }
    opened.log.close().unwrap();
    drop(opened);
    // Frames of 64 bytes from 1024: the second one's header, the fourth one's body.
    flip(&io, &dir, 1, 1024 + 64 + 9);
    flip(&io, &dir, 1, 1024 + 3 * 64 + 50);
    for _ in 0..2 {
        let opened = open(&io, &dir);
        let lsns: Vec<_> = opened.read(Lsn::ZERO).into_iter().map(|(lsn, _)| lsn).collect();
        assert_eq!(lsns, [1, 3, 5]);
        assert_eq!((opened.recovery.frames, opened.recovery.corrupt_frames), (3, 2));
        let names: Vec<_> = opened.recovery.set_aside.iter().map(|p| p.file_name()).collect();
        let name = |offset| format!("{:020}-{offset:012}.bin", 1);
        assert_eq!(names, [Some(name(1088).as_ref()), Some(name(1216).as_ref())]);
        let kept = crate::io::read_all(&io, &opened.recovery.set_aside[0]).unwrap();
        assert_eq!((kept.len(), &kept[40..], kept[9]), (64, &[0x55; 24][..], 1 << 3));
        let mut reader = opened.log.reader(Lsn(2));
        assert_eq!(reader.next().unwrap().map(|frame| frame.lsn), Some(Lsn(3)));
        assert_eq!(reader.skipped(), 0, "what lies before the start is not asked for");
        while reader.next().unwrap().is_some() {}
        assert_eq!((reader.skipped(), reader.position()), (1, Lsn(5)));
    }
}

#[test]
fn a_bad_frame_that_no_later_one_proves_is_torn_and_ends_the_log() {
    let (io, dir) = sim();
    let opened = open(&io, &dir);
    for _ in 0..3 {
        opened.append_durably(&[0x55; 24]);
    }
    let io = io.kill();
    // The third names the second durable, and nothing names the third.
    flip(&io, &dir, 1, 1024 + 2 * 64 + 50);
    let opened = open(&io, &dir);
    assert_eq!((opened.recovery.frames, opened.recovery.corrupt_frames), (2, 0));
    assert_eq!((opened.recovery.torn_bytes, opened.recovery.last), (64, Some(Lsn(2))));
    assert!(opened.append_durably(b"more") > Lsn(2));
    assert_eq!(opened.read(Lsn::ZERO).len(), 3);
}

#[test]
fn frames_whose_sync_was_not_proven_are_written_once_more() {
    let (io, dir) = sim();
    let opened = open(&io, &dir);
    opened.append_durably(b"proven by the header of the next");
    // The pages are clean and the disk has nothing: only a second write can save the frame.
    io.inject(Fault::next(Op::Sync, Failure::SyncLosesPages));
    io.inject(Fault { times: u64::MAX, ..Fault::next(Op::Create, Failure::Errno(5)) });
    opened.log.append(b"in the page cache").unwrap();
    opened.told.wait("failure", |told| !told.failed.is_empty());
    let io = io.kill();
    drop(opened);
    io.clear_faults();
    let opened = open(&io, &dir);
    assert_eq!(opened.recovery.rewritten_frames, 1);
    let read = opened.read(Lsn::ZERO);
    let io = io.power_loss(7, PowerLoss::ForgetAll);
    assert_eq!(open(&io, &dir).read(Lsn::ZERO), read);
    assert_eq!(read[1].1, b"in the page cache");
}

#[test]
fn a_segment_with_both_headers_bad_is_read_by_its_frames() {
    let (io, dir) = sim();
    let opened = open(&io, &dir);
    for n in 1..=300 {
        opened.append(&body(n));
    }
    opened.log.close().unwrap();
    drop(opened);
    for copy in [20, 512 + 20] {
        flip(&io, &dir, 2, copy);
    }
    let opened = open(&io, &dir);
    assert_eq!(opened.recovery.corrupt_headers, 1);
    assert_eq!((opened.recovery.corrupt_frames, opened.recovery.set_aside.len()), (0, 1));
    assert_eq!(opened.read(Lsn::ZERO), expected(1..=300));
}

#[test]
fn a_segment_with_nothing_readable_is_renamed_and_its_lsns_are_not_given_out_again() {
    let (io, dir) = sim();
    let opened = open(&io, &dir);
    opened.append_durably(b"good");
    opened.log.close().unwrap();
    drop(opened);
    let junk = io.create_new(&segment::path(&dir, 2)).unwrap();
    crate::io::write_all_at(&*junk, &[9; 4000], 0).unwrap();
    let opened = open(&io, &dir);
    assert_eq!(opened.recovery.corrupt_headers, 1);
    assert!(io.exists(&opened.recovery.set_aside[0]).unwrap());
    assert!(opened.append_durably(b"more") > Lsn(4000 / 64));
    assert_eq!(opened.read(Lsn::ZERO).len(), 2);
}

/// A segment file as a log would write it, but for what its headers say.
fn forge(io: &SimIo, dir: &Path, header: SegmentHeader, frames: &[(u64, u64)]) {
    let mut bytes = header.encode();
    let key = Key::new(header.log);
    for &(lsn, durable) in frames {
        let frame = FrameHeader {
            len: 0,
            lsn: Lsn(lsn),
            segment: header.segment,
            durable: Lsn(durable),
            body_crc: crc32fast::hash(b""),
        };
        bytes.extend_from_slice(&frame.encode(&key));
        bytes.resize(bytes.len().next_multiple_of(16), 0);
    }
    io.create_dir_all(dir).unwrap();
    let file = io.create_new(&segment::path(dir, header.segment)).unwrap();
    crate::io::write_all_at(&*file, &bytes, 0).unwrap();
}

#[test]
fn headers_that_contradict_each_other_promise_nothing_that_no_reader_gets() {
    type Forged<'a> = &'a [(u64, u64, &'a [(u64, u64)])];
    let log = LogId(1, 1);
    // Base, prior, and the frames' lsns and durable lsns.
    let forged: [Forged<'_>; 7] = [
        // A segment that begins with what is durable.
        &[(1, 0, &[]), (0, 0, &[]), (0, 20, &[(0, 17), (1, 0)])],
        &[(1, 0, &[(1, 0), (2, 1), (3, 2)]), (101, 108, &[])],
        // One that begins before its predecessor does, with the same lsns.
        &[(1, 0, &[(1, 0), (2, 1)]), (1, 0, &[(1, 0), (2, 1), (3, 2)])],
        // One that knows less durable than its predecessor.
        &[(1, 0, &[(1, 0), (2, 1)]), (3, 2, &[(3, 2)]), (4, 1, &[(4, 1)])],
        // A frame of which a later one is durable.
        &[(1, 0, &[(1, 9), (2, 1)])],
        // Empty ones between which something becomes durable.
        &[(1, 0, &[(1, 0), (2, 0), (3, 0)]), (9, 1, &[]), (10, 3, &[])],
        // An empty one that alone says what is durable before it.
        &[(1, 0, &[(1, 0)]), (2, 1, &[(2, 1)]), (3, 0, &[])],
    ];
    for segments in forged {
        let (io, dir) = sim();
        for (id, &(base, prior, frames)) in (1..).zip(segments) {
            let header = SegmentHeader { log, segment: id, base: Lsn(base), prior: Lsn(prior) };
            forge(&io, &dir, header, frames);
        }
        let opened = open(&io, &dir);
        let read = opened.read(Lsn::ZERO);
        assert_eq!(opened.recovery.frames, read.len() as u64, "{segments:?}");
        assert!(read.iter().all(|(lsn, _)| Lsn(*lsn) <= opened.log.durable()), "{segments:?}");
        drop(opened);
        assert_eq!(open(&io, &dir).read(Lsn::ZERO), read, "{segments:?}");
    }
}

#[test]
fn frames_before_the_first_that_is_whole_are_counted_also_where_the_header_is_bad() {
    let (io, dir) = sim();
    let log = LogId(1, 1);
    let first = SegmentHeader { log, segment: 1, base: Lsn(1), prior: Lsn(0) };
    forge(&io, &dir, first, &[(1, 0), (2, 1)]);
    // Three frames of one write, of which the first two rot with both headers.
    let second = SegmentHeader { log, segment: 2, base: Lsn(3), prior: Lsn(2) };
    forge(&io, &dir, second, &[(3, 2), (4, 2), (5, 2)]);
    let third = SegmentHeader { log, segment: 3, base: Lsn(6), prior: Lsn(5) };
    forge(&io, &dir, third, &[]);
    for offset in [20, 512 + 20, 1024 + 9, 1024 + 48 + 9] {
        flip(&io, &dir, 2, offset);
    }
    let opened = open(&io, &dir);
    assert_eq!((opened.recovery.frames, opened.recovery.corrupt_frames), (3, 2));
    let mut reader = opened.log.reader(Lsn::ZERO);
    while reader.next().unwrap().is_some() {}
    assert_eq!(reader.skipped(), 2);
}

#[test]
fn what_may_lie_in_an_unreadable_segment_is_given_out_by_no_later_start_either() {
    let (io, dir) = sim();
    let opened = open(&io, &dir);
    for n in 1..=50 {
        opened.append_durably(&body(n % 3));
    }
    opened.log.close().unwrap();
    drop(opened);
    // Of the lsns that follow.
    let lost = io.create_new(&segment::path(&dir, 2)).unwrap();
    crate::io::write_all_at(&*lost, &[9; 4000], 0).unwrap();
    // The first start fails before it has made a segment of its own.
    io.inject(Fault::next(Op::Create, Failure::Errno(28)));
    let told = Arc::new(Told::default());
    let refused = Log::open(Arc::new(io.clone()), &dir, small(), Lsn::ZERO, told);
    assert!(matches!(refused, Err(OpenError::Io { .. })));
    let opened = open(&io, &dir);
    assert!(opened.append_durably(b"more") > Lsn(50 + 4000 / 48));
    assert!(io.exists(&segment::path(&dir, 3)).unwrap(), "an id that was used is not used again");
    assert!(!io.exists(&segment::path(&dir, 2)).unwrap());
}

#[test]
fn a_folder_of_another_log_version_or_name_is_refused() {
    let write = |io: &SimIo, dir: &Path, id, log, name| {
        let header = SegmentHeader { log, segment: id, base: Lsn(1), prior: Lsn(0) };
        io.create_dir_all(dir).unwrap();
        let file = io.create_new(&segment::path(dir, name)).unwrap();
        crate::io::write_all_at(&*file, &header.encode(), 0).unwrap();
    };
    let refused = |io: SimIo, dir: &Path| {
        let events = Arc::new(Told::default());
        Log::open(Arc::new(io), dir, small(), Lsn::ZERO, events).err().unwrap()
    };
    let (io, dir) = sim();
    write(&io, &dir, 1, LogId(1, 1), 1);
    write(&io, &dir, 2, LogId(1, 2), 2);
    assert!(matches!(refused(io, &dir), OpenError::Foreign { .. }));

    let (io, dir) = sim();
    write(&io, &dir, 1, LogId(1, 1), 3);
    assert!(matches!(refused(io, &dir), OpenError::Misnamed { id: 1, .. }));

    let (io, dir) = sim();
    write(&io, &dir, 1, LogId(1, 1), 1);
    for copy in [0, 512] {
        io.flip_bit(&segment::path(&dir, 1), copy + 50, 0).unwrap();
    }
    assert!(matches!(refused(io, &dir), OpenError::Unreadable { .. }));
}

#[test]
fn restarts_leave_no_empty_segments_behind() {
    let (io, dir) = sim();
    for _ in 0..5 {
        open(&io, &dir).append_durably(b"x");
        for _ in 0..5 {
            drop(open(&io, &dir));
        }
    }
    let opened = open(&io, &dir);
    assert_eq!(opened.read(Lsn::ZERO).len(), 5);
    assert_eq!(opened.log.stats().segments, 6);
    assert_eq!(io.list(&dir).unwrap().len(), 6);
}
