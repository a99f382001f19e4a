//! Devices that fall silent, stations that go away, and us who did not listen.

use super::*;

/// A device that reports once a minute, for an hour.
fn learnt() -> Bench {
    let mut bench = Bench::new(only(&[Rule::DeviceSilent, Rule::StationOffline]));
    for at in 0..=60 {
        bench.say(&live(T0 + at * MINUTE, at as u64, normal()));
        bench.say(&Said { device: 2, ..live(T0 + at * MINUTE + SECOND, at as u64, normal()) });
    }
    assert!(bench.log.is_empty(), "{:?}", bench.log);
    bench
}

/// The second device goes on, so that the station is there.
fn others(bench: &mut Bench, from: i64, to: i64) {
    let mut at = from;
    while at < to {
        bench.say(&Said { device: 2, ..live(at, (at / MINUTE % 256) as u64, normal()) });
        at += MINUTE;
    }
}

#[test]
fn a_device_is_silent_after_two_and_a_half_of_its_own_pauses() {
    let mut config = only(&[Rule::DeviceSilent]);
    config.thresholds.silent_min = std::time::Duration::ZERO;
    let mut bench = Bench::new(config);
    let quick = (0..=10).map(|at| live(T0 + at * MINUTE, at as u64, normal()));
    let slow =
        (0..=10).map(|at| Said { device: 2, ..live(T0 + at * HOUR / 10, at as u64, normal()) });
    let mut all: Vec<Said> = quick.chain(slow).collect();
    all.sort_by_key(|said| said.received);
    all.iter().for_each(|said| bench.say(said));
    // Both known: one minute, and six.
    let (quick, slow) = (T0 + 10 * MINUTE, T0 + HOUR);
    bench.until(quick.max(slow) + 5 * 6 * MINUTE);
    let silent: Vec<_> = bench.raised.iter().map(|it| (it.imei, it.raised_ms)).collect();
    assert_eq!(
        silent,
        [(Some(imei(1)), quick + 150 * SECOND), (Some(imei(2)), slow + 15 * MINUTE)]
    );
    bench.say(&live(bench.engine.ear.time, 100, normal()));
    assert_eq!(bench.log, ["+device_silent", "+device_silent", "-device_silent"]);
}

#[test]
fn who_has_hardly_spoken_is_never_silent() {
    let mut bench = Bench::new(only(&[Rule::DeviceSilent]));
    bench.say(&live(T0, 1, normal()));
    bench.say(&live(T0 + MINUTE, 2, normal()));
    bench.until(T0 + 100 * HOUR);
    assert!(bench.log.is_empty());
}

#[test]
fn what_a_station_had_kept_back_is_no_sign_of_life_and_does_not_end_a_silence() {
    let mut bench = learnt();
    let end = T0 + HOUR;
    others(&mut bench, end + MINUTE, end + 10 * MINUTE);
    assert_eq!(bench.log, ["+device_silent"]);
    bench.say(&Said {
        channel: "u/h",
        effective: end + 30 * SECOND,
        heard: end + 30 * SECOND,
        ..live(end + 10 * MINUTE, 61, normal())
    });
    others(&mut bench, end + 10 * MINUTE, end + 12 * MINUTE);
    assert_eq!(bench.log, ["+device_silent"]);
}

#[test]
fn a_station_that_goes_away_is_one_alarm_and_not_one_for_each_device() {
    let mut bench = learnt();
    bench.until(T0 + 5 * HOUR);
    assert_eq!(bench.log, ["+station_offline"]);
    let offline = &bench.raised[0];
    assert_eq!(offline.raised_ms, T0 + HOUR + SECOND + 3 * MINUTE);
    assert_eq!(offline.imei, None);
    // It is back, with one of its devices; the other one has as long as ever.
    others(&mut bench, T0 + 5 * HOUR, T0 + 5 * HOUR + 3 * MINUTE);
    assert_eq!(bench.log, ["+station_offline", "-station_offline"]);
    others(&mut bench, T0 + 5 * HOUR + 3 * MINUTE, T0 + 5 * HOUR + 10 * MINUTE);
    assert_eq!(bench.log, ["+station_offline", "-station_offline", "+device_silent"]);
}

