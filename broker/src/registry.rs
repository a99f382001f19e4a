//! Which client ids are connected, and the sessions of those that are away.
//!
//! Life of an entry: attached (one live connection) → detached (kept until it expires, or dropped at
//! once) → attached again, by a connection that takes the session over, or replaces it if it starts
//! clean. Two connections never hold one session: the later asks the earlier to go and waits until it
//! has.
//!
//! A session is its user's. A client of another one that comes with the same client id is refused, or
//! has its way, by its [`Claim`]; the owner stays the same as long as the session does. A session that
//! is nobody's becomes the first user's that takes it over.

use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::auth::Claim;
use crate::session::{QueueLimits, Session};
use crate::will::PendingWill;

/// See the module.
#[derive(Debug)]
pub(crate) struct Registry {
    clients: Mutex<HashMap<Arc<str>, Entry>>,
    max_away: usize,
    limits: Arc<QueueLimits>,
}

#[derive(Debug)]
struct Entry {
    session: Arc<Session>,
    owner: Option<Arc<str>>,
    state: State,
}

#[derive(Debug)]
enum State {
    Live { kick: CancellationToken, gone: CancellationToken },
    Away { expires: Instant, will: Option<PendingWill> },
}

/// Who comes for a session.
#[derive(Debug)]
pub(crate) struct Comer<'a> {
    pub(crate) user: Option<&'a Arc<str>>,
    pub(crate) claim: Claim,
}

impl Comer<'_> {
    /// Whether an owner's session is another's than the comer's.
    fn is_foreign(&self, owner: Option<&Arc<str>>) -> bool {
        owner.is_some_and(|owner| self.user != Some(owner))
    }
}

/// The session is another user's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Foreign;

/// Why a session is not to be had, now or at all.
enum Held {
    /// Until this is cancelled.
    Until(CancellationToken),
    Foreign,
}

impl Entry {
    /// Whether nobody will hold the session again.
    fn is_over(&self) -> bool {
        match &self.state {
            State::Live { gone, .. } => gone.is_cancelled(),
            State::Away { expires, .. } => *expires <= Instant::now(),
        }
    }
}

/// A connection's hold on its session.
#[derive(Debug)]
pub(crate) struct Attached {
    pub(crate) session: Arc<Session>,
    /// The user whose session it is, if it is one's.
    pub(crate) owner: Option<Arc<str>>,
    /// There was a session, and this is it.
    pub(crate) present: bool,
    /// Cancelled when another connection wants the session.
    pub(crate) kick: CancellationToken,
    /// The session's former connection left a will that is due now: its session ended with a clean
    /// start.
    pub(crate) will_due: Option<PendingWill>,
    /// The session that this one replaced.
    pub(crate) replaced: Option<Arc<Session>>,
    gone: CancellationToken,
}

impl Drop for Attached {
    fn drop(&mut self) {
        // So that nobody waits for a connection whose task is no more.
        self.gone.cancel();
    }
}

/// A session that ended, and the will it leaves.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) session: Arc<Session>,
    pub(crate) will: Option<PendingWill>,
}

impl Registry {
    /// A registry that keeps the sessions of at most `max_away` absent clients.
    pub(crate) fn new(max_away: usize, limits: Arc<QueueLimits>) -> Self {
        Self { clients: Mutex::default(), max_away, limits }
    }

    /// Gets the session of `client_id` for a new connection, waiting until a former one has let it
    /// go. Cancel-safe.
    ///
    /// # Errors
    /// When it is another user's, and stays it.
    pub(crate) async fn attach(
        &self,
        client_id: &Arc<str>,
        comer: Comer<'_>,
        clean: bool,
    ) -> Result<Attached, Foreign> {
        loop {
            match self.try_attach(client_id, &comer, clean) {
                Ok(attached) => return Ok(attached),
                Err(Held::Until(gone)) => gone.cancelled().await,
                Err(Held::Foreign) => return Err(Foreign),
            }
        }
    }

    fn try_attach(
        &self,
        client_id: &Arc<str>,
        comer: &Comer<'_>,
        clean: bool,
    ) -> Result<Attached, Held> {
        let mut clients = self.clients.lock();
        let (mut session, mut will_due, mut replaced) = (None, None, None);
        let mut owner = comer.user.cloned();
        if let Some(entry) = clients.get_mut(client_id) {
            let foreign = comer.is_foreign(entry.owner.as_ref());
            if foreign && comer.claim == Claim::Own && !entry.is_over() {
                return Err(Held::Foreign);
            }
            let clean = clean || foreign && comer.claim == Claim::Name;
            match &mut entry.state {
                // Its task ended without letting go: a handler of the owner's panicked on it.
                State::Live { gone, .. } if gone.is_cancelled() => {
                    replaced = Some(entry.session.clone());
                }
                State::Live { kick, gone } => {
                    kick.cancel();
                    return Err(Held::Until(gone.clone()));
                }
                State::Away { expires, will } if clean || *expires <= Instant::now() => {
                    will_due = will.take();
                    replaced = Some(entry.session.clone());
                }
                State::Away { .. } => {
                    session = Some(entry.session.clone());
                    owner = entry.owner.clone().or(owner);
                }
            }
        }
        let present = session.is_some();
        let session = session.unwrap_or_else(|| self.new_session(client_id));
        let (kick, gone) = (CancellationToken::new(), CancellationToken::new());
        let state = State::Live { kick: kick.clone(), gone: gone.clone() };
        let entry = Entry { session: session.clone(), owner: owner.clone(), state };
        clients.insert(client_id.clone(), entry);
        Ok(Attached { session, owner, present, kick, will_due, replaced, gone })
    }

