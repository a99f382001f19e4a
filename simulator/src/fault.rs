//! What goes wrong on purpose on the way from a device to the server, how often and when.
//!
//! | what | faults | drawn | seen by the ledger as |
//! |---|---|---|---|
//! | readings | duplicate, reorder | by the station's stream, in simulated time | the same reading again; nothing |
//! | batches | republish | the same | *sent again* |
//! | payloads | corrupt, truncated, oversized, newer-schema, wrong-station | by a stream of their own, in simulated time | a batch without readings |
//! | sessions | vanish, disconnect, half-open, stall | by the session's stream, by the wall clock | *sent again*, for what was unacknowledged |
//! | uplink | outage | by a stream of its own, in simulated time | batches of the replay channel |
//!
//! What is drawn in simulated time is the same for the same seed and start. A spoiled payload is always a
//! further publish, beside the batch that it was made of: a fault never takes a reading away, so the
//! audit of a run with faults asks for exactly what one without them asks for.

use std::fmt;
use std::time::Duration;

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A reading that its station forwards twice, the second time in a later batch (the device
    /// repeated itself because the network's answer was lost).
    Duplicate,
    /// A reading that is stuck at the station and overtaken by later ones.
    Reorder,
    /// A batch that is published again, byte for byte, after it was acknowledged or not.
    Republish,
    /// A batch's copy whose first bytes are no message.
    Corrupt,
    /// A batch's copy that ends within its last reading.
    Truncated,
    /// A batch's copy of more bytes than a payload may have.
    Oversized,
    /// A batch's copy in a schema generation that does not exist yet.
    NewerSchema,
    /// A batch's copy that names another station than its topic.
    WrongStation,
    /// The connection ends without a DISCONNECT, and the station comes back at once.
    Vanish,
    /// The station says DISCONNECT, with batches unacknowledged, and comes back at once.
    Disconnect,
    /// The station comes back on a new connection while the old one stays open and silent.
    HalfOpen,
    /// The station takes nothing from its socket for a while: a slow consumer.
    Stall,
    /// The uplink is gone for a while; what was heard meanwhile is replayed in a burst.
    Outage,
}

impl Fault {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 13] = [
        Self::Duplicate,
        Self::Reorder,
        Self::Republish,
        Self::Corrupt,
        Self::Truncated,
        Self::Oversized,
        Self::NewerSchema,
        Self::WrongStation,
        Self::Vanish,
        Self::Disconnect,
        Self::HalfOpen,
        Self::Stall,
        Self::Outage,
    ];
    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();
    /// Those that spoil a payload.
    pub(crate) const PAYLOAD: [Self; 5] =
        [Self::Corrupt, Self::Truncated, Self::Oversized, Self::NewerSchema, Self::WrongStation];
    /// Those that happen to a session.
    pub(crate) const SESSION: [Self; 4] =
        [Self::Vanish, Self::Disconnect, Self::HalfOpen, Self::Stall];

    /// Its name, as a key of a scenario and in reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Duplicate => "duplicate",
            Self::Reorder => "reorder",
            Self::Republish => "republish",
            Self::Corrupt => "corrupt",
            Self::Truncated => "truncated",
            Self::Oversized => "oversized",
            Self::NewerSchema => "newer_schema",
            Self::WrongStation => "wrong_station",
            Self::Vanish => "vanish",
            Self::Disconnect => "disconnect",
            Self::HalfOpen => "half_open",
            Self::Stall => "stall",
            Self::Outage => "outage",
        }
    }

    /// What it does, in a line.
    #[must_use]
    pub const fn about(self) -> &'static str {
        match self {
            Self::Duplicate => "Readings forwarded twice, in two batches",
            Self::Reorder => "Readings overtaken by later ones",
            Self::Republish => "Batches published again, byte for byte",
            Self::Corrupt => "Batches of which a copy that is no message is published too",
            Self::Truncated => "Batches of which a copy without its end is published too",
            Self::Oversized => "Batches of which a copy larger than allowed is published too",
            Self::NewerSchema => "Batches of which a copy in a future schema is published too",
            Self::WrongStation => "Batches of which a copy in another's name is published too",
            Self::Vanish => "Connections that end without DISCONNECT",
            Self::Disconnect => "Connections that are given up by DISCONNECT, batches unanswered",
            Self::HalfOpen => "Connections left open and silent while a new one takes over",
            Self::Stall => "Times in which a station takes nothing from its socket",
            Self::Outage => "Times without uplink, after which all is replayed at once",
        }
    }

    /// Whether it is given as so many a minute, rather than as a share.
    #[must_use]
    pub const fn per_minute(self) -> bool {
        matches!(
            self,
            Self::Vanish | Self::Disconnect | Self::HalfOpen | Self::Stall | Self::Outage
        )
    }

    /// How long it lasts where nothing else is said; zero where it does not last.
    pub(crate) const fn usual(self) -> Duration {
        match self {
            // Longer than a keep alive and a half is what makes a server end it.
            Self::HalfOpen => Duration::from_secs(60),
            Self::Stall => Duration::from_secs(5),
            Self::Outage => Duration::from_secs(30),
            _ => Duration::ZERO,
        }
    }
}

