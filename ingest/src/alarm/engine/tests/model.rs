//! Random histories: wherever the service is restarted, the same alarms come out under the same names.

use pb::smoke::State;
use proptest::prelude::*;

use super::*;

/// One step of a history.
#[derive(Debug, Clone)]
enum Step {
    /// So many seconds later a device of a station says that.
    Say { after: i64, station: usize, device: u64, state: State, back_s: i64, skew_s: i64 },
    /// A station is born or dies.
    State { after: i64, station: usize, session: u32, online: bool },
}

const STATIONS: [&str; 2] = ["bs1", "bs2"];

fn step() -> impl Strategy<Value = Step> {
    let state = prop_oneof![
        4 => Just(State::Normal), 3 => Just(State::Alarm), 1 => Just(State::Muted),
        1 => Just(State::Fault), 1 => Just(State::Removed),
    ];
    let back = prop_oneof![5 => Just(0), 1 => 1_i64..20_000];
    let skew = prop_oneof![5 => Just(0), 1 => Just(-28_800_i64), 1 => -300_i64..300];
    prop_oneof![
        8 => (0_i64..400, 0_usize..2, 0_u64..3, state, back, skew).prop_map(
            |(after, station, device, state, back_s, skew_s)| Step::Say {
                after, station, device, state, back_s, skew_s,
            }
        ),
        1 => (0_i64..400, 0_usize..2, 0_u32..4, any::<bool>()).prop_map(
            |(after, station, session, online)| Step::State { after, station, session, online }
        ),
    ]
}

fn play(bench: &mut Bench, now: &mut i64, seq: u64, step: &Step) {
    match *step {
        Step::Say { after, station, device, state, back_s, skew_s } => {
            *now += after * SECOND;
            let heard = *now - back_s * SECOND;
            bench.say(&Said {
                station: STATIONS[station],
                channel: if back_s > 0 { "u/h" } else { "u/t" },
                device,
                effective: heard + skew_s * SECOND,
                heard,
                ..live(*now, seq, smoke(state))
            });
        }
        Step::State { after, station, session, online } => {
            *now += after * SECOND;
            bench.state(*now, STATIONS[station], session, online);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_history_leads_to_the_same_alarms_wherever_it_is_interrupted(
        steps in prop::collection::vec(step(), 1..80),
        crashes in prop::collection::btree_set(0_usize..80, 0..8),
    ) {
        let (mut whole, mut broken) = (Bench::new(config()), Bench::new(config()));
        let (mut now, mut again) = (T0, T0);
        for (at, step) in steps.iter().enumerate() {
            play(&mut whole, &mut now, at as u64, step);
            if crashes.contains(&at) {
                // What had been taken in is taken in again after the crash.
                let (engine_time, lsn) = (broken.engine.ear, broken.lsn);
                broken = broken.crash(config());
                prop_assert_eq!((engine_time, lsn), (broken.engine.ear, broken.lsn));
            }
            play(&mut broken, &mut again, at as u64, step);
        }
        whole.until(now + 2 * HOUR);
        broken.until(again + 2 * HOUR);
        prop_assert_eq!(&whole.log, &broken.log);
        prop_assert_eq!(&whole.raised, &broken.raised);

        // Raised once, cleared once: of one rule and subject never two at a time, and no name twice.
        let mut names = HashSet::new();
        let mut lasting = HashSet::new();
        for alarm in &whole.raised {
            prop_assert!(names.insert(alarm.id.clone()), "{} twice", alarm.id);
            let key = (alarm.rule, alarm.imei, alarm.imei.map_or(alarm.station.as_str(), |_| ""));
            if alarm.cleared.is_none() {
                prop_assert!(lasting.insert(key), "{:?} lasts twice", key);
            }
        }
    }
}
