//! What a fleet's acknowledgements cost while heavy questions are answered.
//!
//! ```text
//! cargo bench --bench questions_beside
//! cargo bench --bench questions_beside -- --readings 5000000 --seconds 30
//! ```
//!
//! The server is a process of its own with a store that the simulator has filled. Stations publish a
//! batch each at a steady rate, and each acknowledgement is timed from when its publish was due: first
//! alone, then while as many askers as the service lets in ask for figures over everything, by
//! device, and for whole kinds as Parquet, again and again. Generator, askers and server share the
//! machine's cores: trust the ratio.

#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout)]

mod steady;
#[path = "../tests/support/mod.rs"]
mod support;

use std::io::Read as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use steady::{RATE, STATIONS, Server, ratio, report, storming};
use support::{Service, loushan, run};

/// Each reads whole kinds of all devices.
const QUESTIONS: [&str; 4] = [
    "/api/v1/aggregate?kind=parking&field=battery_pct&fn=mean,min,p95&every=1m&by=station&from=-30d",
    "/api/v1/aggregate?kind=water&field=total_l&fn=increase,rate&every=1h&by=device&from=-30d&format=csv",
    "/api/v1/export?kind=parking&format=parquet&from=-30d",
    "/api/v1/aggregate?field=nrsrp_dbm&fn=count,mean&by=kind&from=-30d",
];

fn option(name: &str, default: u64) -> u64 {
    let mut args = std::env::args().skip_while(|arg| arg != name).skip(1);
    args.next().map_or(default, |value| value.parse().unwrap())
}

fn main() {
    let readings = option("--readings", 2_000_000);
    let seconds = Duration::from_secs(option("--seconds", 20));
    let data = tempfile::tempdir().unwrap();
    let service = Service::start(data.path());
    fill(&service, readings);
    println!("{} rows; {STATIONS} stations × {RATE} batches/s", service.rows());

    let server = Server { mqtt: service.mqtt, passwords: false };
    let ((), quiet) = storming(&server, 1, || std::thread::sleep(seconds));
    report("alone", &quiet.acks);

    let (over, answers, bytes) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let ((), beside) = storming(&server, 2, || {
        std::thread::scope(|scope| {
            for question in QUESTIONS {
                scope.spawn(|| {
                    while !over.load(Ordering::Relaxed) {
                        bytes.fetch_add(ask(service.http, question), Ordering::Relaxed);
                        answers.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            std::thread::sleep(seconds);
            over.store(true, Ordering::Relaxed);
        });
    });
    report("beside questions", &beside.acks);
    println!(
        "{} answers of {} MB in {:.1} s; p50 × {:.2}, p99 × {:.2}",
        answers.load(Ordering::Relaxed),
        bytes.load(Ordering::Relaxed) / 1_000_000,
        beside.took.as_secs_f64(),
        ratio(&quiet.acks, &beside.acks, 0.5),
        ratio(&quiet.acks, &beside.acks, 0.99)
    );
}

/// Has the simulator publish at least so many readings, a day of the fleet after the other.
fn fill(service: &Service, readings: u64) {
    let target = format!("mqtt://{}", service.mqtt);
    let mut seed = 0_u64;
    while service.rows() < readings {
        seed += 1;
        let mut simulate = loushan();
        simulate.args(["simulate", "--target", &target, "--stations", "200"]);
        simulate.args(["--rate", "100000", "--for", "10s", "--seed", &seed.to_string()]);
        let (good, said) = run(&mut simulate);
        assert!(good, "{said}");
        service.wait_until_quiet();
    }
}

/// Asks, reads the answer as it comes, and says how long it was.
fn ask(http: SocketAddr, question: &str) -> u64 {
    let answer = ureq::get(format!("http://{http}{question}")).call();
    let mut body = answer.unwrap_or_else(|e| panic!("{question}: {e}")).into_body().into_reader();
    let (mut bytes, mut buffer) = (0, vec![0; 1 << 16]);
    loop {
        match body.read(&mut buffer).unwrap() {
            0 => return bytes,
            n => bytes += n as u64,
        }
    }
}
