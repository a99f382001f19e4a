//! What a restart finds again.

use super::*;
use crate::io::sim::PowerLoss;

/// One of everything that can be in a log.
fn mixture() -> Vec<(String, Vec<u8>)> {
    let bad = pb::Reading { imei: 43, ..water(1, 9, 5) };
    let status = pb::StationStatus {
        session: 7,
        seq: 0,
        time_ms: u64::try_from(NOW_MS).unwrap(),
        attached_ues: Some(12),
        schema_major: 1,
        ..Default::default()
    };
    let birth = pb::StationState {
        session: 7,
        online: true,
        schema_major: 1,
        firmware: "1.2".into(),
        ..Default::default()
    };
    let skewed = pb::Reading { measured_delta_ms: -(1 << 40), ..water(3, 1, 5) };
    let batch = |seq, readings| {
        let batch = batch_of(seq, readings);
        (uplink(&batch, "t"), batch.encode_to_vec())
    };
    vec![
        ("nb1/zunyi/bs0001/state".into(), birth.encode_to_vec()),
        batch(0, vec![water(1, 0, 100), water(2, 0, 200)]),
        batch(1, vec![bad.clone(), water(1, 1, 50), water(1, 0, 100), bad.clone(), skewed]),
        batch(2, vec![bad]),
        ("nb1/zunyi/bs0001/u/s".into(), status.encode_to_vec()),
        ("nb1/zunyi/bs0001/u/t".into(), b"\xff".to_vec()),
        ("nb1/zunyi/bs0001/nothing".into(), b"x".to_vec()),
    ]
}

fn publish_all(service: &Service) {
    let slots: Vec<u64> =
        mixture().iter().map(|(topic, payload)| service.publish(topic, payload)).collect();
    for slot in slots {
        assert!(matches!(service.outcomes.wait(slot), AckOutcome::Durable(_)));
    }
}

#[tokio::test]
async fn a_replayed_log_gives_exactly_what_was_handed_out_live() {
    let disk = SimIo::new();
    let service = Service::start(&disk);
    publish_all(&service);
    let live = service.frames(0).await;
    assert_eq!(live.len(), mixture().len());
    assert_eq!(live.iter().map(|f| f.rows.len()).sum::<usize>(), 5);
    // Another build's clock: nothing is decided anew.
    service.clock.set(i64::MAX / 2);
    let mut reader = service.pipeline.log().reader(Lsn::ZERO);
    let mut replayed = Vec::new();
    while let Some(frame) = reader.next().unwrap() {
        replayed.push(Arc::new(replay::frame(frame.lsn.0, frame.body).unwrap()));
    }
    assert_eq!(replayed, live);
    service.stop().await;
}

#[tokio::test]
async fn a_sink_behind_the_tail_gets_the_same_from_the_log() {
    let (wide, narrow) = (SimIo::new(), SimIo::new());
    let mut options = options();
    options.tail_bytes = 0;
    let services =
        [Service::start(&wide), Service::with(Arc::new(narrow), Arc::default(), options)];
    let mut seen = Vec::new();
    for service in services {
        publish_all(&service);
        seen.push(service.frames(0).await);
        service.stop().await;
    }
    assert_eq!(seen[0], seen[1]);
}

#[tokio::test]
async fn after_a_power_loss_what_was_acknowledged_is_known_again() {
    for snapshot in [false, true] {
        let disk = SimIo::new();
        let service = Service::start(&disk);
        publish_all(&service);
        let frames = service.frames(0).await;
        let store = Arc::clone(&service.store);
        if snapshot {
            service.stop().await;
        } else {
            drop(service);
        }
        let disk = disk.power_loss(1, PowerLoss::ForgetAll);
        let service = Service::with(Arc::new(disk), store, options());
        assert_eq!(service.opened, (if snapshot { 0 } else { frames.len() as u64 }, false));
        for (topic, payload) in mixture().iter().filter(|(topic, _)| topic.contains("/u/")) {
            let slot = service.publish(topic, payload);
            assert!(matches!(service.outcomes.wait(slot), AckOutcome::Durable(_)));
        }
        let figures = service.pipeline.figures();
        assert_eq!((figures.accepted, figures.redelivered_batches), (0, 4), "{snapshot}");
        assert_eq!((figures.received, figures.duplicate, figures.rejected), (10, 9, 1));
        assert_eq!(figures.residue(), 0);
        assert_eq!(service.registry.counts().devices, 3);
        let found = &service.registry.stations()[0];
        assert_eq!((found.readings, found.rejected, found.online), (5, 4, Some(true)));
        assert_eq!(found.status.as_ref().unwrap().reading.kind().as_str(), "station_status");
        service.stop().await;
    }
}

