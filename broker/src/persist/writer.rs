//! The thread that owns the database, and the notes that it works off.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use parking_lot::{Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard};
use redb::Database;
use tokio_util::sync::CancellationToken;

use super::codec::StoredMessage;
use super::open::Reopen;
use super::pending::Pending;
use super::{ClockMs, tables, to_ms};
use crate::handler::{AckTicket, Acknowledgement};
use crate::message::Message;
use crate::parcel::Parcel;
use crate::session::Session;

/// How long a change for which nobody waits may gather others: most messages for a connected client
/// are acknowledged within it, and are never written.
const LINGER: Duration = Duration::from_millis(50);

/// Wait before a commit that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// How long the last commit of a broker that ends may be tried.
const LAST_TRIES: u32 = 3;

/// The database as the broker sees it: a place to note changes.
pub(crate) struct Store {
    notes: Arc<Notes>,
    clock: ClockMs,
    next_session: AtomicU64,
    /// The thread has ended.
    ended: CancellationToken,
}

/// What the thread and everybody else share.
#[derive(Debug)]
struct Notes {
    inner: Mutex<Inner>,
    /// There is work, or the end.
    work: Condvar,
    /// Held by who notes what belongs into one commit; the thread takes nothing meanwhile.
    together: RwLock<()>,
    failing: AtomicBool,
    trouble: Mutex<Option<String>>,
}

#[derive(Debug)]
struct Inner {
    pending: Pending,
    /// The number of the commit that `pending` is for.
    number: u64,
    /// The last one that is on disk.
    done: u64,
    /// Somebody waits for `pending`.
    urgent: bool,
    closed: bool,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("notes", &self.notes).finish_non_exhaustive()
    }
}

impl Store {
    pub(super) fn start(
        database: Database,
        reopen: Reopen,
        clock: ClockMs,
        first_session: u64,
    ) -> io::Result<Arc<Self>> {
        let notes = Arc::new(Notes {
            inner: Mutex::new(Inner {
                pending: Pending::default(),
                number: 1,
                done: 0,
                urgent: false,
                closed: false,
            }),
            work: Condvar::new(),
            together: RwLock::default(),
            failing: AtomicBool::new(false),
            trouble: Mutex::new(None),
        });
        let writer = Writer {
            notes: Arc::clone(&notes),
            database: Some(database),
            reopen,
            figures: Figures::new(),
        };
        let ended = CancellationToken::new();
        let end = ended.clone().drop_guard();
        let thread = std::thread::Builder::new().name("sessions".to_owned());
        let _runs_until_closed = thread.spawn(move || {
            writer.run();
            drop(end);
        })?;
        Ok(Arc::new(Self { notes, clock, next_session: AtomicU64::new(first_session), ended }))
    }

    /// Unix milliseconds.
    pub(crate) fn now_ms(&self) -> u64 {
        (self.clock)()
    }

    /// A number for a session, never given before.
    pub(super) fn session_number(&self) -> u64 {
        self.next_session.fetch_add(1, Ordering::Relaxed)
    }

    /// The message is retained; `replaces` if its topic may have one already.
    pub(crate) fn retain(&self, message: &Arc<Message>, replaces: bool) {
        let stored = self.stored(message);
        self.note(|pending| pending.retained.put(message.topic.clone(), stored, replaces));
    }

    /// The topic has no retained message any more.
    pub(crate) fn forget_retained(&self, topic: &Arc<str>) {
        self.note(|pending| pending.retained.remove(Arc::clone(topic)));
    }

    /// A parcel is as it is now; `replaces` if it was there before.
    pub(crate) fn keep_parcel(&self, order: u64, parcel: &Parcel, replaces: bool) {
        self.note(|pending| pending.parcels.put(order, parcel.clone(), replaces));
    }

    /// A parcel is of no more use.
    pub(crate) fn forget_parcel(&self, order: u64) {
        self.note(|pending| pending.parcels.remove(order));
    }

