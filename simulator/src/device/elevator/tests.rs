#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use super::*;
use crate::city::local_day;
use crate::seed::Use;

/// A Monday's midnight by the city's clock.
fn monday() -> i64 {
    day_start(local_day(1_790_000_000_000))
}

fn lift(house: House, number: u64, start: i64) -> (Lift, Rng) {
    let key = [1, number];
    let mut rng = Rng::new(Use::Device, &key);
    let mut lift = Lift::new(start, key, &mut Rng::new(Use::Plan, &key), &mut rng);
    lift.house = house;
    (lift, rng)
}

fn sample(lift: &mut Lift, now: i64, rng: &mut Rng) -> Elevator {
    match lift.sample(now, rng) {
        Body::Elevator(e) => e,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_moving_lift_has_its_doors_closed_and_its_counters_only_grow() {
    let start = monday() + 7 * HOUR;
    let (mut lift, mut rng) = lift(House::Homes, 3, start);
    let mut last = sample(&mut lift, start, &mut rng);
    let mut moved = 0;
    for second in 1..4000 {
        let now = start + second * SECOND;
        let e = sample(&mut lift, now, &mut rng);
        if e.speed_m_s != Some(0.0) {
            moved += 1;
            assert_eq!((e.door, e.door_zone), (Some(CLOSED), Some(false)));
        }
        assert!((1..=lift.floors).contains(&e.floor.unwrap()));
        assert!((e.floor.unwrap() - last.floor.unwrap()).abs() <= 2, "it does not jump");
        assert!(e.trips >= last.trips && e.door_cycles >= last.door_cycles);
        last = e;
    }
    assert!(moved > 200, "moved {moved} of 4000 s in the morning peak");
}

/// Of a hundred seconds in which cars with people in them move between two hours of a Monday: how
/// many they move up; and trips a car.
fn peak(house: House, hours: std::ops::Range<i64>) -> (i64, i64) {
    let (mut up, mut moving, mut trips) = (0, 0, 0);
    for number in 0..12 {
        let start = monday() + hours.start * HOUR;
        let (mut lift, mut rng) = lift(house, number, start);
        trips -= lift.trips;
        for second in 0..(hours.end - hours.start) * 3600 {
            let e = sample(&mut lift, start + second * SECOND, &mut rng);
            if e.occupied == Some(true) && e.speed_m_s != Some(0.0) {
                moving += 1;
                up += i64::from(e.direction == Some(UP));
            }
        }
        trips += lift.trips;
    }
    (up * 100 / moving.max(1), trips / 12)
}

#[test]
fn offices_fill_in_the_morning_and_homes_empty_and_both_turn_round_in_the_evening() {
    let ((office, busy), (homes, _)) = (peak(House::Office, 8..9), peak(House::Homes, 7..9));
    assert!(office > 80 && homes < 25, "up in the morning: {office} {homes}");
    let ((office, _), (homes, _)) = (peak(House::Office, 17..19), peak(House::Homes, 18..20));
    assert!(office < 25 && homes > 75, "up in the evening: {office} {homes}");
    let (hospital, _) = peak(House::Hospital, 9..12);
    assert!((35..65).contains(&hospital), "{hospital}");
    let (_, night) = peak(House::Office, 1..2);
    assert!(busy > 30 && busy > 10 * night, "{busy} trips in the peak, {night} by night");
}

#[test]
fn doors_open_about_once_a_stop_and_now_and_then_once_more() {
    let (mut lift, mut rng) = lift(House::Hospital, 5, monday());
    let (trips, cycles) = (lift.trips, lift.door_cycles);
    lift.advance(monday() + 10 * DAY, &mut rng);
    let per_trip = (lift.door_cycles - cycles) * 100 / (lift.trips - trips);
    assert!((100..130).contains(&per_trip), "{per_trip} cycles for 100 trips");
    let a_day = (lift.trips - trips) / 10;
    assert!((300..3000).contains(&a_day), "{a_day} trips a day");
}

#[test]
fn wear_shows_in_ride_and_doors_until_the_mechanic_comes() {
    let start = monday();
    let (mut lift, mut rng) = lift(House::Hospital, 4, start);
    lift.trips = 0;
    let visit = lift.next_visit;
    let roughness = |lift: &mut Lift, from: i64, rng: &mut Rng| {
        let said: Vec<i64> = (0..20_000)
            .map(|second| sample(lift, from + second * SECOND, rng))
            .filter(|e| e.speed_m_s != Some(0.0))
            .map(|e| e.vibration_mg.unwrap())
            .collect();
        said.iter().sum::<i64>() * 100 / said.len() as i64
    };
    let worn = roughness(&mut lift, visit - 20_001 * SECOND, &mut rng);
    let doors = lift.door_moves(visit - SECOND);
    while lift.incident() != Some(Incident::LiftMaintained) {
        let now = lift.next_event();
        lift.event(now, &mut rng);
    }
    let inspected = lift.stopped_until - VISIT;
    assert!(inspected - visit < HOUR && (9..=17).contains(&local_hour(inspected)));
    let e = sample(&mut lift, inspected + MINUTE, &mut rng);
    assert_eq!((e.mode, e.occupied), (Some(MODE_INSPECTION), Some(false)));
    let end = lift.stopped_until;
    assert_eq!(lift.event(end, &mut rng), Some(Trigger::Event));
    let fresh = roughness(&mut lift, end + 1, &mut rng);
    assert!(worn > fresh + 200, "hundredths of a milli-g: {worn} {fresh}");
    assert!(doors > lift.door_moves(end) + 100);
}

#[test]
fn the_motor_is_warm_after_a_peak_and_cold_by_night() {
    let mean = |house, hour: i64| {
        let start = monday() + DAY + (hour - 1) * HOUR;
        let (mut lift, mut rng) = lift(house, 9, start);
        let warmth = (3600..5400).map(|s| sample(&mut lift, start + s * SECOND, &mut rng));
        warmth.map(|e| e.motor_temp_c.unwrap()).sum::<f64>() / 1800.0
    };
    let (peak, night) = (mean(House::Office, 9), mean(House::Office, 2));
    assert!(peak > night + 8.0 && peak < 80.0, "{peak} {night}");
}

#[test]
fn somebody_trapped_is_freed_and_jammed_doors_are_mended_and_both_come_at_their_rates() {
    let mut seen = BTreeMap::new();
    for number in 0..6 {
        let (mut lift, mut rng) = lift(House::Office, number, monday());
        while lift.next_event() < monday() + 200 * DAY {
            let now = lift.next_event();
            let trigger = lift.event(now, &mut rng);
            let Some(incident) = lift.incident() else { continue };
            *seen.entry(incident).or_insert(0) += 1;
            let e = sample(&mut lift, now + MINUTE, &mut rng);
            let freed_at = lift.next_event();
            match incident {
                Incident::Entrapment => {
                    assert_eq!(trigger, Some(Trigger::Alarm));
                    let said = (e.entrapment, e.occupied, e.door_zone, e.speed_m_s);
                    assert_eq!(said, (Some(true), Some(true), Some(false), Some(0.0)));
                    assert!(freed_at < now + HOUR);
                }
                Incident::DoorJammed => {
                    assert_eq!(trigger, Some(Trigger::Alarm));
                    assert_eq!((e.door, e.faults), (Some(LIMITED_OPENED), vec![DOOR_CLOSING]));
                    assert!(freed_at < now + 3 * HOUR);
                }
                _ => continue,
            }
            // Other things wait; in the end its doors open.
            let freed = loop {
                let at = lift.next_event();
                if let Some(trigger) = lift.event(at, &mut rng) {
                    break (at, trigger);
                }
            };
            assert_eq!(freed.1, Trigger::Event);
            let e = sample(&mut lift, freed.0, &mut rng);
            assert_eq!(
                (e.entrapment, e.door, e.mode),
                (Some(false), Some(OPENING), Some(MODE_NORMAL))
            );
        }
    }
    // 1200 lift days: 80 visits, half as many mishaps as the means say.
    assert!((76..84).contains(&seen[&Incident::LiftMaintained]), "{seen:?}");
    assert!((3..22).contains(&seen[&Incident::Entrapment]), "{seen:?}");
    assert!((5..28).contains(&seen[&Incident::DoorJammed]), "{seen:?}");
}
