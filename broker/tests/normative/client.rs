//! A client that does what a test tells it, packet by packet.

use std::collections::VecDeque;

use super::support::{Raw, Running, within};
use super::wire::{
    self, Connect, DISCONNECT, PINGREQ, PUBACK, PUBCOMP, PUBREC, PUBREL, Packet, Properties,
    Publish, V5, Version,
};
use tokio::io::AsyncReadExt;

/// One connection.
pub struct Client {
    pub version: Version,
    pub raw: Raw,
    /// Packets that came while another was waited for.
    early: VecDeque<Packet>,
}

/// What CONNACK said.
#[derive(Debug)]
pub struct Accepted {
    pub present: bool,
    pub code: u8,
    pub properties: Properties,
}

impl Client {
    /// A socket on which nothing has been said.
    pub async fn silent(running: &Running, version: Version) -> Self {
        Self { version, raw: running.raw().await, early: VecDeque::new() }
    }

    /// Sends CONNECT and takes the CONNACK, whatever it says.
    pub async fn connect(
        running: &Running,
        version: Version,
        connect: &Connect,
    ) -> (Self, Accepted) {
        let mut client = Self::silent(running, version).await;
        client.send(&connect.bytes(version)).await;
        match client.packet().await {
            Packet::ConnAck { present, code, properties } => {
                (client, Accepted { present, code, properties })
            }
            other => panic!("{other:?} instead of CONNACK"),
        }
    }

    /// Connects and is let in.
    pub async fn accepted(running: &Running, version: Version, connect: &Connect) -> Self {
        let (client, accepted) = Self::connect(running, version, connect).await;
        assert_eq!(accepted.code, 0, "{accepted:?}");
        client
    }

    /// Connected with a clean session.
    pub async fn new(running: &Running, version: Version, id: &str) -> Self {
        Self::accepted(running, version, &Connect::clean(id)).await
    }

    /// Connected with a session that outlives the connection; the second part is Session Present.
    pub async fn kept(running: &Running, version: Version, id: &str) -> (Self, bool) {
        let connect = Connect::kept(version, id);
        let (client, accepted) = Self::connect(running, version, &connect).await;
        assert_eq!(accepted.code, 0, "{accepted:?}");
        (client, accepted.present)
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        self.raw.send(bytes).await;
    }

    pub async fn publish(&mut self, publish: &Publish) {
        let bytes = publish.bytes(self.version);
        self.send(&bytes).await;
    }

    pub async fn packet(&mut self) -> Packet {
        if let Some(packet) = self.early.pop_front() {
            return packet;
        }
        let packet = self.raw.packet().await;
        wire::parse(self.version, &packet)
    }

    /// The next packet, which is a PUBLISH.
    pub async fn message(&mut self) -> Publish {
        match self.packet().await {
            Packet::Publish(publish) => publish,
            other => panic!("{other:?} instead of a PUBLISH"),
        }
    }

    /// The next packet, which is the acknowledgement `kind` of `id`; its reason code.
    pub async fn acked(&mut self, kind: u8, id: u16) -> u8 {
        match self.packet().await {
            Packet::Ack { kind: k, id: i, reason, .. } if (k, i) == (kind, id) => reason,
            other => panic!("{other:?} instead of acknowledgement {kind:#x} of {id}"),
        }
    }

    /// Publishes, and sees it through to the last acknowledgement; all are of success.
    pub async fn deliver(&mut self, publish: &Publish) {
        self.publish(publish).await;
        match publish.qos {
            0 => self.ping().await,
            1 => assert_eq!(self.acked(PUBACK, publish.id).await, 0, "{publish:?}"),
            _ => {
                assert_eq!(self.acked(PUBREC, publish.id).await, 0, "{publish:?}");
                self.send(&wire::ack(PUBREL, publish.id)).await;
                assert_eq!(self.acked(PUBCOMP, publish.id).await, 0, "{publish:?}");
            }
        }
    }

    /// Acknowledges a message to the end; what else comes meanwhile is kept for later.
    pub async fn take(&mut self, publish: &Publish) {
        match publish.qos {
            0 => {}
            1 => self.send(&wire::ack(PUBACK, publish.id)).await,
            _ => {
                self.send(&wire::ack(PUBREC, publish.id)).await;
                loop {
                    let packet = self.raw.packet().await;
                    match wire::parse(self.version, &packet) {
                        Packet::Ack { kind: PUBREL, id, reason, .. } if id == publish.id => {
                            assert_eq!(reason, 0);
                            break;
                        }
                        other => self.early.push_back(other),
                    }
                }
                self.send(&wire::ack(PUBCOMP, publish.id)).await;
            }
        }
    }

