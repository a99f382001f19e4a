//! The sink's task, fed as the service feeds it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use loushan_schemas::kind::Kind;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::super::{EmbeddedConfig, SinkError, Store};
use super::support::{DAY, exported, frame, open_with, row, rows_of};
use crate::io::Io;
use crate::io::sim::{Failure, Fault, Op, PowerLoss, SimIo};
use crate::pipeline::frame::DurableFrame;
use crate::sink::{Fed, Feed, FeedError, FrameSource, SinkFigures, SinkStatus};

/// Gives out what a channel brings; closed when the sender is gone.
struct Channel {
    frames: mpsc::Receiver<Arc<DurableFrame>>,
}

impl FrameSource for Channel {
    fn next(
        &mut self,
        after: u64,
        _max_bytes: usize,
        wait: Duration,
    ) -> Pin<Box<dyn Future<Output = Result<Fed, FeedError>> + Send + '_>> {
        Box::pin(async move {
            Ok(match tokio::time::timeout(wait, self.frames.recv()).await {
                Ok(Some(frame)) => Fed::Frames { up_to: frame.lsn, frames: vec![frame] },
                Ok(None) => Fed::Closed,
                Err(_) => Fed::Frames { frames: Vec::new(), up_to: after },
            })
        })
    }
}

struct Running {
    store: Store,
    status: Arc<SinkStatus>,
    feed: Option<mpsc::Sender<Arc<DurableFrame>>>,
    task: tokio::task::JoinHandle<Result<(), SinkError>>,
}

fn config() -> EmbeddedConfig {
    EmbeddedConfig {
        flush_age: Duration::from_millis(20),
        retry_first: Duration::from_millis(1),
        retry_longest: Duration::from_millis(5),
        ..EmbeddedConfig::default()
    }
}

fn start(io: &SimIo, config: EmbeddedConfig) -> Running {
    let (store, sink) = open_with(io.clone(), config);
    let status = SinkStatus::new("embedded");
    let (send, frames) = mpsc::channel(4);
    let feed = Feed::new(Box::new(Channel { frames }), sink.cursor(), Arc::clone(&status));
    Running { store, status, feed: Some(send), task: tokio::spawn(sink.run(feed)) }
}

impl Running {
    async fn send(&self, frame: &Arc<DurableFrame>) {
        self.feed.as_ref().unwrap().send(Arc::clone(frame)).await.unwrap();
    }

