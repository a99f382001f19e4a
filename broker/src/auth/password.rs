//! Passwords: hashed by Argon2id, verified on one thread, and remembered as a MAC.
//!
//! A hash is slow and takes 19 MiB by design, so that a stolen file is not worth much; ten thousand
//! stations that come back at once must not turn that against us. So hashes are made by a single
//! thread of low priority, behind a bounded queue that refuses rather than grows: who is let in already
//! has the processor first. A password that was verified
//! once is known again by a MAC under a key that this process drew and never tells: comparing costs
//! microseconds. The MAC covers the user's hash, so that a changed password is a forgotten one.
//!
//! A name that nobody has costs as much as a wrong password: whether a user exists cannot be timed.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use argon2::{Algorithm, Argon2, Params, PasswordHasher as _, PasswordVerifier as _, Version};
use parking_lot::Mutex;
use ring::hmac;
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::sync::oneshot;

use super::users::User;

/// Verifications that may wait. At some 25 ms each the last one waits about as long as a CONNECT may
/// (`mqtt.connect_timeout`); more would be hashed for clients that have gone.
const QUEUE: usize = 256;

/// The thread's niceness: while acknowledgements want the processor it gets a tenth of their share.
const NICE: i32 = 10;

/// Bounds of a hash's parameters, so that no line of a file can hold the thread for long.
const MAX_MEMORY_KIB: u32 = 256 * 1024;
const MAX_PASSES: u32 = 16;
const MAX_LANES: u32 = 16;

/// What the password of a name that nobody has is held against: as costly as any that we make, and no
/// password's that is known.
const NOBODYS: &str = "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5J3Mgc2FsdCE$\
                       c0mDTZiInjWIVrBDdkQwDNGHDjJWmWGYAqkFPYPVfPA";

/// Bytes of a password: MQTT's own bound.
pub const MAX_PASSWORD: usize = 65_535;

/// An Argon2id hash in PHC form: `$argon2id$v=19$m=…,t=…,p=…$salt$hash`.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(Arc<str>);

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(…)")
    }
}

/// A text that is no hash of ours. It is not repeated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the last field is no Argon2id hash in PHC form ($argon2id$v=19$m=…,t=…,p=…$salt$hash, with m \
     up to 262144, t and p up to 16) and not \"-\""
)]
pub struct HashError;

/// A password cannot be hashed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// It is empty or longer than MQTT's 65,535 bytes.
    #[error("a password has 1 to 65535 bytes")]
    Length,
    /// No randomness, or no memory.
    #[error("the password cannot be hashed: {0}")]
    Hash(String),
}

impl PasswordHash {
    /// Takes a PHC string.
    ///
    /// # Errors
    /// When it is none of Argon2id, or asks for more work than is reasonable.
    pub fn parse(text: &str) -> Result<Self, HashError> {
        let parsed = argon2::PasswordHash::new(text).map_err(|_| HashError)?;
        let params = Params::try_from(&parsed).map_err(|_| HashError)?;
        let reasonable = parsed.algorithm == argon2::ARGON2ID_IDENT
            && parsed.hash.is_some()
            && params.m_cost() <= MAX_MEMORY_KIB
            && params.t_cost() <= MAX_PASSES
            && params.p_cost() <= MAX_LANES;
        if reasonable { Ok(Self(text.into())) } else { Err(HashError) }
    }

    /// Hashes a password with a salt of its own: 19 MiB, two passes, one lane (OWASP's first choice).
    ///
    /// # Errors
    /// When it has no or too many bytes, or there is no randomness.
    pub fn make(password: &[u8]) -> Result<Self, PasswordError> {
        if password.is_empty() || password.len() > MAX_PASSWORD {
            return Err(PasswordError::Length);
        }
        let failed = |e: argon2::password_hash::Error| PasswordError::Hash(e.to_string());
        let mut salt = [0; 16];
        SystemRandom::new()
            .fill(&mut salt)
            .map_err(|_| PasswordError::Hash("there is no randomness".to_owned()))?;
        let salt = argon2::password_hash::SaltString::encode_b64(&salt).map_err(failed)?;
        let hash = argon2().hash_password(password, &salt).map_err(failed)?;
        Ok(Self(hash.to_string().into()))
    }