#[tokio::test]
async fn the_snapshot_restores_exactly_the_state_that_replay_builds() {
    let disk = SimIo::new();
    let service = Service::start(&disk);
    publish_all(&service);
    service.stop().await;
    let with = Service::start(&disk);
    let registry = |s: &Service| (s.registry.stations(), s.registry.latest(Imei::from_body(1)));
    let state = |s: &Service| {
        let decider = s.pipeline.core.decider.lock();
        let mut devices: Vec<_> = decider.state.devices.iter().cloned().collect();
        devices.sort_by_key(|d| d.id);
        let mut batches: Vec<_> = decider
            .state
            .batches
            .iter()
            .map(|(name, stream, session, seen)| {
                (name.clone(), stream, session, seen.cloned().collect::<Vec<_>>())
            })
            .collect();
        batches.sort_by_key(|(name, stream, session, _)| (name.clone(), *stream as u8, *session));
        let devices: Vec<_> =
            devices.into_iter().map(|d| (d.id, d.mark, d.entries, d.previous)).collect();
        (devices, batches)
    };
    assert_eq!(with.opened, (0, false));
    let snapshotted = (state(&with), registry(&with));
    with.stop().await;
    disk.remove_file(Path::new("/data/pipeline.snapshot")).unwrap();
    let without = Service::start(&disk);
    assert_eq!(without.opened.0, mixture().len() as u64);
    assert_eq!(snapshotted, (state(&without), registry(&without)));
    without.stop().await;
}

#[tokio::test]
async fn a_rotten_snapshot_is_ignored_and_the_log_rebuilds_the_state() {
    let disk = SimIo::new();
    let service = Service::start(&disk);
    publish_all(&service);
    service.stop().await;
    disk.flip_bit(Path::new("/data/pipeline.snapshot"), 40, 3).unwrap();
    let service = Service::start(&disk);
    assert_eq!(service.opened, (mixture().len() as u64, false));
    let (topic, payload) = &mixture()[1];
    let slot = service.publish(topic, payload);
    assert_eq!(service.outcomes.wait(slot), good());
    assert_eq!(service.pipeline.figures().redelivered_batches, 1);
    service.stop().await;
}

#[tokio::test]
async fn without_a_snapshot_and_without_the_old_frames_the_store_is_asked() {
    let disk = SimIo::new();
    let service = Service::start(&disk);
    let batch = |seq: u32| {
        let readings = (0..20).map(|device| water(device + 1, seq, u64::from(seq)));
        batch_of(u64::from(seq), readings.collect())
    };
    for seq in 0..200 {
        assert_eq!(service.batch(&batch(seq)), good());
    }
    let store = Arc::clone(&service.store);
    store.take(&service.frames(0).await);
    let sink = SinkStatus::new("embedded");
    sink.advance(store.cursor());
    let (pipeline, keeper) =
        (Arc::clone(&service.pipeline), service.keeper.as_ref().unwrap().status());
    assert_eq!(
        pipeline.trim(&[Arc::clone(&sink), Arc::clone(&keeper)]).unwrap(),
        0,
        "no snapshot yet"
    );
    service.stop().await;
    assert_eq!(keeper.cursor(), 200);
    assert!(pipeline.trim(&[sink, keeper]).unwrap() > 0, "nothing was deleted");
    drop(pipeline);
    disk.remove_file(Path::new("/data/pipeline.snapshot")).unwrap();

    let service = Service::with(Arc::new(disk), Arc::clone(&store), options());
    assert!(service.opened.1, "the start says so");
    assert_eq!(service.batch(&batch(0)), good());
    assert_eq!(service.batch(&batch(200)), good());
    let figures = service.pipeline.figures();
    assert_eq!((figures.accepted, figures.duplicate, figures.residue()), (20, 20, 0));
    assert_eq!(store.questions(), 40);
    service.stop().await;
}

