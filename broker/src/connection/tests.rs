use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt, DuplexStream};
use tokio::sync::Notify;

use super::*;
use crate::Broker;
use crate::config::BrokerConfig;
use crate::handler::{AckTicket, Acknowledgement, Busy, Lane, Publish, PublishHandler};

/// Busy until told otherwise; then everything is durable at once.
#[derive(Default)]
struct Gate {
    open: AtomicBool,
    opened: Notify,
}

impl Gate {
    fn open(&self) {
        self.open.store(true, Ordering::SeqCst);
        self.opened.notify_waiters();
    }
}

impl PublishHandler for Gate {
    fn claims(&self, _: &str) -> Option<Lane> {
        Some(Lane::Normal)
    }

    fn handle(&self, publish: Publish, ticket: AckTicket) -> Result<(), Busy> {
        if !self.open.load(Ordering::SeqCst) {
            return Err(Busy { publish, ticket });
        }
        ticket.durable(Acknowledgement::default());
        Ok(())
    }

    fn ready(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(self.opened.notified())
    }
}

/// CONNECT, 3.1.1, clean, keep-alive 10 s, client id "c".
const CONNECT: &[u8] = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x0a\x00\x01c";
/// PUBLISH, QoS 1, topic "t", id 1, payload "p".
const PUBLISH: &[u8] = b"\x32\x06\x00\x01t\x00\x01p";

async fn connected(gate: &Arc<Gate>, config: BrokerConfig) -> DuplexStream {
    let broker = Broker::new(config, gate.clone());
    let (mut client, server) = tokio::io::duplex(64 * 1024);
    let peer = crate::auth::Peer::tcp(([127, 0, 0, 1], 1).into());
    tokio::spawn(serve(Arc::clone(&broker.shared), server, peer));
    client.write_all(CONNECT).await.unwrap();
    let mut connack = [0; 4];
    client.read_exact(&mut connack).await.unwrap();
    assert_eq!(connack, [0x20, 2, 0, 0]);
    client
}

async fn rest(mut client: DuplexStream) -> Vec<u8> {
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).await.unwrap();
    rest
}

#[tokio::test(start_paused = true)]
async fn mqtt_3_1_2_24_a_client_not_heard_for_one_and_a_half_keep_alives_is_disconnected() {
    let mut client = connected(&Arc::default(), BrokerConfig::default()).await;
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_secs(14)).await;
        client.write_all(&[0xc0, 0]).await.unwrap();
        let mut pong = [0; 2];
        client.read_exact(&mut pong).await.unwrap();
        assert_eq!(pong, [0xd0, 0]);
    }
    let last = Instant::now();
    assert!(rest(client).await.is_empty());
    assert_eq!(last.elapsed().as_secs(), 15);
}

#[tokio::test(start_paused = true)]
async fn the_keep_alive_stands_still_while_we_do_not_read() {
    let gate = Arc::<Gate>::default();
    let mut client = connected(&gate, BrokerConfig::default()).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    client.write_all(PUBLISH).await.unwrap();
    // The handler is busy for longer than any keep-alive: the client's pings are not read.
    tokio::time::sleep(Duration::from_secs(3600)).await;
    client.write_all(&[0xc0, 0]).await.unwrap();
    gate.open();
    let mut answer = [0; 6];
    client.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, [0x40, 2, 0, 1, 0xd0, 0]);
    // And then it runs again.
    let last = Instant::now();
    assert!(rest(client).await.is_empty());
    assert_eq!(last.elapsed().as_secs(), 15);
}

#[tokio::test(start_paused = true)]
async fn the_keep_alive_stands_still_while_a_slow_client_takes_a_large_message() {
    let gate = Arc::<Gate>::default();
    gate.open();
    let mut client = connected(&gate, BrokerConfig::default()).await;
    client.write_all(b"\x82\x06\x00\x01\x00\x01t\x01").await.unwrap();
    let mut suback = [0; 5];
    client.read_exact(&mut suback).await.unwrap();
    // 600,000 bytes of payload at QoS 1, acknowledged and sent back.
    let publish = [b"\x32\xc5\xcf\x24\x00\x01t\x00\x01".as_slice(), &[7; 600_000]].concat();
    client.write_all(&publish).await.unwrap();
    let mut left = 4 + publish.len();
    while left > 0 {
        tokio::time::sleep(Duration::from_secs(14)).await;
        client.write_all(&[0xc0, 0]).await.unwrap();
        let mut piece = vec![0; left.min(50_000)];
        client.read_exact(&mut piece).await.unwrap();
        left -= piece.len();
    }
}

