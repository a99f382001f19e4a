//! The users file: who there is, by which password, in which role.
//!
//! One user a line, fields separated by spaces:
//!
//! ```text
//! # NAME ROLE [region=REGION] [project=PROJECT] HASH
//! bs0001 station region=xinpu project=water $argon2id$v=19$m=19456,t=2,p=1$…$…
//! ada admin $argon2id$v=19$m=19456,t=2,p=1$…$…
//! gate7 station region=xinpu -
//! wang project project=water $argon2id$v=19$m=19456,t=2,p=1$…$…
//! ```
//!
//! HASH is a PHC string of Argon2id, or `-` for a user who has no password and comes with a client
//! certificate. A station needs its region; its name is its client id, too. The file is replaced whole
//! (written aside with mode 0600, synced, renamed), so that a reader sees the old one or the new one.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::io::{self, Write as _};
use std::path::Path;
use std::str::FromStr as _;
use std::sync::Arc;

use loushan_schemas::ids::{Region, StationId};

use super::password::PasswordHash;
use super::role::{Role, RoleName, StationScope};

/// Bytes of a name: what a topic's level and a log line can bear.
const MAX_NAME: usize = 128;

/// The first lines of a file that we write.
const HEADER: &str = "# Users of Loushan, kept by `loushan user`. One a line:\n\
                      # NAME ROLE [region=REGION] [project=PROJECT] HASH\n";

/// One user.
#[derive(Clone, PartialEq, Eq)]
pub struct User {
    /// What it may do.
    pub role: Role,
    /// By what it is known; `None`: only by a client certificate.
    pub hash: Option<PasswordHash>,
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User")
            .field("role", &self.role)
            .field("has_password", &self.hash.is_some())
            .finish()
    }
}

impl User {
    /// A user of that name in a role; the name is checked, and the region that a station needs.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(
        name: &str,
        role: RoleName,
        region: Option<&str>,
        project: Option<&str>,
        hash: Option<PasswordHash>,
    ) -> Result<Self, UserError> {
        check_name(name)?;
        let role = match (role, region) {
            (RoleName::Station, None) => return Err(UserError::NoRegion),
            (RoleName::Station, Some(region)) => {
                if let Some(project) = project {
                    check_name(project)?;
                }
                Role::Station(StationScope {
                    region: Region::new(region).map_err(|e| UserError::Name(e.to_string()))?,
                    station: StationId::new(name).map_err(|e| UserError::Name(e.to_string()))?,
                    project: project.map(str::to_owned),
                })
            }
            (_, Some(_)) => return Err(UserError::Region),
            (RoleName::Project, None) => {
                let project = project.ok_or(UserError::NoProject)?;
                check_name(project)?;
                Role::Project(project.into())
            }
            _ if project.is_some() => return Err(UserError::Region),
            (RoleName::Operator, None) => Role::Operator,
            (RoleName::Admin, None) => Role::Admin,
            (RoleName::Anonymous, None) => return Err(UserError::Anonymous),
        };
        Ok(Self { role, hash })
    }
}

/// What is wrong with one user.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UserError {
    /// The name, the region or the project.
    #[error("{0}")]
    Name(String),
    /// A station without its region.
    #[error("a station needs its region: region=…")]
    NoRegion,
    /// A project's reader without it.
    #[error("a project's reader needs its project: project=…")]
    NoProject,
    /// Somebody else with one.
    #[error("only a station has a region, and only a station or a project's reader a project")]
    Region,
    /// Nobody is written down as anonymous.
    #[error("anonymous clients have no name; the roles are station, project, operator and admin")]
    Anonymous,
}

fn check_name(name: &str) -> Result<(), UserError> {
    let fits = (1..=MAX_NAME).contains(&name.len())
        && !name.starts_with('#')
        && !name.chars().any(|c| c.is_whitespace() || c.is_control());
    if fits {
        return Ok(());
    }
    let shown: String = name.chars().take(40).collect();
    let rule = "is not 1 to 128 bytes without spaces and not beginning with #";
    Err(UserError::Name(format!("the name {shown:?} {rule}")))
}

/// A users file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum UsersError {
    /// It cannot be read or written.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A line is wrong. What it says is not repeated: it may be a password.
    #[error("line {line}: {why}")]
    Line {
        /// From 1.
        line: usize,
        /// What is wrong.
        why: String,
    },
}

/// All users of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Users(BTreeMap<Arc<str>, User>);

impl Users {
    /// Reads the text of a file.
    ///
    /// # Errors
    /// The first line that is wrong.
    pub fn parse(text: &str) -> Result<Self, UsersError> {
        let mut users = BTreeMap::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let error = |why: String| UsersError::Line { line: index + 1, why };
            let (name, user) = parse_line(line).map_err(error)?;
            if users.insert(Arc::from(name), user).is_some() {
                return Err(error(format!("the user {name:?} is there twice")));
            }
        }
        Ok(Self(users))
    }

    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read, or is wrong.
    pub fn read(path: &Path) -> Result<Self, UsersError> {
        Self::parse(&std::fs::read_to_string(path)?)
    }

    /// Replaces a file whole. Comments in it are lost.
    ///
    /// # Errors
    /// What the file system says; the old file then still stands.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        replace_private(path, self.to_string().as_bytes())
    }

    /// A user, by name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<(&Arc<str>, &User)> {
        self.0.get_key_value(name)
    }

    /// Adds or replaces a user; the one before.
    pub fn insert(&mut self, name: &str, user: User) -> Option<User> {
        self.0.insert(Arc::from(name), user)
    }

    /// Removes a user.
    pub fn remove(&mut self, name: &str) -> Option<User> {
        self.0.remove(name)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &User)> {
        self.0.iter()
    }
}