/// How often a fault happens, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chance {
    /// In a million: of readings or batches, or for a fault that is given by the minute, of minutes of a
    /// station. 0: never.
    pub per_million: u32,
    /// How long it lasts, by the wall clock, where it lasts.
    pub lasts: Duration,
    /// Since when in the run, by the wall clock.
    pub from: Duration,
    /// Until when.
    pub until: Duration,
}

impl Chance {
    /// So often, in a million, throughout the run.
    #[must_use]
    pub const fn of(fault: Fault, per_million: u32) -> Self {
        Self { per_million, lasts: fault.usual(), from: Duration::ZERO, until: Duration::MAX }
    }

    /// Whether it may happen at a moment of the run.
    pub(crate) fn at(&self, elapsed: Duration) -> bool {
        self.per_million > 0 && (self.from..self.until).contains(&elapsed)
    }

    /// `1%`, `0.2/min for 30s from 10s until 2min`: see `docs/simulator.md`.
    ///
    /// # Errors
    /// With what to give instead.
    pub fn parse(fault: Fault, text: &str) -> Result<Self, String> {
        let unit = if fault.per_minute() { "/min" } else { "%" };
        let example = if fault.per_minute() { "0.5/min" } else { "1%" };
        let wanted = || {
            format!(
                "give how often, such as {example}, then if wanted `for 10s` (where it lasts), \
                 `from 10s`, `until 30s`"
            )
        };
        let mut words = text.split_whitespace();
        let often = words.next().ok_or_else(wanted)?;
        let number = match often {
            "0" => 0.0,
            often => often
                .strip_suffix(unit)
                .and_then(|number| number.parse::<f64>().ok())
                .ok_or_else(wanted)?,
        };
        let scale = if fault.per_minute() { 1e6 } else { 1e4 };
        let most = if fault.per_minute() { 600.0 } else { 100.0 };
        if !(0.0..=most).contains(&number) {
            return Err(format!("give 0{unit} to {most}{unit}"));
        }
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // bounded just now
        let mut chance = Self::of(fault, (number * scale).round() as u32);
        while let Some(word) = words.next() {
            let value = words.next().ok_or_else(wanted)?;
            let value = humantime::parse_duration(value).map_err(|_| wanted())?;
            match word {
                "for" if !chance.lasts.is_zero() => chance.lasts = value,
                "from" => chance.from = value,
                "until" => chance.until = value,
                _ => return Err(wanted()),
            }
        }
        if chance.from >= chance.until {
            return Err("it ends before it begins; give a later `until`".to_owned());
        }
        Ok(chance)
    }
}

impl fmt::Display for Chance {
    /// Without its unit, which the fault knows.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in a million", self.per_million)?;
        if self.from > Duration::ZERO || self.until < Duration::MAX {
            write!(f, " from {}", humantime::format_duration(self.from))?;
        }
        if self.until < Duration::MAX {
            write!(f, " until {}", humantime::format_duration(self.until))?;
        }
        Ok(())
    }
}

