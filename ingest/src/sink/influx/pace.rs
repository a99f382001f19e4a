//! When the next request may go.
//!
//! All connections share one pace. While the server is in trouble one request at a time goes to it,
//! after each pause, so that it is not met by all of them, and so that many at once do not count as
//! many failures. When one of them comes through, the others follow.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Mutex as Turns, MutexGuard, Semaphore, SemaphorePermit};
use tokio::time::Instant;

/// The first pause.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

#[derive(Debug)]
pub(super) struct Pace {
    state: Mutex<State>,
    probe: Turns<()>,
    connections: Semaphore,
    longest_told: Duration,
}

#[derive(Debug)]
struct State {
    backoff: Backoff,
    /// In trouble: the next request may go from then on.
    not_before: Option<Instant>,
    /// The last failure that counted was of a request that began before this.
    failed: Instant,
}

/// The right to send one request.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    _connection: Option<SemaphorePermit<'a>>,
    _probe: Option<MutexGuard<'a, ()>>,
    began: Instant,
}

/// What a failure means for the next attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    /// A pause that doubles.
    Doubling,
    /// The longest pause: somebody must mend it.
    Longest,
    /// What the server asked for, but no longer than is configured.
    Told(Duration),
}

impl Pace {
    pub(super) fn new(connections: usize, longest: Duration, longest_told: Duration) -> Self {
        Self {
            state: Mutex::new(State {
                backoff: Backoff::new(longest),
                not_before: None,
                failed: Instant::now(),
            }),
            probe: Turns::new(()),
            connections: Semaphore::new(connections),
            longest_told,
        }
    }

    /// Waits for the right to send; `repaired` ends the wait for a pause. May be dropped.
    pub(super) async fn turn<F: Future<Output = ()>>(&self, repaired: impl Fn() -> F) -> Turn<'_> {
        // Never closed.
        let connection = self.connections.acquire().await.ok();
        let mut probe = None;
        if self.not_before().is_some() {
            probe = Some(self.probe.lock().await);
            // Where another one's probe came through meanwhile there is no pause any more.
            if let Some(at) = self.not_before() {
                tokio::select! {
                    () = tokio::time::sleep_until(at) => {}
                    () = repaired() => {}
                }
            } else {
                probe = None;
            }
        }
        Turn { _connection: connection, _probe: probe, began: Instant::now() }
    }

    fn not_before(&self) -> Option<Instant> {
        self.state.lock().not_before
    }

    /// The server took it, or at least judged it.
    pub(super) fn well(&self) {
        let mut state = self.state.lock();
        state.not_before = None;
        state.backoff.reset();
    }

    /// It failed. Gives the pause until the next attempt, and whether it is shorter than the server
    /// asked for.
    pub(super) fn failed(&self, turn: &Turn<'_>, wait: Wait) -> (Duration, bool) {
        let mut state = self.state.lock();
        let now = Instant::now();
        if let Some(at) = state.not_before
            && turn.began < state.failed
        {
            // Others that were on their way when it failed first are the same failure.
            return (at.saturating_duration_since(now), false);
        }
        state.failed = now;
        let mut capped = false;
        let pause = match wait {
            Wait::Doubling => state.backoff.pause(),
            Wait::Longest => state.backoff.longest(),
            Wait::Told(told) => {
                capped = told > self.longest_told;
                // Never earlier than it was told, and not on the second with everybody else.
                let told = told.min(self.longest_told);
                told + state.backoff.pause().min(told / 10 + FIRST_PAUSE)
            }
        };
        state.not_before = Some(now + pause);
        (pause, capped)
    }
}

/// Pauses that double up to a longest one, each shortened by up to half at random, so that many
/// services whose server comes back do not all come at once.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
    longest: Duration,
    random: RandomState,
    count: u64,
}

impl Backoff {
    pub(crate) fn new(longest: Duration) -> Self {
        Self { next: FIRST_PAUSE.min(longest), longest, random: RandomState::new(), count: 0 }
    }

    /// The pause to make now.
    pub(crate) fn pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = (self.next * 2).min(self.longest);
        self.jittered(pause)
    }

    /// The longest pause.
    fn longest(&mut self) -> Duration {
        self.jittered(self.longest)
    }

    /// It worked: the next pause is a short one.
    pub(crate) fn reset(&mut self) {
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
    #![allow(clippy::unwrap_used)]

    use std::future::pending;
    use std::sync::Arc;

    use super::*;

    const LONGEST: Duration = Duration::from_secs(2);
    const TOLD: Duration = Duration::from_secs(60);

    #[test]
    fn pauses_double_to_the_longest_vary_and_begin_anew() {
        let mut backoff = Backoff::new(LONGEST);
        for nominal in [250, 500, 1000, 2000, 2000] {
            let pause = backoff.pause().as_millis();
            assert!((nominal / 2..=nominal).contains(&pause), "{pause} of {nominal}");
        }
        backoff.reset();
        assert!(backoff.pause() <= FIRST_PAUSE);
        let pauses: std::collections::BTreeSet<_> = (0..20).map(|_| backoff.longest()).collect();
        assert!(pauses.len() > 10, "{pauses:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_that_the_server_asked_for_is_kept_and_a_senseless_one_is_capped() {
        let pace = Pace::new(1, LONGEST, TOLD);
        for (told, capped) in [(0, false), (7, false), (60, false), (61, true), (u64::MAX, true)] {
            let turn = pace.turn(pending).await;
            let told = Duration::from_secs(told);
            let (pause, was_capped) = pace.failed(&turn, Wait::Told(told));
            assert_eq!(was_capped, capped);
            assert!(
                pause >= told.min(TOLD) && pause <= TOLD + TOLD / 10 + FIRST_PAUSE,
                "{pause:?}"
            );
            drop(turn);
            let before = Instant::now();
            drop(pace.turn(pending).await);
            assert!(before.elapsed() >= pause);
            pace.well();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn failures_of_requests_that_were_on_their_way_together_count_as_one() {
        let pace = Pace::new(3, LONGEST, TOLD);
        let turns = [pace.turn(pending).await, pace.turn(pending).await, pace.turn(pending).await];
        tokio::time::advance(Duration::from_millis(1)).await;
        for turn in &turns {
            assert!(pace.failed(turn, Wait::Doubling).0 <= FIRST_PAUSE);
        }
        drop(turns);
        let turn = pace.turn(pending).await;
        assert!(pace.failed(&turn, Wait::Doubling).0 > FIRST_PAUSE);
    }

    #[tokio::test(start_paused = true)]
    async fn in_trouble_one_request_goes_and_the_others_follow_when_it_came_through() {
        let pace = Arc::new(Pace::new(3, LONGEST, TOLD));
        let turn = pace.turn(pending).await;
        pace.failed(&turn, Wait::Longest);
        drop(turn);
        let probe = pace.turn(pending).await;
        let others: Vec<_> = (0..2)
            .map(|_| {
                let pace = Arc::clone(&pace);
                tokio::spawn(async move { drop(pace.turn(pending).await) })
            })
            .collect();
        tokio::time::sleep(TOLD).await;
        assert!(others.iter().all(|other| !other.is_finished()), "they wait for the probe");
        pace.well();
        drop(probe);
        for other in others {
            other.await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_repair_ends_the_pause() {
        let pace = Pace::new(1, TOLD, TOLD);
        let turn = pace.turn(pending).await;
        pace.failed(&turn, Wait::Longest);
        drop(turn);
        let before = Instant::now();
        drop(pace.turn(|| async {}).await);
        assert_eq!(before.elapsed(), Duration::ZERO);
    }
}
