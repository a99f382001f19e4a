#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet, HashMap};

use loushan_schemas::ids::Imei;
use loushan_schemas::model::Model;
use loushan_schemas::pb;
use loushan_schemas::reading::{TimeSource, Times};
use loushan_schemas::time::ReceiveTime;
use xxhash_rust::xxh3::Xxh3;

use super::*;
use crate::fleet;

const START: i64 = 1_790_000_000_000;

fn setting(rhythm: Rhythm) -> Setting {
    Setting {
        seed: 42,
        start: START,
        rhythm,
        traffic: Traffic::Kinds,
        cut: Cut { readings: 20, linger_ms: 2000 },
        faults: FaultRates::default(),
        speed: 1,
        device_faults: DeviceFaultRates::default(),
    }
}

fn station_of(number: usize, setting: Setting) -> Station {
    let records = fleet::stations(setting.seed, 8).unwrap();
    let plan = fleet::plan(setting.seed, &records, 60).remove(number);
    Station::new(plan, setting)
}

fn often() -> Rhythm {
    Rhythm::Every(500_000_000)
}

/// What a service would make of a batch: the same conversion from the wire, by the schema's rules.
fn received(batch: &Batch) -> Vec<Reading> {
    let times = |measured, heard| Times {
        measured,
        heard,
        received: ReceiveTime::from_ns(1),
        effective: DeviceTime::from_ms(7).unwrap(),
        source: TimeSource::Received,
    };
    if batch.channel == Channel::Status {
        let status = pb::StationStatus::decode(batch.payload.clone()).unwrap();
        return vec![Reading {
            imei: None,
            boot_epoch: 0,
            seq: status.seq,
            times: times(DeviceTime::from_wire(status.time_ms, 0), None),
            common: Common::default(),
            body: Body::StationStatus(loushan_schemas::station::status_from_wire(&status)),
            quality: Quality::Suspicious,
            reason: None,
        }];
    }
    let wire = pb::UplinkBatch::decode(batch.payload.clone()).unwrap();
    assert_eq!(wire.seq, batch.seq);
    let at = |delta| DeviceTime::from_wire(wire.base_time_ms, delta);
    wire.readings
        .iter()
        .map(|r| {
            let said = Model::of(r.model_id).from_wire(r).unwrap();
            assert_eq!(said.notes, []);
            Reading {
                imei: Some(Imei::new(r.imei).unwrap()),
                boot_epoch: r.boot_epoch,
                seq: r.seq.into(),
                times: times(at(r.measured_delta_ms), at(r.heard_delta_ms)),
                common: said.common,
                body: said.body,
                quality: Quality::Accepted,
                reason: None,
            }
        })
        .collect()
}

#[test]
fn what_is_meant_is_what_a_reader_of_the_wire_understands() {
    let mut station = station_of(0, setting(often()));
    let mut kinds = BTreeSet::new();
    for _ in 0..800 {
        let batch = station.next_batch();
        let readings = received(&batch);
        assert_eq!(readings.len(), batch.meant.len());
        for (reading, meant) in readings.iter().zip(batch.meant.iter()) {
            assert_eq!(Meant::of(reading), *meant, "{reading:#?}");
            kinds.insert(reading.kind());
        }
    }
    assert_eq!(kinds.len(), 6, "all kinds were heard: {kinds:?}");
}

#[test]
fn nothing_an_honest_device_says_lies_outside_its_plausible_range() {
    for number in 0..8 {
        let mut station = station_of(number, setting(often()));
        for _ in 0..100 {
            for reading in received(&station.next_batch()) {
                for (field, value) in reading.values() {
                    let (Some(range), Some(v)) =
                        (field.plausible.or(field.hard), value.as_number())
                    else {
                        continue;
                    };
                    assert!((range.low..=range.high).contains(&v), "{} is {v}", field.name);
                }
            }
        }
    }
}

/// Every device fault, often.
const FAULTY: DeviceFaultRates = DeviceFaultRates {
    clock_unset: 50_000,
    clock_local: 50_000,
    drift_ppm: 20,
    seq_8: 200_000,
    seq_16: 200_000,
    reboot: 2_000_000,
};

#[test]
fn the_same_seed_and_start_give_these_bytes_on_any_machine() {
    let digest = |rhythm, start, device_faults| {
        let setting = Setting { start, device_faults, ..setting(rhythm) };
        let mut digests = Vec::new();
        for number in 0..3 {
            let mut station = station_of(number, setting);
            let mut hash = Xxh3::new();
            (0..300).for_each(|_| put_batch(&mut hash, &station.next_batch()));
            digests.push(hash.digest());
        }
        mix(&digests)
    };
    let honest = DeviceFaultRates::default();
    let got = [
        digest(often(), START, honest),
        digest(Rhythm::Natural, START, honest),
        digest(Rhythm::Natural, START, FAULTY),
    ];
    assert_eq!(got[0], digest(often(), START, honest));
    assert_ne!(got[0], digest(often(), START + 1000, honest));
    assert_eq!(
        got, PINNED,
        "a change of the models or of the wire; if it is meant, pin these: {got:#x?}"
    );
}

