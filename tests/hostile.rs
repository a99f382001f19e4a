//! Clients that mean harm, one kind after the other, against the real binary, while a fleet goes on
//! reporting. Each attack is met as the design says; the fleet's acknowledgements are watched
//! throughout, and at the end the audit is clean.

// How the acknowledgements fared is worth reading.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout)]

mod support;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use loushan_simulator::FleetOptions;
use rustix::process::{Resource, getrlimit, setrlimit};
use support::fleet::Running;
use support::raw::{PINGREQ, Raw, connect, packet, publish, text};
use support::{DEADLINE, Service, certificates, loushan, run, wire};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

/// How long a new connection may take to say CONNECT, here.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a TLS or WebSocket handshake may take, here.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(1);

/// How long each attack goes on, at least.
const WATCHED: Duration = Duration::from_secs(2);

/// Sees how long acknowledgements take: one station more, with one batch at a time.
#[derive(Clone)]
struct Witness(Arc<Mutex<Histogram<u64>>>);

impl Witness {
    fn start(address: SocketAddr) -> Self {
        let witness = Self(Arc::new(Mutex::new(Histogram::new(3).unwrap())));
        let seen = witness.clone();
        tokio::spawn(async move {
            let mut station = Raw::connected(address, "bs9999").await;
            for n in 0_u64.. {
                let batch = wire::one("bs9999", 1, n, n % 500);
                let begun = Instant::now();
                station.send(&publish("nb1/zunyi/bs9999/u/t", 1, &batch)).await;
                // The service has ended; the test has, too.
                let Some(answer) = station.next().await else { return };
                assert_eq!(answer, (0x40, vec![0, 1]), "a PUBACK");
                let took = begun.elapsed().as_micros() as u64;
                seen.0.lock().unwrap().record(took).unwrap();
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        witness
    }

    /// Watches while the attack goes on, which is repeated until there was something to see.
    async fn during(&self, attack: &str, once: impl AsyncFn()) {
        let begun = Instant::now();
        self.0.lock().unwrap().reset();
        while begun.elapsed() < WATCHED {
            once().await;
        }
        self.report(attack);
    }

    /// What was seen while the attack went on.
    fn report(&self, attack: &str) {
        let seen = self.0.lock().unwrap();
        let ms = |q: f64| seen.value_at_quantile(q) as f64 / 1000.0;
        println!(
            "{attack:<58} {:>6} acks, p50 {:>6.1} ms, p99 {:>6.1} ms, max {:>6.1} ms",
            seen.len(),
            ms(0.5),
            ms(0.99),
            ms(1.0)
        );
        assert!(!seen.is_empty(), "{attack}: no acknowledgement while it went on");
    }
}

/// As many open files as the system allows: a thousand clients are more than the usual limit.
fn raise_open_files() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
}

#[test]
fn while_clients_mean_harm_the_fleet_is_acknowledged_and_the_audit_is_clean() {
    raise_open_files();
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let ledger = dir.path().join("ledger.bin");
    let certificates = certificates(dir.path());
    let file = |name: &str| certificates.join(name).to_str().unwrap().to_owned();
    let (certificate, key) = (file("server.crt"), file("server.key"));
    let limits = [
        ("LOUSHAN__MQTT__CONNECT_TIMEOUT", "1s"),
        ("LOUSHAN__MQTT__HANDSHAKE_TIMEOUT", "1s"),
        ("LOUSHAN__MQTT__SUBSCRIBER_QUEUE_BYTES", "1MiB"),
        ("LOUSHAN__MQTT__TLS_LISTEN", "127.0.0.1:0"),
        ("LOUSHAN__MQTT__WS_LISTEN", "127.0.0.1:0"),
        ("LOUSHAN__MQTT__WSS_LISTEN", "127.0.0.1:0"),
        ("LOUSHAN__MQTT__TLS__CERTIFICATE", &certificate),
        ("LOUSHAN__MQTT__TLS__KEY", &key),
    ];
    let service = Service::start_with(&data, "127.0.0.1:0", "127.0.0.1:0", &limits);
    let address = service.mqtt;
    let fleet = Running::start(FleetOptions {
        stations: 50,
        seed: 5,
        rate: Some(500),
        ledger: Some(ledger.clone()),
        ..FleetOptions::new(format!("mqtt://{address}"))
    });

    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    runtime.unwrap().block_on(async {
        let witness = Witness::start(address);
        witness.during("nobody means harm", async || tokio::time::sleep(WATCHED).await).await;
        witness.during("300 slow or silent CONNECTs", async || slow_connects(address).await).await;
        witness
            .during("300 slow or silent TLS and WebSocket handshakes", async || {
                slow_handshakes(&service).await
            })
            .await;
        witness
            .during("100 slow or silent CONNECTs in WebSocket frames", async || {
                slow_frames(service.address("ws")).await
            })
            .await;
        witness.during("200 half-open connections", async || half_open(address).await).await;
        witness
            .during("a subscriber to everything that never reads", async || {
                never_reads(address, &service).await
            })
            .await;
        witness
            .during("200,000 acknowledgements of ids that were never sent", async || {
                acknowledgements_of_nothing(address).await
            })
            .await;
        witness
            .during("800 takeovers of one client id, one after the other", async || {
                takeovers(address).await
            })
            .await;
        witness
            .during("1,000 clients with one client id at once", async || {
                one_id_for_all(address).await
            })
            .await;
        witness.during("1,000 wills at once", async || wills(address).await).await;
        witness.during("keep-alive cheats", async || keep_alive_cheats(address).await).await;
    });
    assert!(service.get("/readyz").is_ok());

    let summary = fleet.stop();
    println!("{summary}");
    assert_eq!(summary.figures.counts.reconnects, 0, "a station was disconnected");
    service.wait_until_quiet();
    let (clean, report) = run(loushan()
        .arg("audit")
        .arg("--ledger")
        .arg(&ledger)
        .args(["--target", &format!("http://{}", service.http)]));
    assert!(clean, "the audit found differences:\n{report}");
    assert!(service.terminate().success());
}

/// CONNECT a byte at a time, or not at all: closed when its time is over, however it is spent.
async fn slow_connects(address: SocketAddr) {
    let mut clients = JoinSet::new();
    for n in 0..300 {
        clients.spawn(async move {
            let mut slow = Raw::open(address).await;
            let begun = Instant::now();
            let bytes = connect(&format!("slow{n}"), 60, None);
            if n % 3 != 0 {
                dribble(&mut slow, &bytes).await;
            }
            assert!(slow.closes_within(DEADLINE).await, "a slow CONNECT was waited for");
            assert!(begun.elapsed() >= CONNECT_TIMEOUT / 2, "closed before its time");
        });
    }
    clients.join_all().await;
}

/// A TLS or WebSocket handshake a byte at a time, or not even begun: closed when its time is over.
/// They are more than have a place at once, and those that wait for one are no longer waited for.
async fn slow_handshakes(service: &Service) {
    // The head of a record that holds a ClientHello of 512 bytes, and the bytes after it.
    let hello = [&[22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3], [7; 501].as_slice()].concat();
    let request = upgrade("x".repeat(200).as_str());
    let mut clients = JoinSet::new();
    for n in 0..300 {
        let (scheme, bytes) = [("mqtts", &hello), ("wss", &hello), ("ws", &request)][n % 3];
        let (address, bytes) = (service.address(scheme), bytes.clone());
        clients.spawn(async move {
            let mut slow = Raw::open(address).await;
            let begun = Instant::now();
            if n % 2 == 0 {
                dribble(&mut slow, &bytes).await;
            }
            assert!(slow.closes_within(DEADLINE).await, "a slow handshake was waited for");
            assert!(begun.elapsed() >= HANDSHAKE_TIMEOUT / 2, "{scheme}: closed before its time");
        });
    }
    clients.join_all().await;
}

/// The handshake is over, and CONNECT comes a byte to a frame, or a frame is announced and does not
/// come: the deadline is that of CONNECT.
async fn slow_frames(address: SocketAddr) {
    let mut clients = JoinSet::new();
    for n in 0..100 {
        clients.spawn(async move {
            let mut slow = Raw::open(address).await;
            slow.send(&upgrade("mqtt")).await;
            let mut answer = Vec::new();
            while !answer.ends_with(b"\r\n\r\n") {
                answer.push(slow.0.read_u8().await.unwrap());
            }
            assert!(answer.starts_with(b"HTTP/1.1 101 "), "{}", answer.escape_ascii());
            let begun = Instant::now();
            let connect = connect(&format!("frame{n}"), 60, None);
            // Binary, masked with zeros: whole frames of one byte, or one that stays a promise.
            let whole = connect.iter().flat_map(|byte| [0x82, 0x81, 0, 0, 0, 0, *byte]);
            match n % 3 {
                0 => dribble(&mut slow, &whole.collect::<Vec<_>>()).await,
                1 => slow.send(&[0x82, 0xfe, 0x7f, 0xff, 0, 0, 0, 0, 0x10]).await,
                _ => {}
            }
            assert!(slow.closes_within(DEADLINE).await, "a slow CONNECT was waited for");
            assert!(begun.elapsed() >= CONNECT_TIMEOUT / 2, "closed before its time");
        });
    }
    clients.join_all().await;
}

/// The request for a WebSocket of `protocol`.
fn upgrade(protocol: &str) -> Vec<u8> {
    let lines = [
        "GET /mqtt HTTP/1.1",
        "Host: localhost",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        &format!("Sec-WebSocket-Protocol: {protocol}"),
    ];
    format!("{}\r\n\r\n", lines.join("\r\n")).into_bytes()
}

/// A byte at a time, until all is said or the other side has had enough.
async fn dribble(slow: &mut Raw, bytes: &[u8]) {
    for byte in bytes {
        // An error is the end that is waited for.
        if slow.0.write_all(&[*byte]).await.is_err() {
            return;
        }
        if slow.closes_within(Duration::from_millis(90)).await {
            return;
        }
    }
}

/// One side of each connection is closed, or gone without a word: the other side notices.
async fn half_open(address: SocketAddr) {
    let mut clients = JoinSet::new();
    for n in 0..200 {
        clients.spawn(async move {
            let mut half = Raw::connected_as(address, &connect(&format!("half{n}"), 1, None)).await;
            if n % 2 == 0 {
                half.0.shutdown().await.unwrap();
            }
            assert!(half.closes_within(DEADLINE).await);
        });
    }
    clients.join_all().await;
}

/// Subscribed to everything, and reading nothing: what it does not take is bounded, and it goes.
async fn never_reads(address: SocketAddr, service: &Service) {
    let before = disconnected(service);
    let mut deaf = Raw::open_small(address).await;
    deaf.send(&connect("deaf", 0, None)).await;
    assert_eq!(deaf.next().await, Some((0x20, vec![0, 0])));
    // Not even what it asked for is read.
    let filters = ["#", "nb1/#", "flood/+"].map(|filter| [text(filter), vec![1]].concat());
    deaf.send(&packet(0x82, &[[0, 1].as_slice(), &filters.concat()].concat())).await;
    let mut loud = Raw::connected(address, "loud").await;
    let begun = Instant::now();
    let payload = vec![7; 64 * 1024];
    while disconnected(service) == before {
        assert!(begun.elapsed() < DEADLINE, "who never reads is kept for ever");
        for _ in 0..16 {
            loud.send(&publish("flood/1", 1, &payload)).await;
            assert_eq!(loud.next().await, Some((0x40, vec![0, 1])), "the publisher is not held up");
        }
    }
    assert!(deaf.closes_within(DEADLINE).await);
}

fn disconnected(service: &Service) -> u64 {
    let text = service.get("/metrics").unwrap();
    let of = |reason: &str| format!("loushan_disconnects_total{{reason=\"{reason}\"}}");
    [of("slow_subscriber"), of("write_timeout")]
        .iter()
        .flat_map(|metric| text.lines().find_map(|line| line.strip_prefix(metric.as_str())))
        .map(|value| value.trim().parse::<f64>().unwrap() as u64)
        .sum()
}

/// PUBACK, PUBREC, PUBREL and PUBCOMP for messages that there never were, and a ping that is
/// answered all the same.
async fn acknowledgements_of_nothing(address: SocketAddr) {
    let raw = Raw::connected(address, "acks").await;
    let (mut read, mut write) = raw.0.into_split();
    let writing = tokio::spawn(async move {
        for n in 0..50_000_u16 {
            let [high, low] = (n % 65_535 + 1).to_be_bytes();
            let each = [0x40, 0x50, 0x62, 0x70].map(|first| [first, 2, high, low]).concat();
            write.write_all(&each).await.unwrap();
        }
        write.write_all(&PINGREQ).await.unwrap();
        write
    });
    // PUBREL and PUBCOMP answer PUBREC and PUBREL; the last two bytes answer the ping.
    let mut left = 50_000 * 2 * 4 + 2;
    let mut last = [0; 2];
    let mut buffer = vec![0; 64 * 1024];
    while left > 0 {
        let reading = tokio::io::AsyncReadExt::read(&mut read, &mut buffer);
        let count = tokio::time::timeout(DEADLINE, reading).await.unwrap().unwrap();
        assert!(count > 0, "closed for acknowledgements of nothing");
        for byte in &buffer[..count] {
            last = [last[1], *byte];
        }
        left -= count;
    }
    assert_eq!(last, [0xd0, 0], "PINGRESP");
    writing.await.unwrap();
}

/// Eight machines that each believe to be the one: the last to come has the session.
async fn takeovers(address: SocketAddr) {
    let mut machines = JoinSet::new();
    for _ in 0..8 {
        machines.spawn(async move {
            for _ in 0..100 {
                let mut raw = Raw::open(address).await;
                // It may be taken over before it is told that it is connected.
                if raw.0.write_all(&connect("contested", 60, None)).await.is_ok() {
                    raw.next().await;
                }
            }
        });
    }
    machines.join_all().await;
    let mut last = Raw::connected(address, "contested").await;
    last.send(&PINGREQ).await;
    assert_eq!(last.next().await, Some((0xd0, vec![])));
}

/// Of a thousand with one id one is left.
async fn one_id_for_all(address: SocketAddr) {
    let mut clients = JoinSet::new();
    for _ in 0..1000 {
        clients.spawn(async move {
            let mut raw = Raw::open(address).await;
            drop(raw.0.write_all(&connect("everybody", 60, None)).await);
            raw.closes_within(DEADLINE).await
        });
    }
    for _ in 0..999 {
        assert!(clients.join_next().await.unwrap().unwrap(), "two hold one session");
    }
    // The last to come is alone, and knows of it by nobody's end but its own.
    let begun = Instant::now();
    let heir = Raw::connected(address, "everybody").await;
    assert!(clients.join_next().await.unwrap().unwrap());
    assert!(begun.elapsed() < DEADLINE);
    drop(heir);
}

/// A thousand stations vanish in one moment: all their wills are heard.
async fn wills(address: SocketAddr) {
    let mut watcher = Raw::connected(address, "watcher").await;
    watcher.subscribe("wills/+", 1).await;
    let mut clients = JoinSet::new();
    for n in 0..1000 {
        clients.spawn(async move {
            let topic = format!("wills/{n}");
            let connect = connect(&format!("mortal{n}"), 60, Some((&topic, "gone")));
            Raw::connected_as(address, &connect).await
        });
    }
    // Held until the last is connected, and then let go at once.
    drop(clients.join_all().await);
    let mut heard = std::collections::HashSet::new();
    while heard.len() < 1000 {
        let (first, body) = watcher.next().await.expect("the watcher is connected");
        assert_eq!(first & 0xf6, 0x32);
        let topic = usize::from(u16::from_be_bytes([body[0], body[1]]));
        heard.insert(body[2..2 + topic].to_vec());
        watcher.send(&packet(0x40, &body[2 + topic..4 + topic])).await;
    }
}

/// A keep-alive of one second, met by pings alone, by bytes that make no packet, and by nothing.
async fn keep_alive_cheats(address: SocketAddr) {
    let connect = |id: &str| connect(id, 1, None);
    let mut pinging = Raw::connected_as(address, &connect("pinging")).await;
    let mut silent = Raw::connected_as(address, &connect("silent")).await;
    let mut dripping = Raw::connected_as(address, &connect("dripping")).await;
    let begun = Instant::now();
    let endless = packet(0x30, &[text("t"), vec![0; 1000]].concat());
    let drip = async {
        for byte in endless {
            if dripping.0.write_all(&[byte]).await.is_err()
                || dripping.closes_within(Duration::from_millis(200)).await
            {
                return;
            }
            assert!(begun.elapsed() < DEADLINE, "bytes that make no packet keep it alive");
        }
    };
    let ping = async {
        for _ in 0..8 {
            pinging.send(&PINGREQ).await;
            assert_eq!(pinging.next().await, Some((0xd0, vec![])), "pings are enough");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    let (gone, (), ()) = tokio::join!(silent.closes_within(DEADLINE), drip, ping);
    assert!(gone, "silence keeps it alive");
}
