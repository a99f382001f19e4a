//! What a log's folder holds, told apart: proven, unproven, corrupt, torn, void. The rules are in the
//! [module's doc](super).

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};

use super::codec::{
    BadSegment, FRAME_HEADER_U64, FrameHeader, Key, SEGMENT_DATA, SEGMENT_DATA_LEN, SegmentHeader,
    frame_len,
};
use super::scan::{Item, Scanner};
use super::segment::{self, Segment};
use super::{LogId, Lsn, OpenError, aside};
use crate::io::{Io, read_exact_at, write_all_at};

/// One write while rewriting.
const CHUNK: usize = 1 << 20;

/// What was found at start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// Which log.
    pub log_id: LogId,
    /// Segments with at least a header or a frame.
    pub segments: usize,
    /// Valid frames; all of them are durable now.
    pub frames: u64,
    /// Bytes of their bodies.
    pub bytes: u64,
    /// Frames that were durable once and are not whole any more.
    pub corrupt_frames: u64,
    /// Segments both of whose headers are bad.
    pub corrupt_headers: u64,
    /// Files in which corrupt bytes were kept.
    pub set_aside: Vec<PathBuf>,
    /// Bytes at the end that cannot be proven: of a write that the end of the process or of the power
    /// cut short.
    pub torn_bytes: u64,
    /// Valid frames that an earlier failure, or a torn frame before them, made void.
    pub void_frames: u64,
    /// Valid frames that were written once more, since their sync was not proven.
    pub rewritten_frames: u64,
    /// The first valid frame.
    pub first: Option<Lsn>,
    /// The last valid frame.
    pub last: Option<Lsn>,
}

pub(super) struct Recovered {
    pub(super) report: Recovery,
    pub(super) segments: VecDeque<Segment>,
    pub(super) next_segment: u64,
    pub(super) next: Lsn,
    pub(super) durable: Lsn,
    /// No segment's header goes back behind its predecessor's. Else one of them cannot be spared
    /// before those that came earlier, empty as it may be: they count by its word.
    pub(super) consistent: bool,
    /// Files without anything readable, and the names they are to have: see [`Recovered::rename`].
    pub(super) unreadable: Vec<(PathBuf, PathBuf)>,
}

impl Recovered {
    /// Takes unreadable files out of the log, once a new segment is there. Not before: until then
    /// they alone say which lsns and which segment ids may have been used.
    pub(super) fn rename(&self, io: &dyn Io, dir: &Path) -> Result<(), OpenError> {
        for (path, aside) in &self.unreadable {
            io.rename(path, aside)
                .and_then(|()| io.sync_dir(dir))
                .map_err(|source| OpenError::Io { path: path.clone(), source })?;
        }
        Ok(())
    }
}

/// A segment whose place in the log is known.
struct Found {
    id: u64,
    path: PathBuf,
    size: u64,
    base: Lsn,
    prior: Lsn,
}

/// Frames of the last segment that could have been acknowledged.
struct Unproven {
    from: u64,
    to: u64,
    first: Lsn,
    last: Lsn,
    frames: u64,
}