    async fn until(&self, what: &str, reached: impl Fn(&SinkFigures) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !reached(&self.status.figures()) {
            assert!(Instant::now() < deadline, "never {what}: {:?}", self.status.figures());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

fn frames(n: u64) -> Vec<Arc<DurableFrame>> {
    let rows = |lsn: u64| (0..3).map(|i| row(Kind::Parking, i, lsn * 10 + i, DAY)).collect();
    (1..=n).map(|lsn| frame(lsn, rows(lsn))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_are_stored_by_age_and_the_last_ones_when_the_feed_ends() {
    let io = SimIo::new();
    let mut running = start(&io, config());
    let log = frames(10);
    for frame in &log[..5] {
        running.send(frame).await;
    }
    running.until("stored by age", |f| f.stored == 15 && f.cursor == 5).await;
    for frame in &log[5..] {
        running.send(frame).await;
    }
    running.feed = None;
    running.task.await.unwrap().unwrap();
    let figures = running.status.figures();
    assert_eq!((figures.fed, figures.stored, figures.pending, figures.cursor), (30, 30, 0, 10));
    assert_eq!(figures.residue(), 0);
    let io = io.power_loss(1, PowerLoss::ForgetAll);
    let (store, sink) = open_with(io, config());
    assert_eq!((store.cursor(), sink.cursor(), store.max_lsn()), (10, 10, 10));
    assert_eq!(exported(&store, 0), rows_of(&log));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_fed_again_is_counted_as_replayed_and_stored_once() {
    let io = SimIo::new();
    let log = frames(4);
    let mut running = start(&io, config());
    for frame in [&log[0], &log[1], &log[1], &log[0], &log[2], &log[3]] {
        running.send(frame).await;
    }
    running.feed = None;
    running.task.await.unwrap().unwrap();
    let figures = running.status.figures();
    assert_eq!((figures.fed, figures.stored, figures.replayed), (18, 12, 6));
    assert_eq!(figures.residue(), 0);
    assert_eq!(exported(&running.store, 0), rows_of(&log));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_disk_in_trouble_rows_wait_in_bounded_memory_and_are_all_stored_in_the_end() {
    for (op, errno) in [(Op::Write, 28), (Op::Sync, 5), (Op::SyncDir, 5), (Op::Rename, 5)] {
        let io = SimIo::new();
        let config = EmbeddedConfig { flush_rows: 9, ..config() };
        let mut running = start(&io, config);
        let log = frames(40);
        let failure = Failure::Errno(errno);
        io.inject(Fault { op, path: String::new(), after: 0, times: u64::MAX, failure });
        let mut given = 0;
        for frame in &log {
            // The bound of memory reaches the feed: from some frame on nobody takes any.
            let feed = running.feed.as_ref().unwrap();
            let sent = tokio::time::timeout(Duration::from_millis(300), feed.send(frame.clone()));
            if sent.await.is_err() {
                break;
            }
            given += 1;
        }
        running.until("in trouble", |f| f.trouble.is_some()).await;
        let figures = running.status.figures();
        assert!(given < 20, "{op:?}: {given} frames were taken");
        assert!(figures.pending <= 18, "{op:?}: {figures:?}");
        assert_eq!((figures.stored, figures.cursor, figures.residue()), (0, 0, 0), "{op:?}");
        let held = usize::try_from(figures.pending).unwrap() / 3;
        assert_eq!(exported(&running.store, 0), rows_of(&log[..held]), "queries go on, {op:?}");
        io.clear_faults();
        for frame in &log[given..] {
            running.send(frame).await;
        }
        running.until("stored", |f| f.stored == 120 && f.cursor == 40).await;
        assert_eq!(running.status.figures().trouble, None);
        running.feed = None;
        running.task.await.unwrap().unwrap();
        let (store, _) =
            open_with(io.power_loss(7, PowerLoss::ForgetAll), EmbeddedConfig::default());
        assert_eq!(exported(&store, 0), rows_of(&log), "{op:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_that_fail_do_not_fill_the_disk_with_files_of_the_same_rows() {
    let io = SimIo::new();
    let mut running = start(&io, config());
    let failure = Failure::Errno(28);
    let path = "MANIFEST".to_owned();
    io.inject(Fault { op: Op::Write, path, after: 0, times: 10, failure });
    let log = frames(3);
    for frame in &log {
        running.send(frame).await;
    }
    running.until("stored", |f| f.stored == 9).await;
    running.feed = None;
    running.task.await.unwrap().unwrap();
    assert!(!io.clear_faults(), "all ten commits failed");
    let folder = super::support::dir().join("kind=parking/date=2026-11-24");
    let files: u64 = running.store.stats().tables.values().map(|table| table.files).sum();
    assert_eq!(io.list(&folder).unwrap().len() as u64, files);
    assert!(files <= 3, "{files} files of three frames");
    assert_eq!(exported(&running.store, 0), rows_of(&log));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_on_a_broken_disk_ends_and_leaves_the_rows_to_the_log() {
    let io = SimIo::new();
    let config = EmbeddedConfig { stop_within: Duration::from_millis(50), ..config() };
    let mut running = start(&io, config);
    let failure = Failure::Errno(5);
    io.inject(Fault { op: Op::Sync, path: String::new(), after: 0, times: u64::MAX, failure });
    running.send(&frames(1)[0]).await;
    running.feed = None;
    let error = running.task.await.unwrap().unwrap_err();
    assert!(matches!(error, SinkError::Unflushed { rows: 3, .. }), "{error}");
    assert_eq!(Store::peek(&io, &super::support::dir()).unwrap().unwrap().cursor, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_count_during_flushes_never_goes_back_and_never_counts_twice() {
    let io = SimIo::new();
    let config = EmbeddedConfig { flush_rows: 30, ..config() };
    let mut running = start(&io, config);
    let log = frames(400);
    let store = running.store.clone();
    let counting = tokio::task::spawn_blocking(move || {
        let mut before = 0;
        while before < 1200 {
            let (counted, as_of) = (store.count(None, 0, i64::MAX).unwrap(), store.as_of_lsn());
            assert!(counted >= before, "{counted} after {before}");
            assert!(counted <= as_of * 3, "{counted} of at most {}", as_of * 3);
            before = counted;
        }
    });
    for frame in &log {
        running.send(frame).await;
    }
    counting.await.unwrap();
    running.feed = None;
    running.task.await.unwrap().unwrap();
    assert!(running.store.stats().tables.values().map(|t| t.files).sum::<u64>() > 10);
    assert_eq!(exported(&running.store, 0), rows_of(&log));
}

#[tokio::test]
async fn a_feed_that_starts_above_the_cursor_is_refused() {
    let (_, sink) = open_with(SimIo::new(), config());
    let (_send, frames) = mpsc::channel(1);
    let feed = Feed::new(Box::new(Channel { frames }), 5, SinkStatus::new("embedded"));
    let error = sink.run(feed).await.unwrap_err();
    assert!(matches!(error, SinkError::Gap { position: 5, cursor: 0 }), "{error}");
}
