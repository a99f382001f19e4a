//! The kinds of readings.

use std::fmt;

/// What a reading is about: the name of its table, measurement and metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// A parking space.
    Parking = 1,
    /// A street light.
    StreetLight = 2,
    /// A smoke detector.
    Smoke = 3,
    /// An elevator.
    Elevator = 4,
    /// A water meter.
    Water = 5,
    /// A base station's own figures.
    StationStatus = 6,
}

impl Kind {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 6] = [
        Self::Parking,
        Self::StreetLight,
        Self::Smoke,
        Self::Elevator,
        Self::Water,
        Self::StationStatus,
    ];

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Parking => "parking",
            Self::StreetLight => "street_light",
            Self::Smoke => "smoke",
            Self::Elevator => "elevator",
            Self::Water => "water",
            Self::StationStatus => "station_status",
        }
    }

    /// The kind with that word.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }

    /// The number kept in log frames and keys; it never changes meaning.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The kind with that number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.number() == number)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
