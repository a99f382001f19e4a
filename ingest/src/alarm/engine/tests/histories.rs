//! Smoke and the rest: raised once, cleared once.

use loushan_schemas::reading::{Elevator, Parking, StreetLight, Water};
use pb::smoke::State;

use super::*;

#[test]
fn smoke_is_raised_once_however_often_it_is_said_and_cleared_once() {
    let mut bench = Bench::new(only(&[Rule::Smoke]));
    for at in 0..5 {
        bench.say(&live(T0 + at * 10 * SECOND, 1 + at as u64, alarm()));
    }
    assert_eq!(bench.log, ["+smoke"]);
    let raised = &bench.raised[0];
    assert_eq!(&*raised.id, format!("smoke-{}-1-0", imei(1)));
    assert_eq!(
        (raised.raised_ms, raised.effective_ms, raised.lsn, raised.late),
        (T0, T0, 1, false)
    );
    for at in 0..5 {
        bench.say(&live(T0 + MINUTE + at * 10 * SECOND, 10 + at as u64, normal()));
    }
    bench.until(T0 + 10 * MINUTE);
    assert_eq!(bench.log, ["+smoke", "-smoke"]);
    let cleared = bench.raised[0].cleared.clone().unwrap();
    assert_eq!((cleared.at_ms, cleared.lsn), (T0 + MINUTE + 30 * SECOND, 6));
}

#[test]
fn a_detector_that_flaps_is_one_alarm() {
    let mut bench = Bench::new(only(&[Rule::Smoke]));
    for at in 0..40 {
        let body = if at % 2 == 0 { alarm() } else { normal() };
        bench.say(&live(T0 + at * 5 * SECOND, at as u64, body));
    }
    bench.until(T0 + HOUR);
    assert_eq!(bench.log, ["+smoke", "-smoke"]);
}

#[test]
fn test_muted_and_removed_never_raise_smoke_and_never_end_it() {
    let mut bench = Bench::new(only(&[Rule::Smoke]));
    let others = [State::Test, State::Muted, State::Removed, State::Fault];
    for (at, state) in others.into_iter().enumerate() {
        bench.say(&live(T0 + at as i64 * MINUTE, at as u64, smoke(state)));
    }
    bench.until(T0 + HOUR);
    assert!(bench.log.is_empty(), "{:?}", bench.log);
    bench.say(&live(T0 + HOUR, 10, alarm()));
    for (at, state) in others.into_iter().enumerate() {
        bench.say(&live(T0 + HOUR + MINUTE + at as i64 * MINUTE, 11 + at as u64, smoke(state)));
    }
    bench.until(T0 + 2 * HOUR);
    assert_eq!(bench.log, ["+smoke"]);
}

#[test]
fn a_detector_that_is_removed_broken_or_low_has_alarms_of_its_own() {
    let mut bench = Bench::new(config());
    bench.say(&live(T0, 1, smoke(State::Removed)));
    bench.say(&live(T0 + MINUTE, 2, smoke(State::Fault)));
    let low = Smoke { low_battery: Some(true), state: Some(1), ..Smoke::default() };
    bench.say(&live(T0 + 2 * MINUTE, 3, Body::Smoke(low)));
    bench.until(T0 + 3 * MINUTE);
    let expected =
        ["+smoke_removed", "+smoke_fault", "-smoke_removed", "+smoke_low_battery", "-smoke_fault"];
    assert_eq!(bench.log, expected);
}

fn lift(speed: f64, zone: bool, occupied: bool) -> Body {
    Body::Elevator(Elevator {
        speed_m_s: Some(speed),
        door_zone: Some(zone),
        occupied: Some(occupied),
        door: Some(1),
        ..Elevator::default()
    })
}

#[test]
fn who_stands_between_landings_for_two_minutes_is_trapped_though_the_lift_falls_silent() {
    let mut bench = Bench::new(only(&[Rule::Entrapment]));
    bench.say(&live(T0, 1, lift(0.0, false, true)));
    bench.until(T0 + 2 * MINUTE - 1);
    assert!(bench.log.is_empty());
    bench.until(T0 + 2 * MINUTE);
    assert_eq!(
        (bench.log.as_slice(), bench.raised[0].raised_ms),
        (["+entrapment".to_owned()].as_slice(), T0 + 2 * MINUTE)
    );
    bench.say(&live(T0 + 3 * MINUTE, 2, lift(1.0, false, true)));
    bench.until(T0 + 4 * MINUTE);
    assert_eq!(bench.log, ["+entrapment", "-entrapment"]);
}