/// What goes wrong, and how often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FaultRates {
    /// [`Fault::Duplicate`], of a million readings.
    pub duplicate: u32,
    /// [`Fault::Reorder`], of a million readings.
    pub reorder: u32,
    /// [`Fault::Republish`], of a million batches.
    pub republish: u32,
    /// The others, and the windows of all: what is said here of the first three is a window only.
    pub others: [Chance; Fault::COUNT],
}

impl Default for FaultRates {
    /// Networks of this kind show 0.5 to 2 % of duplicates.
    fn default() -> Self {
        Self { duplicate: 10_000, reorder: 5_000, republish: 5_000, ..Self::NONE }
    }
}

impl FaultRates {
    /// Nothing goes wrong.
    pub const NONE: Self = {
        let mut others = [Chance::of(Fault::Duplicate, 0); Fault::COUNT];
        let mut n = 0;
        while n < Fault::COUNT {
            others[n] = Chance::of(Fault::ALL[n], 0);
            n += 1;
        }
        Self { duplicate: 0, reorder: 0, republish: 0, others }
    };

    /// How often, and when.
    #[must_use]
    pub fn chance(&self, fault: Fault) -> Chance {
        let chance = self.others.get(fault as usize).copied();
        let chance = chance.unwrap_or(Chance::of(fault, 0));
        let per_million = match fault {
            Fault::Duplicate => self.duplicate,
            Fault::Reorder => self.reorder,
            Fault::Republish => self.republish,
            _ => chance.per_million,
        };
        Chance { per_million, ..chance }
    }

    /// Whether what is drawn in simulated time depends on the wall clock's pace.
    pub(crate) fn in_windows(&self) -> bool {
        Fault::ALL.into_iter().map(|fault| (fault, self.chance(fault))).any(|(fault, chance)| {
            let usual = Chance::of(fault, chance.per_million);
            chance.per_million > 0 && (fault == Fault::Outage || chance != usual)
        })
    }

    /// Sets how often, and when.
    pub fn set(&mut self, fault: Fault, chance: Chance) {
        match fault {
            Fault::Duplicate => self.duplicate = chance.per_million,
            Fault::Reorder => self.reorder = chance.per_million,
            Fault::Republish => self.republish = chance.per_million,
            _ => {}
        }
        if let Some(place) = self.others.get_mut(fault as usize) {
            *place = chance;
        }
    }
}

/// How often each fault was done.
pub(crate) type FaultCounts = [u32; Fault::COUNT];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_chance_is_written_with_its_unit_its_length_and_its_window() {
        let chance = Chance::parse(Fault::Outage, "0.2/min for 20s from 10s until 2min").unwrap();
        let seconds = Duration::from_secs;
        let expected = Chance {
            per_million: 200_000,
            lasts: seconds(20),
            from: seconds(10),
            until: seconds(120),
        };
        assert_eq!(chance, expected);
        assert!(!chance.at(seconds(9)) && chance.at(seconds(10)) && !chance.at(seconds(120)));
        let share = Chance::parse(Fault::Corrupt, "0.25%").unwrap();
        assert_eq!(share, Chance::of(Fault::Corrupt, 2_500));
        assert!(!Chance::parse(Fault::Corrupt, "0").unwrap().at(seconds(1)));
        for wrong in
            ["", "1", "1/min", "101%", "-1%", "1% for 3s", "1% from", "1% from 5s until 4s"]
        {
            let error = Chance::parse(Fault::Corrupt, wrong).unwrap_err();
            assert!(error.contains("give"), "{wrong}: {error}");
        }
        assert!(Chance::parse(Fault::Vanish, "1%").is_err());
    }

    #[test]
    fn every_fault_is_found_where_it_was_set() {
        for (number, fault) in Fault::ALL.into_iter().enumerate() {
            assert_eq!(fault as usize, number);
            let mut rates = FaultRates::default();
            rates.set(fault, Chance::of(fault, 77));
            assert_eq!(rates.chance(fault), Chance::of(fault, 77));
            let others = Fault::ALL.into_iter().filter(|other| *other != fault);
            let before = FaultRates::default();
            others.for_each(|other| assert_eq!(rates.chance(other), before.chance(other)));
        }
    }
}
