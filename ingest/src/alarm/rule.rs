//! The closed list of alarms: what each is called, and how bad it is unless the configuration says
//! otherwise.

use std::fmt;

use loushan_schemas::kind::Kind;

/// How bad an alarm is. The worst is the greatest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Severity {
    /// Somebody should see to it in the next days.
    Minor = 1,
    /// Somebody should see to it today.
    Major = 2,
    /// Somebody must go now.
    Critical = 3,
}

impl Severity {
    /// All of them, the worst first.
    pub const ALL: [Self; 3] = [Self::Critical, Self::Major, Self::Minor];

    /// The words, the worst first.
    pub const WORDS: [&'static str; 3] = ["critical", "major", "minor"];

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Major => "major",
            Self::Minor => "minor",
        }
    }

    /// The severity with that word.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|severity| severity.as_str() == text)
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

macro_rules! rules {
    ($($(#[$doc:meta])* $variant:ident = $number:literal $word:literal $severity:ident $kind:expr;)+) => {
        /// What an alarm is about. The number is what is kept on disk; it never changes meaning.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Rule { $($(#[$doc])* $variant = $number,)+ }

        impl Rule {
            /// All of them, by number.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The word in configuration, topics, metrics and JSON.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// How bad it is unless the configuration says otherwise.
            #[must_use]
            pub const fn severity(self) -> Severity {
                match self { $(Self::$variant => Severity::$severity,)+ }
            }

            /// The only kind of device that can raise it, if there is only one.
            #[must_use]
            pub const fn kind(self) -> Option<Kind> {
                match self { $(Self::$variant => $kind,)+ }
            }
        }
    };
}

rules! {
    /// A smoke detector says ALARM.
    Smoke = 1 "smoke" Critical Some(Kind::Smoke);
    /// A smoke detector was taken off its base.
    SmokeRemoved = 2 "smoke_removed" Major Some(Kind::Smoke);
    /// A smoke detector is broken, or failed its self test.
    SmokeFault = 3 "smoke_fault" Major Some(Kind::Smoke);
    /// A smoke detector says that its battery is low.
    SmokeLowBattery = 4 "smoke_low_battery" Minor Some(Kind::Smoke);
    /// Somebody is trapped in a lift, or it stands between landings with somebody inside.
    Entrapment = 5 "entrapment" Critical Some(Kind::Elevator);
    /// A lift moves with its door open.
    DoorOpenMoving = 6 "door_open_moving" Critical Some(Kind::Elevator);
    /// A lift reports a fault.
    ElevatorFault = 7 "elevator_fault" Major Some(Kind::Elevator);
    /// More flows than the meter is made for: a pipe burst.
    WaterBurst = 8 "water_burst" Major Some(Kind::Water);
    /// Water flows that should not.
    WaterLeak = 9 "water_leak" Major Some(Kind::Water);
    /// Water flows backwards.
    WaterBackflow = 10 "water_backflow" Major Some(Kind::Water);
    /// A lamp is to be lit and draws nothing.
    LampFailure = 11 "lamp_failure" Minor Some(Kind::StreetLight);
    /// A lamp is to be dark and draws power.
    DayBurner = 12 "day_burner" Minor Some(Kind::StreetLight);
    /// A lamp post leans.
    LampTilt = 13 "lamp_tilt" Minor Some(Kind::StreetLight);
    /// A parking sensor or a meter was tampered with.
    Tamper = 14 "tamper" Minor None;
    /// Something lies on a parking sensor.
    Covered = 15 "covered" Minor Some(Kind::Parking);
    /// A battery is nearly empty.
    LowBattery = 16 "low_battery" Minor None;
    /// A device has not been heard for longer than it ever pauses.
    DeviceSilent = 17 "device_silent" Minor None;
    /// A station died, or has not been heard.
    StationOffline = 18 "station_offline" Major None;
}

impl Rule {
    /// The rule with that word.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|rule| rule.as_str() == text)
    }

    /// The number on disk.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The rule with that number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.iter().copied().find(|rule| rule.number() == number)
    }

    /// All words, for messages.
    #[must_use]
    pub fn words() -> String {
        let words: Vec<&str> = Self::ALL.iter().map(|rule| rule.as_str()).collect();
        words.join(", ")
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