#[tokio::test(start_paused = true)]
async fn what_came_with_disconnect_and_is_durable_is_acknowledged() {
    let gate = Arc::<Gate>::default();
    gate.open();
    let mut client = connected(&gate, BrokerConfig::default()).await;
    client.write_all(&[PUBLISH, &[0xe0, 0]].concat()).await.unwrap();
    assert_eq!(rest(client).await, [0x40, 2, 0, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_comes_back_for_each_burst_is_paced_all_the_same() {
    let gate = Arc::<Gate>::default();
    gate.open();
    let config = BrokerConfig { max_publishes_per_second: 10, ..BrokerConfig::default() };
    let broker = Broker::new(config, gate);
    let begun = Instant::now();
    for _ in 0..5 {
        let (mut client, server) = tokio::io::duplex(64 * 1024);
        let peer = crate::auth::Peer::tcp(([127, 0, 0, 1], 1).into());
        tokio::spawn(serve(Arc::clone(&broker.shared), server, peer));
        client.write_all(CONNECT).await.unwrap();
        client.read_exact(&mut [0; 4]).await.unwrap();
        client.write_all(&PUBLISH.repeat(20)).await.unwrap();
        client.read_exact(&mut [0; 4 * 20]).await.unwrap();
        drop(client);
    }
    // The first 20 publishes, and then the rate: the last 20 are read when 80 have been paid.
    assert!(begun.elapsed() >= Duration::from_secs(6), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn wills_are_bounded_together_and_give_their_room_back() {
    let config = BrokerConfig { total_will_bytes: 500, ..BrokerConfig::default() };
    let broker = Broker::new(config, Arc::<Gate>::default());
    let open = async |id: u8| {
        let (mut client, server) = tokio::io::duplex(64 * 1024);
        let peer = crate::auth::Peer::tcp(([127, 0, 0, 1], 1).into());
        tokio::spawn(serve(Arc::clone(&broker.shared), server, peer));
        // A will of 100 bytes.
        let will = [b"\x00\x01w\x00\x64".as_slice(), &[7; 100]].concat();
        let body = [b"\x00\x04MQTT\x04\x06\x00\x0a\x00\x01".as_slice(), &[id], &will].concat();
        client
            .write_all(&[&[0x10, u8::try_from(body.len()).unwrap()], &*body].concat())
            .await
            .unwrap();
        let mut connack = [0; 4];
        client.read_exact(&mut connack).await.unwrap();
        (client, connack[3])
    };
    let (_first, code) = open(b'1').await;
    assert_eq!(code, 0);
    let taken = broker.shared.wills.used();
    let (second, code) = open(b'2').await;
    // 3.1.1 has no better word than that the server is unavailable.
    assert_eq!((code, open(b'3').await.1), (0, 3));
    // A will that is not published any more has no room.
    { second }.write_all(&[0xe0, 0]).await.unwrap();
    while broker.shared.wills.used() > taken {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(open(b'4').await.1, 0);
}

#[tokio::test(start_paused = true)]
async fn bytes_in_flight_are_bounded_by_not_reading() {
    let gate = Arc::<Gate>::default();
    let config = BrokerConfig { max_in_flight_bytes: 1000, ..BrokerConfig::default() };
    let mut client = connected(&gate, config).await;
    let burst = PUBLISH.repeat(100_000);
    let written = tokio::time::timeout(Duration::from_secs(60), client.write_all(&burst)).await;
    assert!(written.is_err(), "the broker read on");
    gate.open();
    let mut ack = [0; 4];
    client.read_exact(&mut ack).await.unwrap();
    assert_eq!(ack, [0x40, 2, 0, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_of_what_is_written_is_cut_after_the_write_timeout() {
    let gate = Arc::<Gate>::default();
    gate.open();
    let config = BrokerConfig { write_timeout: Duration::from_secs(7), ..BrokerConfig::default() };
    let mut client = connected(&gate, config).await;
    let begun = Instant::now();
    // Pings until the broker, whose answers nobody takes, reads no more.
    while client.write_all(&[0xc0, 0].repeat(1000)).await.is_ok() {}
    assert_eq!(begun.elapsed().as_secs(), 7);
}

#[tokio::test(start_paused = true)]
async fn connect_must_come_in_time() {
    let broker = Broker::new(BrokerConfig::default(), Arc::<Gate>::default());
    let (mut client, server) = tokio::io::duplex(1024);
    let peer = crate::auth::Peer::tcp(([127, 0, 0, 1], 1).into());
    tokio::spawn(serve(Arc::clone(&broker.shared), server, peer));
    client.write_all(&CONNECT[..5]).await.unwrap();
    let begun = Instant::now();
    assert!(rest(client).await.is_empty());
    assert_eq!(begun.elapsed(), BrokerConfig::default().connect_timeout);
}

#[tokio::test(start_paused = true)]
async fn the_bound_on_all_connections_together_stops_the_reading_of_each() {
    let gate = Arc::<Gate>::default();
    let config = BrokerConfig { total_in_flight_bytes: 300, ..BrokerConfig::default() };
    let broker = Broker::new(config, gate.clone());
    let mut clients = Vec::new();
    for id in [b'1', b'2', b'3'] {
        let (mut client, server) = tokio::io::duplex(64 * 1024);
        let peer = crate::auth::Peer::tcp(([127, 0, 0, 1], 1).into());
        tokio::spawn(serve(Arc::clone(&broker.shared), server, peer));
        let mut connect = CONNECT.to_vec();
        connect[14] = id;
        client.write_all(&connect).await.unwrap();
        let mut connack = [0; 4];
        client.read_exact(&mut connack).await.unwrap();
        clients.push(client);
    }
    for client in clients.iter_mut().take(2) {
        client.write_all(&PUBLISH.repeat(2)).await.unwrap();
        // Time for the broker to take it.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(broker.shared.in_flight.is_full());
    // The third has published nothing. One read of it was under way, and then it is not read all the
    // same; nor does its keep-alive end it.
    let third = clients.get_mut(2).unwrap();
    let mut pong = [0; 2];
    third.write_all(&[0xc0, 0]).await.unwrap();
    third.read_exact(&mut pong).await.unwrap();
    third.write_all(&[0xc0, 0]).await.unwrap();
    let answered = tokio::time::timeout(Duration::from_secs(60), third.read_exact(&mut pong));
    assert!(answered.await.is_err(), "the broker read on");
    gate.open();
    third.read_exact(&mut pong).await.unwrap();
    assert_eq!(pong, [0xd0, 0]);
    assert_eq!(broker.shared.in_flight.used(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_publishes_too_fast_is_read_more_slowly_and_loses_nothing() {
    let gate = Arc::<Gate>::default();
    gate.open();
    let config = BrokerConfig { max_publishes_per_second: 10, ..BrokerConfig::default() };
    let mut client = connected(&gate, config).await;
    let begun = Instant::now();
    // One second of the rate may come at once; the other 400 are 40 seconds, four keep-alives.
    client.write_all(&PUBLISH.repeat(410)).await.unwrap();
    let mut answers = vec![0; 4 * 410];
    client.read_exact(&mut answers).await.unwrap();
    assert!(answers.chunks(4).all(|ack| ack == [0x40, 2, 0, 1]));
    // All of it fits one read, so what it waits with is the next one.
    client.write_all(&[0xc0, 0]).await.unwrap();
    client.read_exact(&mut [0; 2]).await.unwrap();
    assert_eq!(begun.elapsed().as_secs(), 40);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_sends_too_many_bytes_is_read_more_slowly() {
    let gate = Arc::<Gate>::default();
    gate.open();
    let config = BrokerConfig { max_bytes_per_second: 1000, ..BrokerConfig::default() };
    let mut client = connected(&gate, config).await;
    let begun = Instant::now();
    client.write_all(&PUBLISH.repeat(2500)).await.unwrap();
    let mut acks = vec![0; 4 * 2500];
    client.read_exact(&mut acks).await.unwrap();
    client.write_all(&[0xc0, 0]).await.unwrap();
    client.read_exact(&mut [0; 2]).await.unwrap();
    let elapsed = begun.elapsed();
    assert!((19..=20).contains(&elapsed.as_secs()), "20,000 bytes took {elapsed:?}");
}

#[tokio::test(start_paused = true)]
async fn who_holds_memory_with_a_part_of_a_packet_holds_up_nobody_and_not_for_long() {
    let gate = Arc::<Gate>::default();
    gate.open();
    let config = BrokerConfig { total_buffer_bytes: 10_000, ..BrokerConfig::default() };
    let broker = Broker::new(config, gate.clone());
    let mut clients = Vec::new();
    for id in [b'1', b'2'] {
        let (mut client, server) = tokio::io::duplex(256 * 1024);
        let peer = crate::auth::Peer::tcp(([127, 0, 0, 1], 1).into());
        tokio::spawn(serve(Arc::clone(&broker.shared), server, peer));
        let mut connect = CONNECT.to_vec();
        connect[14] = id;
        client.write_all(&connect).await.unwrap();
        client.read_exact(&mut [0; 4]).await.unwrap();
        clients.push(client);
    }
    let [greedy, modest] = &mut clients[..] else { unreachable!() };
    // 100,000 bytes of a PUBLISH of 600,009.
    greedy.write_all(b"\x32\xc5\xcf\x24\x00\x01t\x00\x01").await.unwrap();
    greedy.write_all(&[7; 100_000]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(broker.shared.buffers.is_full());
    // A read is passed by at most one read of each connection.
    assert!(broker.shared.buffers.used() <= 10_000 + READ, "{}", broker.shared.buffers.used());
    let begun = Instant::now();
    for _ in 0..10 {
        modest.write_all(PUBLISH).await.unwrap();
        modest.read_exact(&mut [0; 4]).await.unwrap();
    }
    assert_eq!(begun.elapsed(), Duration::ZERO);
    let mut last = Vec::new();
    greedy.read_to_end(&mut last).await.unwrap();
    // 3.1.1 has no word for it.
    // Counted from when the budget was full, a moment before.
    assert_eq!((begun.elapsed().as_secs_f64().round(), last.len()), (5.0, 0));
    assert_eq!(broker.shared.buffers.used(), 0);
}

#[tokio::test]
async fn a_connection_is_a_small_future() {
    let broker = Broker::new(BrokerConfig::default(), Arc::<Gate>::default());
    let (_client, server) = tokio::io::duplex(1024);
    let peer = crate::auth::Peer::tcp(([127, 0, 0, 1], 1).into());
    let serving = serve(Arc::clone(&broker.shared), server, peer);
    // Most of what an idle publisher costs; see the bench `connections`.
    assert!(size_of_val(&serving) <= 4096, "{}", size_of_val(&serving));
}