pub(super) fn recover(io: &dyn Io, dir: &Path, floor: Lsn) -> Result<Recovered, OpenError> {
    let at_dir = |source| OpenError::Io { path: dir.to_owned(), source };
    io.create_dir_all(dir).map_err(at_dir)?;
    let mut ids = Vec::new();
    for name in io.list(dir).map_err(at_dir)? {
        if let Some(id) = segment::id_of(&name) {
            ids.push(id);
        } else if name.ends_with(segment::UNFINISHED) {
            io.remove_file(&dir.join(name)).map_err(at_dir)?;
        }
    }
    ids.sort_unstable();
    let mut next_segment = ids.last().map_or(1, |id| id.saturating_add(1));
    let (log_id, headers) = headers(io, dir, &ids)?;
    let mut recovery = Recoverer {
        io,
        dir,
        key: Key::new(log_id),
        segments: VecDeque::new(),
        highest: floor,
        unreadable: Vec::new(),
        report: Recovery {
            log_id,
            segments: 0,
            frames: 0,
            bytes: 0,
            corrupt_frames: 0,
            corrupt_headers: 0,
            set_aside: Vec::new(),
            torn_bytes: 0,
            void_frames: 0,
            rewritten_frames: 0,
            first: None,
            last: None,
        },
    };
    let mut found: Vec<Found> = Vec::new();
    // Lsns that may lie in unreadable files. They are seldom that many, or given out by others.
    let mut unknown = 0;
    let mut consistent = true;
    for (path, id, header) in headers {
        let (size, place) = recovery
            .place(&path, id, header)
            .map_err(|source| OpenError::Io { path: path.clone(), source })?;
        let Some(mut this) = place else {
            unknown += size / FRAME_HEADER_U64;
            continue;
        };
        // A log's *base* and *prior* never go back from one segment to the next, so damage cannot
        // make them: only a header that no log wrote does. The earlier one stands: then no lsn
        // counts in two segments, and what a reader takes for durable is what is counted here.
        if let Some(before) = found.last() {
            consistent &= this.base >= before.base && this.prior >= before.prior;
            this.base = this.base.max(before.base);
            this.prior = this.prior.max(before.prior);
        }
        found.push(this);
    }
    let mut durable = Lsn::ZERO;
    let mut rest = found.iter().peekable();
    while let Some(this) = rest.next() {
        let at_file = |source| OpenError::Io { path: this.path.clone(), source };
        if let Some(successor) = rest.peek() {
            durable = successor.prior;
            recovery.walk(this, durable, false).map_err(at_file)?;
        } else {
            durable = recovery.proven(this).map_err(at_file)?;
            if let Some(unproven) = recovery.walk(this, durable, true).map_err(at_file)? {
                let id = next_segment;
                next_segment = id.saturating_add(1);
                recovery.rewrite(this, &unproven, id, durable).map_err(at_file)?;
                durable = unproven.last;
            }
        }
    }
    let Recoverer { report, segments, highest, unreadable, .. } = recovery;
    if report.corrupt_frames > 0 || report.corrupt_headers > 0 {
        let (frames, headers) = (report.corrupt_frames, report.corrupt_headers);
        metrics::counter!("loushan_wal_corrupt_frames_total").increment(frames);
        tracing::error!(frames, headers, kept = ?report.set_aside, "the log is corrupt");
    }
    // Behind the frames that can be read, for that is where those came from that cannot.
    let next = Lsn(highest.max(durable).0.saturating_add(unknown)).next();
    Ok(Recovered { report, segments, next_segment, next, durable, consistent, unreadable })
}

type Heads = Vec<(PathBuf, u64, Option<SegmentHeader>)>;

/// The headers of all segments, and the log's id: a new one if there are none.
fn headers(io: &dyn Io, dir: &Path, ids: &[u64]) -> Result<(LogId, Heads), OpenError> {
    let mut heads = Vec::with_capacity(ids.len());
    let mut log = None;
    for &id in ids {
        let path = segment::path(dir, id);
        let read = (|| {
            let file = io.open_read(&path)?;
            let len = file.size()?.min(SEGMENT_DATA);
            let mut bytes = vec![0; usize::try_from(len).unwrap_or(SEGMENT_DATA_LEN)];
            read_exact_at(&*file, &mut bytes, 0)?;
            Ok(bytes)
        })();
        let bytes = read.map_err(|source| OpenError::Io { path: path.clone(), source })?;
        let header = match SegmentHeader::decode(&bytes) {
            Ok(header) => Some(header),
            Err(BadSegment::Corrupt) => None,
            Err(BadSegment::Version(version)) => return Err(OpenError::Version { path, version }),
        };
        if let Some(header) = header {
            let log = *log.get_or_insert(header.log);
            if header.log != log {
                return Err(OpenError::Foreign { path, log, found: header.log });
            }
            if header.segment != id {
                return Err(OpenError::Misnamed { path, id: header.segment });
            }
        }
        heads.push((path, id, header));
    }
    match log {
        Some(log) => Ok((log, heads)),
        None if ids.is_empty() => Ok((LogId::random(), heads)),
        None => Err(OpenError::Unreadable { dir: dir.to_owned() }),
    }
}

