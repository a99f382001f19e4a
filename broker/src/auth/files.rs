//! The files that rights come from: read together, taken together or not at all.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::acl::{Acl, AclError};
use super::attempts::AttemptLimits;
use super::jwt::{JwtConfig, Keys, KeysError};
use super::users::{Users, UsersError};

/// Who may come in, and by what.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuthConfig {
    /// The users file, if there is one.
    pub users_file: Option<PathBuf>,
    /// Rules of the configuration itself; they come before the file's.
    pub acl: String,
    /// The file of rules, if there is one.
    pub acl_file: Option<PathBuf>,
    /// Whether clients without credentials are let in.
    pub anonymous: bool,
    /// Tokens, if they are taken.
    pub jwt: Option<JwtConfig>,
    /// How many passwords may be guessed.
    pub attempts: AttemptLimits,
}

impl AuthConfig {
    /// Everybody is let in, and may do everything.
    #[must_use]
    pub fn open() -> Self {
        Self { anonymous: true, ..Self::default() }
    }

    /// Reads everything and keeps nothing. Blocks.
    ///
    /// # Errors
    /// When a file, or a rule of the configuration, cannot be used.
    pub fn check(&self) -> Result<(), LoadError> {
        Book::read(self).map(drop)
    }

    fn files(&self) -> impl Iterator<Item = &Path> {
        let keys = self.jwt.as_ref().map(|jwt| jwt.keys.path());
        [self.users_file.as_deref(), self.acl_file.as_deref(), keys].into_iter().flatten()
    }
}

/// A file, or the rules in the configuration, cannot be used. The whole message is told at once, for
/// readiness has room for one line: the cause is in it and is no `source` to be told again. What it says in places where passwords
/// may be is not repeated.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The users file.
    #[error("the users file {} (auth.users_file) cannot be used: {why}; `loushan user add` makes \
             and mends it", path.display())]
    Users {
        /// Which.
        path: PathBuf,
        /// Why.
        why: UsersError,
    },
    /// Rules in the configuration.
    #[error("the rules in auth.acl cannot be used: {0}")]
    Rules(AclError),
    /// The file of rules.
    #[error("the rules in {} (auth.acl_file) cannot be used: {why}", path.display())]
    Acl {
        /// Which.
        path: PathBuf,
        /// Why.
        why: AclError,
    },
    /// The file of rules cannot be read.
    #[error("the rules in {} (auth.acl_file) cannot be read: {why}", path.display())]
    AclIo {
        /// Which.
        path: PathBuf,
        /// Why.
        why: io::Error,
    },
    /// Keys for tokens.
    #[error("the keys in {} (auth.jwt) cannot be used: {why}", path.display())]
    Keys {
        /// Which.
        path: PathBuf,
        /// Why.
        why: KeysError,
    },
    /// The process itself.
    #[error(transparent)]
    Secrets(#[from] super::password::NoSecrets),
}

/// What the files say, at one time.
#[derive(Default)]
pub(super) struct Book {
    pub(super) users: Users,
    pub(super) acl: Arc<Acl>,
    pub(super) keys: Keys,
}

impl Book {
    /// Reads all files. Blocks.
    pub(super) fn read(config: &AuthConfig) -> Result<Self, LoadError> {
        let users = config.users_file.as_ref().map(|path| {
            Users::read(path).map_err(|why| LoadError::Users { path: path.clone(), why })
        });
        let keys = config.jwt.as_ref().map(|jwt| {
            let path = || jwt.keys.path().to_path_buf();
            Keys::read(&jwt.keys).map_err(|why| LoadError::Keys { path: path(), why })
        });
        let mut acl = Acl::parse(&config.acl).map_err(LoadError::Rules)?;
        if let Some(path) = &config.acl_file {
            let text = std::fs::read_to_string(path)
                .map_err(|why| LoadError::AclIo { path: path.clone(), why })?;
            let more =
                Acl::parse(&text).map_err(|why| LoadError::Acl { path: path.clone(), why })?;
            acl = acl.then(more);
        }
        Ok(Self {
            users: users.transpose()?.unwrap_or_default(),
            acl: Arc::new(acl),
            keys: keys.transpose()?.unwrap_or_default(),
        })
    }
}

/// By which a changed file is known: another one in its place, another length, another time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    len: u64,
    modified: (i64, i64),
}

/// The stamps of all files; of a file that is not there, none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Stamps(Vec<Option<Stamp>>);

impl Stamps {
    /// Looks at the files. Blocks.
    pub(super) fn take(config: &AuthConfig) -> Self {
        let stamp = |path: &Path| {
            let meta = std::fs::metadata(path).ok()?;
            let modified = (meta.mtime(), meta.mtime_nsec());
            Some(Stamp { inode: meta.ino(), len: meta.len(), modified })
        };
        Self(config.files().map(stamp).collect())
    }
}
