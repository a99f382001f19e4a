//! Failed syncs.

use super::*;
use crate::io::sim::{Failure, Fault, Op};

pub(super) fn fail_next_sync(disk: &SimIo) {
    disk.inject(Fault {
        op: Op::Sync,
        path: "segment".into(),
        after: 0,
        times: 1,
        failure: Failure::SyncLosesPages,
    });
}

#[tokio::test]
async fn a_failed_sync_fails_its_tickets_and_the_redelivery_is_accepted_once() {
    let disk = SimIo::new();
    let service = Service::start(&disk);
    assert_eq!(service.batch(&batch_of(0, vec![water(1, 0, 100)])), good());
    fail_next_sync(&disk);
    // Its counter would make the next reading a reset, if the failed frame left a trace.
    let failed = batch_of(1, vec![water(1, 2, 900_000_000), water(2, 0, 1)]);
    assert_eq!(service.batch(&failed), AckOutcome::Failed);
    assert_eq!(service.batch(&batch_of(2, vec![water(1, 3, 101)])), good());
    assert_eq!(service.batch(&failed), good());
    assert_eq!(service.batch(&failed), good());
    let figures = service.pipeline.figures();
    assert_eq!((figures.received, figures.shed, figures.accepted), (8, 2, 4));
    assert_eq!((figures.duplicate, figures.residue()), (2, 0));
    let frames = service.frames(0).await;
    assert_eq!(keys_once(&frames).len(), 4);
    let after = frames.iter().flat_map(|f| &f.rows).find(|row| row.batch_seq == 2).unwrap();
    assert_eq!(after.reading.reason, None, "judged against a frame that failed");
    service.stop().await;
}

#[test]
fn a_duplicate_of_a_failed_original_fails_with_it() {
    let disk = SimIo::new();
    let io = HeldIo::new(&disk);
    let service = Service::with(Arc::new(io.clone()), Arc::default(), options());
    io.hold();
    let batch = batch_of(0, vec![water(1, 0, 5)]);
    let original = service.publish(&uplink(&batch, "t"), &batch.encode_to_vec());
    io.wait();
    let again = service.publish(&uplink(&batch, "t"), &batch.encode_to_vec());
    let other = batch_of(1, vec![water(1, 0, 5)]);
    let other = service.publish(&uplink(&other, "t"), &other.encode_to_vec());
    fail_next_sync(&disk);
    io.release();
    for slot in [original, again, other] {
        assert_eq!(service.outcomes.wait(slot), AckOutcome::Failed);
    }
    assert_eq!(service.batch(&batch), good());
    let figures = service.pipeline.figures();
    assert_eq!((figures.received, figures.shed, figures.accepted), (4, 3, 1));
    assert_eq!((figures.duplicate, figures.residue()), (0, 0));
}

#[test]
fn what_waits_when_the_pipeline_ends_with_a_broken_disk_fails() {
    let disk = SimIo::new();
    let io = HeldIo::new(&disk);
    let service = Service::with(Arc::new(io.clone()), Arc::default(), options());
    io.hold();
    let batch = batch_of(0, vec![water(1, 0, 5)]);
    let slot = service.publish(&uplink(&batch, "t"), &batch.encode_to_vec());
    io.wait();
    let _dead = disk.kill();
    io.release();
    service.pipeline.close().unwrap_err();
    assert_eq!(service.outcomes.wait(slot), AckOutcome::Failed);
    let late = service.publish(&uplink(&batch, "t"), &batch.encode_to_vec());
    assert_eq!(service.outcomes.wait(late), AckOutcome::Failed);
    let figures = service.pipeline.figures();
    assert_eq!((figures.received, figures.shed, figures.residue()), (2, 2, 0));
}

/// A store whose answers wait while it is held.
#[derive(Default)]
struct HeldStore {
    cursor: std::sync::atomic::AtomicU64,
    held: Mutex<bool>,
    changed: Condvar,
}

impl HeldStore {
    fn hold(&self, held: bool) {
        *self.held.lock() = held;
        self.changed.notify_all();
    }
}

impl StoredKeys for HeldStore {
    fn contains(&self, _: &ReadingKey) -> io::Result<bool> {
        let mut held = self.held.lock();
        while *held {
            self.changed.wait(&mut held);
        }
        Ok(true)
    }

    fn cursor(&self) -> u64 {
        self.cursor.load(std::sync::atomic::Ordering::Relaxed)
    }
}

#[test]
fn questions_that_wait_do_not_keep_a_full_memory_full_for_ever() {
    let store = Arc::new(HeldStore::default());
    let mut options = options();
    options.state.devices = 64 << 10;
    let service = Service::over(Arc::new(SimIo::new()), Arc::clone(&store) as _, options);
    for seq in 0..70 {
        assert_eq!(service.batch(&batch_of(u64::from(seq), vec![water(1, seq, 5)])), good());
    }
    store.cursor.store(70, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(service.batch(&batch_of(70, vec![water(1, 70, 5)])), good());
    // Two that only the store can tell; the second waits for the first one's answer.
    store.hold(true);
    let old = [0, 1].map(|seq| {
        let batch = batch_of(100 + u64::from(seq), vec![water(1, seq, 5)]);
        service.publish(&uplink(&batch, "t"), &batch.encode_to_vec())
    });
    // Meanwhile the memory fills with what the store has not stored yet.
    for seq in 200.. {
        assert!(seq < 10_000, "the memory is never full");
        let batch = batch_of(seq, (0..20).map(|n| water(seq * 20 + n, 0, 5)).collect());
        let payload = batch.encode_to_vec();
        match service.offer(&uplink(&batch, "t"), &payload, QoS::AtLeastOnce) {
            Ok(slot) => assert_eq!(service.outcomes.wait(slot), good()),
            Err(_full) => break,
        }
    }
    // The store catches up, and answers.
    store.cursor.store(service.pipeline.log().durable().0, std::sync::atomic::Ordering::Relaxed);
    store.hold(false);
    for slot in old {
        assert_eq!(service.outcomes.wait(slot), good());
    }
    // The keeper does this.
    service.pipeline.core.gate.open();
    let next = batch_of(20_000, vec![water(1, 20_000, 5)]);
    assert_eq!(service.batch(&next), good());
}
