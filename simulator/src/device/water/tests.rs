#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use super::*;

const START: i64 = 1_790_000_000_000;
const FULL_HOUR: i64 = START - START % HOUR;

fn meter(imei: u64, start: i64) -> Meter {
    Meter::new(start, [1, imei], &mut Rng::new(Use::Plan, &[imei]))
}

/// A meter that nothing befalls.
fn quiet(imei: u64, start: i64) -> Meter {
    let mut meter = meter(imei, start);
    for chance in [&mut meter.leak, &mut meter.burst, &mut meter.backflow, &mut meter.swap] {
        chance.per_million = 0;
    }
    meter.next_change = i64::MAX;
    meter
}

fn chance() -> Rng {
    Rng::new(Use::Device, &[3])
}

fn water(meter: &mut Meter, now: i64, rng: &mut Rng) -> Water {
    match meter.sample(now, rng) {
        Body::Water(water) => water,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_total_never_falls_and_is_the_sum_of_its_hours() {
    let mut rng = chance();
    for imei in [864, 865] {
        let mut meter = meter(imei, FULL_HOUR);
        let mut before = water(&mut meter, FULL_HOUR, &mut rng);
        let mut last = before.total_l.unwrap();
        for quarter in 1..(400 * 24 * 4) {
            let now = FULL_HOUR + quarter * 15 * 60 * SECOND;
            while meter.next_event() <= now {
                meter.event(meter.next_event(), &mut rng);
            }
            let restarted = meter.incident().is_some_and(|what| {
                [Incident::MeterSwapped, Incident::MeterRolledOver].contains(&what)
            });
            let w = water(&mut meter, now, &mut rng);
            assert!(restarted || w.total_l.unwrap() >= last, "fell at {quarter}");
            last = w.total_l.unwrap();
            if (now - FULL_HOUR) % DAY == 0 {
                let sum: i32 = w.history_delta_l.iter().sum();
                if !restarted && w.history_delta_l.len() == HOURS {
                    assert_eq!(last - before.total_l.unwrap(), i64::from(sum));
                }
                assert!(w.reverse_l >= before.reverse_l);
                before = w;
            }
        }
    }
}

#[test]
fn households_draw_in_the_morning_and_evening_and_later_on_sundays() {
    let (mut weekday, mut sunday) = ([0; HOURS], [0; HOURS]);
    for imei in 0..200 {
        let mut meter = quiet(imei, START);
        for day in 0..7 {
            for hour in 0..24 {
                let at = (FULL_HOUR - 22 * HOUR) / HOUR + day * 24 + hour;
                let sum = if is_weekend(at * HOUR) { &mut sunday } else { &mut weekday };
                sum[local_hour(at * HOUR)] += meter.draws(at);
            }
        }
    }
    let share = |sum: &[i64; HOURS], hours: std::ops::Range<usize>| {
        sum[hours].iter().sum::<i64>() * 100 / sum.iter().sum::<i64>()
    };
    assert!(share(&weekday, 6..9) > 18 && share(&weekday, 18..21) > 22, "{weekday:?}");
    assert!(share(&weekday, 1..5) < 3, "{weekday:?}");
    assert!(share(&sunday, 6..8) * 3 < share(&weekday, 6..8) * 2, "{sunday:?}");
    assert!(share(&sunday, 9..12) > share(&weekday, 9..12) + 4, "{sunday:?}");
}

#[test]
fn only_a_leak_flows_through_every_hour_of_a_day() {
    let (mut always, mut leaking, mut days) = (0, 0, 0);
    for imei in 0..60 {
        let mut rng = Rng::new(Use::Plan, &[imei]);
        let mut meter = meter(imei, FULL_HOUR);
        for day in 1..30 {
            let w = water(&mut meter, FULL_HOUR + day * DAY, &mut rng);
            let flows = w.history_delta_l.iter().all(|delta| *delta > 0);
            always += i32::from(w.alarms.is_empty() && flows && !w.history_delta_l.is_empty());
            leaking += i32::from(w.alarms.contains(&LEAK) && flows);
            days += 1;
        }
    }
    // A leak that was mended within the day still shows in its hours.
    assert!(always * 50 < days, "{always} of {days}");
    assert!(leaking > 0, "no leak in {days} days");
}

#[test]
fn the_next_run_goes_on_where_the_last_one_was() {
    let rng = &mut chance();
    for imei in [864, 900, 901] {
        let mut running = meter(imei, START);
        for hours in 0..1500 {
            let now = START + hours * 7 * HOUR;
            let mut next = meter(imei, now);
            let (old, new) = (water(&mut running, now, rng), water(&mut next, now, rng));
            assert_eq!(
                (old.total_l, old.reverse_l, &old.history_delta_l),
                (new.total_l, new.reverse_l, &new.history_delta_l),
                "{imei} after {hours}"
            );
        }
    }
}

#[test]
fn histories_that_overlap_agree_and_end_on_full_hours() {
    let mut rng = chance();
    let start = FULL_HOUR + 15 * 60 * SECOND + 23_000;
    let mut meter = meter(864, start);
    let mut ends = BTreeMap::new();
    for quarter in 0..200 {
        let now = start + quarter * 900 * SECOND;
        let w = water(&mut meter, now, &mut rng);
        for (i, delta) in (0..).zip(&w.history_delta_l) {
            let end = now / SECOND + w.history_first_end_s.unwrap() + i * 3600;
            assert_eq!(end % 3600, 0);
            assert_eq!(*ends.entry(end).or_insert(*delta), *delta);
        }
    }
    assert_eq!(ends.len(), 24 + 50);
}

#[test]
fn leaks_stay_bursts_are_shut_off_and_backflow_runs_backwards() {
    let mut rng = chance();
    let mut seen = BTreeMap::new();
    for imei in 0..80 {
        let mut meter = meter(imei, FULL_HOUR);
        while meter.next_event() < FULL_HOUR + 600 * DAY {
            let now = meter.next_event();
            let trigger = meter.event(now, &mut rng);
            let Some(incident) = meter.incident() else { continue };
            *seen.entry(incident).or_insert(0) += 1;
            let w = water(&mut meter, now + 60 * SECOND, &mut rng);
            let flow = w.flow_l_h.unwrap();
            match incident {
                Incident::Leak => {
                    assert!(w.alarms.contains(&LEAK), "{w:?}");
                    let leak = meter.leak.at(meter.hour).unwrap();
                    assert!((6..=720).contains(&(leak.to - leak.from)));
                }
                Incident::Burst => {
                    assert!(flow > 3125.0 && w.alarms.contains(&BURST), "{w:?}");
                    let burst = meter.burst.at(meter.hour).unwrap();
                    let mut later = super::tests::meter(imei, burst.to * HOUR + 60 * SECOND);
                    let shut = water(&mut later, burst.to * HOUR + 61 * SECOND, &mut rng);
                    assert_eq!((shut.valve, shut.flow_l_h), (Some(VALVE_CLOSED), Some(0.0)));
                    let open = (burst.to + SHUT_H) * HOUR;
                    assert!(!meter.troubles(open / HOUR).shut);
                }
                Incident::Backflow => {
                    assert!(flow < 0.0 && w.alarms.contains(&BACKFLOW), "{w:?}");
                    let later = water(&mut meter, now + 40 * 60 * SECOND, &mut rng);
                    assert!(later.reverse_l > w.reverse_l, "{later:?}");
                    assert!(later.total_l >= w.total_l);
                }
                _ => continue,
            }
            assert_eq!(trigger, Some(Trigger::Alarm));
        }
    }
    // 48,000 meter days: 72 leaks, 3 bursts, 4 times backwards.
    assert!((45..100).contains(&seen[&Incident::Leak]), "{seen:?}");
    assert!(seen.contains_key(&Incident::Burst), "{seen:?}");
    assert!(seen.contains_key(&Incident::Backflow), "{seen:?}");
}

#[test]
fn a_new_meter_begins_at_zero_and_knows_nothing_of_the_hours_before() {
    let mut rng = chance();
    let mut swapped = 0;
    for imei in 0..30 {
        let mut meter = meter(imei, FULL_HOUR);
        let mut last = water(&mut meter, FULL_HOUR, &mut rng).total_l.unwrap();
        while meter.next_event() < FULL_HOUR + 1000 * DAY {
            let now = meter.next_event();
            meter.event(now, &mut rng);
            let swaps = meter.incident() == Some(Incident::MeterSwapped);
            let w = water(&mut meter, now, &mut rng);
            if swaps {
                swapped += 1;
                assert!(last > 1000, "{last}");
                assert_eq!((w.total_l, w.history_delta_l.len()), (Some(0), 0));
                assert_eq!(w.history_first_end_s, None);
                let w = water(&mut meter, now + 5 * HOUR + 10 * SECOND, &mut rng);
                assert_eq!(w.history_delta_l.len(), 5);
                assert_eq!(w.history_first_end_s, Some(-10 - 4 * 3600));
                let sum: i32 = w.history_delta_l.iter().sum();
                assert!((0..=5).contains(&(w.total_l.unwrap() - i64::from(sum))));
            }
            last = w.total_l.unwrap();
        }
    }
    // Thirty meters that live six years, in a thousand days.
    assert!((6..24).contains(&swapped), "{swapped}");
}

#[test]
fn a_register_at_its_end_begins_again_and_deltas_do_not_notice() {
    let mut rng = chance();
    let mut meter = quiet(864, FULL_HOUR);
    meter.base_l = WATER_MODULUS_L - meter.all_l - 700;
    meter.mounted = None;
    let (mut last, mut rolled) = (0, 0);
    for hour in 0..96 {
        let now = FULL_HOUR + hour * HOUR;
        let w = water(&mut meter, now, &mut rng);
        let total = w.total_l.unwrap();
        assert!((0..WATER_MODULUS_L).contains(&total));
        assert!(w.history_delta_l.iter().all(|delta| (0..400).contains(delta)));
        if meter.incident() == Some(Incident::MeterRolledOver) {
            rolled += 1;
            assert!(last > WATER_MODULUS_L - 1000 && total < 1000, "from {last} to {total}");
        } else {
            assert!(total >= last);
        }
        last = total;
    }
    assert_eq!(rolled, 1);
    let near = (0..2000).filter(|n| meter_is_near_its_end(*n)).count();
    assert!((20..65).contains(&near), "{near} of 2000 meters");
}

fn meter_is_near_its_end(imei: u64) -> bool {
    meter(imei, START).base_l > WATER_MODULUS_L / 2
}
