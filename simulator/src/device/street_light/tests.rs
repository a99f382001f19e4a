#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use super::*;
use crate::seed::Use;

fn lamp(number: u64, start: i64) -> Lamp {
    Lamp::new(start, [1, number], &mut Rng::new(Use::Plan, &[number]))
}

/// A lamp that nothing befalls.
fn sound(number: u64, start: i64) -> Lamp {
    let mut lamp = lamp(number, start);
    for chance in [&mut lamp.failure, &mut lamp.sticking, &mut lamp.crash] {
        chance.per_million = 0;
    }
    lamp.look(start);
    lamp
}

fn light(lamp: &mut Lamp, now: i64, rng: &mut Rng) -> StreetLight {
    match lamp.sample(now, rng) {
        Body::StreetLight(light) => light,
        other => panic!("{other:?}"),
    }
}

#[test]
fn lamps_in_zunyi_are_dark_at_noon_lit_after_sunset_and_dimmed_at_midnight() {
    let mut rng = Rng::new(Use::Device, &[1]);
    for day in [20_454, 20_600, 20_700] {
        let midnight = day_start(day);
        let noon = midnight + 12 * HOUR;
        let mut lamp = sound(1, noon);
        let l = light(&mut lamp, noon, &mut rng);
        assert_eq!((l.dim_pct, l.dim_command_pct), (Some(0.0), Some(0.0)));
        assert!(l.lux.unwrap() > 10_000.0 && l.power_w.unwrap() < 1.0);
        let mut seen = Vec::new();
        while lamp.next_event() < midnight + DAY + 14 * HOUR {
            let at = lamp.next_event();
            assert_eq!(lamp.event(at, &mut rng), Some(Trigger::Event));
            seen.push((at, light(&mut lamp, at, &mut rng).dim_pct.unwrap()));
        }
        let (_, set) = sun(day);
        let (rise, _) = sun(day + 1);
        let next = midnight + DAY;
        assert_eq!(
            seen,
            [
                (set + lamp.shade, 100.0),
                (midnight + 23 * HOUR, 50.0),
                (next + 5 * HOUR, 100.0),
                (rise - lamp.shade, 0.0)
            ]
        );
        let mut late = sound(1, midnight + 30 * MINUTE);
        let l = light(&mut late, midnight + 30 * MINUTE, &mut rng);
        assert_eq!(l.dim_pct, Some(50.0));
        assert!(l.lux.unwrap() < 120.0 && l.power_w.unwrap() > 20.0);
    }
}

#[test]
fn energy_is_the_integral_of_power_and_a_year_is_dark_for_half_of_it() {
    let mut rng = Rng::new(Use::Device, &[1]);
    let start = day_start(20_500) + 12 * HOUR;
    let mut lamp = sound(2, start);
    let before = light(&mut lamp, start, &mut rng);
    let (mut integral_wh, mut now, days) = (0.0, start, 60);
    while now < start + days * DAY {
        if lamp.next_event() <= now {
            lamp.event(now, &mut rng);
        }
        integral_wh += light(&mut lamp, now, &mut rng).power_w.unwrap() / 12.0;
        now += 5 * MINUTE;
    }
    let after = light(&mut lamp, now, &mut rng);
    let counted = (after.energy_wh.unwrap() - before.energy_wh.unwrap()) as f64;
    assert!((counted / integral_wh - 1.0).abs() < 0.01, "{counted} {integral_wh}");
    let year =
        sound(2, start + 365 * DAY).burnt(start + 365 * DAY).lit - sound(2, start).burnt(start).lit;
    assert!((4200..4400).contains(&(year / HOUR)), "{} h", year / HOUR);
}