#[test]
fn a_last_will_is_an_alarm_at_once_and_one_of_an_older_session_is_none() {
    let mut bench = Bench::new(only(&[Rule::StationOffline]));
    bench.state(T0, "bs1", 7, true);
    bench.state(T0 + SECOND, "bs1", 7, false);
    assert_eq!(bench.log, ["+station_offline"]);
    bench.state(T0 + MINUTE, "bs1", 8, true);
    bench.state(T0 + MINUTE + SECOND, "bs1", 7, false);
    bench.until(T0 + 2 * MINUTE);
    assert_eq!(bench.log, ["+station_offline", "-station_offline"]);
}

#[test]
fn a_station_that_comes_and_goes_is_one_alarm() {
    let mut bench = Bench::new(only(&[Rule::StationOffline]));
    for session in 0..20 {
        let at = T0 + i64::from(session) * 10 * SECOND;
        bench.state(at, "bs1", session, true);
        bench.state(at + 5 * SECOND, "bs1", session, false);
    }
    bench.state(T0 + HOUR, "bs1", 99, true);
    bench.until(T0 + HOUR + MINUTE);
    assert_eq!(bench.log, ["+station_offline", "-station_offline"]);
}

#[test]
fn a_device_that_is_its_own_station_and_speaks_once_a_day_is_not_offline_all_the_time() {
    let mut bench = Bench::new(only(&[Rule::StationOffline, Rule::DeviceSilent]));
    for day in 0..10 {
        bench.say(&live(T0 + day * 24 * HOUR, day as u64, normal()));
    }
    // Until its rhythm is known three minutes are all there is to go by.
    let early = bench.log.len();
    assert!(early <= 2 * 5, "{early}");
    bench.until(T0 + 9 * 24 * HOUR + 59 * HOUR);
    assert_eq!(bench.log.len(), early);
    bench.until(T0 + 9 * 24 * HOUR + 61 * HOUR);
    assert_eq!(bench.log.last().unwrap(), "+station_offline");
    assert_eq!(bench.log.len(), early + 1, "and not the device's silence as well");
}

#[test]
fn while_we_were_down_nobody_was_silent() {
    let config = || {
        let mut config = only(&[Rule::DeviceSilent, Rule::StationOffline]);
        config.thresholds.start_grace = std::time::Duration::from_secs(120);
        config
    };
    let bench = learnt();
    // A day without us.
    let back = T0 + 25 * HOUR;
    let mut bench = bench.crash(config());
    bench.engine.begin_life(back);
    bench.engine.advance(back);
    bench.until(back + 2 * MINUTE);
    assert!(bench.log.is_empty(), "{:?}", bench.log);
    others(&mut bench, back + 2 * MINUTE, back + 5 * MINUTE);
    assert!(bench.log.is_empty(), "{:?}", bench.log);
    // Who does not come back is silent in the end: three minutes of listening after the last word,
    // which was a moment before we went.
    others(&mut bench, back + 5 * MINUTE, back + 8 * MINUTE);
    assert_eq!(bench.log, ["+device_silent"]);
    assert_eq!(bench.raised[0].imei, Some(imei(1)));
}

#[test]
fn while_the_log_refuses_nobody_is_silent() {
    let mut bench = learnt();
    let end = T0 + HOUR + SECOND;
    for second in 0..3600 {
        bench.engine.deafen(end + second * SECOND);
        bench.engine.advance(end + second * SECOND);
    }
    bench.take();
    assert!(bench.log.is_empty(), "{:?}", bench.log);
    bench.until(end + HOUR + 4 * MINUTE);
    assert_eq!(bench.log, ["+station_offline"]);
}

#[test]
fn our_own_clock_may_leap_and_nobody_is_silent_for_it() {
    let mut bench = learnt();
    let leap = T0 + 365 * 24 * HOUR;
    bench.engine.advance(leap);
    bench.take();
    assert!(bench.log.is_empty(), "{:?}", bench.log);
    // And back again.
    bench.engine.advance(T0 + HOUR + 2 * SECOND);
    bench.until(T0 + HOUR + 2 * MINUTE);
    assert!(bench.log.is_empty(), "{:?}", bench.log);
    bench.until(T0 + HOUR + 4 * MINUTE);
    assert_eq!(bench.log, ["+station_offline"]);
}
