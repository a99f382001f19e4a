//! Identifiers that are valid by construction.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A device's International Mobile Equipment Identity: 15 decimal digits of which the last is the
/// Luhn check digit (3GPP TS 23.003 clause 6.2 and annex B).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Imei(u64);

/// Why a text or number is not an [`Imei`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ImeiError {
    /// It has not 15 digits.
    #[error("an IMEI has 15 digits")]
    Length,
    /// It has something else than digits in it.
    #[error("an IMEI has digits only")]
    Digit,
    /// Its last digit is not the check digit of the others.
    #[error("the IMEI's check digit is wrong")]
    CheckDigit,
}

impl Imei {
    /// Takes the number as it is on the wire.
    ///
    /// # Errors
    /// When it has more than 15 digits or a wrong check digit. Leading zeros are allowed, as no
    /// rule of the numbering plan forbids them; zero itself is not an IMEI.
    pub fn new(number: u64) -> Result<Self, ImeiError> {
        if number == 0 || number > 999_999_999_999_999 {
            return Err(ImeiError::Length);
        }
        if Self::check_digit(number / 10) != number % 10 {
            return Err(ImeiError::CheckDigit);
        }
        Ok(Self(number))
    }

    /// Makes an IMEI of its first 14 digits by adding the check digit. Digits beyond the
    /// fourteenth are dropped from the left; zero becomes one.
    #[must_use]
    pub fn from_body(body: u64) -> Self {
        let body = (body % 100_000_000_000_000).max(1);
        Self(body * 10 + Self::check_digit(body))
    }

    /// The number, as on the wire.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Luhn's check digit over the first 14 digits: every second digit from the right doubled,
    /// the digits of all added up, the rest to the next ten.
    fn check_digit(mut body: u64) -> u64 {
        let mut sum = 0;
        let mut double = true;
        while body > 0 {
            let digit = body % 10;
            sum += match (double, digit) {
                (false, d) => d,
                (true, d) if d < 5 => d * 2,
                (true, d) => d * 2 - 9,
            };
            double = !double;
            body /= 10;
        }
        (10 - sum % 10) % 10
    }
}

impl fmt::Display for Imei {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:015}", self.0)
    }
}

impl fmt::Debug for Imei {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Imei({:015})", self.0)
    }
}

impl FromStr for Imei {
    type Err = ImeiError;
    fn from_str(text: &str) -> Result<Self, ImeiError> {
        if text.len() != 15 {
            return Err(ImeiError::Length);
        }
        if !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(ImeiError::Digit);
        }
        Self::new(text.parse().map_err(|_| ImeiError::Digit)?)
    }
}

/// Why a text is not a station or region name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {shown:?} is not 1 to {max} of a-z, 0-9 and -")]
pub struct NameError {
    what: &'static str,
    max: usize,
    /// At most the first 40 characters of what was given.
    shown: String,
}

fn check_name(what: &'static str, text: &str, max: usize) -> Result<(), NameError> {
    let fits = (1..=max).contains(&text.len())
        && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'));
    if fits { Ok(()) } else { Err(NameError { what, max, shown: text.chars().take(40).collect() }) }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $max:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Takes a name that fits.
            ///
            /// # Errors
            /// When it is empty, too long, or has other characters.
            pub fn new(text: &str) -> Result<Self, NameError> {
                check_name($what, text, $max)?;
                Ok(Self(Arc::from(text)))
            }

            /// The name.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name! {
    /// A base station's name, for example `bs0001`: 1 to 32 of `a-z`, `0-9` and `-`. It is also the
    /// station's MQTT client id.
    StationId, "station", crate::limits::STATION_NAME_BYTES
}

name! {
    /// A region's name: 1 to 16 of `a-z`, `0-9` and `-`.
    Region, "region", crate::limits::REGION_NAME_BYTES
}

#[cfg(test)]
mod tests;
