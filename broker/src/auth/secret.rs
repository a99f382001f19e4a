//! A token that whoever has it may act by: 256 random bits, as text.

use std::fmt;

use ring::hmac;
use ring::rand::{SecureRandom as _, SystemRandom};

use super::password::NoSecrets;

/// Bytes of randomness.
const BYTES: usize = 32;

/// See the module. It is compared in constant time and never shown.
#[derive(Clone)]
pub struct BearerToken {
    text: String,
    /// Comparing MACs under a key that nobody knows tells nothing by its duration, not even a length.
    key: hmac::Key,
    mac: hmac::Tag,
}

impl fmt::Debug for BearerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BearerToken(…)")
    }
}

impl BearerToken {
    /// A new one.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn draw() -> Result<Self, NoSecrets> {
        let mut bytes = [0; BYTES];
        SystemRandom::new().fill(&mut bytes).map_err(|_| NoSecrets)?;
        let text = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        Self::of(text)
    }

    /// The one of this text; `None` if it is not one that was drawn: 64 hexadecimal digits.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn parse(text: &str) -> Result<Option<Self>, NoSecrets> {
        let drawn = text.len() == 2 * BYTES && text.bytes().all(|b| b.is_ascii_hexdigit());
        if drawn { Self::of(text.to_owned()).map(Some) } else { Ok(None) }
    }

    fn of(text: String) -> Result<Self, NoSecrets> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new());
        let key = key.map_err(|_| NoSecrets)?;
        let mac = hmac::sign(&key, text.as_bytes());
        Ok(Self { text, key, mac })
    }

    /// The text, for the one file that it is kept in.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.text
    }

    /// Whether it is this text.
    #[must_use]
    pub fn is(&self, text: &str) -> bool {
        hmac::verify(&self.key, text.as_bytes(), self.mac.as_ref()).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_itself_and_no_other_and_is_not_shown() {
        let token = BearerToken::draw().unwrap();
        let same = BearerToken::parse(token.reveal()).unwrap().unwrap();
        assert!(same.is(token.reveal()) && token.is(same.reveal()));
        let other = BearerToken::draw().unwrap();
        assert!(
            !token.is(other.reveal()) && !token.is("") && !token.is(token.reveal().split_at(1).1)
        );
        assert_eq!(format!("{token:?}"), "BearerToken(…)");
        assert!(BearerToken::parse("short").unwrap().is_none());
        assert!(BearerToken::parse(&"g".repeat(64)).unwrap().is_none());
    }
}
