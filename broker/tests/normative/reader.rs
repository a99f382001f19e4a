//! What a server sends, read from its bytes, and checked as strictly as a receiver may: reserved flags,
//! shortest lengths, properties that do not belong or come twice, bytes left over. So every test here is
//! a test of the packets' form as well.

use super::wire::property as p;
use super::wire::{Properties, Publish, V4, V5, Value, Version, width};

/// What a server sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet {
    ConnAck {
        present: bool,
        code: u8,
        properties: Properties,
    },
    Publish(Publish),
    /// `kind` is the first byte.
    Ack {
        kind: u8,
        id: u16,
        reason: u8,
        properties: Properties,
    },
    SubAck {
        id: u16,
        properties: Properties,
        codes: Vec<u8>,
    },
    UnsubAck {
        id: u16,
        properties: Properties,
        codes: Vec<u8>,
    },
    PingResp,
    Disconnect {
        reason: u8,
        properties: Properties,
    },
}

/// A packet of a server.
pub fn parse(version: Version, packet: &[u8]) -> Packet {
    let length_bytes = 1 + packet[1..].iter().position(|byte| byte & 0x80 == 0).unwrap();
    assert!(length_bytes < 5, "a remaining length has at most four bytes: {packet:02x?}");
    let shortest = length_bytes == 1 || packet[length_bytes] != 0;
    assert!(shortest, "a remaining length is as short as it can be: {packet:02x?}");
    let mut cursor = Cursor { version, rest: &packet[length_bytes + 1..] };
    let parsed = cursor.parse(packet[0]);
    assert!(cursor.rest.is_empty(), "bytes are left over in {packet:02x?}");
    parsed
}

struct Cursor<'a> {
    version: Version,
    rest: &'a [u8],
}

impl Cursor<'_> {
    fn parse(&mut self, first: u8) -> Packet {
        let (kind, flags) = (first & 0xf0, first & 0x0f);
        let expected = if kind == 0x60 { 2 } else { 0 };
        assert!(kind == 0x30 || flags == expected, "flags of packet type {kind:#x}: {flags:#x}");
        let five = self.version == V5;
        match kind {
            0x20 => {
                let (present, code) = (self.take(1)[0], self.take(1)[0]);
                assert!(present < 2, "reserved flags of CONNACK: {present:#x}");
                let properties = self.properties(CONNACK);
                if self.version == V4 {
                    assert!(code < 6, "return code {code:#x} of a 3.1.1 CONNACK");
                } else {
                    assert!(CONNACK_CODES.contains(&code), "reason code {code:#x} of a CONNACK");
                }
                Packet::ConnAck { present: present == 1, code, properties }
            }
            0x30 => {
                let (dup, qos, retain) = (flags & 8 != 0, flags >> 1 & 3, flags & 1 != 0);
                assert!(qos < 3, "quality of service 3 of a PUBLISH");
                assert!(!(dup && qos == 0), "DUP of a PUBLISH of quality of service 0");
                let topic = self.text();
                assert!(!topic.contains(['+', '#']), "a wildcard in the topic name {topic:?}");
                let id = if qos > 0 { self.u16() } else { 0 };
                assert!(qos == 0 || id > 0, "a packet identifier of 0");
                let properties = self.properties(PUBLISH);
                let payload = std::mem::take(&mut self.rest).to_vec();
                Packet::Publish(Publish { dup, qos, retain, id, topic, properties, payload })
            }
            0x40..=0x70 => {
                let id = self.u16();
                let (mut reason, mut properties) = (0, Properties::default());
                if five && !self.rest.is_empty() {
                    reason = self.take(1)[0];
                    if !self.rest.is_empty() {
                        properties = self.properties(REASONS);
                    }
                }
                let codes: &[u8] = match kind {
                    0x40 | 0x50 => &PUBACK_CODES,
                    _ => &[0, 0x92],
                };
                assert!(codes.contains(&reason), "reason {reason:#x} of packet type {kind:#x}");
                Packet::Ack { kind: first, id, reason, properties }
            }
            0x90 => {
                let (id, properties) = (self.u16(), self.properties(REASONS));
                let codes = std::mem::take(&mut self.rest).to_vec();
                let known: &[u8] = if five { &SUBACK_CODES } else { &[0, 1, 2, 0x80] };
                assert!(codes.iter().all(|code| known.contains(code)), "SUBACK codes {codes:02x?}");
                Packet::SubAck { id, properties, codes }
            }
            0xb0 => {
                let (id, properties) = (self.u16(), self.properties(REASONS));
                let codes = if five { std::mem::take(&mut self.rest).to_vec() } else { Vec::new() };
                let known = [0, 0x11, 0x80, 0x83, 0x87, 0x8f, 0x91];
                assert!(codes.iter().all(|code| known.contains(code)), "UNSUBACK {codes:02x?}");
                Packet::UnsubAck { id, properties, codes }
            }
            0xd0 => Packet::PingResp,
            0xe0 => {
                assert!(five, "a 3.1.1 server sends no DISCONNECT");
                let (mut reason, mut properties) = (0, Properties::default());
                if !self.rest.is_empty() {
                    reason = self.take(1)[0];
                    if !self.rest.is_empty() {
                        properties = self.properties(DISCONNECT_ALLOWED);
                    }
                }
                assert!(DISCONNECT_CODES.contains(&reason), "reason {reason:#x} of a DISCONNECT");
                Packet::Disconnect { reason, properties }
            }
            _ => panic!("a server sends no packet of type {kind:#x}"),
        }
    }

    fn take(&mut self, len: usize) -> &[u8] {
        let (taken, rest) = self.rest.split_at(len);
        self.rest = rest;
        taken
    }

    fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.take(2).try_into().unwrap())
    }

    fn binary(&mut self) -> Vec<u8> {
        let len = self.u16();
        self.take(len.into()).to_vec()
    }

    fn text(&mut self) -> String {
        let text = String::from_utf8(self.binary()).unwrap();
        assert!(!text.contains('\0'), "U+0000 in {text:?}");
        text
    }

    fn varint(&mut self) -> usize {
        let (mut value, mut shift) = (0, 0);
        loop {
            let byte = self.take(1)[0];
            value |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                assert!(byte != 0 || shift == 7, "a variable byte integer is not shortest");
                return value;
            }
        }
    }

    fn properties(&mut self, allowed: &[u8]) -> Properties {
        let mut properties = Properties::default();
        if self.version == V4 {
            return properties;
        }
        let len = self.varint();
        let mut block = Cursor { version: V5, rest: self.take(len) };
        while !block.rest.is_empty() {
            let id = block.take(1)[0];
            assert!(allowed.contains(&id), "property {id} does not belong in its packet");
            let many = id == p::USER_PROPERTY || id == p::SUBSCRIPTION_ID;
            assert!(many || properties.get(id).is_none(), "property {id} comes twice");
            let value = match id {
                p::CONTENT_TYPE
                | p::RESPONSE_TOPIC
                | p::ASSIGNED_CLIENT_ID
                | p::AUTHENTICATION_METHOD
                | p::RESPONSE_INFORMATION
                | p::SERVER_REFERENCE
                | p::REASON_STRING => Value::Text(block.text()),
                p::CORRELATION_DATA | p::AUTHENTICATION_DATA => Value::Binary(block.binary()),
                p::USER_PROPERTY => Value::Pair(block.text(), block.text()),
                _ => Value::Number(match width(id) {
                    0 => u32::try_from(block.varint()).unwrap(),
                    width => block.take(width).iter().fold(0, |n, byte| n << 8 | u32::from(*byte)),
                }),
            };
            properties = Properties([properties.0, vec![(id, value)]].concat());
        }
        properties
    }
}

