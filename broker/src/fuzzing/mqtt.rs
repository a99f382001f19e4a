//! Bytes to packets: never a panic, the same packets however the bytes arrive, and what is written
//! again reads the same.

use bytes::BytesMut;

use crate::handler::QoS;
use crate::wire::decode::Decoder;
use crate::wire::encode::{self, AckKind, Outgoing};
use crate::wire::{Packet, Publish, PublishProperties, Version, WireError};

/// Small, so that packets too large are met.
const MAX_PACKET: usize = 2048;

/// The first byte: cuts in the lower seven bits, and a CONNECT before everything else in the upper one.
const CONNECT_FIRST: u8 = 0x80;

fn connect(version: Version) -> &'static [u8] {
    match version {
        Version::V311 => b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x0a\x00\x01c",
        Version::V5 => b"\x10\x0e\x00\x04MQTT\x05\x02\x00\x0a\x00\x00\x01c",
    }
}

pub(super) fn run(version: Version, data: &[u8]) {
    let Some((&how, bytes)) = data.split_first() else { return };
    let mut stream = Vec::with_capacity(bytes.len() + 16);
    if how & CONNECT_FIRST != 0 {
        stream.extend_from_slice(connect(version));
    }
    stream.extend_from_slice(bytes);
    let whole = decode(MAX_PACKET, [stream.as_slice()]);
    if let Some(cuts) = Cuts::new(how & !CONNECT_FIRST, &stream) {
        assert_eq!(decode(MAX_PACKET, cuts), whole, "the cut decides what is read");
    }
    let spoken = match whole.0.first() {
        Some(Packet::Connect(connect)) => connect.version,
        _ => return,
    };
    for packet in whole.0.iter().skip(1) {
        round_trip(spoken, packet);
    }
}

/// The packets in the pieces, and the error that ended them.
fn decode<'a>(
    max_packet: usize,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<Packet>, Option<WireError>) {
    let (mut decoder, mut input) = (Decoder::new(max_packet), BytesMut::new());
    let mut packets = Vec::new();
    for piece in pieces {
        input.extend_from_slice(piece);
        loop {
            match decoder.next(&mut input) {
                Ok(Some(packet)) => packets.push(packet),
                Ok(None) => break,
                Err(error) => return (packets, Some(error)),
            }
        }
    }
    (packets, None)
}

/// Pieces of 1 to 16 bytes, by a small generator.
struct Cuts<'a> {
    rest: &'a [u8],
    state: u32,
}

impl<'a> Cuts<'a> {
    fn new(seed: u8, rest: &'a [u8]) -> Option<Self> {
        (seed != 0).then_some(Self { rest, state: seed.into() })
    }
}

impl<'a> Iterator for Cuts<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        self.state = self.state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let len = 1 + (self.state >> 28) as usize;
        let (piece, rest) = self.rest.split_at(len.min(self.rest.len()));
        self.rest = rest;
        (!piece.is_empty()).then_some(piece)
    }
}

fn round_trip(version: Version, packet: &Packet) {
    let ack = |kind, ack: &crate::wire::Ack| {
        let mut out = BytesMut::new();
        encode::ack(&mut out, version, kind, ack.id, ack.reason, &[]);
        assert_eq!(read_again(version, &out), *packet);
    };
    match packet {
        Packet::Publish(publish) => {
            assert_eq!(written(version, publish), *packet);
            let plain = Publish { properties: PublishProperties::default(), ..publish.clone() };
            assert_eq!(written(Version::V311, publish), Packet::Publish(plain));
        }
        Packet::PubAck(a) => ack(AckKind::Ack, a),
        Packet::PubRec(a) => ack(AckKind::Received, a),
        Packet::PubRel(a) => ack(AckKind::Release, a),
        Packet::PubComp(a) => ack(AckKind::Complete, a),
        _ => {}
    }
}

/// A publish as a subscriber would get it, read as the server reads.
fn written(version: Version, publish: &Publish) -> Packet {
    assert!((publish.id == 0) == (publish.qos == QoS::AtMostOnce));
    let outgoing = Outgoing {
        dup: publish.dup,
        qos: publish.qos,
        retain: publish.retain,
        id: publish.id,
        topic: &publish.topic,
        alias: None,
        payload: &publish.payload,
        properties: &publish.properties,
        subscription_ids: &[],
    };
    let mut out = BytesMut::new();
    encode::publish(&mut out, version, &outgoing);
    assert_eq!(out.len(), encode::publish_len(version, &outgoing));
    read_again(version, &out)
}

fn read_again(version: Version, bytes: &[u8]) -> Packet {
    let (mut packets, error) = decode(usize::MAX, [connect(version), bytes]);
    assert_eq!((packets.len(), error), (2, None), "what we write is no packet to us");
    packets.remove(1)
}
