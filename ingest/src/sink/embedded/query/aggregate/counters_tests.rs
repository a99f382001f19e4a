use super::*;

const HOUR: i64 = 3_600_000;
const WATER: Rules = Rules { modulus: Some(WATER_MODULUS_L), is_volume: true };
const PLAIN: Rules = Rules { modulus: None, is_volume: false };

/// What is counted of values an hour apart: from which hour to which, and how much.
fn counted(rules: Rules, values: &[i64]) -> Vec<(i64, i64, i64)> {
    let at = (0..).map(|hour| hour * HOUR);
    let points =
        at.zip(values).map(|(at_ms, value)| Point { at_ms, lsn: 1, value: *value, station: 0 });
    increases(&mut points.collect(), rules)
        .iter()
        .map(|i| (i.from_ms / HOUR, i.to_ms / HOUR, i.by))
        .collect()
}

#[test]
fn what_rose_was_counted() {
    assert_eq!(counted(PLAIN, &[5, 5, 9]), [(0, 1, 0), (1, 2, 4)]);
    assert_eq!(counted(PLAIN, &[5]), []);
    assert_eq!(counted(PLAIN, &[]), []);
}

#[test]
fn a_counter_that_turns_over_goes_on_counting() {
    let most = WATER_MODULUS_L;
    assert_eq!(counted(WATER, &[most - 30, 20, 25]), [(0, 1, 50), (1, 2, 5)]);
}

#[test]
fn a_reset_counts_nothing_and_neither_does_another_meter() {
    assert_eq!(counted(PLAIN, &[500, 3, 4]), [(1, 2, 1)]);
    // Not near its end: no rollover.
    assert_eq!(counted(WATER, &[900_000, 20, 30]), [(1, 2, 10)]);
    // A meter that shows more: more than the pipe lets through in an hour.
    assert_eq!(counted(WATER, &[100, 700_000, 700_010]), [(1, 2, 10)]);
    // Near its end, but what would have passed cannot have.
    assert_eq!(counted(WATER, &[WATER_MODULUS_L - 10, 5_000_000]), []);
}

#[test]
fn values_that_cannot_be_are_passed_over() {
    assert_eq!(counted(WATER, &[100, -4, 120]), [(0, 2, 20)]);
    assert_eq!(counted(WATER, &[100, WATER_MODULUS_L, 120]), [(0, 2, 20)]);
}

#[test]
fn of_one_moment_the_last_word_stands_and_order_of_arrival_does_not_matter() {
    let point = |at_ms, lsn, value| Point { at_ms, lsn, value, station: 0 };
    let mut points =
        vec![point(HOUR, 9, 8), point(0, 4, 1), point(HOUR, 7, 5), point(2 * HOUR, 2, 10)];
    let found = increases(&mut points, PLAIN);
    assert_eq!(found.iter().map(|i| i.by).collect::<Vec<_>>(), [7, 2]);
}

#[test]
fn devices_that_do_not_fit_are_left_to_another_pass() {
    let share = 20 * size_of::<Point>();
    let mut series = Series::of(share);
    let point = |value| Point { at_ms: value, lsn: 0, value, station: 0 };
    for value in 0..6 {
        for device in [7, 3, 5] {
            assert!(series.put(device, point(value)));
        }
    }
    assert_eq!(series.end, 7);
    assert_eq!(series.points.keys().copied().collect::<Vec<_>>(), [3, 5]);
    assert!(series.points.values().all(|points| points.len() == 6));
    assert!(series.bytes <= share);
    // One device alone must fit.
    assert!(!(6..30).all(|value| series.put(3, point(value))));
    assert_eq!((series.end, series.points.len()), (5, 1));
}
