//! What a ticket promises, and the books.

use super::*;

#[test]
fn an_acknowledgement_leaves_only_after_the_sync() {
    let io = HeldIo::new(&SimIo::new());
    let service = Service::with(Arc::new(io.clone()), Arc::default(), options());
    io.hold();
    let batch = batch_of(0, vec![water(1, 0, 5)]);
    let slot = service.publish(&uplink(&batch, "t"), &batch.encode_to_vec());
    io.wait();
    assert_eq!(service.outcomes.of(slot), None);
    let figures = service.pipeline.figures();
    assert_eq!((figures.received, figures.undecided, figures.residue()), (1, 1, 0));
    io.release();
    assert_eq!(service.outcomes.wait(slot), good());
    let figures = service.pipeline.figures();
    assert_eq!((figures.accepted, figures.undecided, figures.residue()), (1, 0, 0));
}

#[test]
fn a_duplicate_waits_for_its_original() {
    let io = HeldIo::new(&SimIo::new());
    let service = Service::with(Arc::new(io.clone()), Arc::default(), options());
    io.hold();
    let first = batch_of(0, vec![water(1, 0, 5), water(2, 0, 5)]);
    let original = service.publish(&uplink(&first, "t"), &first.encode_to_vec());
    io.wait();
    let again = service.publish(&uplink(&first, "t"), &first.encode_to_vec());
    // The same reading in another batch, beside nothing new.
    let other = batch_of(1, vec![water(2, 0, 5)]);
    let other = service.publish(&uplink(&other, "t"), &other.encode_to_vec());
    assert_eq!(service.outcomes.of(original), None);
    assert_eq!(service.outcomes.of(again), None);
    assert_eq!(service.outcomes.of(other), None);
    io.release();
    for slot in [original, again, other] {
        assert_eq!(service.outcomes.wait(slot), good());
    }
    let figures = service.pipeline.figures();
    assert_eq!((figures.received, figures.accepted, figures.duplicate), (5, 2, 3));
    assert_eq!((figures.redelivered_batches, figures.residue()), (1, 0));
    assert_eq!(service.pipeline.log().durable(), Lsn(1), "duplicates were appended");
}

#[test]
fn a_reading_twice_in_one_batch_is_one_reading_and_a_duplicate() {
    let service = Service::start(&SimIo::new());
    let batch = batch_of(0, vec![water(1, 0, 5), water(1, 0, 5), water(1, 1, 6)]);
    assert_eq!(service.batch(&batch), good());
    let figures = service.pipeline.figures();
    assert_eq!((figures.accepted, figures.duplicate, figures.residue()), (2, 1, 0));
}

#[test]
fn the_same_seq_with_other_bytes_is_decided_reading_by_reading() {
    let service = Service::start(&SimIo::new());
    assert_eq!(service.batch(&batch_of(0, vec![water(1, 0, 5)])), good());
    assert_eq!(service.batch(&batch_of(0, vec![water(1, 0, 5), water(1, 1, 6)])), good());
    let figures = service.pipeline.figures();
    assert_eq!((figures.accepted, figures.duplicate, figures.seq_reuse), (2, 1, 1));
    assert_eq!((figures.redelivered_batches, figures.residue()), (0, 0));
}

#[test]
fn a_partly_rejected_batch_is_acknowledged_with_the_reason_and_so_is_its_redelivery() {
    let service = Service::start(&SimIo::new());
    let bad = pb::Reading { imei: 43, ..water(1, 0, 5) };
    let batch = batch_of(0, vec![water(1, 0, 5), bad.clone()]);
    assert_eq!(service.batch(&batch), durable(1, Some("bad_imei"), false));
    assert_eq!(service.batch(&batch), durable(1, Some("bad_imei"), false));
    let hopeless = batch_of(1, vec![bad]);
    assert_eq!(service.batch(&hopeless), durable(1, Some("bad_imei"), true));
    assert_eq!(service.batch(&hopeless), durable(1, Some("bad_imei"), true));
    let figures = service.pipeline.figures();
    assert_eq!((figures.received, figures.accepted, figures.rejected), (6, 1, 2));
    assert_eq!((figures.duplicate, figures.redelivered_batches, figures.residue()), (3, 2, 0));
    assert_eq!(figures.rejected_for(loushan_schemas::reject::RejectReason::BadImei), 2);
}

