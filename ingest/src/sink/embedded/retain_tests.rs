#![allow(clippy::unwrap_used)]

use super::*;

const DAY0: i64 = 20_000;

fn file(id: u64, table: Table, day: i64, bytes: u64) -> Arc<FileEntry> {
    let entry = FileEntry::new(id, table, day);
    Arc::new(FileEntry { bytes, rows: 10, max_ms: (day + 1) * DAY_MS - 1, ..entry })
}

/// Ten days of two kinds, 100 bytes a day and table.
fn contents() -> Contents {
    let tables = [Table::Readings(Kind::Water), Table::WaterInterval, Table::Readings(Kind::Smoke)];
    let places = (0..10).flat_map(|day| tables.map(|table| (DAY0 + day, table)));
    let files = places.zip(1..).map(|((day, table), id)| (id, file(id, table, day, 100)));
    Contents { files: files.collect(), ..Contents::default() }
}

/// Noon of the last day.
const NOW: i64 = (DAY0 + 9) * DAY_MS + DAY_MS / 2;

fn days(age: u64) -> Option<Duration> {
    Some(Duration::from_secs(age * 24 * 3600))
}

fn config(kinds: &[(Kind, Option<Duration>, Option<u64>)], bytes: Option<u64>) -> RetentionConfig {
    let kinds =
        kinds.iter().map(|(kind, age, bytes)| (*kind, KindRetention { age: *age, bytes: *bytes }));
    RetentionConfig { bytes, kinds: kinds.collect() }
}

fn gone(contents: &Contents, config: &RetentionConfig, now: i64) -> Vec<(Kind, i64, Expired)> {
    let date = |text: &str| text.parse::<chrono::NaiveDate>().unwrap();
    let day = |text| date(text).signed_duration_since(chrono::NaiveDate::default()).num_days();
    let removals = plan(contents, config, now);
    removals.iter().map(|gone| (gone.kind, day(&gone.date) - DAY0, gone.why)).collect()
}

#[test]
fn days_go_when_they_ended_longer_ago_than_their_kind_is_kept() {
    let config = config(&[(Kind::Water, days(7), None)], None);
    let removals = plan(&contents(), &config, NOW);
    assert_eq!(
        gone(&contents(), &config, NOW),
        [(Kind::Water, 0, Expired::Age), (Kind::Water, 1, Expired::Age),]
    );
    assert_eq!((removals[0].rows, removals[0].bytes), (10, 200), "intervals go along, uncounted");
    assert_eq!(removals[0].ids, [1, 2]);
    // Noon to noon: a day later one more has ended long enough ago.
    assert_eq!(gone(&contents(), &config, NOW + DAY_MS / 2 - 1).len(), 2);
}

#[test]
fn the_oldest_days_go_until_the_rest_is_within_its_bytes() {
    let by_kind = config(&[(Kind::Smoke, None, Some(799))], None);
    let smoke: Vec<_> = (0..3).map(|day| (Kind::Smoke, day, Expired::KindBytes)).collect();
    assert_eq!(gone(&contents(), &by_kind, NOW), smoke);
    let total = config(&[], Some(2400));
    assert_eq!(
        gone(&contents(), &total, NOW),
        [
            (Kind::Smoke, 0, Expired::TotalBytes),
            (Kind::Water, 0, Expired::TotalBytes),
            (Kind::Smoke, 1, Expired::TotalBytes),
            (Kind::Water, 1, Expired::TotalBytes),
        ]
    );
    // What one limit takes away the others need not.
    let both = config(&[(Kind::Smoke, None, Some(799))], Some(2700));
    assert_eq!(gone(&contents(), &both, NOW), smoke);
}

#[test]
fn a_day_that_is_not_over_stays_whatever_its_bytes() {
    let none = config(&[(Kind::Water, days(1), Some(0)), (Kind::Smoke, None, Some(0))], Some(0));
    let removed = gone(&contents(), &none, NOW);
    assert_eq!(removed.len(), 18);
    assert!(removed.iter().all(|(_, day, _)| *day < 9));
}

#[test]
fn a_clock_that_is_years_ahead_removes_nothing_more_than_a_day_after_the_newest_reading() {
    let config = config(&[(Kind::Water, days(7), None), (Kind::Smoke, days(7), None)], None);
    let ahead = gone(&contents(), &config, NOW + 3650 * DAY_MS);
    assert_eq!(ahead.iter().map(|(_, day, _)| *day).max(), Some(2));
    let behind = gone(&contents(), &config, NOW - 3650 * DAY_MS);
    assert_eq!(behind, []);
}

#[test]
fn without_limits_everything_stays() {
    assert!(RetentionConfig::default().is_none());
    assert_eq!(gone(&contents(), &RetentionConfig::default(), NOW), []);
    assert!(config(&[(Kind::Water, None, None)], None).is_none());
    assert!(!config(&[(Kind::Water, None, Some(1))], None).is_none());
}