#[tokio::test]
async fn a_reading_older_than_the_ring_is_looked_up_in_the_store() {
    let service = Service::start(&SimIo::new());
    for seq in 0..100 {
        assert_eq!(service.batch(&batch_of(u64::from(seq), vec![water(1, seq, 5)])), good());
    }
    assert_eq!(service.store.questions(), 0);
    service.store.take(&service.frames(0).await);
    // This one makes the ring let go of what the store has.
    assert_eq!(service.batch(&batch_of(100, vec![water(1, 100, 5)])), good());
    let old = vec![water(1, 3, 5), water(1, 4, 5), water(1, 100, 5)];
    assert_eq!(service.batch(&batch_of(101, old)), good());
    let late = pb::Reading { boot_epoch: 9, ..water(1, 3, 5) };
    assert_eq!(service.batch(&batch_of(102, vec![late])), good());
    assert_eq!(service.store.questions(), 3);
    let figures = service.pipeline.figures();
    assert_eq!((figures.accepted, figures.duplicate, figures.residue()), (102, 3, 0));
    service.stop().await;
}

#[tokio::test]
async fn what_was_accepted_and_cannot_be_read_any_more_stops_the_sink_and_names_the_frame() {
    use super::super::normalize::Judgement;
    use super::super::verdict::{Encoder, Outcome};
    let disk = SimIo::new();
    let mut options = options();
    options.tail_bytes = 0;
    let service = Service::with(Arc::new(disk.clone()), Arc::default(), options);
    assert_eq!(service.batch(&batch_of(0, vec![water(1, 0, 5)])), good());
    let row = service.frames(0).await[0].rows[0].clone();
    let accepted = [Outcome::Accepted(Judgement::of(&row.reading))];
    let mut encoder = Encoder::default();
    let body = |topic: &str, payload: &[u8]| {
        let outcomes = accepted.iter().copied();
        encoder.readings(topic, payload, row.reading.times.received, outcomes, false).to_vec()
    };
    let bodies = [("nb1/zunyi/bs0001/u/t", &b"\xff"[..]), ("nb1/zunyi/bs0001/state", b"")].map({
        let mut body = body;
        move |(topic, payload)| body(topic, payload)
    });
    for body in &bodies {
        let error = replay::frame(2, Bytes::copy_from_slice(body)).unwrap_err();
        assert!(error.to_string().starts_with("frame 2 of the log cannot be replayed"), "{error}");
    }
    let lsn = service.pipeline.log().append(&bodies[0]).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while service.pipeline.log().durable() < lsn {
        assert!(Instant::now() < deadline, "never durable");
        std::thread::yield_now();
    }
    let mut feed = service.pipeline.feed(0, SinkStatus::new("test"));
    let error = feed.next(1 << 20, PATIENCE).await.unwrap_err();
    assert!(error.to_string().contains("frame 2 of the log"), "{error}");
    service.pipeline.close().unwrap();
    drop(service);
    let registry = Arc::new(Registry::new(RegistryLimits::default()));
    let parts = Parts {
        io: Arc::new(disk),
        dir: PathBuf::from("/data"),
        clock: Clock::System,
        stored: Arc::new(Store::default()),
        floor: 0,
        registry,
    };
    let error = Pipeline::open(parts, super::options()).unwrap_err();
    assert!(matches!(error, OpenError::Replay(_)), "{error}");
}

#[tokio::test]
async fn lsns_that_failed_before_the_oldest_segment_do_not_part_the_snapshot_from_the_log() {
    let disk = SimIo::new();
    let service = Service::start(&disk);
    let batch = batch_of(0, vec![water(1, 0, 5)]);
    assert_eq!(service.batch(&batch), good());
    faults::fail_next_sync(&disk);
    assert_eq!(service.batch(&batch_of(1, vec![water(1, 1, 6)])), AckOutcome::Failed);
    let deadline = Instant::now() + PATIENCE;
    while service.pipeline.log().stats().refuses.is_some() {
        assert!(Instant::now() < deadline, "the log does not go on");
        std::thread::yield_now();
    }
    let (pipeline, keeper) =
        (Arc::clone(&service.pipeline), service.keeper.as_ref().unwrap().status());
    service.stop().await;
    assert_eq!(pipeline.trim(&[keeper]).unwrap(), 1);
    drop(pipeline);

    let service = Service::start(&disk);
    assert_eq!(service.opened, (0, false), "the snapshot was not believed");
    assert_eq!(service.batch(&batch), good());
    assert_eq!(service.pipeline.figures().redelivered_batches, 1);
    service.stop().await;
}
