//! Sizes and durations as people write them: `64MiB`, `30s`.

use std::time::Duration;

/// Units of size, greatest first, so that writing takes the first that divides.
const SIZES: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// Reads a size: a whole number and one of B, KiB, MiB, GiB. Decimal units are left out on purpose:
/// whoever writes `64MB` learns what is accepted instead of getting either of two meanings.
#[must_use]
pub fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let (_, factor) = SIZES.iter().find(|(name, _)| *name == unit.trim_start())?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// Writes a size so that [`parse_size`] reads the same number.
#[must_use]
pub fn show_size(bytes: u64) -> String {
    let unit = SIZES.iter().find(|(_, factor)| bytes.is_multiple_of(*factor) && bytes >= *factor);
    let (name, factor) = unit.unwrap_or(&("B", 1));
    format!("{}{name}", bytes / factor)
}

/// Reads a duration such as `250ms`, `30s`, `15m` or `1h 30m`. A bare number has no unit and is
/// refused.
#[must_use]
pub fn parse_duration(text: &str) -> Option<Duration> {
    humantime::parse_duration(text.trim()).ok()
}

/// Writes a duration so that [`parse_duration`] reads the same one.
#[must_use]
pub fn show_duration(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}