const CONNACK: &[u8] = &[
    p::SESSION_EXPIRY,
    p::ASSIGNED_CLIENT_ID,
    p::SERVER_KEEP_ALIVE,
    p::AUTHENTICATION_METHOD,
    p::AUTHENTICATION_DATA,
    p::RESPONSE_INFORMATION,
    p::SERVER_REFERENCE,
    p::REASON_STRING,
    p::RECEIVE_MAXIMUM,
    p::TOPIC_ALIAS_MAXIMUM,
    p::MAXIMUM_QOS,
    p::RETAIN_AVAILABLE,
    p::USER_PROPERTY,
    p::MAXIMUM_PACKET_SIZE,
    p::WILDCARDS_AVAILABLE,
    p::SUBSCRIPTION_IDS_AVAILABLE,
    p::SHARED_AVAILABLE,
];
const PUBLISH: &[u8] = &[
    p::PAYLOAD_FORMAT,
    p::MESSAGE_EXPIRY,
    p::CONTENT_TYPE,
    p::RESPONSE_TOPIC,
    p::CORRELATION_DATA,
    p::SUBSCRIPTION_ID,
    p::TOPIC_ALIAS,
    p::USER_PROPERTY,
];
const REASONS: &[u8] = &[p::REASON_STRING, p::USER_PROPERTY];
/// Without the session expiry, which only clients may send.
const DISCONNECT_ALLOWED: &[u8] = &[p::REASON_STRING, p::USER_PROPERTY, p::SERVER_REFERENCE];

const CONNACK_CODES: [u8; 22] = [
    0x00, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x8c, 0x90, 0x95, 0x97,
    0x99, 0x9a, 0x9b, 0x9c, 0x9d, 0x9f,
];
const PUBACK_CODES: [u8; 9] = [0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99];
const SUBACK_CODES: [u8; 12] =
    [0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8f, 0x91, 0x97, 0x9e, 0xa1, 0xa2];
/// Those that a server may send.
const DISCONNECT_CODES: [u8; 28] = [
    0x00, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8b, 0x8d, 0x8e, 0x8f, 0x90, 0x93, 0x94, 0x95, 0x96,
    0x97, 0x98, 0x99, 0x9a, 0x9b, 0x9c, 0x9d, 0x9e, 0x9f, 0xa0, 0xa1, 0xa2,
];