#[tokio::test]
async fn what_cannot_be_read_is_a_durable_dead_letter() {
    let service = Service::start(&SimIo::new());
    let cases: [(&str, &[u8], &str); 5] = [
        ("nb1/zunyi/bs0001/u/t", b"", "empty"),
        ("nb1/zunyi/bs0001/u/t", b"\xff\xff\xff", "undecodable"),
        ("nb1/zunyi/bs0001/u/x", b"lost?", "malformed_topic"),
        ("nb1/Zunyi/bs0001/u/t", b"lost?", "malformed_topic"),
        ("nb1/zunyi/bs0001/u/t", &[0x0a; 40 << 10], "payload_too_large"),
    ];
    for (topic, payload, reason) in cases {
        let slot = service.publish(topic, payload);
        let outcome = service.outcomes.wait(slot);
        if payload.len() < 1000 {
            assert_eq!(outcome, durable(1, Some(reason), true), "{topic}");
        }
    }
    let frames = service.frames(0).await;
    assert_eq!(frames.len(), cases.len());
    for (frame, (topic, payload, reason)) in frames.iter().zip(cases) {
        assert_eq!(&*frame.topic, topic);
        let kept = payload.get(..256).unwrap_or(payload);
        assert_eq!(&frame.payload[..], kept);
        assert_eq!((frame.rejects[0].reason.as_str(), frame.rejects[0].reading), (reason, None));
    }
    let figures = service.pipeline.figures();
    assert_eq!((figures.received, figures.rejected, figures.residue()), (5, 5, 0));
}

#[test]
fn only_uplinks_state_and_what_the_grammar_does_not_know_are_claimed() {
    let service = Service::start(&SimIo::new());
    let claims = |topic| service.pipeline.claims(topic);
    for topic in ["nb1/zunyi/bs1/u/t", "nb1/zunyi/bs1/state", "nb1/zunyi/bs1/u/q", "nb1/x", "nb1/"]
    {
        assert_eq!(claims(topic), Some(Lane::Normal), "{topic}");
    }
    assert_eq!(claims("nb1/zunyi/bs1/u/a"), Some(Lane::Priority));
    assert_eq!(claims("nb1/zunyi/BS1/d"), Some(Lane::Normal), "a command to nobody");
    for topic in ["nb1/zunyi/bs1/d", "nb1", "nb11/zunyi/bs1/u/t", "遵义/1", "/nb1/a", ""] {
        assert_eq!(claims(topic), None, "{topic}");
    }
}

#[test]
fn births_deaths_and_results_of_commands_are_durable_and_count_no_readings() {
    let service = Service::start(&SimIo::new());
    let birth =
        pb::StationState { session: 7, online: true, schema_major: 1, ..Default::default() };
    let slot = service.publish("nb1/zunyi/bs0001/state", &birth.encode_to_vec());
    assert_eq!(service.outcomes.wait(slot), good());
    let result = pb::CommandResult { session: 7, seq: 3, schema_major: 1, ..Default::default() };
    for _ in 0..2 {
        let slot = service.publish("nb1/zunyi/bs0001/u/r", &result.encode_to_vec());
        assert_eq!(service.outcomes.wait(slot), good());
    }
    let figures = service.pipeline.figures();
    assert_eq!((figures.received, figures.redelivered_batches, figures.residue()), (0, 1, 0));
    assert_eq!(service.pipeline.log().durable(), Lsn(2));
}

#[tokio::test]
async fn a_full_disk_hands_publishes_back_and_sheds_qos_0_until_there_is_room() {
    let disk = SimIo::new();
    let mut options = options();
    options.log.free_floor_bytes = 1 << 20;
    let service = Service::with(Arc::new(disk.clone()), Arc::default(), options);
    disk.set_free_bytes(Some(0));
    let deadline = Instant::now() + PATIENCE;
    let batch = |seq| batch_of(seq, vec![water(1, u32::try_from(seq).unwrap(), seq)]);
    let mut seq = 0;
    let busy = loop {
        let next = batch(seq);
        match service.offer(&uplink(&next, "t"), &next.encode_to_vec(), QoS::AtLeastOnce) {
            Ok(_) => seq += 1,
            Err(busy) => break busy,
        }
        assert!(Instant::now() < deadline, "the disk is never full");
    };
    assert_eq!(busy.publish.payload, batch(seq).encode_to_vec());
    let lost = service.offer(&busy.publish.topic, &busy.publish.payload, QoS::AtMostOnce).unwrap();
    assert_eq!(service.outcomes.wait(lost), AckOutcome::Failed);
    assert_eq!(service.pipeline.figures().shed, 1);
    let Busy { publish, ticket } = busy;
    assert_eq!(service.outcomes.of(seq), None, "a ticket handed back is not answered");
    disk.set_free_bytes(Some(1 << 30));
    tokio::time::timeout(PATIENCE, service.pipeline.ready()).await.unwrap();
    let mut offered = Some((publish, ticket));
    while let Some((publish, ticket)) = offered.take() {
        if let Err(Busy { publish, ticket }) = service.pipeline.handle(publish, ticket) {
            tokio::time::timeout(PATIENCE, service.pipeline.ready()).await.unwrap();
            offered = Some((publish, ticket));
        }
    }
    assert_eq!(service.outcomes.wait(seq), good());
    service.stop().await;
}

