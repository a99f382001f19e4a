//! Durable frames in order, while the log is written and segments are deleted.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use super::Lsn;
use super::codec::SEGMENT_DATA;
use super::log::Shared;
use super::scan::{Item, Scanner};
use super::segment::Segment;

/// A durable frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Its place.
    pub lsn: Lsn,
    /// What was appended.
    pub body: Bytes,
}

/// A segment could not be read. The reader stays where it was: the next call tries again.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the log segment {}", path.display())]
pub struct ReadError {
    /// Of the segment.
    pub path: PathBuf,
    /// What the file system said.
    #[source]
    pub source: io::Error,
}

/// Hands out durable frames. Each reader has its own file handles and a buffer of about a mebibyte;
/// a segment it is reading may be deleted under it.
pub struct Reader {
    shared: Arc<Shared>,
    /// The last lsn handed out, or given by the caller.
    after: Lsn,
    current: Option<Current>,
    /// The last segment that was read to its end. Without it an empty segment, whose `last` speaks of
    /// deleted ones, would be opened for ever.
    finished: u64,
    skipped: u64,
}

enum Beyond {
    /// The segment has grown meanwhile.
    More,
    /// There is another one.
    Later,
    Nothing,
}

struct Current {
    scanner: Scanner,
    path: PathBuf,
    /// The last valid lsn of this segment seen, handed out or not; its base's predecessor before.
    seen: Lsn,
}

impl Reader {
    pub(super) fn new(shared: Arc<Shared>, after: Lsn) -> Self {
        Self { shared, after, current: None, finished: 0, skipped: 0 }
    }

    /// The next durable frame; `None` if there is none yet. Blocks for reading files.
    ///
    /// # Errors
    /// What the file system said; the next call tries again.
    #[allow(clippy::should_implement_trait)] // an iterator that ended would not go on
    pub fn next(&mut self) -> Result<Option<Frame>, ReadError> {
        loop {
            let Some(segment) = self.locate()? else { return Ok(None) };
            let Some(current) = &mut self.current else { continue };
            current.scanner.extend(segment.end);
            let item = current.scanner.next();
            match item.map_err(|source| ReadError { path: current.path.clone(), source })? {
                // Above the last it is void; one whose lsn goes back is a copy.
                Some(Item::Frame { header, .. })
                    if header.lsn > current.seen && header.lsn <= segment.last =>
                {
                    let missing = header.lsn.0 - current.seen.next().0;
                    current.seen = header.lsn;
                    let deliver = header.lsn > self.after;
                    let body = deliver.then(|| Bytes::copy_from_slice(current.scanner.body()));
                    self.skip(header.lsn.prev(), missing);
                    if let Some(body) = body {
                        self.after = header.lsn;
                        return Ok(Some(Frame { lsn: header.lsn, body }));
                    }
                }
                Some(_) => {}
                None => {
                    let missing = segment.last.0.saturating_sub(current.seen.0);
                    let (last, seen) = (segment.last, current.seen);
                    current.seen = seen.max(last);
                    // An empty segment's `last` lies before its base.
                    if last > seen {
                        self.skip(last, missing);
                    }
                    match self.beyond(segment.id, segment.end) {
                        Beyond::More => {}
                        Beyond::Later => self.finish(segment.id),
                        Beyond::Nothing => return Ok(None),
                    }
                }
            }
        }
    }

    /// The last lsn that was handed out or passed over.
    #[must_use]
    pub fn position(&self) -> Lsn {
        self.after
    }

    /// Frames above the start that were corrupt, and passed over.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Counts `missing` frames that end at `last`, but for those the caller did not ask for.
    fn skip(&mut self, last: Lsn, missing: u64) {
        let missing = missing.min(last.0.saturating_sub(self.after.0));
        if missing > 0 {
            self.skipped += missing;
            metrics::counter!("loushan_wal_skipped_frames_total").increment(missing);
            tracing::error!(missing, up_to = last.0, "log frames are corrupt, reader goes on");
            self.after = self.after.max(last);
        }
    }

    fn finish(&mut self, segment: u64) {
        self.finished = segment;
        self.current = None;
    }

    /// The segment to read from, open as `current`.
    fn locate(&mut self) -> Result<Option<Segment>, ReadError> {
        loop {
            let reading = self.current.as_ref().map(|current| current.scanner.segment());
            let segment = {
                let segments = self.shared.segments.lock();
                match reading {
                    Some(id) => match segments.binary_search_by_key(&id, |s| s.id) {
                        Ok(at) => segments.get(at).cloned(),
                        // Deleted, so all its frames were below every cursor, ours included.
                        Err(_) => None,
                    },
                    // The first that holds anything we want.
                    None => segments
                        .iter()
                        .find(|s| s.id > self.finished && s.last > self.after)
                        .cloned(),
                }
            };
            match (segment, reading) {
                (Some(segment), Some(_)) => return Ok(Some(segment)),
                (Some(segment), None) => match self.shared.io.open_read(&segment.path) {
                    Ok(file) => {
                        let scanner = Scanner::new(
                            file,
                            self.shared.key.clone(),
                            segment.id,
                            SEGMENT_DATA,
                            segment.end,
                        );
                        let path = segment.path.clone();
                        let seen = segment.base.prev();
                        self.current = Some(Current { scanner, path, seen });
                        return Ok(Some(segment));
                    }
                    // Deleted between the look and the open: its removal from the list follows.
                    Err(e) if e.kind() == io::ErrorKind::NotFound && self.gone(segment.id) => {}
                    Err(source) => return Err(ReadError { path: segment.path, source }),
                },
                (None, Some(id)) => self.finish(id),
                (None, None) => return Ok(None),
            }
        }
    }

    /// Whether a segment is no longer in the list. Waits for a deletion that is under way.
    fn gone(&self, id: u64) -> bool {
        let _order = self.shared.deleting.lock();
        !self.shared.segments.lock().iter().any(|s| s.id == id)
    }

    /// What there is behind the offset `end` of a segment.
    fn beyond(&self, id: u64, end: u64) -> Beyond {
        let segments = self.shared.segments.lock();
        let mut from_here = segments.iter().skip_while(|s| s.id < id);
        match from_here.next() {
            Some(here) if here.id == id && here.end > end => Beyond::More,
            Some(here) if here.id == id && from_here.next().is_none() => Beyond::Nothing,
            Some(_) => Beyond::Later,
            None => Beyond::Nothing,
        }
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("after", &self.after)
            .field("skipped", &self.skipped)
            .finish_non_exhaustive()
    }
}