#[test]
fn a_lift_that_goes_on_within_two_minutes_traps_nobody_and_one_that_says_so_does_at_once() {
    let mut bench = Bench::new(only(&[Rule::Entrapment]));
    bench.say(&live(T0, 1, lift(0.0, false, true)));
    bench.say(&live(T0 + MINUTE, 2, lift(1.5, false, true)));
    bench.until(T0 + HOUR);
    assert!(bench.log.is_empty());
    let says = Elevator { entrapment: Some(true), ..Elevator::default() };
    bench.say(&live(T0 + HOUR, 3, Body::Elevator(says)));
    assert_eq!(bench.log, ["+entrapment"]);
}

#[test]
fn the_table_of_alarms_holds_for_each_kind() {
    let lamp = |command: f64, power: f64| {
        Body::StreetLight(StreetLight {
            dim_command_pct: Some(command),
            dim_pct: Some(command),
            power_w: Some(power),
            ..StreetLight::default()
        })
    };
    let water = |change: fn(&mut Water)| {
        let mut water = Water::default();
        change(&mut water);
        Body::Water(water)
    };
    let open = Elevator { door: Some(3), speed_m_s: Some(0.4), ..Elevator::default() };
    let faulty = Elevator { faults: vec![7], ..Elevator::default() };
    let cases: [(Rule, Body, Body); 11] = [
        (Rule::DoorOpenMoving, Body::Elevator(open), lift(0.0, true, false)),
        (Rule::ElevatorFault, Body::Elevator(faulty), lift(0.0, true, false)),
        (
            Rule::WaterBurst,
            water(|w| w.flow_l_h = Some(3126.0)),
            water(|w| w.flow_l_h = Some(2500.0)),
        ),
        (Rule::WaterLeak, water(|w| w.alarms = vec![1]), water(|_| ())),
        (
            Rule::WaterLeak,
            water(|w| {
                w.history_interval_s = Some(3600);
                w.history_delta_l = vec![2; 24];
            }),
            water(|w| {
                w.history_interval_s = Some(3600);
                w.history_delta_l = [vec![2; 23], vec![0]].concat();
            }),
        ),
        (Rule::WaterBackflow, water(|w| w.alarms = vec![3]), water(|_| ())),
        (Rule::LampFailure, lamp(80.0, 0.2), lamp(80.0, 60.0)),
        (Rule::DayBurner, lamp(0.0, 5.5), lamp(0.0, 0.0)),
        (
            Rule::LampTilt,
            Body::StreetLight(StreetLight { tilt_deg: Some(15.5), ..StreetLight::default() }),
            Body::StreetLight(StreetLight { tilt_deg: Some(12.0), ..StreetLight::default() }),
        ),
        (
            Rule::Tamper,
            Body::Parking(Parking { tamper: Some(true), ..Parking::default() }),
            Body::Parking(Parking { tamper: Some(false), ..Parking::default() }),
        ),
        (
            Rule::Covered,
            Body::Parking(Parking { covered: Some(true), ..Parking::default() }),
            Body::Parking(Parking { covered: Some(false), ..Parking::default() }),
        ),
    ];
    for (rule, set, clear) in cases {
        let mut bench = Bench::new(config());
        bench.say(&live(T0, 1, set));
        assert_eq!(bench.log, [format!("+{rule}")]);
        assert_eq!(bench.raised[0].severity, rule.severity());
        bench.say(&live(T0 + MINUTE, 2, clear));
        bench.until(T0 + 2 * MINUTE);
        assert_eq!(bench.log, [format!("+{rule}"), format!("-{rule}")]);
    }
}

#[test]
fn water_that_flows_backwards_is_seen_by_the_counter_and_a_reset_is_none() {
    let mut bench = Bench::new(only(&[Rule::WaterBackflow]));
    let reverse = |l| Body::Water(Water { reverse_l: Some(l), ..Water::default() });
    for (at, (litres, expected)) in
        [(100, 0), (100, 0), (0, 0), (0, 0), (3, 1), (9, 1), (9, 2)].into_iter().enumerate()
    {
        let at = at as i64;
        bench.say(&live(T0 + at * HOUR, 1 + at as u64, reverse(litres)));
        bench.until(T0 + at * HOUR + MINUTE);
        assert_eq!(bench.log.len(), expected, "{at}: {:?}", bench.log);
    }
}

