//! A disk in memory that fails when told to, and forgets what was not synced.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use redb::{Database, StorageBackend};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_util::sync::CancellationToken;

use super::{Answers, clock, is_durable};
use crate::Broker;
use crate::auth::{AllowAll, Peer};
use crate::config::BrokerConfig;
use crate::handler::{AckTicket, Acknowledgement, Busy, Lane, Publish, PublishHandler};
use crate::message::tests::message;
use crate::persist::open::Reopen;
use crate::persist::{Opened, Store, tables};

/// See the module. Clones are the same disk.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disk {
    bytes: Arc<Mutex<Vec<u8>>>,
    synced: Arc<Mutex<Vec<u8>>>,
    pub(crate) fails: Arc<AtomicBool>,
    /// A sync does not end.
    hangs: Arc<AtomicBool>,
}

/// Claims what is below `nb1/`, and has it durable at once.
pub(crate) struct Telemetry;

impl PublishHandler for Telemetry {
    fn claims(&self, topic: &str) -> Option<Lane> {
        topic.starts_with("nb1/").then_some(Lane::Normal)
    }

    fn handle(&self, _: Publish, ticket: AckTicket) -> Result<(), Busy> {
        ticket.durable(Acknowledgement::default());
        Ok(())
    }

    fn ready(&self) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(std::future::pending())
    }
}

impl Disk {
    /// The disk after a power loss.
    pub(crate) fn after_power_loss(&self) -> Self {
        let synced = self.synced.lock().clone();
        Self {
            bytes: Arc::new(Mutex::new(synced.clone())),
            synced: Arc::new(Mutex::new(synced)),
            fails: Arc::default(),
            hangs: Arc::default(),
        }
    }

    /// What a broker opens.
    pub(crate) fn open(&self, now: &Arc<AtomicU64>) -> Opened {
        let database = redb::Builder::new().create_with_backend(self.clone()).unwrap();
        if self.synced.lock().is_empty() || tables::load(&database).is_err() {
            tables::begin(&database).unwrap();
        }
        let loaded = tables::load(&database).unwrap();
        let disk = self.clone();
        let reopen: Reopen = Box::new(move || {
            let database: Database = redb::Builder::new().create_with_backend(disk.clone())?;
            Ok(database)
        });
        let numbers = loaded.sessions.iter().map(|session| session.record.number);
        let first = numbers.max().unwrap_or(0) + 1;
        let store = Store::start(database, reopen, clock(now), first).unwrap();
        Opened { store, loaded }
    }

