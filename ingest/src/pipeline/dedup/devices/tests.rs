#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn key(device: u64, n: i64) -> Key {
    Key { device, hash: n.cast_unsigned().wrapping_mul(31) ^ device, measured: n }
}

fn enter(devices: &mut Devices<u64>, key: &Key, previous: u64, lsn: u64) {
    let slot = devices.slot_of(key.device);
    devices.enter(slot, key, Some(previous));
    devices.place(lsn);
}

#[test]
fn a_ring_lets_go_of_the_earliest_measured_and_only_of_what_the_store_has() {
    let mut devices = Devices::new(1 << 20, NOTHING);
    for n in 0..100 {
        enter(&mut devices, &key(1, n), 0, n.cast_unsigned() + 1);
    }
    assert_eq!(devices.look(&key(1, 0)).1, Known::Before(1), "the store has nothing yet");
    devices.stored(10);
    enter(&mut devices, &key(1, 100), 0, 101);
    for n in 0..10 {
        assert_eq!(devices.look(&key(1, n)).1, Known::Unsure, "{n}");
    }
    for n in 10..=100 {
        assert_eq!(devices.look(&key(1, n)).1, Known::Before(n.cast_unsigned() + 1), "{n}");
    }
    assert_eq!(devices.look(&key(1, 101)).1, Known::New);
    assert_eq!(devices.look(&Key { measured: NO_TIME, ..key(1, 500) }).1, Known::Unsure);
}

#[test]
fn one_time_in_the_far_future_does_not_make_everything_unsure() {
    let mut devices = Devices::new(1 << 20, NOTHING);
    enter(&mut devices, &key(1, i64::MAX / 2), 0, 1);
    for n in 0..200_i64 {
        let lsn = n.cast_unsigned() + 2;
        devices.stored(lsn - 1);
        assert_eq!(devices.look(&key(1, n)).1, Known::New);
        enter(&mut devices, &key(1, n), 0, lsn);
    }
    assert_eq!(devices.look(&key(1, i64::MAX / 2)).1, Known::Before(1));
}

#[test]
fn while_the_store_is_asked_nothing_is_let_go_that_it_did_not_have() {
    let mut devices = Devices::new(1 << 20, NOTHING);
    for n in 0..64 {
        enter(&mut devices, &key(1, n), 0, n.cast_unsigned() + 1);
    }
    devices.stored(20);
    let question = devices.ask();
    devices.stored(64);
    for n in 64..128 {
        enter(&mut devices, &key(1, n), 0, n.cast_unsigned() + 1);
    }
    assert_eq!(devices.look(&key(1, 19)).1, Known::Unsure);
    assert_eq!(devices.look(&key(1, 20)).1, Known::Before(21));
    devices.answered(&question);
    devices.stored(64);
    enter(&mut devices, &key(1, 128), 0, 129);
    assert_eq!(devices.look(&key(1, 20)).1, Known::Unsure);
}

#[test]
fn over_the_bound_devices_are_forgotten_and_then_the_store_is_asked_for_them() {
    let mut devices = Devices::new(20_000, NOTHING);
    for device in 1..=1000 {
        enter(&mut devices, &key(device, 5), device, device);
        devices.make_room();
    }
    assert!(devices.full(), "nothing may be forgotten before the store has it");
    devices.stored(1000);
    while devices.bytes() > 20_000 {
        devices.make_room();
    }
    assert!(!devices.full());
    let (mut before, mut unsure) = (0, 0);
    for device in 1..=1000 {
        match devices.look(&key(device, 5)).1 {
            Known::Before(lsn) => {
                assert_eq!(lsn, device);
                before += 1;
            }
            Known::Unsure => unsure += 1,
            Known::New => panic!("device {device} would be stored twice"),
        }
    }
    assert!(before > 0 && unsure > 0, "{before} {unsure}");
    assert_eq!(devices.look(&key(5000, 6)).1, Known::New);
}