    /// The PHC string.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is the password's. Takes its time, by design.
    fn verify(&self, password: &[u8]) -> bool {
        // The parameters are those of the hash; it was parsed before.
        argon2::PasswordHash::new(&self.0)
            .is_ok_and(|hash| Argon2::default().verify_password(password, &hash).is_ok())
    }
}

fn argon2() -> Argon2<'static> {
    Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::DEFAULT)
}

/// What a verification came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Right,
    Wrong,
    /// Meanwhile too many others were wrong; it was not looked at.
    Refused,
    /// There is no room in the queue.
    Busy,
}

/// See the module.
pub(super) struct Passwords {
    jobs: SyncSender<Job>,
    known: Arc<Known>,
    dummy: PasswordHash,
}

struct Job {
    password: Vec<u8>,
    hash: PasswordHash,
    /// The user to remember, where there is one with a password.
    user: Option<Arc<str>>,
    /// Whether it may still be tried when its turn comes.
    allowed: Box<dyn Fn() -> bool + Send>,
    verdict: oneshot::Sender<Verdict>,
}

/// The MACs of verified passwords: one for each user at most.
struct Known {
    key: hmac::Key,
    macs: Mutex<HashMap<Arc<str>, hmac::Tag>>,
}

impl Known {
    fn context(&self, user: &str, hash: &PasswordHash, password: &[u8]) -> Vec<u8> {
        let mut message = Vec::with_capacity(user.len() + hash.0.len() + password.len() + 16);
        for part in [user.as_bytes(), hash.0.as_bytes()] {
            message.extend((part.len() as u64).to_be_bytes());
            message.extend(part);
        }
        message.extend(password);
        message
    }

    fn has(&self, user: &str, hash: &PasswordHash, password: &[u8]) -> bool {
        let Some(tag) = self.macs.lock().get(user).copied() else { return false };
        // Compares in constant time.
        hmac::verify(&self.key, &self.context(user, hash, password), tag.as_ref()).is_ok()
    }

    fn remember(&self, user: Arc<str>, hash: &PasswordHash, password: &[u8]) {
        let tag = hmac::sign(&self.key, &self.context(&user, hash, password));
        self.macs.lock().insert(user, tag);
    }
}

/// The process can have no secrets.
#[derive(Debug, thiserror::Error)]
#[error("the operating system gives no random numbers, or no thread for password hashes")]
pub struct NoSecrets;

impl Passwords {
    /// Starts the thread, which ends with the last of its users.
    pub(super) fn start() -> Result<Self, NoSecrets> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new());
        let key = key.map_err(|_| NoSecrets)?;
        let known = Arc::new(Known { key, macs: Mutex::default() });
        let dummy = PasswordHash(NOBODYS.into());
        let (jobs, queue) = sync_channel(QUEUE);
        let remembers = Arc::clone(&known);
        std::thread::Builder::new()
            .name("loushan-argon2".to_owned())
            .spawn(move || work(&queue, &remembers))
            .map_err(|_| NoSecrets)?;
        Ok(Self { jobs, known, dummy })
    }

    /// Whether the password is the user's. `allowed` is asked again when its turn comes.
    pub(super) async fn verify(
        &self,
        user: Option<(&Arc<str>, &User)>,
        password: &[u8],
        allowed: impl Fn() -> bool + Send + 'static,
    ) -> Verdict {
        let known = user.and_then(|(name, user)| Some((name, user.hash.as_ref()?)));
        if let Some((name, hash)) = known
            && self.known.has(name, hash, password)
        {
            return Verdict::Right;
        }
        let (verdict, answer) = oneshot::channel();
        let job = Job {
            password: password.to_vec(),
            hash: known.map_or(&self.dummy, |(_, hash)| hash).clone(),
            user: known.map(|(name, _)| Arc::clone(name)),
            allowed: Box::new(allowed),
            verdict,
        };
        match self.jobs.try_send(job) {
            Ok(()) => answer.await.unwrap_or(Verdict::Busy),
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => Verdict::Busy,
        }
    }

    /// Forgets the passwords of users that are no more.
    pub(super) fn keep(&self, is_there: impl Fn(&str) -> bool) {
        self.known.macs.lock().retain(|user, _| is_there(user));
    }
}