struct Recoverer<'a> {
    io: &'a dyn Io,
    dir: &'a Path,
    key: Key,
    segments: VecDeque<Segment>,
    /// The greatest lsn that may have been given out.
    highest: Lsn,
    unreadable: Vec<(PathBuf, PathBuf)>,
    report: Recovery,
}

impl Recoverer<'_> {
    fn scan(&self, id: u64, path: &Path, from: u64, to: u64) -> io::Result<Scanner> {
        Ok(Scanner::new(self.io.open_read(path)?, self.key.clone(), id, from, to))
    }

    /// The size of a file, and where it belongs: by its header, or else by its first valid frame;
    /// `None` if it has neither.
    fn place(
        &mut self,
        path: &Path,
        id: u64,
        header: Option<SegmentHeader>,
    ) -> io::Result<(u64, Option<Found>)> {
        let size = self.io.open_read(path)?.size()?;
        let path = path.to_owned();
        if let Some(SegmentHeader { base, prior, .. }) = header {
            self.highest = self.highest.max(base.prev());
            return Ok((size, Some(Found { id, path, size, base, prior })));
        }
        self.report.corrupt_headers += 1;
        let mut scanner = self.scan(id, &path, SEGMENT_DATA, size)?;
        while let Some(item) = scanner.next()? {
            if let Item::Frame { offset, header } = item {
                // Written when its segment was new, so the header said the same; unless frames
                // before it are bad, and then it says no less.
                let prior = header.durable.min(header.lsn.prev());
                // As many as the bytes before it can hold are missing, but none that was durable
                // before there was this segment.
                let before = offset.saturating_sub(SEGMENT_DATA) / frame_len(0);
                let base = Lsn(header.lsn.0.saturating_sub(before)).max(prior.next());
                self.set_aside(&path, id, 0, SEGMENT_DATA.min(size))?;
                return Ok((size, Some(Found { id, path, size, base, prior })));
            }
        }
        let mut name = path.clone().into_os_string();
        name.push(".corrupt");
        let aside = PathBuf::from(name);
        self.report.set_aside.push(aside.clone());
        self.unreadable.push((path, aside));
        Ok((size, None))
    }

    /// The greatest lsn that the last segment proves durable.
    fn proven(&self, last: &Found) -> io::Result<Lsn> {
        let mut proven = last.prior;
        let mut scanner = self.scan(last.id, &last.path, SEGMENT_DATA, last.size)?;
        while let Some(item) = scanner.next()? {
            if let Item::Frame { header, .. } = item {
                proven = proven.max(header.durable);
            }
        }
        Ok(proven)
    }

    /// Reads a segment whose frames up to `proven` were durable. Of what is above, only in the last
    /// segment anything counts: it is returned.
    fn walk(&mut self, found: &Found, proven: Lsn, last: bool) -> io::Result<Option<Unproven>> {
        // An empty segment's predecessor proves less than its base.
        let proven_here = proven.max(found.base.prev());
        let mut seen = found.base.prev();
        let mut end = SEGMENT_DATA;
        let mut bad: Vec<(u64, u64)> = Vec::new();
        let mut unproven: Option<Unproven> = None;
        let mut cut: Option<u64> = None;
        let mut torn_end = 0;
        let mut scanner = self.scan(found.id, &found.path, SEGMENT_DATA, found.size)?;
        while let Some(item) = scanner.next()? {
            let (offset, header) = match item {
                Item::Bad { from, used, .. } => {
                    if used > from {
                        bad.push((from, used));
                        torn_end = used;
                    }
                    continue;
                }
                Item::Frame { offset, header } => (offset, header),
            };
            let behind = offset.saturating_add(header.frame_len());
            self.highest = self.highest.max(header.lsn);
            if header.lsn <= seen {
                // Sound, and yet not where it belongs: a copy of another place of the disk.
                bad.push((offset, behind));
                continue;
            }
            if header.lsn <= proven_here {
                self.corrupt(found, &mut bad, header.lsn.0.saturating_sub(seen.next().0))?;
                seen = header.lsn;
                end = behind;
                self.count(header.lsn, header.len);
                continue;
            }
            if seen < proven_here {
                self.corrupt(found, &mut bad, proven_here.0.saturating_sub(seen.0))?;
                seen = proven_here;
            }
            torn_end = behind;
            let apart = unproven.as_ref().is_some_and(|unproven| unproven.to != offset);
            if !bad.is_empty() || header.lsn != seen.next() || apart || !last {
                cut.get_or_insert(bad.first().map_or(offset, |(from, _)| *from));
            }
            if cut.is_some() {
                self.report.void_frames += 1;
                continue;
            }
            seen = header.lsn;
            self.count(header.lsn, header.len);
            let unproven = unproven.get_or_insert(Unproven {
                from: offset,
                to: behind,
                first: header.lsn,
                last: header.lsn,
                frames: 0,
            });
            unproven.to = behind;
            unproven.last = header.lsn;
            unproven.frames += 1;
        }
        if seen < proven_here {
            self.corrupt(found, &mut bad, proven_here.0.saturating_sub(seen.0))?;
        }
        if last && let Some(from) = cut.or(bad.first().map(|(from, _)| *from)) {
            self.report.torn_bytes += torn_end.saturating_sub(from);
        }
        self.report.segments += 1;
        self.segments.push_back(Segment {
            id: found.id,
            path: found.path.clone(),
            base: found.base,
            prior: found.prior,
            last: proven,
            end,
            size: found.size,
        });
        Ok(unproven)
    }

    fn count(&mut self, lsn: Lsn, len: u32) {
        self.report.frames += 1;
        self.report.bytes += u64::from(len);
        self.report.first.get_or_insert(lsn);
        self.report.last = Some(lsn);
    }

    /// Counts `missing` frames, and keeps the bytes that lie where they should be.
    fn corrupt(
        &mut self,
        found: &Found,
        bad: &mut Vec<(u64, u64)>,
        missing: u64,
    ) -> io::Result<()> {
        // Bytes too many are as wrong as frames too few.
        self.report.corrupt_frames += missing.max(u64::from(!bad.is_empty()));
        for (from, to) in bad.drain(..) {
            self.set_aside(&found.path, found.id, from, to)?;
        }
        Ok(())
    }

    fn set_aside(&mut self, path: &Path, id: u64, from: u64, to: u64) -> io::Result<()> {
        let kept = aside::keep(self.io, self.dir, path, id, from, to)?;
        self.report.set_aside.push(kept);
        Ok(())
    }

    /// Writes unproven frames to a segment of their own, which voids the originals.
    fn rewrite(
        &mut self,
        from: &Found,
        unproven: &Unproven,
        id: u64,
        durable: Lsn,
    ) -> io::Result<()> {
        let header = SegmentHeader {
            log: self.report.log_id,
            segment: id,
            base: unproven.first,
            prior: durable,
        };
        let mut scanner = self.scan(from.id, &from.path, unproven.from, unproven.to)?;
        let size = SEGMENT_DATA.saturating_add(unproven.to.saturating_sub(unproven.from));
        let key = &self.key;
        let (_, mut segment) = segment::create(self.io, self.dir, &header, size, |file| {
            let mut at = SEGMENT_DATA;
            let mut chunk = Vec::with_capacity(CHUNK);
            while let Some(item) = scanner.next()? {
                let Item::Frame { header, .. } = item else {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        "the disk reads differently a second time",
                    ));
                };
                let begin = chunk.len();
                let header = FrameHeader { segment: id, durable, ..header };
                chunk.extend_from_slice(&header.encode(key));
                chunk.extend_from_slice(scanner.body());
                let len = usize::try_from(frame_len(header.len)).map_err(io::Error::other)?;
                chunk.resize(begin.saturating_add(len), 0);
                if chunk.len() >= CHUNK {
                    write_all_at(file, &chunk, at)?;
                    at = at.saturating_add(chunk.len() as u64);
                    chunk.clear();
                }
            }
            write_all_at(file, &chunk, at)?;
            Ok(at.saturating_add(chunk.len() as u64))
        })?;
        segment.last = unproven.last;
        self.segments.push_back(segment);
        self.report.segments += 1;
        self.report.rewritten_frames += unproven.frames;
        Ok(())
    }
}