#[test]
fn a_battery_is_low_below_ten_percent_and_well_from_fifteen_on() {
    let mut bench = Bench::new(only(&[Rule::LowBattery]));
    for (at, (pct, expected)) in
        [(10.0, 0), (9.9, 1), (12.0, 1), (9.0, 1), (14.9, 1), (15.0, 2), (12.0, 2), (130.0, 2)]
            .into_iter()
            .enumerate()
    {
        let at = at as i64;
        let said = Said { battery: Some(pct), ..live(T0 + at * HOUR, 1 + at as u64, normal()) };
        bench.say(&said);
        bench.until(T0 + at * HOUR + MINUTE);
        assert_eq!(bench.log.len(), expected, "{pct} %: {:?}", bench.log);
    }
}

#[test]
fn impossible_figures_raise_nothing() {
    let mut bench = Bench::new(config());
    let flow = Water { flow_l_h: Some(100_000.0), ..Water::default() };
    bench.say(&live(T0, 1, Body::Water(flow)));
    let tilt = StreetLight { tilt_deg: Some(270.0), ..StreetLight::default() };
    bench.say(&Said { device: 2, ..live(T0, 1, Body::StreetLight(tilt)) });
    bench.say(&Said { battery: Some(-3.0), device: 3, ..live(T0, 1, normal()) });
    assert!(bench.log.is_empty(), "{:?}", bench.log);
}

#[test]
fn in_a_window_nothing_is_raised_and_what_lasts_is_raised_at_its_end() {
    let mut config = only(&[Rule::Smoke]);
    config.maintenance = vec![Maintenance {
        name: "night".into(),
        when: When { from_ms: i64::MIN, to_ms: i64::MAX, daily: Daily::parse("00:00-01:00") },
        rules: vec![Rule::Smoke],
        stations: vec!["bs1".to_owned()],
        devices: Vec::new(),
        projects: Vec::new(),
        areas: Vec::new(),
    }];
    let mut bench = Bench::new(config);
    bench.say(&live(T0, 1, alarm()));
    bench.say(&live(T0 + MINUTE, 2, normal()));
    bench.say(&Said { device: 2, ..live(T0 + 2 * MINUTE, 1, alarm()) });
    bench.say(&Said { device: 3, station: "bs2", ..live(T0 + 3 * MINUTE, 1, alarm()) });
    bench.until(T0 + HOUR - 1);
    assert_eq!(bench.raised.len(), 1);
    assert_eq!(bench.raised[0].station.as_str(), "bs2");
    bench.until(T0 + HOUR);
    assert_eq!(bench.raised.len(), 2);
    assert_eq!((bench.raised[1].imei, bench.raised[1].raised_ms), (Some(imei(2)), T0 + HOUR));
}

#[test]
fn what_is_out_of_scope_raises_nothing_and_what_lasts_of_it_is_ended() {
    let mut bench = Bench::new(config());
    bench.say(&live(T0, 1, alarm()));
    bench.say(&live(T0 + MINUTE, 2, alarm()));
    let mut bench = bench.crash(only(&[Rule::WaterLeak]));
    bench.engine.reconcile();
    bench.take();
    assert_eq!(bench.log, ["+smoke", "-smoke"]);
    assert_eq!(bench.raised[0].cleared.as_ref().unwrap().by, ClearedBy::RuleOff);
    bench.say(&live(T0 + 2 * MINUTE, 3, alarm()));
    assert_eq!(bench.log.len(), 2);
    let mut bench = bench.crash(AlarmConfig { projects: vec!["p".to_owned()], ..config() });
    bench.say(&live(T0 + 3 * MINUTE, 4, alarm()));
    assert_eq!(bench.log.len(), 2, "an unregistered station is of no project");
}

#[test]
fn memory_is_bounded_and_whose_alarm_is_forgotten_is_told() {
    let mut bench = Bench::new(AlarmConfig { memory: 64 << 10, ..config() });
    for device in 0..200 {
        bench.say(&Said { device, ..live(T0 + device as i64 * SECOND, 1, alarm()) });
    }
    let (devices, _, bytes) = bench.engine.size();
    assert!(bytes <= 64 << 10, "{bytes}");
    assert!(devices > 20 && devices < 100, "{devices}");
    let forgotten =
        |it: &&Alarm| it.cleared.as_ref().is_some_and(|it| it.by == ClearedBy::Forgotten);
    assert_eq!(bench.raised.iter().filter(forgotten).count(), 200 - devices);
    assert_eq!(bench.engine.take_counts().1, (200 - devices) as u64);
}