fn work(queue: &Receiver<Job>, known: &Known) {
    if let Err(error) = rustix::process::nice(NICE) {
        tracing::debug!(%error, "passwords are verified at the priority of everything else");
    }
    while let Ok(job) = queue.recv() {
        // Its client waits no more.
        if job.verdict.is_closed() {
            continue;
        }
        // Whoever has heard the verdict needs no other.
        let _unheard = job.verdict.send(if !(job.allowed)() {
            Verdict::Refused
        } else if let Some(user) = &job.user
            && known.has(user, &job.hash, &job.password)
        {
            // Another connection of the user was verified meanwhile.
            Verdict::Right
        } else {
            match (job.hash.verify(&job.password), job.user) {
                (true, Some(user)) => {
                    known.remember(user, &job.hash, &job.password);
                    Verdict::Right
                }
                _ => Verdict::Wrong,
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::role::RoleName;
    use super::*;

    fn user(hash: PasswordHash) -> User {
        User::new("ada", RoleName::Admin, None, None, Some(hash)).unwrap()
    }

    #[tokio::test]
    async fn a_password_is_right_wrong_or_nobodys() {
        let passwords = Passwords::start().unwrap();
        let (name, ada) = (Arc::from("ada"), user(PasswordHash::make(b"right").unwrap()));
        let ada = Some((&name, &ada));
        assert_eq!(passwords.verify(ada, b"wrong", || true).await, Verdict::Wrong);
        assert_eq!(passwords.verify(ada, b"right", || true).await, Verdict::Right);
        assert_eq!(passwords.verify(ada, b"wrong", || true).await, Verdict::Wrong);
        assert_eq!(passwords.verify(ada, b"wrong", || false).await, Verdict::Refused);
        // Known again without its turn.
        assert_eq!(passwords.verify(ada, b"right", || false).await, Verdict::Right);
        assert_eq!(passwords.verify(None, b"nobody's", || true).await, Verdict::Wrong);
    }

    #[tokio::test]
    async fn a_changed_or_removed_password_is_a_forgotten_one() {
        let passwords = Passwords::start().unwrap();
        let name = Arc::from("ada");
        let (old, new) = (PasswordHash::make(b"old").unwrap(), PasswordHash::make(b"new").unwrap());
        let (old, new) = (user(old), user(new));
        assert_eq!(passwords.verify(Some((&name, &old)), b"old", || true).await, Verdict::Right);
        assert_eq!(passwords.verify(Some((&name, &new)), b"old", || true).await, Verdict::Wrong);
        assert_eq!(passwords.verify(Some((&name, &old)), b"old", || false).await, Verdict::Right);
        passwords.keep(|_| false);
        assert_eq!(passwords.verify(Some((&name, &old)), b"old", || false).await, Verdict::Refused);
    }

    #[test]
    fn only_reasonable_hashes_of_argon2id_are_taken_and_none_is_shown() {
        let made = PasswordHash::make(b"x").unwrap();
        assert!(made.as_str().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        assert_eq!(PasswordHash::parse(made.as_str()).unwrap(), made);
        assert_eq!(format!("{made:?}"), "PasswordHash(…)");
        let tail = made.as_str().rsplit_once("p=1").unwrap().1;
        for bad in [
            "hunter2".to_owned(),
            "-".to_owned(),
            format!("$argon2i$v=19$m=19456,t=2,p=1{tail}"),
            format!("$argon2id$v=19$m=1048576,t=2,p=1{tail}"),
            format!("$argon2id$v=19$m=19456,t=99,p=1{tail}"),
            "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQ".to_owned(),
        ] {
            assert_eq!(PasswordHash::parse(&bad), Err(HashError), "{bad}");
        }
        assert_eq!(PasswordHash::make(b""), Err(PasswordError::Length));
        assert!(PasswordHash::parse(NOBODYS).is_ok());
    }
}
