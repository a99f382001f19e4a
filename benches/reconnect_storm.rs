//! What a fleet's acknowledgements cost while ten thousand clients reconnect.
//!
//! ```text
//! cargo bench --bench reconnect_storm
//! cargo bench --bench reconnect_storm -- --clients 2000 --seconds 5
//! cargo bench --bench reconnect_storm -- --passwords
//! ```
//!
//! The server is a process of its own. Stations publish a batch each at a steady rate, whatever the
//! acknowledgements do, and each is timed: first alone, then while clients that were all connected
//! lose their connections in one moment and come back as fast as they are let in, from some two
//! hundred addresses. Generator and server share the machine's cores: trust the ratio.
//!
//! With `--passwords` everybody is a user with a password of Argon2id at its full cost, and what is
//! measured comes twice: while all come for the first time after a start, when every password has
//! to be verified (some are told to come back, and do), and while all come again.

#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout)]

mod steady;
#[path = "../tests/support/mod.rs"]
mod support;

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use loushan_broker::auth::PasswordHash;
use rustix::process::{Resource, getrlimit, setrlimit};
use steady::{
    PASSWORD, RATE, STATIONS, Server, let_in, ratio, report, runtime, station_name, storming,
};
use support::Service;
use support::raw::Raw;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Connects under way at once: a client that has not heard back holds a place in the accept queue.
const AT_ONCE: usize = 512;

struct Options {
    clients: usize,
    seconds: u64,
    passwords: bool,
}

fn options() -> Options {
    let mut options = Options { clients: 10_000, seconds: 10, passwords: false };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        // Cargo itself adds `--bench`.
        match arg.as_str() {
            "--clients" => options.clients = args.next().and_then(|n| n.parse().ok()).unwrap(),
            "--passwords" => options.passwords = true,
            "--seconds" => options.seconds = args.next().and_then(|n| n.parse().ok()).unwrap(),
            _ => {}
        }
    }
    options
}

fn main() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
    let options = options();
    let data = tempfile::tempdir().unwrap();
    let users = data.path().join("users");
    let mut keys = Vec::new();
    if options.passwords {
        write_users(&users, options.clients);
        keys.push(("LOUSHAN__AUTH__USERS_FILE", users.to_str().unwrap()));
    }
    let service = Service::start_with(data.path(), "127.0.0.1:0", "127.0.0.1:0", &keys);
    let storm = runtime();
    let server = Server { mqtt: service.mqtt, passwords: options.passwords };
    let many = options.clients;
    let (clients, cold) = storming(&server, 1, || storm.block_on(connect_all(server, many)));
    if options.passwords {
        report("all for the first time", &cold.acks);
        println!("{} clients connected in {:.2} s", many, cold.took.as_secs_f64());
    } else {
        println!("{many} clients are connected; {STATIONS} stations × {RATE} batches/s");
    }

    let seconds = Duration::from_secs(options.seconds);
    let ((), quiet) = storming(&server, 2, || std::thread::sleep(seconds));
    report("alone", &quiet.acks);

    let (_clients, stormy) = storming(&server, 3, || {
        storm.block_on(async {
            drop(clients);
            connect_all(server, many).await
        })
    });
    report("while all reconnect", &stormy.acks);
    println!(
        "{many} clients reconnected in {:.2} s ({:.0}/s); p50 × {:.2}, p99 × {:.2}",
        stormy.took.as_secs_f64(),
        many as f64 / stormy.took.as_secs_f64(),
        ratio(&quiet.acks, &stormy.acks, 0.5),
        ratio(&quiet.acks, &stormy.acks, 0.99)
    );
}

/// A file of stations, the fleet's and the clients', that all have the same password; each of them
/// is verified for itself all the same.
fn write_users(path: &Path, clients: usize) {
    let hash = PasswordHash::make(PASSWORD.as_bytes()).unwrap();
    let names = (0..STATIONS).map(station_name).chain((0..clients).map(client_name));
    let lines = names.map(|name| format!("{name} station region=zunyi {}\n", hash.as_str()));
    std::fs::write(path, lines.collect::<String>()).unwrap();
    std::fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
}

fn client_name(n: usize) -> String {
    format!("client{n}")
}

/// Connections of `count` clients, all of them accepted.
async fn connect_all(server: Server, count: usize) -> Vec<Raw> {
    let at_once = Arc::new(Semaphore::new(AT_ONCE));
    let mut connecting = JoinSet::new();
    for n in 0..count {
        let at_once = Arc::clone(&at_once);
        connecting.spawn(async move { let_in(server, &client_name(n), n, &at_once).await });
    }
    connecting.join_all().await
}