#[test]
fn a_clone_knows_its_own_weight() {
    let mut devices = Devices::new(1, NOTHING);
    for n in 0..5 {
        enter(&mut devices, &key(1, n), 0, 1);
    }
    let mut clone = devices.clone();
    clone.stored(1);
    clone.make_room();
    assert_eq!((clone.bytes(), clone.full()), (0, false));
}

#[derive(Debug, Clone)]
enum Step {
    /// A batch of (device, measured), appended or refused.
    Batch(Vec<(u64, i64)>, bool),
    /// So many of the undecided frames become durable.
    Durable(u64),
    /// All that are not durable fail.
    Fail,
    /// The store takes so many of the durable frames.
    Store(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let batch = prop::collection::vec((1..4_u64, 0..200_i64), 1..30);
    prop::collection::vec(
        prop_oneof![
            8 => (batch, prop::bool::weighted(0.9)).prop_map(|(b, ok)| Step::Batch(b, ok)),
            4 => (0..6_u64).prop_map(Step::Durable),
            1 => Just(Step::Fail),
            4 => (0..6_u64).prop_map(Step::Store),
        ],
        1..80,
    )
}

proptest! {
    #[test]
    fn it_agrees_with_a_plain_set(steps in steps(), limit in prop_oneof![Just(1_usize << 20), Just(2000)]) {
        let mut devices = Devices::<u64>::new(limit, NOTHING);
        // Key → lsn, of all that did not fail; and what each device counted last.
        let mut set = BTreeMap::<(u64, i64), u64>::new();
        let mut counted = BTreeMap::<u64, Vec<(u64, u64)>>::new();
        let (mut next, mut durable, mut stored) = (1_u64, 0_u64, 0_u64);
        for step in steps {
            match step {
                Step::Batch(batch, appended) => {
                    devices.settle(durable);
                    devices.stored(stored);
                    devices.make_room();
                    let mut entered = Vec::new();
                    for (device, measured) in batch {
                        let key = key(device, measured);
                        let truth = set.get(&(device, measured)).copied();
                        let slot = devices.slot_of(device);
                        if devices.in_this_batch(slot, key.hash) {
                            prop_assert!(entered.contains(&(device, measured)));
                            continue;
                        }
                        let (_, known) = devices.look(&key);
                        match (known, truth) {
                            (Known::Before(lsn), truth) => prop_assert_eq!(Some(lsn), truth),
                            (Known::New, truth) => prop_assert_eq!(truth, None),
                            // The store is asked: it must be able to answer.
                            (Known::Unsure, truth) => {
                                prop_assert!(truth.is_none_or(|lsn| lsn <= stored));
                            }
                        }
                        if truth.is_none() {
                            devices.enter(slot, &key, Some(next));
                            entered.push((device, measured));
                        }
                    }
                    if appended {
                        devices.place(next);
                        for (device, measured) in entered {
                            set.insert((device, measured), next);
                            counted.entry(device).or_default().push((next, next));
                        }
                        next += 1;
                    } else {
                        devices.take_back();
                    }
                }
                Step::Durable(n) => durable = (durable + n).min(next - 1),
                Step::Fail => {
                    devices.roll_back(durable);
                    set.retain(|_, lsn| *lsn <= durable);
                    counted.values_mut().for_each(|c| c.retain(|(lsn, _)| *lsn <= durable));
                }
                Step::Store(n) => stored = (stored + n).min(durable),
            }
            for device in devices.iter() {
                // Forgotten devices count anew; those that are remembered count right.
                let truth = counted.get(&device.id).and_then(|c| c.last()).map(|(_, n)| *n);
                if device.previous.is_some() {
                    prop_assert_eq!(device.previous, truth);
                }
                let weights: usize = devices.iter().map(weight).sum();
                prop_assert_eq!(devices.bytes(), weights);
            }
        }
    }
}
