//! What an answer means for what is done next, and how long to wait before it.
//!
//! | answer | what is done |
//! |---|---|
//! | 204 | stored |
//! | no connection, no answer in time, 408, 429, 5xx | again, after a pause that doubles |
//! | 413 | half of it at a time; later batches are smaller |
//! | 400, 422 | half of it at a time until the bad readings are alone; these go to the dead letter |
//! | anything else (401, 403, 404, 3xx, a 200 that is no 204) | said aloud, and again at the longest pause: somebody must mend it |
//!
//! InfluxDB's documents disagree on whether one bad point rejects a request or only itself. Either
//! way the good ones are sent again in smaller requests, and a point stored twice is one point.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use influxdb2::RequestError;
use reqwest::StatusCode;

use crate::causes::Chain;

/// The first pause.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// How much of a server's words is kept.
const WORDS: usize = 300;

/// What came of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// All of it is stored.
    Stored,
    /// Not now; why.
    Again(String),
    /// The body was too large; the server's words.
    TooLarge(String),
    /// Something in it is wrong; the server's words.
    BadPoints(String),
    /// Something around it is wrong that trying again does not mend; what.
    Stop(String),
}

impl Answer {
    /// Its metric label.
    pub(super) const fn label(&self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Again(_) => "again",
            Self::TooLarge(_) => "too_large",
            Self::BadPoints(_) => "bad_points",
            Self::Stop(_) => "stop",
        }
    }
}

/// Puts an error of the client into its class.
pub(super) fn classify(error: &RequestError) -> Answer {
    match error {
        RequestError::Http { status, text } => {
            let words = format!("{} {}", status.as_u16(), shortened(text));
            match *status {
                StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => Answer::Again(words),
                status if status.is_server_error() => Answer::Again(words),
                StatusCode::PAYLOAD_TOO_LARGE => Answer::TooLarge(words),
                StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => {
                    Answer::BadPoints(words)
                }
                _ => Answer::Stop(words),
            }
        }
        RequestError::ReqwestProcessing { source } if source.is_builder() => {
            Answer::Stop(shortened(&Chain(source).to_string()))
        }
        RequestError::ReqwestProcessing { source } if source.is_timeout() => {
            Answer::Again("no answer in time".to_owned())
        }
        RequestError::ReqwestProcessing { source } => {
            Answer::Again(shortened(&Chain(source).to_string()))
        }
        other => Answer::Again(shortened(&other.to_string())),
    }
}

/// One line of bounded length, whatever the server wrote.
fn shortened(text: &str) -> String {
    let printable = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c });
    printable.take(WORDS).collect()
}

/// Pauses that double up to a longest one, each shortened by up to half at random, so that many
/// services whose server comes back do not all come at once.
#[derive(Debug)]
pub(super) struct Backoff {
    next: Duration,
    longest: Duration,
    random: RandomState,
    count: u64,
}

impl Backoff {
    pub(super) fn new(longest: Duration) -> Self {
        Self { next: FIRST_PAUSE.min(longest), longest, random: RandomState::new(), count: 0 }
    }

    /// The pause to make now.
    pub(super) fn pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = (self.next * 2).min(self.longest);
        self.jittered(pause)
    }

    /// The longest pause.
    pub(super) fn longest(&mut self) -> Duration {
        self.jittered(self.longest)
    }

    /// It worked: the next pause is a short one.
    pub(super) fn reset(&mut self) {
        self.next = FIRST_PAUSE.min(self.longest);
    }

    fn jittered(&mut self, pause: Duration) -> Duration {
        self.count += 1;
        // The hasher's random keys are randomness enough for this.
        let thousandths = u32::try_from(self.random.hash_one(self.count) % 501).unwrap_or(0);
        pause - pause * thousandths / 1000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn http(status: u16) -> Answer {
        let status = StatusCode::from_u16(status).unwrap_or_default();
        classify(&RequestError::Http { status, text: "words".to_owned() })
    }

    #[test]
    fn every_status_has_the_class_of_what_is_done_next() {
        for (label, statuses) in [
            ("again", &[408, 429, 500, 502, 503, 504][..]),
            ("too_large", &[413]),
            ("bad_points", &[400, 422]),
            ("stop", &[200, 301, 302, 401, 403, 404, 405, 410, 415]),
        ] {
            for status in statuses {
                assert_eq!(http(*status).label(), label, "{status}");
            }
        }
    }

    #[test]
    fn a_servers_words_are_kept_on_one_line_of_bounded_length() {
        let text = format!("a\nb\u{1b}[31m{}", "ü".repeat(10_000));
        let error = RequestError::Http { status: StatusCode::BAD_REQUEST, text };
        let Answer::BadPoints(words) = classify(&error) else { unreachable!() };
        assert!(words.starts_with("400 a b [31mü"));
        assert!(words.chars().count() <= WORDS + 4);
        assert!(!words.chars().any(char::is_control));
    }

    #[test]
    fn pauses_double_to_the_longest_vary_and_begin_anew() {
        let longest = Duration::from_secs(2);
        let mut backoff = Backoff::new(longest);
        for nominal in [250, 500, 1000, 2000, 2000] {
            let pause = backoff.pause().as_millis();
            assert!((nominal / 2..=nominal).contains(&pause), "{pause} of {nominal}");
        }
        backoff.reset();
        assert!(backoff.pause() <= FIRST_PAUSE);
        let pauses: std::collections::BTreeSet<_> = (0..20).map(|_| backoff.longest()).collect();
        assert!(pauses.len() > 10, "{pauses:?}");
    }
}
