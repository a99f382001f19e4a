//! How many passwords may be guessed.
//!
//! Failures are counted in windows of a minute, for a user at an address, and for an address with a
//! far wider bound: behind one address of a carrier's NAT stand many stations, and one of them that
//! guesses must not lock out the others. Of an IPv6 address the first 64 bits count, which is what
//! one subscriber gets. Only failures count, and whoever is past the bound is not looked at until its
//! window is over: not even with the right password, or guessing would go on.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// How long failures count.
const WINDOW: Duration = Duration::from_secs(60);

/// Windows kept. Each is one failure at least, and an address has a bound: it takes many addresses to
/// fill them.
const MAX_WINDOWS: usize = 65_536;

/// Failures within a minute, beyond which attempts are refused unheard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttemptLimits {
    /// Of one user from one address.
    pub user: u32,
    /// Of everybody from one address.
    pub address: u32,
}

impl Default for AttemptLimits {
    fn default() -> Self {
        Self { user: 10, address: 1000 }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Attempts {
    limits: AttemptLimits,
    windows: Mutex<HashMap<Key, Window>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    address: IpAddr,
    /// `None`: everybody from the address.
    user: Option<Arc<str>>,
}

#[derive(Debug, Clone, Copy)]
struct Window {
    since: Instant,
    failures: u32,
}

/// One attempt's place in the counts.
#[derive(Debug, Clone)]
pub(super) struct Attempt {
    user: Key,
    address: Key,
}

impl Attempt {
    pub(super) fn new(address: IpAddr, user: &str) -> Self {
        let address = subscriber(address);
        // As long as a name of ours may be: what is longer is nobody's, and need not be kept whole.
        let user: String = user.chars().take(128).collect();
        Self {
            user: Key { address, user: Some(user.into()) },
            address: Key { address, user: None },
        }
    }
}

/// The part of an address that one subscriber has.
fn subscriber(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 => v4,
    }
}

impl Attempts {
    pub(super) fn new(limits: AttemptLimits) -> Self {
        Self { limits, windows: Mutex::default() }
    }

    /// Whether an attempt is heard.
    pub(super) fn allows(&self, attempt: &Attempt, now: Instant) -> bool {
        self.below(&attempt.user, self.limits.user, now) && self.allows_address(attempt, now)
    }

    /// Whether an attempt of nobody in particular is heard from the address.
    pub(super) fn allows_address(&self, attempt: &Attempt, now: Instant) -> bool {
        self.below(&attempt.address, self.limits.address, now)
    }

    fn below(&self, key: &Key, limit: u32, now: Instant) -> bool {
        let windows = self.windows.lock();
        let window = windows.get(key).filter(|window| window.since + WINDOW > now);
        window.is_none_or(|window| window.failures < limit)
    }

    /// Counts a failure.
    pub(super) fn failed(&self, attempt: &Attempt, now: Instant) {
        let mut windows = self.windows.lock();
        if windows.len() + 2 > MAX_WINDOWS {
            windows.retain(|_, window| window.since + WINDOW > now);
        }
        // Only many addresses fill it: who failed once goes first.
        if windows.len() + 2 > MAX_WINDOWS {
            windows.retain(|_, window| window.failures > 1);
        }
        if windows.len() + 2 > MAX_WINDOWS {
            windows.clear();
        }
        for key in [&attempt.user, &attempt.address] {
            let window = windows.entry(key.clone()).or_insert(Window { since: now, failures: 0 });
            if window.since + WINDOW <= now {
                *window = Window { since: now, failures: 0 };
            }
            window.failures = window.failures.saturating_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(address: &str, user: &str) -> Attempt {
        Attempt::new(address.parse().unwrap(), user)
    }

    #[test]
    fn a_user_is_bounded_at_an_address_and_others_there_are_not() {
        let attempts = Attempts::new(AttemptLimits { user: 2, address: 4 });
        let now = Instant::now();
        let (ada, bob) = (at("192.0.2.1", "ada"), at("192.0.2.1", "bob"));
        for _ in 0..2 {
            assert!(attempts.allows(&ada, now));
            attempts.failed(&ada, now);
        }
        assert!(!attempts.allows(&ada, now));
        assert!(attempts.allows(&bob, now) && attempts.allows(&at("192.0.2.2", "ada"), now));
        attempts.failed(&bob, now);
        attempts.failed(&at("192.0.2.1", "eve"), now);
        assert!(!attempts.allows(&bob, now), "the address has had its four");
        assert!(attempts.allows(&ada, now + WINDOW) && attempts.allows(&bob, now + WINDOW));
    }

    #[test]
    fn a_subscriber_of_ipv6_has_one_count_however_many_addresses_it_has() {
        let attempts = Attempts::new(AttemptLimits { user: 1, address: 9 });
        let now = Instant::now();
        attempts.failed(&at("2001:db8:0:1::5", "ada"), now);
        assert!(!attempts.allows(&at("2001:db8:0:1:ffff::6", "ada"), now));
        assert!(attempts.allows(&at("2001:db8:0:2::5", "ada"), now));
        attempts.failed(&at("::ffff:192.0.2.1", "bob"), now);
        assert!(!attempts.allows(&at("192.0.2.1", "bob"), now));
    }

    #[test]
    fn the_counts_are_bounded_in_memory() {
        let attempts = Attempts::new(AttemptLimits::default());
        let now = Instant::now();
        // The last of them are past the bound by far more than one sweep would free.
        for n in 0..MAX_WINDOWS / 2 + 20 {
            let address = IpAddr::from(u32::try_from(n).unwrap().to_be_bytes());
            attempts.failed(&Attempt::new(address, "ada"), now);
        }
        assert!(attempts.windows.lock().len() <= MAX_WINDOWS);
    }
}