impl fmt::Display for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HEADER)?;
        for (name, user) in &self.0 {
            write!(f, "{name} {}", user.role.name())?;
            if let Role::Project(project) = &user.role {
                write!(f, " project={project}")?;
            }
            if let Role::Station(scope) = &user.role {
                write!(f, " region={}", scope.region)?;
                if let Some(project) = &scope.project {
                    write!(f, " project={project}")?;
                }
            }
            f.write_char(' ')?;
            f.write_str(user.hash.as_ref().map_or("-", PasswordHash::as_str))?;
            f.write_char('\n')?;
        }
        Ok(())
    }
}

fn parse_line(line: &str) -> Result<(&str, User), String> {
    let mut fields = line.split_whitespace();
    let (Some(name), Some(role), Some(hash)) = (fields.next(), fields.next(), fields.next_back())
    else {
        return Err("a user is NAME ROLE [region=REGION] [project=PROJECT] HASH".to_owned());
    };
    let role = RoleName::from_str(role).map_err(|e| e.to_string())?;
    let (mut region, mut project) = (None, None);
    for field in fields {
        let known = match field.split_once('=') {
            Some(("region", value)) => region.replace(value).is_none(),
            Some(("project", value)) => project.replace(value).is_none(),
            _ => false,
        };
        if !known {
            return Err("between role and hash stand region=… and project=…, each once".to_owned());
        }
    }
    let hash = match hash {
        "-" => None,
        hash => Some(PasswordHash::parse(hash).map_err(|e| e.to_string())?),
    };
    let user = User::new(name, role, region, project, hash).map_err(|e| e.to_string())?;
    Ok((name, user))
}

/// Replaces a file by one that only its owner can read. An owner or a link that the old one has is not
/// kept: what counts is that nobody else reads it.
fn replace_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;

    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut aside = std::ffi::OsString::from(".");
    aside.push(name);
    aside.push(".new");
    let aside = dir.join(aside);
    match std::fs::remove_file(&aside) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(&aside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    drop(file);
    std::fs::rename(&aside, path)?;
    std::fs::File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21l$\
                        c0mDTZiInjWIVrBDdkQwDNGHDjJWmWGYAqkFPYPVfPA";

    #[test]
    fn a_file_reads_back_as_it_was_written() {
        let text = format!(
            "# comment\n\nbs0001 station region=xinpu project=water {HASH}\n  ada admin {HASH}\n\
             gate7 station region=xinpu -\nops operator -\nwang project project=water -\n"
        );
        let users = Users::parse(&text).unwrap();
        assert_eq!(users.iter().count(), 5);
        assert_eq!(users.get("wang").unwrap().1.role, Role::Project("water".into()));
        let (_, station) = users.get("bs0001").unwrap();
        let Role::Station(scope) = &station.role else { panic!("{station:?}") };
        assert_eq!((scope.region.as_str(), scope.project.as_deref()), ("xinpu", Some("water")));
        assert!(users.get("gate7").unwrap().1.hash.is_none());
        assert_eq!(Users::parse(&users.to_string()).unwrap(), users);
        assert!(!format!("{users:?}").contains("argon2id"));
    }

    #[test]
    fn a_bad_line_is_named_and_not_repeated() {
        for (text, said) in [
            ("ada admin".to_owned(), "line 1: a user is NAME ROLE"),
            (format!("# c\nada root {HASH}"), "line 2: \"root\" is no role"),
            (format!("ada anonymous {HASH}"), "anonymous clients have no name"),
            (format!("bs0001 station {HASH}"), "a station needs its region"),
            (format!("bs0001 station region=Xinpu {HASH}"), "region \"Xinpu\" is not"),
            (format!("BS1 station region=xinpu {HASH}"), "station \"BS1\" is not"),
            (format!("ada admin region=xinpu {HASH}"), "only a station has a region"),
            (format!("wang project {HASH}"), "a project's reader needs its project"),
            (format!("ada admin colour=red {HASH}"), "each once"),
            (format!("bs1 station region=a region=b {HASH}"), "each once"),
            (format!("ada admin {HASH}\nada operator {HASH}"), "line 2: the user \"ada\" is there"),
            ("ada admin hunter2".to_owned(), "no Argon2id hash"),
        ] {
            let error = Users::parse(&text).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_written_file_is_its_owners_alone() {
        use std::os::unix::fs::PermissionsExt as _;

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users");
        std::fs::write(&path, "old").unwrap();
        let mut users = Users::default();
        users.insert("ada", User::new("ada", RoleName::Admin, None, None, None).unwrap());
        users.write(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(Users::read(&path).unwrap(), users);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
