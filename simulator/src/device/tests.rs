#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use loushan_schemas::field::Value;

use super::*;
use crate::city::HOUR;
use crate::fault::FaultRates;
use crate::faults::DeviceFaultRates;
use crate::station::Cut;

fn setting(start: i64, rhythm: Rhythm) -> Setting {
    Setting {
        seed: 5,
        start,
        rhythm,
        traffic: crate::traffic::Traffic::Kinds,
        speed: 1,
        cut: Cut { readings: 1, linger_ms: 0 },
        faults: FaultRates::NONE,
        device_faults: DeviceFaultRates::default(),
    }
}

/// A service that knows a device from the last run would take a lower counter for a reset.
#[test]
fn no_counter_falls_from_one_run_to_the_next() {
    let start = 1_790_000_000_000;
    for kind in [Kind::Parking, Kind::StreetLight, Kind::Smoke, Kind::Elevator, Kind::Water] {
        for serial in 0..20 {
            let plan = DevicePlan {
                imei: Imei::from_body(86_000 + serial),
                kind,
                station: 1,
                neighbour: 0,
            };
            let device = |start| Device::new(plan, &setting(start, Rhythm::Every(1_000_000_000)));
            let last = |device: &mut Device, until: i64| {
                let mut last = None;
                while device.next() < until {
                    let now = device.next();
                    last = device
                        .speak(now, &mut Counts::default())
                        .map(|(_, reading, _)| reading)
                        .or(last);
                }
                last.unwrap()
            };
            let before = last(&mut device(start), start + HOUR);
            let after = last(&mut device(start + HOUR + 1000), start + HOUR + 3000);
            for (field, value) in after.values().filter(|(field, _)| field.counter.is_some()) {
                let old = before.values().find(|(f, _)| f.name == field.name).unwrap().1;
                let (Value::Int(old), Value::Int(new)) = (old, value) else { panic!("{field:?}") };
                assert!(new >= old, "{} fell from {old} to {new}", field.name);
            }
        }
    }
}

fn device(kind: Kind, serial: u64, setting: &Setting) -> Device {
    let imei = Imei::from_body(86_000 + serial);
    Device::new(DevicePlan { imei, kind, station: 1, neighbour: 0 }, setting)
}

/// All that a device says in so many minutes, and what befell it.
fn said(mut device: Device, setting: &Setting, minutes: i64) -> (Vec<Reading>, Counts) {
    let mut counts = Counts::default();
    let mut readings = Vec::new();
    while device.next() < setting.start + minutes * MINUTE {
        let now = device.next();
        readings.extend(device.speak(now, &mut counts).map(|(_, reading, _)| reading));
    }
    (readings, counts)
}

const START: i64 = 1_790_000_000_000;

#[test]
fn counters_of_eight_and_sixteen_bits_wrap_and_no_other_does() {
    let ten_a_second = setting(START, Rhythm::Every(100_000_000));
    for (seq_8, seq_16, most) in [(1_000_000, 0, 0xff), (0, 1_000_000, 0xffff), (0, 0, 0)] {
        let device_faults = DeviceFaultRates { seq_8, seq_16, ..DeviceFaultRates::NONE };
        let setting = Setting { device_faults, ..ten_a_second };
        let (readings, counts) = said(device(Kind::Parking, 3, &setting), &setting, 120);
        let wraps = readings.windows(2).filter(|pair| pair[1].seq < pair[0].seq);
        let wrapped =
            wraps.inspect(|pair| assert_eq!((pair[0].seq, pair[1].seq), (most, 0))).count();
        let expected = if most == 0 { 0 } else { (readings.len() - 1) as u64 / (most + 1) };
        assert_eq!(wrapped as u64, expected);
        // It is counted when the last number was said.
        let counted = counts.of(Incident::SeqWrapped);
        assert!((expected..=expected + 1).contains(&counted), "{counts}");
        assert!(readings.iter().all(|r| most == 0 || r.seq <= most));
    }
}

#[test]
fn a_reboot_begins_a_new_epoch_and_count_and_no_key_comes_twice() {
    let device_faults = DeviceFaultRates { reboot: 20_000_000, ..DeviceFaultRates::NONE };
    let setting = Setting { device_faults, ..setting(START, Rhythm::Every(60_000_000_000)) };
    let (readings, counts) = said(device(Kind::Smoke, 3, &setting), &setting, 24 * 60);
    let epochs: BTreeSet<u32> = readings.iter().map(|r| r.boot_epoch).collect();
    let boots = counts.of(Incident::Rebooted);
    assert!((8..40).contains(&boots), "{boots} boots in a day");
    assert_eq!(epochs.len() as u64, boots + 1);
    let keys: BTreeSet<_> = readings.iter().map(|r| (r.boot_epoch, r.seq)).collect();
    assert_eq!(keys.len(), readings.len());
    for pair in readings.windows(2).filter(|pair| pair[0].boot_epoch != pair[1].boot_epoch) {
        assert!(pair[1].boot_epoch > pair[0].boot_epoch);
        assert_eq!((pair[1].seq, pair[1].common.trigger), (0, Some(Trigger::Event as i32)));
    }
}