#[test]
fn under_interval_an_acknowledgement_leaves_once_appended() {
    let io = HeldIo::new(&SimIo::new());
    let mut options = options();
    options.log.sync = crate::wal::SyncPolicy::Interval(Duration::from_millis(1));
    let service = Service::with(Arc::new(io.clone()), Arc::default(), options);
    io.hold();
    let batch = batch_of(0, vec![water(1, 0, 5)]);
    let slot = service.publish(&uplink(&batch, "t"), &batch.encode_to_vec());
    assert_eq!(service.outcomes.of(slot), Some(good()));
    assert_eq!(service.pipeline.log().durable(), Lsn::ZERO);
    io.release();
}

/// A store that cannot tell.
#[derive(Default)]
struct Broken(std::sync::atomic::AtomicU64);

impl StoredKeys for Broken {
    fn contains(&self, _: &ReadingKey) -> io::Result<bool> {
        Err(io::Error::other("the file is damaged"))
    }

    fn cursor(&self) -> u64 {
        self.0.load(std::sync::atomic::Ordering::Relaxed)
    }
}

#[test]
fn if_the_store_cannot_tell_the_publish_is_not_acknowledged() {
    let store = Arc::new(Broken::default());
    let service = Service::over(Arc::new(SimIo::new()), Arc::clone(&store) as _, options());
    for seq in 0..70 {
        assert_eq!(service.batch(&batch_of(u64::from(seq), vec![water(1, seq, 5)])), good());
    }
    store.0.store(70, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(service.batch(&batch_of(70, vec![water(1, 70, 5)])), good());
    let old = batch_of(71, vec![water(1, 0, 5), water(1, 71, 5)]);
    assert_eq!(service.batch(&old), AckOutcome::Failed);
    assert_eq!(service.batch(&batch_of(72, vec![water(1, 71, 5)])), good());
    let figures = service.pipeline.figures();
    assert_eq!((figures.accepted, figures.shed, figures.residue()), (72, 2, 0));
}

#[test]
fn status_of_two_stations_with_the_same_counter_and_time_are_two_readings() {
    let service = Service::start(&SimIo::new());
    let status = |session| {
        let time_ms = u64::try_from(NOW_MS).unwrap();
        pb::StationStatus { session, time_ms, schema_major: 1, ..Default::default() }
    };
    for (station, session) in [("bs1", 1), ("bs2", 1), ("bs1", 2), ("bs1", 1)] {
        let topic = format!("nb1/zunyi/{station}/u/s");
        let slot = service.publish(&topic, &status(session).encode_to_vec());
        assert_eq!(service.outcomes.wait(slot), good());
    }
    let figures = service.pipeline.figures();
    assert_eq!((figures.accepted, figures.duplicate), (3, 1));
}

#[test]
fn the_metrics_say_what_the_books_say() {
    let recorder = metrics_util::debugging::DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    ::metrics::with_local_recorder(&recorder, || {
        let service = Service::start(&SimIo::new());
        let bad = pb::Reading { imei: 43, ..water(1, 9, 5) };
        service.batch(&batch_of(0, vec![water(1, 0, 5), water(1, 0, 5), bad]));
        service.pipeline.record_metrics();
    });
    let mut seen = BTreeMap::new();
    for (key, _, _, value) in snapshotter.snapshot().into_vec() {
        let labels: Vec<_> = key.key().labels().map(|l| l.value().to_owned()).collect();
        seen.insert(format!("{} {}", key.key().name(), labels.join(",")), format!("{value:?}"));
    }
    let is = |name: &str, value: &str| assert_eq!(seen.get(name).unwrap(), value, "{name}");
    is("loushan_readings_received_total ", "Counter(3)");
    is("loushan_readings_accepted_total ", "Counter(1)");
    is("loushan_readings_duplicate_total ", "Counter(1)");
    is("loushan_readings_rejected_total bad_imei", "Counter(1)");
    is("loushan_readings_shed_total ", "Counter(0)");
    is("loushan_readings_undecided ", "Gauge(0.0)");
    is("loushan_conservation_residue_readings ", "Gauge(0.0)");
}

#[test]
fn a_batch_that_turns_out_too_large_after_the_store_was_asked_still_adds_up() {
    let service = Service::over(Arc::new(SimIo::new()), Arc::<Store>::default(), options());
    service.pipeline.core.decider.lock().state.devices.restore_all_buckets(None);
    let readings = (0..1000)
        .map(|n| pb::Reading { boot_epoch: u32::MAX, ..water(n + 1, u32::MAX, 1 << 40) })
        .collect();
    let batch = batch_of(0, readings);
    assert!(batch.encoded_len() > 32 << 10);
    assert_eq!(service.batch(&batch), durable(1, Some("payload_too_large"), true));
    let figures = service.pipeline.figures();
    assert_eq!((figures.received, figures.rejected, figures.residue()), (1, 1, 0));
}
