//! Counters against what was counted before.

use super::*;

/// A water meter's reading so many litres and milliseconds after the base.
fn meter(total_l: i64, at_ms: i64) -> Reading {
    let reading = pb::Reading {
        measured_delta_ms: at_ms,
        ..changed(Kind::Water, |_, body| {
            let Body::Water(b) = body else { panic!() };
            b.total_l = Some(total_l);
        })
    };
    let received = received_at(sample::BASE_MS + at_ms);
    let normalized = normalize_batch(batch(vec![reading]), Channel::Telemetry, received);
    normalized.readings.into_iter().next().unwrap().unwrap()
}

fn against(before: &[Reading], mut reading: Reading) -> Option<QualityReason> {
    let previous = before.iter().fold(None, |p, reading| Some(next_previous(p, reading)));
    check_against_previous(previous.as_ref(), &mut reading);
    reading.reason
}

#[test]
fn counters_are_held_against_what_was_counted_before() {
    use QualityReason::{Reset, Rollover, Step};
    const TOP: i64 = WATER_MODULUS_L;
    for (name, before, after, reason) in [
        ("rising", (1000, 0), (1100, HOUR), None),
        ("standing", (1000, 0), (1000, HOUR), None),
        ("falling", (1000, 0), (999, HOUR), Some(Reset)),
        ("to zero", (1000, 0), (0, HOUR), Some(Reset)),
        ("turning over", (TOP - 1000, 0), (50, HOUR), Some(Rollover)),
        (
            "from the edge of the last hundredth",
            (TOP - TOP / 100, 0),
            (0, 200 * DAY),
            Some(Rollover),
        ),
        ("from before it", (TOP - TOP / 100 - 1, 0), (0, 200 * DAY), Some(Reset)),
        ("as fast as water flows", (1000, 0), (1000 + 3125 + 10, HOUR), None),
        ("faster", (1000, 0), (1000 + 3125 + 11, HOUR), Some(Step)),
        ("a litre within a second", (1000, 0), (1001, 1000), None),
        ("late", (1000, HOUR), (500, 0), None),
        ("at the same time", (1000, 0), (500, 0), None),
    ] {
        let found = against(&[meter(before.0, before.1)], meter(after.0, after.1));
        assert_eq!(found, reason, "{name}");
    }
    assert_eq!(against(&[], meter(5, 0)), None, "the first of all");
}

#[test]
fn late_and_impossible_counts_are_not_remembered() {
    let now = [meter(1000, HOUR), meter(500, 0)];
    assert_eq!(against(&now, meter(1100, 2 * HOUR)), None, "a late one moves nothing");
    let wild = [meter(1000, 0), meter(WATER_MODULUS_L, HOUR)];
    assert_eq!(against(&wild, meter(1100, 2 * HOUR)), None, "an impossible one moves nothing");
    let swapped = [meter(1000, 0), meter(5, HOUR)];
    assert_eq!(against(&swapped, meter(10, 2 * HOUR)), None, "a reset is said once");
}

#[test]
fn a_counter_that_is_missing_for_a_while_is_held_against_its_own_last_time() {
    let mut without = meter(0, 10 * HOUR);
    let Body::Water(body) = &mut without.body else { panic!() };
    body.total_l = None;
    let before = [meter(1000, 0), without];
    assert_eq!(against(&before, meter(1000 + 30_000, 10 * HOUR + 1)), None);
}

#[test]
fn every_counter_of_every_kind_is_watched() {
    for kind in Kind::ALL {
        for (position, field) in kind.fields().iter().enumerate() {
            let Some(counter) = field.counter else { continue };
            let with = |value, n: u32| {
                let mut reading = sample::reading(kind, n);
                reading.body.set(position, Value::Int(value)).unwrap();
                reading
            };
            let found = against(&[with(2_000_000, 1)], with(1_900_000, 2));
            assert_eq!(found, Some(QualityReason::Reset), "{kind} {}", field.name);
            if let Some(modulus) = counter.modulus {
                // A meter's volume cannot flow within the second between the samples.
                let found = against(&[with(modulus - 1, 1)], with(0, 2));
                assert_eq!(found, Some(QualityReason::Rollover), "{kind} {}", field.name);
            }
        }
    }
}

#[test]
fn a_device_that_changes_its_kind_begins_anew() {
    let lamp = sample::reading(Kind::StreetLight, 1);
    assert_eq!(against(&[lamp], meter(5, HOUR)), None);
}

#[test]
fn what_is_remembered_is_kept_in_these_bytes() {
    let previous = next_previous(None, &meter(0x0102_0304, 0));
    let mut expected = vec![5, 4, 3, 2, 1, 0, 0, 0, 0];
    expected.extend(sample::BASE_MS.to_le_bytes());
    expected.extend(0_i64.to_le_bytes()); // reverse_l
    expected.extend(sample::BASE_MS.to_le_bytes());
    expected.extend(0_i64.to_le_bytes()); // no third counter
    expected.extend((-1_i64).to_le_bytes());
    assert_eq!(previous.to_bytes().to_vec(), expected);
    assert_eq!(Previous::from_bytes(&previous.to_bytes()), Some(previous));
    assert_eq!(Previous::from_bytes(&[0; Previous::BYTES]), None);
}
