//! Zunyi: its clock, its sun, its hours. Times are Unix milliseconds, simulated.

use chrono::{DateTime, NaiveDate};
use sunrise::{Coordinates, SolarDay, SolarEvent};

pub(crate) const SECOND: i64 = 1000;
pub(crate) const MINUTE: i64 = 60 * SECOND;
pub(crate) const HOUR: i64 = 60 * MINUTE;
pub(crate) const DAY: i64 = 24 * HOUR;

/// When the pilot began: 2024-01-01 UTC. What devices counted before a run, they counted since then,
/// so that the next run goes on above the last one.
const PILOT: i64 = 1_704_067_200_000;

/// Milliseconds of the pilot before a moment; none before it began.
pub(crate) const fn in_service(ms: i64) -> i64 {
    if ms > PILOT { ms - PILOT } else { 0 }
}

/// China has one time zone, UTC+8.
const ZONE: i64 = 8 * HOUR;

/// The city's middle.
pub(crate) const LATITUDE: f64 = 27.7;
/// The city's middle.
pub(crate) const LONGITUDE: f64 = 106.9;

/// Days since 1970-01-01 by the city's clock.
pub(crate) const fn local_day(ms: i64) -> i64 {
    (ms + ZONE).div_euclid(DAY)
}

/// When a local day begins.
pub(crate) const fn day_start(local_day: i64) -> i64 {
    local_day * DAY - ZONE
}

/// The hour of the day by the city's clock, 0..=23.
pub(crate) const fn local_hour(ms: i64) -> usize {
    ((ms + ZONE).rem_euclid(DAY) / HOUR) as usize
}

/// The value of a day curve at an hour.
pub(crate) fn by_hour(curve: &[i64; 24], ms: i64) -> i64 {
    curve.get(local_hour(ms)).copied().unwrap_or_default()
}

/// Sunrise and sunset of a local day.
pub(crate) fn sun(local_day: i64) -> (i64, i64) {
    // Days outside the calendar do not come up: runs start between 1970 and 2106.
    let date = i32::try_from(local_day)
        .ok()
        .and_then(NaiveDate::from_epoch_days)
        .unwrap_or(NaiveDate::MIN);
    let event = |event, fallback| {
        Coordinates::new(LATITUDE, LONGITUDE)
            .and_then(|place| SolarDay::new(place, date).event_time(event))
            .map_or(day_start(local_day) + fallback, |t: DateTime<_>| t.timestamp_millis())
    };
    // The fallbacks would be the equator's hours; at this latitude the sun rises every day.
    (event(SolarEvent::Sunrise, 6 * HOUR), event(SolarEvent::Sunset, 18 * HOUR))
}

/// Outdoor temperature in tenths of a degree: a year's and a day's wave (coldest in mid January
/// and at five in the morning), without weather.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
pub(crate) fn outdoor_dc(ms: i64) -> i64 {
    let wave = |period: i64, coldest: i64| {
        let phase = (ms + ZONE - coldest).rem_euclid(period) as f64 / period as f64;
        -libm::cos(std::f64::consts::TAU * phase)
    };
    let year = wave(36_525 * DAY / 100, 15 * DAY);
    let day = wave(DAY, 5 * HOUR);
    libm::round(155.0 + 105.0 * year + 35.0 * day) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sun_rises_and_sets_over_zunyi_when_the_almanac_says() {
        // 2026-06-21: sunrise about 06:00, sunset about 19:50 by Beijing time.
        let day = local_day(1_782_000_000_000);
        let (rise, set) = sun(day);
        let minute = |t: i64| (t - day_start(day)) / MINUTE;
        assert!((350..370).contains(&minute(rise)), "{}", minute(rise));
        assert!((1180..1205).contains(&minute(set)), "{}", minute(set));
    }

    #[test]
    fn summer_afternoons_are_warmer_than_winter_mornings() {
        let july = 1_784_000_000_000;
        let noon = day_start(local_day(july)) + 16 * HOUR;
        assert!(outdoor_dc(noon) > 230);
        assert!(outdoor_dc(day_start(local_day(1_768_500_000_000)) + 5 * HOUR) < 60);
    }
}
