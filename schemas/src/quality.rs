//! How far a stored reading can be trusted.

/// Quality of a stored reading, as LwM2M resource 6042 counts it. The worst value of a reading
/// gives the reading its quality.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Quality {
    /// Outside what is physically possible.
    Rejected = 1,
    /// Most likely wrong.
    RejectedProbable = 2,
    /// Possible, not plausible.
    Suspicious = 3,
    /// Nothing speaks against it.
    Accepted = 4,
}

impl Quality {
    /// The number that is stored.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The quality with that number.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Rejected,
            2 => Self::RejectedProbable,
            3 => Self::Suspicious,
            4 => Self::Accepted,
            _ => return None,
        })
    }
}

macro_rules! closed_list {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $number:literal $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum $name { $($(#[$vdoc])* $variant = $number,)+ }

        impl $name {
            /// All of them, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The word used in metrics, JSON, columns and the console alike.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            /// The number kept in log frames; it never changes meaning.
            #[must_use]
            pub const fn number(self) -> u8 {
                self as u8
            }

            /// The entry with that number.
            #[must_use]
            pub const fn from_number(number: u8) -> Option<Self> {
                Some(match number { $($number => Self::$variant,)+ _ => return None })
            }

            /// The entry with that word.
            #[must_use]
            pub fn from_text(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|entry| entry.as_str() == text)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
pub(crate) use closed_list;

closed_list! {
    /// Why a reading's quality is below [`Quality::Accepted`] (LwM2M 509 and our own).
    QualityReason {
        /// A value lies below its range.
        UnderRange = 1 "under_range",
        /// A value lies above its range.
        OverRange = 2 "over_range",
        /// A value that should move has not.
        Stuck = 3 "stuck",
        /// A value moved farther than it can in the time.
        Step = 4 "step",
        /// The sensor says it is warming up.
        WarmingUp = 5 "warming_up",
        /// The sensor is dirty.
        Contamination = 6 "contamination",
        /// The device reports a fault of its own.
        Hardware = 7 "hardware",
        /// The device's time was not usable; the station's or ours was taken.
        ClockSkew = 8 "clock_skew",
        /// A counter turned over at its modulus.
        Rollover = 9 "rollover",
        /// A counter fell: reset, or the meter was swapped.
        Reset = 10 "reset",
        /// An enum value this build does not know; its number is kept.
        UnknownEnum = 11 "unknown_enum",
        /// Two values contradict each other.
        CrossField = 12 "cross_field",
    }
}