    /// Subscribes to one filter; the code that SUBACK says.
    pub async fn subscribe(&mut self, filter: &str, options: u8) -> u8 {
        self.subscribe_with(&Properties::default(), filter, options).await
    }

    pub async fn subscribe_with(
        &mut self,
        properties: &Properties,
        filter: &str,
        options: u8,
    ) -> u8 {
        let filters = [(filter, options)];
        self.send(&wire::subscribe_with(self.version, 77, properties, &filters)).await;
        match self.packet().await {
            Packet::SubAck { id: 77, codes, .. } if codes.len() == 1 => codes[0],
            other => panic!("{other:?} instead of SUBACK"),
        }
    }

    /// Subscribes, and returns what comes of it at once.
    pub async fn subscribe_and_see(&mut self, filter: &str, options: u8) -> Vec<Publish> {
        self.subscribe(filter, options).await;
        self.send(&PINGREQ.repeat(2)).await;
        let (mut brought, mut answers) = (Vec::new(), 0);
        while answers < 2 {
            match self.packet().await {
                Packet::PingResp => answers += 1,
                Packet::Publish(publish) => brought.push(publish),
                other => panic!("{other:?}"),
            }
        }
        brought
    }

    pub async fn unsubscribe(&mut self, filter: &str) {
        self.send(&wire::unsubscribe(self.version, 78, &[filter])).await;
        match self.packet().await {
            Packet::UnsubAck { id: 78, codes, .. } => {
                assert_eq!(codes, if self.version == V5 { vec![0] } else { vec![] });
            }
            other => panic!("{other:?} instead of UNSUBACK"),
        }
    }

    /// PINGREQ, and PINGRESP as the next packet.
    pub async fn ping(&mut self) {
        self.send(&PINGREQ).await;
        assert_eq!(self.packet().await, Packet::PingResp);
    }

    /// Nothing was on its way to the client. What waited for it when it asked comes at the latest
    /// with the answer, so it asks twice.
    pub async fn silence(&mut self) {
        self.ping().await;
        self.ping().await;
    }

    /// The server ends the connection for a fault of the client's: version 5 is told `reason` first.
    pub async fn refused(&mut self, reason: u8, why: &str) {
        if self.version == V5 {
            match self.packet_or_close().await {
                Some(Packet::Disconnect { reason: r, .. }) if r == reason => {}
                other => panic!("{other:02x?} instead of DISCONNECT {reason:#x}: {why}"),
            }
        }
        self.closed(why).await;
    }

    /// The server closes without another word.
    pub async fn closed(&mut self, why: &str) {
        let packet = self.packet_or_close().await;
        assert!(packet.is_none(), "{packet:02x?} instead of the connection's end: {why}");
    }

    /// The next packet, or `None` where the connection has ended.
    pub async fn packet_or_close(&mut self) -> Option<Packet> {
        if let Some(packet) = self.early.pop_front() {
            return Some(packet);
        }
        let mut first = [0];
        let read = within("a packet or the end", self.raw.stream.read(&mut first)).await;
        // A reset is an end as well: we may have written what nobody read.
        if read.unwrap_or(0) == 0 {
            return None;
        }
        let rest = self.raw.rest_of_packet(first[0]).await;
        Some(wire::parse(self.version, &rest))
    }

    /// How long the next packet is on the wire, or `None` where the connection has ended.
    pub async fn length_or_close(&mut self) -> Option<usize> {
        let mut first = [0];
        let read = within("a packet or the end", self.raw.stream.read(&mut first)).await;
        if read.unwrap_or(0) == 0 {
            return None;
        }
        Some(self.raw.rest_of_packet(first[0]).await.len())
    }

    /// The next packet, which is not longer than `limit`.
    pub async fn next_within(&mut self, limit: usize) -> Packet {
        let packet = self.raw.packet().await;
        assert!(packet.len() <= limit, "{} bytes to a client that takes {limit}", packet.len());
        wire::parse(self.version, &packet)
    }

    /// DISCONNECT, and the connection's end.
    pub async fn leave(mut self) {
        self.send(&DISCONNECT).await;
        self.closed("it left").await;
    }

    /// The connection's end without a word.
    pub fn vanish(self) {
        drop(self);
    }
}