    pub(super) fn stored(&self, message: &Arc<Message>) -> StoredMessage {
        let expires_ms = message.expires.map_or(super::codec::NEVER, |at| to_ms(at, self.now_ms()));
        StoredMessage { message: Arc::clone(message), expires_ms }
    }

    /// Answers the ticket when everything that was noted before is on disk.
    pub(crate) fn when_durable(&self, ticket: AckTicket) {
        let mut inner = self.notes.inner.lock();
        if inner.closed {
            // Dropped, it fails.
            return;
        }
        inner.pending.tickets.push(ticket);
        self.notes.hurry(inner);
    }

    /// What has to be [`Store::done`] for everything that was noted before to be on disk. Wakes the
    /// session then.
    pub(crate) fn mark(&self, waiting: &Arc<Session>) -> u64 {
        let mut inner = self.notes.inner.lock();
        inner.pending.waiting.push(Arc::downgrade(waiting));
        let number = inner.number;
        self.notes.hurry(inner);
        number
    }

    /// Whether what had the mark is on disk.
    pub(crate) fn is_done(&self, mark: u64) -> bool {
        self.notes.inner.lock().done >= mark
    }

    /// Whether nothing more is kept.
    pub(crate) fn is_closed(&self) -> bool {
        self.notes.inner.lock().closed
    }

    /// Whether the last commit failed.
    pub(crate) fn is_failing(&self) -> bool {
        self.notes.failing.load(Ordering::Acquire)
    }

    /// Why nothing is committed now, for readiness.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.notes.trouble.lock().clone()
    }

    /// What is noted while this is held goes into one commit: a message that passes from one session to
    /// another is always in one of them. Held for a moment, and never twice by one thread.
    pub(crate) fn together(&self) -> RwLockReadGuard<'_, ()> {
        self.notes.together.read()
    }

    /// Notes a change.
    pub(super) fn note(&self, change: impl FnOnce(&mut Pending)) {
        let mut inner = self.notes.inner.lock();
        if inner.closed {
            return;
        }
        let idle = inner.pending.is_empty();
        change(&mut inner.pending);
        if idle && !inner.pending.is_empty() {
            drop(inner);
            self.notes.work.notify_one();
        }
    }

    /// Writes what is noted and ends the thread. What comes later is not kept. A disk that does not
    /// answer is left after `patience`, and its thread to the end of the process.
    pub(crate) async fn close(&self, patience: Duration) {
        self.notes.inner.lock().closed = true;
        self.notes.work.notify_one();
        if tokio::time::timeout(patience, self.ended.cancelled()).await.is_err() {
            tracing::error!("the disk does not answer: what changed last of the sessions was left");
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.notes.inner.lock().closed = true;
        self.notes.work.notify_one();
    }
}

impl Notes {
    fn hurry(&self, mut inner: MutexGuard<'_, Inner>) {
        if !inner.urgent {
            inner.urgent = true;
            drop(inner);
            self.work.notify_one();
        }
    }

    /// Waits until there is something to write, or the end.
    fn wait(&self) {
        let mut inner = self.inner.lock();
        let mut since = None;
        loop {
            if inner.urgent || inner.closed {
                return;
            }
            if inner.pending.is_empty() {
                self.work.wait(&mut inner);
                continue;
            }
            let until = *since.get_or_insert_with(Instant::now) + LINGER;
            if self.work.wait_until(&mut inner, until).timed_out() {
                return;
            }
        }
    }

    /// Waits for something to write and takes it; `None` at the end.
    fn take(&self) -> Option<(u64, Pending)> {
        self.wait();
        let _nobody_is_in_the_midst = self.together.write();
        let mut inner = self.inner.lock();
        let nothing = inner.pending.is_empty()
            && inner.pending.tickets.is_empty()
            && inner.pending.waiting.is_empty();
        if inner.closed && nothing {
            return None;
        }
        inner.urgent = false;
        let number = inner.number;
        inner.number += 1;
        Some((number, std::mem::take(&mut inner.pending)))
    }
}