    fn new_session(&self, client_id: &Arc<str>) -> Arc<Session> {
        Arc::new(Session::new(client_id.clone(), Arc::clone(&self.limits)))
    }

    /// Lets a session go: kept for `expiry`, or ended if that is zero. Returns what ended, which is
    /// another's session when there are too many.
    pub(crate) fn detach(
        &self,
        attached: &Attached,
        expiry: Duration,
        will: Option<PendingWill>,
    ) -> Vec<Ended> {
        let mut ended = Vec::new();
        {
            let mut clients = self.clients.lock();
            let id = &attached.session.client_id;
            let now = Instant::now();
            if expiry.is_zero() {
                clients.remove(id);
                ended.push(Ended { session: attached.session.clone(), will });
            } else if let Some(entry) = clients.get_mut(id) {
                // A year, when the sum does not exist: longer than any process of ours runs.
                let expires = now
                    .checked_add(expiry)
                    .unwrap_or_else(|| now + Duration::from_secs(365 * 24 * 3600));
                if let Some(kept) = &attached.session.lock().kept {
                    kept.away(expires, will.as_ref());
                }
                entry.state = State::Away { expires, will };
                ended.extend(evict(&mut clients, self.max_away));
            }
        }
        attached.gone.cancel();
        ended
    }

    /// Puts back the session of a client that is away, as a former process left it.
    pub(crate) fn restore(
        &self,
        session: Arc<Session>,
        owner: Option<Arc<str>>,
        expires: Instant,
        will: Option<PendingWill>,
    ) {
        let state = State::Away { expires, will };
        self.clients.lock().insert(session.client_id.clone(), Entry { session, owner, state });
    }

    /// The session of a client that is connected.
    pub(crate) fn live(&self, client_id: &str) -> Option<Arc<Session>> {
        let clients = self.clients.lock();
        let entry = clients.get(client_id)?;
        matches!(entry.state, State::Live { .. }).then(|| Arc::clone(&entry.session))
    }

    /// The bounds on what waits in sessions.
    pub(crate) fn limits(&self) -> &Arc<QueueLimits> {
        &self.limits
    }

    /// How many clients are connected, and how many sessions are kept of clients that are away.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let clients = self.clients.lock();
        let live = clients.values().filter(|e| matches!(e.state, State::Live { .. })).count();
        (live, clients.len() - live)
    }

    /// Whether the client has a connection.
    pub(crate) fn is_connected(&self, client_id: &str) -> bool {
        let clients = self.clients.lock();
        clients.get(client_id).is_some_and(|entry| matches!(entry.state, State::Live { .. }))
    }

    /// Ends the sessions whose time has come, and takes the wills that are due.
    pub(crate) fn sweep(&self, now: Instant) -> (Vec<Ended>, Vec<PendingWill>) {
        let (mut ended, mut wills) = (Vec::new(), Vec::new());
        self.clients.lock().retain(|_, entry| {
            let State::Away { expires, will } = &mut entry.state else { return true };
            if *expires <= now {
                ended.push(Ended { session: entry.session.clone(), will: will.take() });
                return false;
            }
            if will.as_ref().is_some_and(|will| will.due <= now) {
                wills.extend(will.take());
                if let Some(kept) = &entry.session.lock().kept {
                    kept.away(*expires, None);
                }
            }
            true
        });
        (ended, wills)
    }
}

