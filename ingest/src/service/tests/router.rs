//! The router's thread is killed on purpose.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;

/// An MQTT 3.1.1 client made of bytes.
struct Client(TcpStream);

impl Client {
    async fn connect(address: SocketAddr, id: &str) -> Self {
        let mut client = Self(TcpStream::connect(address).await.unwrap());
        let body = [b"\0\x04MQTT\x04\x02\0\0".as_slice(), &text(id)].concat();
        client.send(0x10, &body).await;
        assert_eq!(client.packet().await, (0x20, vec![0, 0]));
        client
    }

    async fn send(&mut self, first: u8, body: &[u8]) {
        let mut bytes = vec![first];
        let mut len = body.len();
        while len > 0x7f {
            bytes.push((len & 0x7f) as u8 | 0x80);
            len >>= 7;
        }
        bytes.push(len as u8);
        bytes.extend_from_slice(body);
        self.0.write_all(&bytes).await.unwrap();
    }

    async fn packet(&mut self) -> (u8, Vec<u8>) {
        let packet = async {
            let first = self.0.read_u8().await.unwrap();
            let (mut len, mut shift) = (0, 0);
            loop {
                let byte = self.0.read_u8().await.unwrap();
                len |= usize::from(byte & 0x7f) << shift;
                shift += 7;
                if byte & 0x80 == 0 {
                    break;
                }
            }
            let mut body = vec![0; len];
            self.0.read_exact(&mut body).await.unwrap();
            (first, body)
        };
        tokio::time::timeout(DEADLINE, packet).await.expect("a packet")
    }

    /// Publishes a batch at QoS 1 and waits for its PUBACK.
    async fn publish(&mut self, seq: u32) {
        let body = [&text(TOPIC), [0, 1].as_slice(), &batch(seq)].concat();
        self.send(0x32, &body).await;
        assert_eq!(self.packet().await, (0x40, vec![0, 1]), "a PUBACK");
    }
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u16).to_be_bytes(), text.as_bytes()].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_router_is_dead_ingestion_goes_on_and_readiness_says_so_and_it_comes_back() {
    let config = config();
    let listeners = Listeners::open(&config).await.unwrap();
    let address = listeners.mqtt.first().unwrap().local_addr().unwrap();
    let service = start_on(listeners, &SimIo::new(), config).await.unwrap();
    let mut station = Client::connect(address, "bs0001").await;
    let mut subscriber = Client::connect(address, "watcher").await;
    subscriber.send(0x82, &[&[0, 1], text("nb1/#").as_slice(), &[0]].concat()).await;
    assert_eq!(subscriber.packet().await, (0x90, vec![0, 1, 0]));
    let (first, live) = {
        station.publish(1).await;
        subscriber.packet().await
    };
    assert!(first == 0x30 && live.ends_with(&batch(1)));
    assert_eq!(condition(&service, Component::Router), None);

    let down = service.view.broker.crash_router();
    wait_for(|| condition(&service, Component::Router).is_some()).await;
    assert!(service.view.readiness().is_ready(), "telemetry is acknowledged all the same");
    for seq in 2..12 {
        station.publish(seq).await;
    }
    assert_eq!(rows(&service).await, 22);
    assert!(condition(&service, Component::Router).is_some());

    drop(down);
    wait_for(|| condition(&service, Component::Router).is_none()).await;
    assert_eq!(service.view.broker.health().router_restarts, 1);
    station.publish(12).await;
    // What was published meanwhile may have waited for the new router, or be lost: it is live.
    while !subscriber.packet().await.1.ends_with(&batch(12)) {}
    assert_eq!(rows(&service).await, 24);
    let books = service.view.conservation();
    assert_eq!((books.accepted, books.residue()), (24, 0));
    assert!(stop(service).await.is_clean());
}