struct Figures {
    commits: Counter,
    failures: Counter,
    latency: Histogram,
    records: Counter,
    waiting: Gauge,
}

impl Figures {
    fn new() -> Self {
        Self {
            commits: counter!("loushan_session_commits_total"),
            failures: counter!("loushan_session_commit_failures_total"),
            latency: histogram!("loushan_session_commit_latency_seconds"),
            records: counter!("loushan_session_records_written_total"),
            waiting: gauge!("loushan_session_records_waiting"),
        }
    }
}

struct Writer {
    notes: Arc<Notes>,
    /// `None` after a failure, until it could be opened again.
    database: Option<Database>,
    reopen: Reopen,
    figures: Figures,
}

impl Writer {
    fn run(mut self) {
        let mut failures = 0;
        while let Some((number, batch)) = self.notes.take() {
            match self.commit(&batch) {
                Ok(()) => {
                    failures = 0;
                    self.committed(number, batch);
                }
                Err(why) => {
                    failures += 1;
                    self.failed(&why, batch);
                    let closed = self.notes.inner.lock().closed;
                    if closed && failures >= LAST_TRIES {
                        tracing::error!("what changed last of the sessions was not written");
                        return;
                    }
                    std::thread::sleep(RETRY);
                }
            }
        }
    }

    fn commit(&mut self, batch: &Pending) -> Result<(), String> {
        if batch.is_empty() && self.database.is_some() {
            return Ok(());
        }
        let begun = Instant::now();
        let (opened, reopen) = (self.database.take(), &self.reopen);
        // A library that finds its file altered beneath it asserts, be it that it opens, writes or closes
        // it: that is a failed commit.
        let written = catch_unwind(AssertUnwindSafe(|| {
            let database = opened.map_or_else(reopen, Ok)?;
            tables::write(&database, batch).map(|()| database)
        }));
        match written {
            Ok(Ok(database)) => self.database = Some(database),
            Ok(Err(error)) => return Err(error.to_string()),
            Err(_) => return Err("the database's library panicked".to_owned()),
        }
        self.figures.latency.record(begun.elapsed().as_secs_f64());
        self.figures.commits.increment(1);
        self.figures.records.increment(batch.len() as u64);
        Ok(())
    }

    fn committed(&self, number: u64, batch: Pending) {
        let waiting = {
            let mut inner = self.notes.inner.lock();
            inner.done = number;
            inner.pending.len()
        };
        self.figures.waiting.set(waiting as f64);
        if self.notes.failing.swap(false, Ordering::AcqRel) {
            *self.notes.trouble.lock() = None;
            tracing::info!("sessions and retained messages are written again");
        }
        for ticket in batch.tickets {
            ticket.durable(Acknowledgement::default());
        }
        for session in batch.waiting.iter().filter_map(Weak::upgrade) {
            session.wake.notify_one();
        }
    }

    fn failed(&self, why: &str, mut batch: Pending) {
        self.figures.failures.increment(1);
        *self.notes.trouble.lock() = Some(format!(
            "sessions and retained messages cannot be written ({why}): what needs them is not \
             acknowledged, telemetry is"
        ));
        if !self.notes.failing.swap(true, Ordering::AcqRel) {
            tracing::error!(error = why, "sessions and retained messages cannot be written");
        }
        // Outside the lock: their connections are woken.
        for ticket in std::mem::take(&mut batch.tickets) {
            ticket.failed();
        }
        batch.doubt();
        let mut inner = self.notes.inner.lock();
        let later = std::mem::take(&mut inner.pending);
        batch.then(later);
        inner.pending = batch;
        inner.urgent |= !inner.pending.waiting.is_empty();
        self.figures.waiting.set(inner.pending.len() as f64);
    }
}