    fn check(&self) -> io::Result<()> {
        if self.fails.load(Ordering::SeqCst) { Err(io::Error::other("bad disk")) } else { Ok(()) }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes.lock().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let bytes = self.bytes.lock();
        let at = usize::try_from(offset).unwrap();
        out.copy_from_slice(bytes.get(at..at + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.check()?;
        self.bytes.lock().resize(usize::try_from(len).unwrap(), 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        while self.hangs.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        self.check()?;
        let bytes = self.bytes.lock().clone();
        *self.synced.lock() = bytes;
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.check()?;
        let at = usize::try_from(offset).unwrap();
        self.bytes.lock()[at..at + data.len()].copy_from_slice(data);
        Ok(())
    }
}

#[test]
fn a_failed_commit_fails_its_tickets_is_told_and_is_made_good_when_the_disk_is_well() {
    let disk = Disk::default();
    let now = Arc::new(AtomicU64::new(1_000));
    let store = disk.open(&now).store;
    store.retain(&message("a", "before"), false);
    assert!(is_durable(&store) && store.trouble().is_none());
    disk.fails.store(true, Ordering::SeqCst);
    store.retain(&message("a", "meanwhile"), true);
    store.retain(&message("b", "comes and goes"), false);
    assert!(!is_durable(&store));
    assert!(store.trouble().unwrap().contains("bad disk") && store.is_failing());
    store.forget_retained(&"b".into());
    let loaded = disk.after_power_loss().open(&now).loaded;
    assert_eq!(loaded.retained[0].message.payload, "before");
    disk.fails.store(false, Ordering::SeqCst);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !is_durable(&store) {
        assert!(std::time::Instant::now() < deadline, "it did not get well");
    }
    assert!(store.trouble().is_none() && !store.is_failing());
    let loaded = disk.after_power_loss().open(&now).loaded;
    let retained: Vec<_> = loaded.retained.iter().map(|it| &it.message.payload[..]).collect();
    assert_eq!(retained, [b"meanwhile"]);
}

async fn connect(broker: &Broker, id: u8) -> DuplexStream {
    let (mut client, server) = tokio::io::duplex(64 * 1024);
    let peer = Peer::tcp(([127, 0, 0, 1], 1).into());
    tokio::spawn(crate::connection::serve(Arc::clone(&broker.shared), server, peer));
    let connect = [&b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01"[..], &[id]].concat();
    client.write_all(&connect).await.unwrap();
    expect(&mut client, &[0x20, 2, 0, 0]).await;
    client
}

async fn expect(client: &mut DuplexStream, wanted: &[u8]) {
    let mut got = vec![0; wanted.len()];
    let read =
        tokio::time::timeout(std::time::Duration::from_secs(20), client.read_exact(&mut got));
    read.await.expect("an answer").unwrap();
    assert_eq!(got, wanted);
}

#[tokio::test]
async fn a_disk_that_hangs_holds_up_who_waits_for_it_and_neither_telemetry_nor_a_stop() {
    let disk = Disk::default();
    let opened = disk.open(&Arc::new(AtomicU64::new(1_000)));
    let config = BrokerConfig {
        total_in_flight_bytes: 1_000,
        drain_timeout: std::time::Duration::from_millis(100),
        ..BrokerConfig::default()
    };
    let broker = Broker::restored(config, Arc::new(Telemetry), Arc::new(AllowAll), Some(opened));
    let (mut ordinary, mut station) = (connect(&broker, b'o').await, connect(&broker, b's').await);
    disk.hangs.store(true, Ordering::SeqCst);
    // Retained, QoS 1, many times what may be in flight; then a ping, which says that they were taken.
    for id in 1..=9 {
        let head = [0x33, 0xf9, 0x03, 0, 1, b'r', 0, id];
        ordinary.write_all(&[&head[..], &[b'x'; 500]].concat()).await.unwrap();
    }
    ordinary.write_all(&[0xc0, 0]).await.unwrap();
    expect(&mut ordinary, &[0xd0, 0]).await;
    // Telemetry is acknowledged all the same.
    station.write_all(b"\x32\x09\x00\x05nb1/x\x00\x01").await.unwrap();
    expect(&mut station, &[0x40, 2, 0, 1]).await;
    let stop = CancellationToken::new();
    stop.cancel();
    let stopped = broker.serve_on([], stop);
    tokio::time::timeout(std::time::Duration::from_secs(20), stopped).await.expect("it stops");
    disk.hangs.store(false, Ordering::SeqCst);
}

#[test]
fn what_belongs_together_is_in_one_commit() {
    let disk = Disk::default();
    let now = Arc::new(AtomicU64::new(1_000));
    let store = disk.open(&now).store;
    for round in 0..10 {
        let answers = Arc::new(Answers::default());
        let together = store.together();
        store.retain(&message("a", &round.to_string()), true);
        store.when_durable(AckTicket::new(answers.clone(), 0));
        // Time for a commit, were there to be one.
        (0..2_000).for_each(|_| std::thread::yield_now());
        assert!(answers.is_empty(), "half of it was committed");
        store.retain(&message("b", &round.to_string()), true);
        drop(together);
        assert!(is_durable(&store) && !answers.is_empty());
        let loaded = disk.after_power_loss().open(&now).loaded;
        assert!(loaded.retained.iter().all(|it| it.message.payload == round.to_string()));
    }
}
