//! `user`: keeps the users file. A running service takes a change in by itself within seconds.

use std::fs::File;
use std::io::{BufRead as _, IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, anyhow, bail};
use loushan_broker::auth::{MAX_PASSWORD, PasswordHash, Role, RoleName, User, Users};
use rustix::fs::{FlockOperation, flock};

use super::{Failure, config};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Add a user, or give one another password and role.
    Add(AddArgs),
    /// Remove a user. A client that is connected as one is disconnected.
    Remove(RemoveArgs),
    /// List users and roles.
    List(ListArgs),
}

/// Which file.
#[derive(Debug, clap::Args)]
struct Place {
    /// The users file [default: auth.users_file of the configuration].
    #[arg(long, value_name = "FILE")]
    users: Option<PathBuf>,
    /// The configuration file that names the users file.
    #[arg(long, value_name = "FILE", conflicts_with = "users")]
    config: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(super) struct AddArgs {
    /// The user's name; a station's is its client id, too.
    name: String,
    /// station, project, operator or admin.
    #[arg(long)]
    role: RoleName,
    /// Where a station stands.
    #[arg(long)]
    region: Option<String>,
    /// The pilot project that a station belongs to, or that a project's reader watches.
    #[arg(long)]
    project: Option<String>,
    /// Take the password from standard input, up to its first line's end, instead of asking.
    #[arg(long, conflicts_with = "no_password")]
    password_stdin: bool,
    /// The user has no password and comes with a client certificate in its name.
    #[arg(long)]
    no_password: bool,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, clap::Args)]
pub(super) struct RemoveArgs {
    /// The user's name.
    name: String,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, clap::Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    place: Place,
}

pub(super) fn run(command: &Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Add(args) => add(args),
        Command::Remove(args) => remove(args),
        Command::List(args) => list(args),
    }
}

fn add(args: &AddArgs) -> Result<ExitCode, Failure> {
    let path = args.place.path()?;
    let user = |hash| {
        let (region, project) = (args.region.as_deref(), args.project.as_deref());
        User::new(&args.name, args.role, region, project, hash).map_err(Failure::usage)
    };
    // Before anybody types a password for it.
    user(None)?;
    let hash = if args.no_password {
        None
    } else {
        let password = if args.password_stdin { from_stdin()? } else { from_prompt()? };
        Some(PasswordHash::make(&password)?)
    };
    let user = user(hash)?;
    let before = edit(&path, |users| Ok(users.insert(&args.name, user)))?;
    let done = if before.is_some() { "replaced" } else { "added" };
    println!("{done} {} in {}", args.name, path.display());
    Ok(ExitCode::SUCCESS)
}

fn remove(args: &RemoveArgs) -> Result<ExitCode, Failure> {
    let path = args.place.path()?;
    edit(&path, |users| match users.remove(&args.name) {
        Some(_) => Ok(()),
        None => bail!("there is no user {:?} in {}", args.name, path.display()),
    })?;
    println!("removed {} from {}", args.name, path.display());
    Ok(ExitCode::SUCCESS)
}

fn list(args: &ListArgs) -> Result<ExitCode, Failure> {
    for (name, user) in read(&args.place.path()?)?.iter() {
        let place = match &user.role {
            Role::Station(scope) => format!("  region={}", scope.region),
            _ => String::new(),
        };
        let project = match &user.role {
            Role::Station(scope) => scope.project.as_ref().map(|name| format!("  project={name}")),
            Role::Project(name) => Some(format!("  project={name}")),
            _ => None,
        };
        let by = if user.hash.is_some() { "password" } else { "certificate" };
        println!("{name}  {}{place}{}  {by}", user.role.name(), project.unwrap_or_default());
    }
    Ok(ExitCode::SUCCESS)
}

impl Place {
    fn path(&self) -> Result<PathBuf, Failure> {
        if let Some(path) = &self.users {
            return Ok(path.clone());
        }
        let config = config::load(self.config.as_deref(), Vec::new())?;
        config.auth.users_file.ok_or_else(|| {
            let remedy = "name the file with --users, or set auth.users_file";
            Failure::usage(anyhow!("the configuration has no users file; {remedy}"))
        })
    }
}

fn read(path: &Path) -> Result<Users, anyhow::Error> {
    Users::read(path).with_context(|| format!("the users file {}", path.display()))
}

/// Changes the file; a missing one is made. Two at a time would lose the first one's change: they wait
/// for each other at the lock of its folder.
fn edit<T>(
    path: &Path,
    change: impl FnOnce(&mut Users) -> Result<T, anyhow::Error>,
) -> Result<T, anyhow::Error> {
    let told = || format!("the users file {} cannot be written", path.display());
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let dir = File::open(dir).with_context(told)?;
    flock(&dir, FlockOperation::LockExclusive).with_context(told)?;
    let mut users =
        if path.try_exists().with_context(told)? { read(path)? } else { Users::default() };
    let changed = change(&mut users)?;
    users.write(path).with_context(told)?;
    Ok(changed)
}

fn from_prompt() -> Result<Vec<u8>, anyhow::Error> {
    if !std::io::stdin().is_terminal() {
        bail!("there is no terminal to ask for a password; give it by --password-stdin");
    }
    let first = rpassword::prompt_password("Password: ")?;
    if first != rpassword::prompt_password("Once more: ")? {
        bail!("the two differ; nothing was changed");
    }
    Ok(first.into_bytes())
}

fn from_stdin() -> Result<Vec<u8>, anyhow::Error> {
    let mut password = Vec::new();
    // More than a password may have is read no further.
    let limit = u64::try_from(MAX_PASSWORD)? + 3;
    std::io::stdin().lock().take(limit).read_until(b'\n', &mut password)?;
    if password.last() == Some(&b'\n') {
        password.pop();
        if password.last() == Some(&b'\r') {
            password.pop();
        }
    }
    Ok(password)
}
