//! What goes wrong at a device itself, and what befalls it: told, switched and counted.
//!
//! *Faults* are the clock, the counter and the power of the device: they can be switched, each by a
//! rate. *Incidents* belong to the physics (a lamp fails, a pipe bursts); they come as the models
//! have them and are counted so that alarms can be compared with what really was.
//!
//! Whoever runs a station reads its [`Counts`]; a count goes up when a device speaks of it, never
//! before.

use std::fmt;

macro_rules! incidents {
    ($($(#[$doc:meta])* $variant:ident = $name:literal),+ $(,)?) => {
        /// What befell a device.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Incident {
            $($(#[$doc])* $variant),+
        }

        impl Incident {
            /// All of them, in the order of their counts.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// Its name in reports.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name),+
                }
            }
        }
    };
}

incidents! {
    /// A reading whose device counts its time from 1970. Of readings.
    ClockUnset = "clock_unset",
    /// A reading whose device sends local time as if it were UTC. Of readings.
    ClockLocal = "clock_local",
    /// A reading whose device's clock runs free and has drifted by more than a second. Of readings.
    ClockDrifted = "clock_drifted",
    /// A counter of 8 or 16 bits began again at 0.
    SeqWrapped = "seq_wrapped",
    /// A device booted again.
    Rebooted = "rebooted",
    /// A battery fell below a tenth.
    BatteryLow = "battery_low",
    /// An empty battery was changed.
    BatteryChanged = "battery_changed",
    /// A parking sensor was covered by leaves, snow or a skip.
    SensorCovered = "sensor_covered",
    /// A parking sensor was moved or opened.
    SensorTampered = "sensor_tampered",
    /// A parking sensor broke.
    SensorBroken = "sensor_broken",
    /// A lamp stayed dark.
    LampFailed = "lamp_failed",
    /// A lamp burned by day.
    DayBurner = "day_burner",
    /// Somebody drove against a pole.
    PoleHit = "pole_hit",
    /// Smoke of somebody's cooking.
    CookingSmoke = "cooking_smoke",
    /// A fire reached a detector.
    Fire = "fire",
    /// A detector was silenced.
    DetectorMuted = "detector_muted",
    /// A detector was taken off its base.
    DetectorRemoved = "detector_removed",
    /// A detector has too much dust in it, or failed its own test.
    DetectorFailed = "detector_failed",
    /// Somebody was trapped in a lift.
    Entrapment = "entrapment",
    /// A lift's doors gave up.
    DoorJammed = "door_jammed",
    /// A lift was maintained.
    LiftMaintained = "lift_maintained",
    /// A pipe began to leak.
    Leak = "leak",
    /// A pipe burst.
    Burst = "burst",
    /// Water began to run backwards.
    Backflow = "backflow",
    /// A meter's total began again at 0.
    MeterRolledOver = "meter_rolled_over",
    /// A meter was changed for a new one.
    MeterSwapped = "meter_swapped",
}

/// How often each incident happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts([u64; Incident::ALL.len()]);

impl Default for Counts {
    fn default() -> Self {
        Self([0; Incident::ALL.len()])
    }
}

impl Counts {
    pub(crate) fn add(&mut self, incident: Incident) {
        if let Some(count) = self.0.get_mut(incident as usize) {
            *count += 1;
        }
    }

    /// How often one happened.
    #[must_use]
    pub fn of(&self, incident: Incident) -> u64 {
        self.0.get(incident as usize).copied().unwrap_or_default()
    }

    /// Adds another station's.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine += theirs;
        }
    }

    /// Those that happened, with their counts.
    pub fn iter(&self) -> impl Iterator<Item = (Incident, u64)> {
        Incident::ALL.iter().copied().zip(self.0).filter(|(_, count)| *count > 0)
    }
}

impl fmt::Display for Counts {
    /// `leak 3, burst 1`, or nothing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (incident, count)) in self.iter().enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            write!(f, "{comma}{} {count}", incident.name())?;
        }
        Ok(())
    }
}

/// Which devices are faulty, and how far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceFaultRates {
    /// Devices whose clock was never set and counts from 1970, in a million.
    pub clock_unset: u32,
    /// Devices that send local time (UTC+8) as if it were UTC, in a million.
    pub clock_local: u32,
    /// How fast or slow a clock runs at most, in parts per million; each device has its own drift
    /// and is set right by the network about once a day.
    pub drift_ppm: u32,
    /// Devices that count in 8 bits, in a million.
    pub seq_8: u32,
    /// Devices that count in 16 bits, in a million.
    pub seq_16: u32,
    /// Reboots of a device within a day, in a million.
    pub reboot: u32,
}

impl Default for DeviceFaultRates {
    /// An honest fleet: its clocks drift as crystals do, a device boots about once a year, and
    /// nothing else is wrong.
    fn default() -> Self {
        Self { drift_ppm: 20, reboot: 3000, ..Self::NONE }
    }
}

impl DeviceFaultRates {
    /// Nothing goes wrong.
    pub const NONE: Self =
        Self { clock_unset: 0, clock_local: 0, drift_ppm: 0, seq_8: 0, seq_16: 0, reboot: 0 };
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn counts_are_kept_apart_and_told_by_name() {
        let mut counts = Counts::default();
        assert_eq!(counts.to_string(), "");
        for incident in [Incident::Leak, Incident::Leak, Incident::ClockUnset] {
            counts.add(incident);
        }
        let mut sum = Counts::default();
        sum.merge(&counts);
        sum.merge(&counts);
        assert_eq!(sum.to_string(), "clock_unset 2, leak 4");
        assert_eq!((sum.of(Incident::Leak), sum.of(Incident::Burst)), (4, 0));
        let names: BTreeSet<_> = Incident::ALL.iter().map(|i| i.name()).collect();
        assert_eq!(names.len(), Incident::ALL.len());
    }
}