#[test]
fn counters_only_grow_whatever_befalls_a_lamp_and_the_next_run_agrees() {
    let mut rng = Rng::new(Use::Device, &[1]);
    let start = day_start(20_500) + 12 * HOUR;
    for number in 0..40 {
        let mut running = lamp(number, start);
        let mut last = (0, 0);
        for step in 0..(400 * 8) {
            let now = start + step * 3 * HOUR;
            while running.next_event() <= now {
                running.event(running.next_event(), &mut rng);
            }
            let l = light(&mut running, now, &mut rng);
            let counters = (l.energy_wh.unwrap(), l.on_hours.unwrap());
            assert!(counters.0 >= last.0 && counters.1 >= last.1, "{number} at {step}");
            if step % 97 == 0 {
                let l = light(&mut lamp(number, now), now, &mut rng);
                assert_eq!(counters, (l.energy_wh.unwrap(), l.on_hours.unwrap()));
            }
            last = counters;
        }
    }
}

#[test]
fn old_lamps_draw_more_shine_less_and_fail_more_often() {
    let start = day_start(20_500) + 22 * HOUR;
    let mut rng = Rng::new(Use::Device, &[1]);
    let mut aged = |hours: i64| {
        let mut lamp = sound(3, start);
        lamp.load_before = hours * HOUR;
        let samples = 200;
        let sum = (0..samples).fold((0.0, 0.0, 0.0), |sum, _| {
            let l = light(&mut lamp, start, &mut rng);
            let (power, lux, factor) = (l.power_w, l.lux, l.power_factor);
            (sum.0 + power.unwrap(), sum.1 + lux.unwrap(), sum.2 + factor.unwrap())
        });
        (sum.0 / 200.0, sum.1 / 200.0, sum.2 / 200.0)
    };
    let (new, old) = (aged(100), aged(40_000));
    assert!(old.0 > new.0 * 1.05 && old.1 < new.1 * 0.9 && old.2 < new.2 - 0.01);
    let failures = |number: &u64| {
        let lamp = lamp(*number, start);
        let count = lamp.failure.begun(start, start + 3650 * DAY).count();
        (lamp.lit_before > 10_000 * HOUR, count)
    };
    let (mut of_old, mut of_new) = ((0, 0), (0, 0));
    for (old, count) in (0..600).map(|n| failures(&n)) {
        let sum = if old { &mut of_old } else { &mut of_new };
        *sum = (sum.0 + 1, sum.1 + count);
    }
    assert!(of_old.1 * of_new.0 * 2 > of_new.1 * of_old.0 * 3, "{of_old:?} {of_new:?}");
}

#[test]
fn dark_lamps_day_burners_and_hit_poles_look_like_it() {
    let start = day_start(20_500) + 12 * HOUR;
    let mut rng = Rng::new(Use::Device, &[1]);
    let mut seen = BTreeMap::new();
    for number in 0..100 {
        let mut lamp = lamp(number, start);
        while lamp.next_event() < start + 700 * DAY {
            let now = lamp.next_event();
            lamp.event(now, &mut rng);
            if let Some(incident) = lamp.incident() {
                *seen.entry(incident).or_insert(0) += 1;
            }
            let l = light(&mut lamp, now, &mut rng);
            let (power, command) = (l.power_w.unwrap(), l.dim_command_pct.unwrap());
            if lamp.failed {
                assert!(power < 1.0 && l.faults == [FAULT_LAMP]);
            } else if lamp.burning {
                assert!(power > 5.0 && l.dim_pct == Some(0.0) && command == 0.0);
            } else {
                assert_eq!(power > 5.0, command > 0.0);
            }
            assert_eq!(lamp.bent_ddeg > 0, l.tilt_deg.unwrap() > 15.0);
        }
    }
    // Of 100 lamps in 700 days: 9 to 28, some 8, and 2.
    assert!((8..40).contains(&seen[&Incident::LampFailed]), "{seen:?}");
    assert!(seen.contains_key(&Incident::DayBurner), "{seen:?}");
    assert!(seen.contains_key(&Incident::PoleHit), "{seen:?}");
}