/// Removes the absent session that would expire first, if there are more than `max_away`.
fn evict(clients: &mut HashMap<Arc<str>, Entry>, max_away: usize) -> Option<Ended> {
    let away = |entry: &Entry| match entry.state {
        State::Away { expires, .. } => Some(expires),
        State::Live { .. } => None,
    };
    if clients.len() <= max_away || clients.values().filter_map(away).count() <= max_away {
        return None;
    }
    let (_, first) = clients
        .iter()
        .filter_map(|(id, entry)| away(entry).map(|expires| (expires, id.clone())))
        .min()?;
    let entry = clients.remove(&first)?;
    let will = match entry.state {
        State::Away { will, .. } => will,
        State::Live { .. } => None,
    };
    Some(Ended { session: entry.session, will })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOBODY: Comer<'static> = Comer { user: None, claim: Claim::Own };

    fn registry(max_away: usize) -> Registry {
        let limits = QueueLimits::new(1000, 1000);
        Registry::new(max_away, Arc::new(limits))
    }

    #[tokio::test]
    async fn a_session_passes_from_a_connection_to_the_next_when_it_has_let_go() {
        let registry = Arc::new(registry(10));
        let id = Arc::<str>::from("c");
        let first = registry.attach(&id, NOBODY, false).await.unwrap();
        assert!(!first.present && registry.is_connected("c"));
        let second = tokio::spawn({
            let (registry, id) = (registry.clone(), id.clone());
            async move { registry.attach(&id, NOBODY, false).await.unwrap() }
        });
        first.kick.cancelled().await;
        tokio::task::yield_now().await;
        assert!(!second.is_finished(), "the first holds it");
        assert!(registry.detach(&first, Duration::from_secs(60), None).is_empty());
        let second = second.await.unwrap();
        assert!(second.present && Arc::ptr_eq(&first.session, &second.session));
        // A task that vanished without letting go is nobody to wait for.
        let lost = second.session.clone();
        drop(second);
        let third = registry.attach(&id, NOBODY, false).await.unwrap();
        assert!(!third.present && third.replaced.as_ref().is_some_and(|s| Arc::ptr_eq(s, &lost)));
    }

    #[tokio::test(start_paused = true)]
    async fn sessions_expire_and_the_first_to_expire_makes_room() {
        let registry = registry(2);
        for (name, seconds) in [("a", 30), ("b", 10), ("c", 20)] {
            let attached = registry.attach(&name.into(), NOBODY, false).await.unwrap();
            let ended = registry.detach(&attached, Duration::from_secs(seconds), None);
            let names: Vec<_> = ended.iter().map(|ended| &*ended.session.client_id).collect();
            assert_eq!(names, if name == "c" { vec!["b"] } else { vec![] });
        }
        tokio::time::advance(Duration::from_secs(25)).await;
        let (ended, _) = registry.sweep(Instant::now());
        assert_eq!(ended.len(), 1);
        assert!(registry.attach(&"a".into(), NOBODY, false).await.unwrap().present);
        assert!(!registry.attach(&"c".into(), NOBODY, false).await.unwrap().present);
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_is_its_users_until_it_is_over() {
        let registry = registry(10);
        let [ada, bob] = ["ada", "bob"].map(Arc::<str>::from);
        let by = |user, claim| Comer { user: Some(user), claim };
        let id = Arc::<str>::from("c");
        let first = registry.attach(&id, by(&ada, Claim::Own), false).await.unwrap();
        for clean in [false, true] {
            for comer in [by(&bob, Claim::Own), NOBODY] {
                assert_eq!(registry.attach(&id, comer, clean).await.unwrap_err(), Foreign);
            }
        }
        assert!(!first.kick.is_cancelled(), "nobody was thrown out");
        registry.detach(&first, Duration::from_secs(60), None);
        let refused = registry.attach(&id, by(&bob, Claim::Own), true).await;
        assert_eq!(refused.unwrap_err(), Foreign);
        // An admin has it as it is, and it stays its owner's.
        let admin = registry.attach(&id, by(&bob, Claim::Any), false).await.unwrap();
        assert!(admin.present && admin.owner.as_ref() == Some(&ada));
        registry.detach(&admin, Duration::from_secs(60), None);
        assert!(registry.attach(&id, by(&bob, Claim::Own), false).await.is_err());
        // A station has its name, and nothing of what another left under it.
        let station = registry.attach(&id, by(&bob, Claim::Name), false).await.unwrap();
        assert!(!station.present && station.owner.as_ref() == Some(&bob));
        assert!(station.replaced.is_some());
        registry.detach(&station, Duration::from_secs(60), None);
        assert!(registry.attach(&id, by(&bob, Claim::Name), false).await.unwrap().present);
        tokio::time::advance(Duration::from_secs(61)).await;
        assert!(!registry.attach(&id, by(&ada, Claim::Own), false).await.unwrap().present);
    }

    #[tokio::test]
    async fn a_session_that_is_nobodys_becomes_the_first_users_that_takes_it() {
        let registry = registry(10);
        let [ada, bob] = ["ada", "bob"].map(Arc::<str>::from);
        let by = |user| Comer { user: Some(user), claim: Claim::Own };
        let id = Arc::<str>::from("c");
        for comer in [NOBODY, by(&ada)] {
            let attached = registry.attach(&id, comer, false).await.unwrap();
            registry.detach(&attached, Duration::from_secs(60), None);
        }
        assert!(registry.attach(&id, NOBODY, false).await.is_err());
        assert!(registry.attach(&id, by(&bob), false).await.is_err());
        assert!(registry.attach(&id, by(&ada), false).await.unwrap().present);
    }
}
