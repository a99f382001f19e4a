//! Backfill and clocks that are wrong: they neither hide an alarm nor make one up.

use super::*;

/// Kept back by its station: heard then, received now.
fn kept_back(received: i64, heard: i64, seq: u64, body: Body) -> Said {
    Said { channel: "u/h", effective: heard, heard, ..live(received, seq, body) }
}

#[test]
fn what_comes_late_and_is_old_raises_nothing_and_ends_nothing() {
    let mut bench = Bench::new(only(&[Rule::Smoke]));
    bench.say(&live(T0, 10, normal()));
    bench.say(&kept_back(T0 + MINUTE, T0 - 5 * HOUR, 5, alarm()));
    bench.until(T0 + HOUR);
    assert!(bench.log.is_empty(), "yesterday's smoke: {:?}", bench.log);
    bench.say(&live(T0 + HOUR, 11, alarm()));
    bench.say(&kept_back(T0 + HOUR + MINUTE, T0 - 4 * HOUR, 6, normal()));
    bench.until(T0 + 3 * HOUR);
    assert_eq!(bench.log, ["+smoke"], "yesterday's quiet");
    assert_eq!(bench.engine.take_counts().0, 2);
}

#[test]
fn a_live_reading_that_was_overtaken_changes_nothing() {
    let mut bench = Bench::new(only(&[Rule::Smoke]));
    bench.say(&live(T0, 10, alarm()));
    // The priority lane was faster: this was said before.
    bench.say(&Said {
        effective: T0 - MINUTE,
        heard: T0 - MINUTE,
        ..live(T0 + SECOND, 9, normal())
    });
    bench.until(T0 + HOUR);
    assert_eq!(bench.log, ["+smoke"]);
}

#[test]
fn an_alarm_of_an_outage_that_was_over_within_it_is_none_and_one_that_lasts_is_raised_late() {
    let mut bench = Bench::new(only(&[Rule::Smoke]));
    bench.say(&live(T0, 1, normal()));
    let back = T0 + 6 * HOUR;
    bench.say(&kept_back(back, T0 + HOUR, 2, alarm()));
    bench.say(&kept_back(back + 20 * SECOND, T0 + HOUR + MINUTE, 3, normal()));
    bench.until(back + HOUR);
    assert!(bench.log.is_empty(), "{:?}", bench.log);
    let again = back + 6 * HOUR;
    bench.say(&kept_back(again, back + 2 * HOUR, 4, alarm()));
    // The replay goes on with others' readings: the next of this device may be among them.
    for at in 1..=3 {
        let other =
            Said { device: 2, ..kept_back(again + at * 20 * SECOND, back, at as u64, normal()) };
        bench.say(&other);
        assert!(bench.log.is_empty());
    }
    bench.until(again + 2 * MINUTE);
    assert_eq!(bench.log, ["+smoke"]);
    let raised = &bench.raised[0];
    assert!(raised.late);
    assert_eq!(raised.effective_ms, back + 2 * HOUR);
    assert_eq!(raised.raised_ms, again + 90 * SECOND);
}

#[test]
fn a_replay_without_end_hides_nothing_for_longer_than_ten_minutes() {
    let mut bench = Bench::new(only(&[Rule::Smoke]));
    bench.say(&kept_back(T0, T0 - HOUR, 1, alarm()));
    for at in 1..60 {
        bench.say(&Said {
            device: 2,
            ..kept_back(T0 + at * 20 * SECOND, T0 - HOUR + at, at as u64, normal())
        });
    }
    assert_eq!(bench.log, ["+smoke"]);
    assert!(bench.raised[0].raised_ms <= T0 + 10 * MINUTE + 20 * SECOND);
}

#[test]
fn no_clock_of_a_device_hides_or_fakes_an_alarm() {
    // What normalization makes of a clock of 1970 is the station's time, of one eight hours ahead too;
    // eight hours behind is plausible and stays.
    for skew in [0, -8 * HOUR, -3 * HOUR, 4 * MINUTE] {
        let mut bench = Bench::new(only(&[Rule::Smoke]));
        let said = |at: i64, seq, body| Said { effective: at + skew, ..live(at, seq, body) };
        bench.say(&live(T0, 1, normal()));
        // The clock goes wrong, and right, and wrong again.
        bench.say(&said(T0 + MINUTE, 2, alarm()));
        assert_eq!(bench.log, ["+smoke"], "skew {skew}");
        bench.say(&live(T0 + 2 * MINUTE, 3, normal()));
        bench.until(T0 + 5 * MINUTE);
        assert_eq!(bench.log, ["+smoke", "-smoke"], "skew {skew}");
        bench.say(&said(T0 + 6 * MINUTE, 4, alarm()));
        bench.say(&said(T0 + 7 * MINUTE, 5, normal()));
        bench.until(T0 + 10 * MINUTE);
        assert_eq!(bench.log, ["+smoke", "-smoke", "+smoke", "-smoke"], "skew {skew}");
    }
}

#[test]
fn a_station_whose_clock_is_wrong_neither_hides_nor_fakes() {
    for skew in [-3 * HOUR, 3 * HOUR, -20 * 365 * 24 * HOUR] {
        let mut bench = Bench::new(only(&[Rule::Smoke, Rule::DeviceSilent]));
        for at in 0..20 {
            let at_ms = T0 + at * MINUTE;
            let body = if at == 10 { alarm() } else { normal() };
            bench.say(&Said { heard: at_ms + skew, ..live(at_ms, at as u64, body) });
        }
        bench.until(T0 + 20 * MINUTE);
        assert_eq!(bench.log, ["+smoke", "-smoke"], "skew {skew}");
    }
}

#[test]
fn a_reboot_and_a_counter_that_begins_anew_hide_nothing() {
    let mut bench = Bench::new(only(&[Rule::Smoke]));
    bench.say(&live(T0, 200, normal()));
    bench.say(&live(T0 + MINUTE, 0, alarm()));
    assert_eq!(bench.log, ["+smoke"]);
}

#[test]
fn readings_that_are_given_again_change_nothing() {
    let mut bench = Bench::new(only(&[Rule::Smoke]));
    let history: Vec<Said> = (0..10)
        .map(|at| live(T0 + at * MINUTE, at as u64, if at == 4 { alarm() } else { normal() }))
        .collect();
    history.iter().for_each(|said| bench.say(said));
    bench.until(T0 + 11 * MINUTE);
    let log = bench.log.clone();
    assert_eq!(log, ["+smoke", "-smoke"]);
    // A station that lost its acknowledgements sends all of it once more, and dedup has forgotten it.
    for said in &history {
        bench.say(&Said { channel: "u/h", received: T0 + HOUR, ..said.clone() });
    }
    bench.until(T0 + 2 * HOUR);
    assert_eq!(bench.log, log);
}
