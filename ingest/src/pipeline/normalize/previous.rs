//! Counters against what the same device counted before.
//!
//! Only forward in time: what arrives late is neither compared nor remembered, so that a replay can
//! neither hide nor fake a reset. A negative difference is never made anything of: it is a rollover
//! or a reset, and says so.

use loushan_schemas::kind::Kind;
use loushan_schemas::limits::{WATER_MODULUS_L, WATER_Q4_L_H};
use loushan_schemas::quality::{Quality, QualityReason};
use loushan_schemas::reading::{Body, Reading};

use super::lower;

/// Counters a kind has at most: an elevator's and a station's three.
const COUNTERS: usize = 3;
/// Part of the modulus, at its end, from which a counter may have turned over.
const ROLLOVER_ZONE: i64 = 100;
/// Litres a meter may show more than flowed: the coarsest register counts in tens.
const REGISTER_STEP_L: i64 = 10;
/// Milliseconds of an hour.
const HOUR_MS: i128 = 3_600_000;

/// A counter as last seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    value: i64,
    /// Effective time of the reading it was in; negative: never seen.
    at_ms: i64,
}

impl Seen {
    const NEVER: Self = Self { value: 0, at_ms: -1 };
}

/// What is kept of a device's earlier readings: its counters and when they were read. One for each
/// device is held in memory and in the pipeline's snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Previous {
    kind: Kind,
    /// In the order of the kind's counter fields, to which new ones are only added at the end.
    counters: [Seen; COUNTERS],
}

impl Previous {
    /// Bytes of [`Previous::to_bytes`].
    pub const BYTES: usize = 1 + COUNTERS * 16;

    /// As it is kept in a snapshot: the kind's number, then each counter's value and time, little
    /// endian.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let numbers = self.counters.iter().flat_map(|c| [c.value, c.at_ms]);
        let numbers = numbers.flat_map(i64::to_le_bytes);
        let all = std::iter::once(self.kind.number()).chain(numbers);
        for (to, from) in bytes.iter_mut().zip(all) {
            *to = from;
        }
        bytes
    }

    /// Reads what [`Previous::to_bytes`] made; `None` for a kind this build does not know.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; Self::BYTES]) -> Option<Self> {
        let (kind, mut rest) = bytes.split_first()?;
        let mut counters = [Seen::NEVER; COUNTERS];
        for counter in &mut counters {
            let (value, after) = rest.split_first_chunk()?;
            let (at_ms, after) = after.split_first_chunk()?;
            *counter =
                Seen { value: i64::from_le_bytes(*value), at_ms: i64::from_le_bytes(*at_ms) };
            rest = after;
        }
        Some(Self { kind: Kind::from_number(*kind)?, counters })
    }
}

/// A kind's counters, in a fixed order; one whose value is impossible counts nothing.
fn counters(body: &Body) -> [Option<i64>; COUNTERS] {
    let counters = match body {
        Body::Parking(b) => [b.change_count, None, None],
        Body::StreetLight(b) => [b.energy_wh, b.on_hours, None],
        Body::Smoke(b) => [b.alarm_count, None, None],
        Body::Elevator(b) => [b.trips, b.door_cycles, b.run_hours],
        Body::Water(b) => [b.total_l, b.reverse_l, None],
        Body::StationStatus(b) => [b.nprach_attempts, b.nprach_collisions, b.dropped],
    };
    let modulus = modulus(body.kind()).unwrap_or(i64::MAX);
    counters.map(|counter| counter.filter(|value| (0..modulus).contains(value)))
}

/// Where the kind's counters turn over, if that is known.
const fn modulus(kind: Kind) -> Option<i64> {
    match kind {
        Kind::Water => Some(WATER_MODULUS_L),
        _ => None,
    }
}

/// Lowers the quality of a reading whose counters fell (`rollover` within 1 % of the modulus, else
/// `reset`) or, of a water meter, rose faster than water can flow (`step`).
pub fn check_against_previous(previous: Option<&Previous>, reading: &mut Reading) {
    let Some(previous) = previous.filter(|p| p.kind == reading.kind()) else { return };
    let at_ms = reading.times.effective.ms();
    let modulus = modulus(previous.kind);
    for (index, (seen, value)) in previous.counters.iter().zip(counters(&reading.body)).enumerate()
    {
        let Some(value) = value else { continue };
        if seen.at_ms < 0 || at_ms <= seen.at_ms {
            continue;
        }
        let turned = modulus.filter(|m| seen.value >= m - m / ROLLOVER_ZONE);
        let risen = match (value < seen.value, turned) {
            (false, _) => value - seen.value,
            (true, Some(modulus)) => {
                lower(reading, Quality::Suspicious, QualityReason::Rollover);
                modulus - seen.value + value
            }
            (true, None) => {
                lower(reading, Quality::Suspicious, QualityReason::Reset);
                continue;
            }
        };
        let is_volume = previous.kind == Kind::Water && index == 0;
        if is_volume && outruns_pipe(risen, at_ms - seen.at_ms) {
            lower(reading, Quality::Suspicious, QualityReason::Step);
        }
    }
}

/// Whether so many litres are more than can have passed in the time.
fn outruns_pipe(litres: i64, ms: i64) -> bool {
    i128::from(litres - REGISTER_STEP_L) * HOUR_MS > i128::from(WATER_Q4_L_H) * i128::from(ms)
}

/// What to remember once the reading is accepted. A device that turns out to be of another kind
/// begins anew.
#[must_use]
pub fn next_previous(previous: Option<Previous>, reading: &Reading) -> Previous {
    let kind = reading.kind();
    let mut next = previous
        .filter(|p| p.kind == kind)
        .unwrap_or(Previous { kind, counters: [Seen::NEVER; COUNTERS] });
    let at_ms = reading.times.effective.ms();
    for (seen, value) in next.counters.iter_mut().zip(counters(&reading.body)) {
        if let Some(value) = value
            && at_ms >= seen.at_ms
        {
            *seen = Seen { value, at_ms };
        }
    }
    next
}
