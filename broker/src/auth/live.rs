//! The clients that are connected, with what they were let in by.
//!
//! After each change of a file everyone is asked for again: whoever would be let in now with the
//! credentials it came with stays, and goes on under the new rules; everyone else goes. So a removed
//! user, a changed password, a withdrawn key or a client id that is now a station's ends the
//! connection; another role, region or rule does not, and holds from the next packet on.
//!
//! Whoever goes may leave a will, which is held against what its user may do by then: one whose
//! password was changed still has its rights, one who is no more has none.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::{Mutex, RwLock};
use tokio_util::sync::CancellationToken;

use super::Rights;
use super::acl::{Acl, Subject};
use super::files::Book;
use super::filter::Names;
use super::jwt::Fingerprint;
use super::password::PasswordHash;
use super::role::{Projects, Role};
use super::users::User;

/// By what a client was let in, as far as it can be taken back.
#[derive(Debug, Clone)]
pub(super) enum Basis {
    /// Nothing.
    Anonymous,
    /// The password of this hash.
    Password(PasswordHash),
    /// A certificate with its name; role and region are the users file's.
    CommonName,
    /// A certificate that says everything itself.
    Urn,
    /// A token signed by this key.
    Token(Fingerprint),
}

/// Who a client is and what it may do, for as long as it is connected.
pub(super) struct Live {
    number: u64,
    all: Arc<All>,
    client: Arc<str>,
    user: Option<Arc<str>>,
    basis: Basis,
    /// Of this client alone: asked with every publish, it is not shared with others.
    now: RwLock<Now>,
    pub(super) revoked: CancellationToken,
}

struct Now {
    /// `None` of somebody who is no more.
    role: Option<Role>,
    acl: Arc<Acl>,
}

/// All clients that are connected.
#[derive(Default)]
pub(super) struct All {
    next: AtomicU64,
    clients: Mutex<HashMap<u64, Weak<Live>>>,
    /// Which stations are whose, where somebody says so.
    pub(super) projects: OnceLock<Projects>,
}

impl All {
    /// A client that is about to be let in.
    pub(super) fn enter(
        self: &Arc<Self>,
        client: &str,
        user: Option<Arc<str>>,
        basis: Basis,
        role: Role,
    ) -> Arc<Live> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let live = Arc::new(Live {
            number,
            all: Arc::clone(self),
            client: client.into(),
            user,
            basis,
            now: RwLock::new(Now { role: Some(role), acl: Arc::default() }),
            revoked: CancellationToken::new(),
        });
        self.clients.lock().insert(number, Arc::downgrade(&live));
        live
    }

    /// All there are now. Not under the lock: whoever lets go of the last `Live` takes it.
    pub(super) fn now(&self) -> Vec<Arc<Live>> {
        self.clients.lock().values().filter_map(Weak::upgrade).collect()
    }
}

impl Live {
    /// Looks the client up anew; whether it is still allowed. If not, it is disconnected.
    pub(super) fn look_up(&self, book: &Book, anonymous: bool) -> bool {
        let role = self.role(book, anonymous);
        let stays = role.is_some();
        let role = role.or_else(|| match self.basis {
            Basis::Password(_) | Basis::CommonName => Some(self.listed(book)?.role.clone()),
            // A user of the same name in the file may be somebody else.
            Basis::Anonymous | Basis::Urn | Basis::Token(_) => None,
        });
        *self.now.write() = Now { role, acl: Arc::clone(&book.acl) };
        if !stays {
            self.revoked.cancel();
        }
        stays
    }

    fn listed<'b>(&self, book: &'b Book) -> Option<&'b User> {
        book.users.get(self.user.as_deref()?).map(|(_, user)| user)
    }

    /// The role that it has by the book; `None` if it would not be let in.
    fn role(&self, book: &Book, anonymous: bool) -> Option<Role> {
        let role = match &self.basis {
            Basis::Anonymous if anonymous => Role::Anonymous,
            Basis::Anonymous => return None,
            Basis::Password(hash) => {
                self.listed(book).filter(|user| user.hash.as_ref() == Some(hash))?.role.clone()
            }
            Basis::CommonName => self.listed(book)?.role.clone(),
            Basis::Urn => self.now.read().role.clone()?,
            Basis::Token(key) if book.keys.has(key) => self.now.read().role.clone()?,
            Basis::Token(_) => return None,
        };
        may_be_called(&self.client, &role, book).then_some(role)
    }

    /// By the rules, or by the role where they say nothing.
    fn may(
        &self,
        rules: impl FnOnce(&Acl, Subject<'_>) -> Option<bool>,
        otherwise: impl FnOnce(&Role) -> bool,
    ) -> bool {
        let now = self.now.read();
        let Some(role) = &now.role else { return false };
        let names = Names { client: &self.client, user: self.user.as_deref() };
        rules(&now.acl, Subject { names, role: role.name() }).unwrap_or_else(|| otherwise(role))
    }
}

/// Whether somebody may use a client id: a station its own and no other, and nobody else a station's,
/// whose session and connection would be taken over.
pub(super) fn may_be_called(client: &str, role: &Role, book: &Book) -> bool {
    match role {
        Role::Station(scope) => scope.station.as_str() == client,
        _ => {
            !matches!(book.users.get(client), Some((_, user)) if matches!(user.role, Role::Station(_)))
        }
    }
}

impl Rights for Live {
    fn may_publish(&self, topic: &str) -> bool {
        self.may(|acl, subject| acl.publish(topic, subject), |role| role.may_publish(topic))
    }

    fn may_subscribe(&self, filter: &str) -> bool {
        self.may(|acl, subject| acl.subscribe(filter, subject), |role| role.may_subscribe(filter))
    }

    fn may_receive(&self, topic: &str) -> bool {
        let projects = self.all.projects.get();
        let by_role = |role: &Role| role.may_receive(topic, projects);
        self.may(|acl, subject| acl.receive(topic, subject), by_role)
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.all.clients.lock().remove(&self.number);
    }
}