#[test]
fn a_clock_that_was_never_set_counts_from_each_boot() {
    let device_faults =
        DeviceFaultRates { clock_unset: 1_000_000, reboot: 10_000_000, ..DeviceFaultRates::NONE };
    let setting = Setting { device_faults, ..setting(START, Rhythm::Every(60_000_000_000)) };
    let (readings, counts) = said(device(Kind::StreetLight, 3, &setting), &setting, 24 * 60);
    assert_eq!(counts.of(Incident::ClockUnset), readings.len() as u64);
    assert!(readings.iter().all(|r| r.times.measured.unwrap().ms() <= DAY));
    for pair in readings.windows(2) {
        let rebooted = pair[0].boot_epoch != pair[1].boot_epoch;
        assert_eq!(pair[1].times.measured < pair[0].times.measured, rebooted);
    }
    // Meters set their clock before every report.
    let (readings, counts) = said(device(Kind::Water, 3, &setting), &setting, 60);
    assert!(!readings.is_empty() && counts.of(Incident::ClockUnset) == 0);
}

#[test]
fn a_battery_falls_with_what_is_sent_says_that_it_is_low_and_is_changed() {
    let honest = DeviceFaultRates::NONE;
    let often = Setting { device_faults: honest, ..setting(START, Rhythm::Every(500_000_000)) };
    let (readings, counts) = said(device(Kind::Smoke, 3, &often), &often, 3 * 24 * 60);
    let left = |r: &Reading| r.common.battery_pct.unwrap();
    let low = |r: &Reading| matches!(&r.body, Body::Smoke(s) if s.low_battery == Some(true));
    assert!(readings.iter().all(|r| low(r) == (left(r) < 10.0)));
    let raised = readings.windows(2).filter(|pair| left(&pair[1]) > left(&pair[0])).count();
    let (fell_low, changed) =
        (counts.of(Incident::BatteryLow), counts.of(Incident::BatteryChanged));
    assert!(raised as u64 == changed && changed >= 1 && fell_low >= 1, "{counts}");
    // Somebody who sends a message a day sees nothing of that.
    let daily = Setting { device_faults: honest, ..setting(START, Rhythm::Natural) };
    let (readings, _) = said(device(Kind::Smoke, 3, &daily), &daily, 30 * 24 * 60);
    assert!(left(&readings[0]) - left(readings.last().unwrap()) <= 2.0);
}

#[test]
fn meters_report_once_a_day_each_at_a_minute_of_its_own_in_every_run() {
    let minute = |ms: i64| (ms - day_start(local_day(ms))) / MINUTE;
    let mut minutes = BTreeSet::new();
    for serial in 0..300 {
        let mut own = BTreeSet::new();
        for start in [START, START + 5 * HOUR + 17 * SECOND] {
            let setting = setting(start, Rhythm::Natural);
            let (readings, _) =
                said(device(Kind::Water, serial * 7, &setting), &setting, 3 * 24 * 60);
            let periodic = readings.iter().filter(|r| r.common.trigger == Some(1));
            let at: Vec<i64> = periodic.map(|r| r.times.measured.unwrap().ms()).collect();
            assert_eq!(at.len(), 3);
            own.extend(at.iter().map(|at| minute(*at)));
        }
        assert_eq!(own.len(), 1, "{own:?}");
        minutes.extend(own);
    }
    assert!(minutes.len() > 280, "spread over the day");
}

#[test]
fn switching_a_fault_moves_nothing_else() {
    let honest = setting(START, Rhythm::Every(60_000_000_000));
    let honest = Setting { device_faults: DeviceFaultRates::NONE, ..honest };
    let device_faults =
        DeviceFaultRates { clock_local: 1_000_000, seq_8: 1_000_000, ..DeviceFaultRates::NONE };
    let faulty = Setting { device_faults, ..honest };
    for kind in [Kind::Parking, Kind::StreetLight, Kind::Smoke, Kind::Elevator] {
        let (honest, _) = said(device(kind, 4, &honest), &honest, 600);
        let (faulty, _) = said(device(kind, 4, &faulty), &faulty, 600);
        assert_eq!(honest.len(), faulty.len());
        for (a, b) in honest.iter().zip(&faulty) {
            assert_eq!((&a.body, &a.common), (&b.body, &b.common));
            assert_eq!(a.seq & 0xff, b.seq);
            assert_eq!(a.times.measured.unwrap().ms() + 8 * HOUR, b.times.measured.unwrap().ms());
        }
    }
}
