use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::*;
use crate::Broker;
use crate::auth::{AllowAll, Peer};
use crate::config::BrokerConfig;
use crate::persist::tests::disk::Telemetry;
use crate::persist::tests::{disk::Disk, is_durable};

fn parcel(id: u64) -> Parcel {
    Parcel {
        id,
        client: "c".into(),
        topic: "t".into(),
        payload: Bytes::from_static(b"p"),
        sent_ms: 1_000,
        expires_ms: 2_000,
        state: State::Waiting,
        answer: None,
    }
}

fn state(parcels: &Parcels, id: u64) -> State {
    parcels.get(id).unwrap().state
}

#[test]
fn a_delivery_is_told_once_it_is_on_disk_and_a_parcel_that_lost_its_session_is_placed_again() {
    let disk = Disk::default();
    let now = Arc::new(std::sync::atomic::AtomicU64::new(1_000));
    let store = disk.open(&now).store;
    let parcels = Arc::new(Parcels::new(Some(store.clone())));
    parcels.add(parcel(7)).unwrap();
    assert!(matches!(parcels.add(parcel(7)), Err(SendError::Known(_))));
    assert!(is_durable(&store));
    let [(order, ..)] = parcels.unplaced(Some("c"))[..] else { panic!("none waits") };
    let (_, lost) = parcels.place(order).unwrap();
    assert!(parcels.place(order).is_none() && parcels.unplaced(None).is_empty());
    drop(lost);
    let (_, receipt) = parcels.place(order).unwrap();
    disk.fails.store(true, std::sync::atomic::Ordering::SeqCst);
    receipt.acknowledged();
    drop(receipt);
    assert!(!is_durable(&store));
    assert_eq!(state(&parcels, 7), State::Waiting, "it is not on disk");
    assert!(parcels.place(order).is_none(), "and it is not sent again");
    disk.fails.store(false, std::sync::atomic::Ordering::SeqCst);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while state(&parcels, 7) == State::Waiting {
        assert!(std::time::Instant::now() < deadline, "the delivery was never told");
        std::thread::yield_now();
    }
    let opened = disk.after_power_loss().open(&now);
    let again = Parcels::new(None);
    for (order, parcel) in opened.parcels() {
        again.restore(order, parcel);
    }
    assert_eq!(state(&again, 7), State::Delivered { at_ms: 1_000 });
    // It is forgotten a day after it was of no more use.
    now.store(2_000 + REMEMBERED_MS, std::sync::atomic::Ordering::SeqCst);
    parcels.sweep();
    assert!(parcels.get(7).is_none());
}

#[test]
fn those_that_wait_no_more_make_room_and_those_that_wait_do_not() {
    let now = Arc::new(std::sync::atomic::AtomicU64::new(1_000));
    let store = Disk::default().open(&now).store;
    let parcels = Arc::new(Parcels::new(Some(store.clone())));
    let payload = Bytes::from(vec![0; MAX_BYTES / 4]);
    let large = |id: u64| Parcel { payload: payload.clone(), ..parcel(id) };
    for id in 1..=3 {
        parcels.add(large(id)).unwrap();
    }
    assert_eq!(parcels.add(large(4)), Err(SendError::Full), "all of them wait");
    let orders: Vec<u64> = parcels.unplaced(None).iter().map(|(order, ..)| *order).collect();
    let (_, last) = parcels.place(orders[2]).unwrap();
    parcels.delivered(orders[2]);
    assert!(is_durable(&store));
    parcels.tell(orders[2]);
    parcels.add(large(4)).unwrap();
    assert!(parcels.get(3).is_none() && parcels.get(1).is_some());
    // The forgotten one had the last place: its receipt is nobody's now.
    last.acknowledged();
    assert_eq!(state(&parcels, 4), State::Waiting);
    assert_eq!(parcels.unplaced(Some("c")).len(), 3);
    assert!(parcels.unplaced(Some("d")).is_empty());
}

#[test]
fn one_client_has_so_many_and_what_expires_is_told() {
    let now = Arc::new(std::sync::atomic::AtomicU64::new(1_000));
    let store = Disk::default().open(&now).store;
    let parcels = Arc::new(Parcels::new(Some(store)));
    for id in 0..100 {
        parcels.add(parcel(id)).unwrap();
    }
    assert!(matches!(parcels.add(parcel(100)), Err(SendError::Waiting(_))));
    now.store(2_000, std::sync::atomic::Ordering::SeqCst);
    parcels.sweep();
    assert_eq!(state(&parcels, 0), State::Expired);
    parcels.add(parcel(100)).unwrap();
}