const PINNED: [u64; 3] = [0x6d5d_9648_1ce6_f614, 0x99ab_7284_8aaf_8c69, 0x9a6f_43e9_1d1e_0b95];

fn put_batch(hash: &mut Xxh3, batch: &Batch) {
    hash.update(batch.channel.suffix().as_bytes());
    hash.update(&batch.due.to_le_bytes());
    hash.update(&batch.payload);
}

/// A fast run asks its stations in another order than a slow one, with other commands in between;
/// what they say is the same.
#[test]
fn stations_say_the_same_whoever_is_asked_first_and_however_often() {
    let setting = Setting { device_faults: FAULTY, ..setting(Rhythm::Natural) };
    let mut alone = Vec::new();
    for number in 0..3 {
        let mut station = station_of(number, setting);
        let batches: Vec<Batch> = (0..400).map(|_| station.next_batch()).collect();
        alone.push(batches);
    }
    let mut together: Vec<Station> = (0..3).map(|number| station_of(number, setting)).collect();
    let mut turns = Rng::new(Use::Publisher, &[1]);
    let mut said = [0; 3];
    while said.iter().any(|count| *count < 400) {
        let pick = turns.below(3) as usize;
        if said[pick] == 400 {
            continue;
        }
        let command = pb::Command { command_id: turns.next(), ..pb::Command::default() };
        together[pick].answer(&command.encode_to_vec().into(), START);
        let (got, meant) = (together[pick].next_batch(), &alone[pick][said[pick]]);
        assert_eq!(
            (got.due, &got.payload, got.channel),
            (meant.due, &meant.payload, meant.channel)
        );
        said[pick] += 1;
    }
}

#[test]
fn batches_are_cut_by_size_and_by_linger_and_never_out_of_order() {
    let mut station = station_of(1, setting(often()));
    let (mut last, mut full, mut seqs) = (START, 0, BTreeMap::new());
    for _ in 0..2000 {
        let batch = station.next_batch();
        assert!(batch.due >= last);
        last = batch.due;
        assert!((1..=20).contains(&batch.meant.len()));
        full += usize::from(batch.meant.len() == 20);
        if !batch.again {
            let lane = batch.channel == Channel::Status;
            let next = seqs.entry(lane).or_insert(0);
            assert_eq!(batch.seq, *next);
            *next += 1;
        }
        if batch.channel == Channel::Telemetry && !batch.again {
            for reading in received(&batch) {
                // Held back on purpose at most 90 s, repeated at most 60 s later.
                let heard = reading.times.heard.unwrap().ms();
                assert!((heard..=heard + 152_001).contains(&batch.due));
            }
        }
    }
    assert!(full > 1500, "60 devices twice a second fill a batch of 20: {full}");
}

#[test]
fn duplicates_and_repeats_come_at_their_rates_and_say_the_same() {
    let mut station = station_of(2, setting(often()));
    let mut meant = HashMap::new();
    let mut payloads = HashMap::new();
    let (mut readings, mut twice, mut batches, mut again) = (0, 0, 0, 0);
    for _ in 0..5000 {
        let batch = station.next_batch();
        batches += 1;
        if batch.again {
            again += 1;
            assert_eq!(payloads.get(&(batch.channel.suffix(), batch.seq)), Some(&batch.payload));
            continue;
        }
        payloads.insert((batch.channel.suffix(), batch.seq), batch.payload.clone());
        for m in batch.meant.iter().filter(|m| m.imei != 0) {
            readings += 1;
            match meant.insert((m.imei, m.seq), m.digest) {
                None => {}
                Some(before) => {
                    assert_eq!(before, m.digest);
                    twice += 1;
                }
            }
        }
    }
    assert!((5..=20).contains(&(twice * 1000 / readings)), "{twice} of {readings}");
    assert!((2..=10).contains(&(again * 1000 / batches)), "{again} of {batches}");
}

#[test]
fn a_fixed_rate_is_kept_to_the_reading_and_kinds_keep_their_rhythm_without_one() {
    let count = |rhythm, minutes: i64| {
        let quiet = Setting { faults: FaultRates::NONE, ..setting(rhythm) };
        let mut station = station_of(3, quiet);
        let (mut periodic, mut status) = (0, 0);
        loop {
            let batch = station.next_batch();
            if batch.due > START + (minutes + 5) * MINUTE {
                return (periodic, status);
            }
            for r in received(&batch) {
                let at = r.times.measured.unwrap().ms();
                if at >= START + minutes * MINUTE {
                    continue;
                }
                status += i32::from(r.kind() == loushan_schemas::kind::Kind::StationStatus);
                periodic += i32::from(r.common.trigger == Some(Trigger::Periodic as i32));
            }
        }
    };
    // 60 devices, every half second, for two minutes; clocks are off by up to 1.5 s.
    let (periodic, status) = count(often(), 2);
    assert!((14_050..=14_400).contains(&periodic), "{periodic}");
    assert_eq!(status, 2);
    // An hour: lifts 60 each, lamps 1 to 4, spaces 2, others a 24th.
    let (periodic, status) = count(Rhythm::Natural, 60);
    assert!((60..400).contains(&periodic), "{periodic}");
    assert_eq!(status, 60);
}
