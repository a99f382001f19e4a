//! Publishes acknowledged per second, end to end, beside stock rumqttd in the same run.
//!
//! ```text
//! cargo bench --bench end_to_end                         # every shape, both servers
//! cargo bench --bench end_to_end -- --publishes 400000   # longer
//! ```
//!
//! Each server is a process of its own and starts afresh for each shape; the generator is this
//! process: one thread, closed loop, every client with a window of unacknowledged publishes, all
//! payloads encoded before the clock starts and each of them different (or they would be
//! duplicates). Ours acknowledges after decode, dedup and fdatasync; stock rumqttd (its `Broker`
//! with one local link that reads everything) acknowledges when the packet has arrived. On two
//! shared cores trust the ratios, not the figures.

#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout)]

mod load;
mod server;
mod stock;

use load::{Load, Outcome};
use server::Server;

struct Options {
    publishes: usize,
    shapes: Vec<(usize, usize)>,
    batches: Vec<usize>,
}

fn options() -> Options {
    let mut options = Options {
        publishes: 60_000,
        shapes: vec![(100, 50), (500, 20), (500, 4)],
        batches: vec![1, 20],
    };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        // Cargo itself adds `--bench`.
        if arg == "--publishes" {
            options.publishes = args.next().and_then(|n| n.parse().ok()).expect("--publishes N");
        }
    }
    options
}

fn main() {
    if std::env::args().nth(1).as_deref() == Some(stock::ARGUMENT) {
        stock::serve();
    }
    let options = options();
    println!(
        "{:>9} {:>8}  {:<14} {:>10} {:>10} {:>8} {:>8} {:>8} {:>9} {:>8}",
        "clients",
        "batch",
        "server",
        "pub/s",
        "reading/s",
        "p50 ms",
        "p99 ms",
        "p99.9",
        "cpu µs",
        "rss MB"
    );
    for &batch in &options.batches {
        for &(clients, window) in &options.shapes {
            let publishes = if batch == 1 { options.publishes } else { options.publishes / 4 };
            let load = Load { clients, window, batch, publishes };
            let ours = measure(&load, "loushan", Server::loushan);
            let stock = measure(&load, "stock rumqttd", Server::stock_rumqttd);
            println!(
                "{:>18}  loushan / stock rumqttd: {:.2} of its publishes/s",
                "",
                ours.publishes_per_second() / stock.publishes_per_second()
            );
        }
    }
}

fn measure(load: &Load, name: &str, start: fn() -> Server) -> Outcome {
    let server = start();
    let cpu_before = server.cpu_seconds();
    let outcome = load::run(load, server.address());
    let cpu = server.cpu_seconds() - cpu_before;
    let ms = |q: f64| outcome.latency_us.value_at_quantile(q) as f64 / 1000.0;
    println!(
        "{:>5}×{:<3} {:>8}  {:<14} {:>10.0} {:>10.0} {:>8.2} {:>8.2} {:>8.2} {:>9.2} {:>8.0}",
        load.clients,
        load.window,
        load.batch,
        name,
        outcome.publishes_per_second(),
        outcome.publishes_per_second() * load.batch as f64,
        ms(0.5),
        ms(0.99),
        ms(0.999),
        cpu * 1e6 / outcome.publishes as f64,
        server.resident_mb()
    );
    outcome
}