/// A v5 client "c" that takes packets of `max` bytes and subscribes to "t" at `qos`.
async fn client(broker: &Broker, max: u8, qos: u8) -> DuplexStream {
    let (mut client, server) = tokio::io::duplex(64 * 1024);
    let peer = Peer::tcp(([127, 0, 0, 1], 1).into());
    tokio::spawn(crate::connection::serve(Arc::clone(&broker.shared), server, peer));
    let connect =
        [b"\x10\x13\x00\x04MQTT\x05\x02\x00\x00\x05\x27\x00\x00\x00", &[max][..], b"\x00\x01c"];
    client.write_all(&connect.concat()).await.unwrap();
    let connack = packet(&mut client).await;
    assert_eq!((connack[0], connack[3]), (0x20, 0), "{connack:?}");
    client.write_all(&[&b"\x82\x07\x00\x01\x00\x00\x01t"[..], &[qos]].concat()).await.unwrap();
    assert_eq!(packet(&mut client).await, [0x90, 4, 0, 1, 0, qos]);
    client
}

/// A packet of less than 128 bytes.
async fn packet(client: &mut DuplexStream) -> Vec<u8> {
    let mut packet = vec![0; 2];
    let read = async {
        client.read_exact(&mut packet).await.unwrap();
        let len = usize::from(packet[1]);
        packet.resize(2 + len, 0);
        client.read_exact(&mut packet[2..]).await.unwrap();
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), read).await.expect("a packet");
    packet
}

/// Waits until everything that `client` sent before was taken.
async fn taken(client: &mut DuplexStream) {
    client.write_all(&[0xc0, 0]).await.unwrap();
    assert_eq!(packet(client).await, [0xd0, 0]);
}

#[tokio::test]
async fn what_a_client_was_not_sent_or_refused_is_not_delivered_and_waits_for_its_next_connection()
{
    let now = Arc::new(std::sync::atomic::AtomicU64::new(1_000));
    let opened = Disk::default().open(&now);
    let (config, everybody) = (BrokerConfig::default(), Arc::new(AllowAll));
    let broker = Broker::restored(config, Arc::new(Telemetry), everybody, Some(opened));
    let long = Parcel { payload: Bytes::from(vec![b'p'; 90]), expires_ms: 900_000, ..parcel(1) };
    let short = Parcel { expires_ms: 900_000, ..parcel(2) };
    for qos in [0, 1] {
        // The connection cannot take the long one, and refuses the short one where it can.
        let mut narrow = client(&broker, 60, qos).await;
        if qos == 0 {
            broker.send(long.clone()).await.unwrap();
        } else {
            broker.send(short.clone()).await.unwrap();
            let publish = packet(&mut narrow).await;
            let id = publish[5..7].to_vec();
            assert_eq!((publish[0], publish.last()), (0x32, Some(&b'p')), "{publish:?}");
            narrow.write_all(&[&[0x40, 3][..], &id, &[0x97]].concat()).await.unwrap();
        }
        taken(&mut narrow).await;
        // It is not tried again while this connection lasts.
        broker.shared.sweep_parcels();
        taken(&mut narrow).await;
        assert_eq!(broker.parcel(1).unwrap().state, State::Waiting);
        narrow.write_all(&[0xe0, 0]).await.unwrap();
        let mut rest = Vec::new();
        narrow.read_to_end(&mut rest).await.unwrap();
        assert!(rest.is_empty(), "{rest:?}");
    }
    assert_eq!(broker.parcel(2).unwrap().state, State::Waiting);
    let mut wide = client(&broker, 127, 1).await;
    for (id, len) in [(1, 90), (2, 1)] {
        let publish = packet(&mut wide).await;
        let payload = publish.iter().rev().take_while(|byte| **byte == b'p').count();
        assert_eq!((publish[0], payload), (0x32, len), "{publish:?}");
        wide.write_all(&[&[0x40, 2][..], &publish[5..7]].concat()).await.unwrap();
        let delivered = broker.parcel_when(id, |it| it.state != State::Waiting);
        let delivered = tokio::time::timeout(std::time::Duration::from_secs(20), delivered).await;
        assert_eq!(delivered.unwrap().unwrap().state, State::Delivered { at_ms: 1_000 });
    }
}

#[tokio::test]
async fn a_parcel_that_is_sent_again_is_known_once_it_is_on_disk() {
    let now = Arc::new(std::sync::atomic::AtomicU64::new(1_000));
    let disk = Disk::default();
    let opened = disk.open(&now);
    let (config, everybody) = (BrokerConfig::default(), Arc::new(AllowAll));
    let broker = Broker::restored(config, Arc::new(Telemetry), everybody, Some(opened));
    disk.fails.store(true, std::sync::atomic::Ordering::SeqCst);
    for _ in 0..2 {
        assert_eq!(broker.send(parcel(1)).await, Err(SendError::NotDurable));
    }
    disk.fails.store(false, std::sync::atomic::Ordering::SeqCst);
    while broker.send(parcel(1)).await == Err(SendError::NotDurable) {}
    assert!(matches!(broker.send(parcel(1)).await, Err(SendError::Known(_))));
    assert_eq!(disk.after_power_loss().open(&now).parcels().len(), 1);
}
