#![allow(clippy::unwrap_used)]

use super::*;
use crate::city::{day_start, local_day, local_hour};
use crate::seed::Use;

const START: i64 = 1_790_000_000_000;

/// A space of a place, and its chance.
fn space(place: Place, number: u64, start: i64) -> (Space, Rng) {
    let key = [
        1,
        (0..)
            .filter(|n| Place::of(mix(&[1, *n, 4]) % 100) == place)
            .nth(usize::try_from(number).unwrap())
            .unwrap(),
    ];
    let mut rng = Rng::new(Use::Device, &[5, number]);
    let space = Space::new(start, key, &mut Rng::new(Use::Plan, &key), &mut rng);
    assert_eq!(space.place, place);
    (space, rng)
}

/// Cars a space and day, and the share of the spaces that is taken at each hour, percent: of thirty
/// spaces over some days from a Monday's midnight on.
fn lived(place: Place, first_day: i64, days: i64) -> (f64, [i64; 24]) {
    let midnight = day_start(local_day(START)) + first_day * DAY;
    let (mut cars, mut taken) = (0.0, [0_i64; 24]);
    for number in 0..30 {
        let (mut space, mut rng) = space(place, number, midnight);
        for half_hour in 0..days * 24 {
            let now = midnight + half_hour * HOUR + 30 * MINUTE;
            while space.next_event() <= now {
                let at = space.next_event();
                let was = space.occupied;
                space.event(at, &mut rng);
                cars += f64::from(u8::from(space.occupied && !was));
            }
            taken[local_hour(now)] += i64::from(space.occupied);
        }
    }
    let samples = 30 * days;
    (cars / samples as f64, taken.map(|n| n * 100 / samples))
}

#[test]
fn each_place_turns_over_as_often_as_it_does() {
    for (place, fewest, most) in [
        (Place::Kerb, 10.0, 24.0),
        (Place::Mall, 4.0, 10.0),
        (Place::Office, 0.9, 3.0),
        (Place::Housing, 1.0, 3.5),
        (Place::Railway, 0.8, 3.5),
    ] {
        let (cars, _) = lived(place, 0, 5);
        assert!((fewest..most).contains(&cars), "{place:?}: {cars} cars a day");
    }
}

#[test]
fn offices_are_full_by_day_and_houses_by_night_and_malls_on_sundays() {
    let (_, office) = lived(Place::Office, 0, 5);
    assert!(office[10] > 75 && office[15] > 75, "{office:?}");
    assert!(office[3] < 25 && office[22] < 25, "{office:?}");
    let (_, sunday) = lived(Place::Office, 6, 1);
    assert!(sunday[11] < 40, "{sunday:?}");
    let (_, housing) = lived(Place::Housing, 0, 5);
    assert!(housing[23] > 75 && housing[11] < 55, "{housing:?}");
    let (_, kerb) = lived(Place::Kerb, 0, 5);
    assert!(kerb[10] > 60, "{kerb:?}");
    let ((_, mall), (_, weekend)) = (lived(Place::Mall, 0, 5), lived(Place::Mall, 5, 2));
    assert!(mall[15] > 65 && mall[4] < 25, "{mall:?}");
    let shopping = |taken: [i64; 24]| taken[9..20].iter().sum::<i64>();
    assert!(shopping(weekend) > shopping(mall) + 30, "{weekend:?} {mall:?}");
}

#[test]
fn a_parked_car_stays_where_it_is_until_it_leaves() {
    let (mut space, mut rng) = space(Place::Mall, 3, START);
    let mut now = START;
    for _ in 0..200 {
        let change = space.next_event();
        assert!(change > now);
        let mut seen: Option<Parking> = None;
        while now + MINUTE < change {
            now += MINUTE;
            let Body::Parking(p) = space.sample(now, &mut rng) else { panic!("parking") };
            if let (Some(before), Some(false)) = (seen, p.fault) {
                assert_eq!(before.state, p.state);
                assert!(p.state_age_s > before.state_age_s);
                assert!((p.mag_x_raw.unwrap() - before.mag_x_raw.unwrap()).abs() <= 6);
                assert!((p.radar_cm.unwrap() - before.radar_cm.unwrap()).abs() <= 2);
            }
            seen = Some(p);
        }
        now = change;
        let (was, cause) = (space.occupied, space.next_cause <= now);
        let trigger = space.event(now, &mut rng);
        if cause {
            continue;
        }
        assert_ne!(space.occupied, was);
        assert_eq!(space.shadow_db(), if was { 0 } else { CAR_DB });
        let Body::Parking(p) = space.sample(now, &mut rng) else { panic!("parking") };
        assert_eq!(trigger, (p.fault == Some(false)).then_some(Trigger::Event));
        assert_eq!(p.state_age_s, Some(3), "a change is reported when it settled");
    }
}

#[test]
fn sensors_are_covered_tampered_with_and_broken_and_say_so() {
    let mut seen = std::collections::BTreeMap::new();
    for number in 0..40 {
        let (mut space, mut rng) = space(Place::Housing, number, START);
        while space.next_event() < START + 700 * DAY {
            let now = space.next_event();
            space.event(now, &mut rng);
            let Some(incident) = space.incident() else { continue };
            *seen.entry(incident).or_insert(0) += 1;
            let Body::Parking(p) = space.sample(now, &mut rng) else { panic!("parking") };
            match incident {
                Incident::SensorCovered => assert_eq!(p.covered, Some(true)),
                Incident::SensorTampered => assert_eq!(p.tamper, Some(true)),
                _ => assert_eq!((p.fault, p.state, p.radar_cm), (Some(true), Some(UNKNOWN), None)),
            }
        }
    }
    // Of 40 spaces in 700 days: 23, 4 and 2.5.
    assert!((12..36).contains(&seen[&Incident::SensorCovered]), "{seen:?}");
    assert!(seen.contains_key(&Incident::SensorTampered), "{seen:?}");
    assert!(seen.contains_key(&Incident::SensorBroken), "{seen:?}");
}
