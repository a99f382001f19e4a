//! The stream of a connection, cut into packets.

use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};

use super::reader::checked_utf8;
use super::reason::Reason;
use super::{Packet, Version, WireError, packets};
use crate::topic;

/// Topic aliases that a v5 client may set. A station publishes to about six topics, and an alias
/// saves it some 25 bytes of radio each time.
pub(crate) const TOPIC_ALIAS_MAXIMUM: u16 = 16;

/// Topics remembered for a connection, so that a name is checked and allocated once and not with
/// every publish.
const REMEMBERED_TOPICS: usize = 8;

/// The decoder of one connection.
#[derive(Debug)]
pub(crate) struct Decoder {
    version: Option<Version>,
    max_packet: usize,
    pub(super) topics: Topics,
}

impl Decoder {
    /// A decoder that takes packets of at most `max_packet` bytes, their fixed header included, and
    /// a CONNECT first.
    pub(crate) fn new(max_packet: usize) -> Self {
        Self { version: None, max_packet, topics: Topics::default() }
    }

    /// The next packet of `input`, if all of it is there.
    ///
    /// # Errors
    /// After an error the stream has no more packets: the connection must be closed.
    pub(crate) fn next(&mut self, input: &mut BytesMut) -> Result<Option<Packet>, WireError> {
        let Some((first, header, body)) = fixed_header(input)? else { return Ok(None) };
        if self.version.is_none() && first >> 4 != packets::CONNECT {
            return Err(WireError::protocol("the first packet is not CONNECT"));
        }
        // 3.1.1 has no such rule.
        if self.version == Some(Version::V5) && header > shortest_header(body) {
            return Err(WireError::malformed("a remaining length that is not shortest"));
        }
        let whole = header.saturating_add(body);
        if whole > self.max_packet {
            return Err(WireError {
                reason: Reason::PACKET_TOO_LARGE,
                what: "a packet longer than max_packet_bytes",
            });
        }
        if input.len() < whole {
            return Ok(None);
        }
        input.advance(header);
        let body = input.split_to(body).freeze();
        let packet = match self.version {
            None => {
                let connect = packets::connect(first, body)?;
                self.version = Some(connect.version);
                Packet::Connect(Box::new(connect))
            }
            Some(version) => packets::read(version, &mut self.topics, first, body)?,
        };
        Ok(Some(packet))
    }
}

/// Whether what has come of the first packet is a CONNECT of MQTT 5: then its sender can be told what
/// is wrong with it [MQTT-4.13.1-1]. 3.1.1 says to close without a word.
pub(crate) fn is_connect_v5(input: &[u8]) -> bool {
    let Ok(Some((first, header, _))) = fixed_header(input) else { return false };
    let body = input.get(header..).unwrap_or_default();
    first >> 4 == packets::CONNECT && body.starts_with(b"\x00\x04MQTT\x05")
}

/// Bytes of the fixed header of a packet of `body` bytes more [MQTT-1.5.5-1].
const fn shortest_header(body: usize) -> usize {
    match body {
        0..0x80 => 2,
        0x80..0x4000 => 3,
        0x4000..0x20_0000 => 4,
        _ => 5,
    }
}

/// First byte, length of the fixed header and length of the rest, or `None` when more is needed.
fn fixed_header(input: &[u8]) -> Result<Option<(u8, usize, usize)>, WireError> {
    let Some((&first, rest)) = input.split_first() else { return Ok(None) };
    let mut len = 0usize;
    for (at, byte) in rest.iter().take(4).enumerate() {
        len |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Ok(Some((first, at + 2, len)));
        }
    }
    if rest.len() >= 4 {
        return Err(WireError::malformed("a remaining length of more than four bytes"));
    }
    Ok(None)
}

/// The topic names of a connection: the last few, and its aliases.
#[derive(Debug, Default)]
pub(super) struct Topics {
    recent: Vec<Arc<str>>,
    next: usize,
    aliases: Vec<Option<Arc<str>>>,
}

impl Topics {
    /// The name that `bytes` are.
    pub(super) fn name(&mut self, bytes: &Bytes) -> Result<Arc<str>, WireError> {
        if let Some(name) = self.recent.iter().find(|name| name.as_bytes() == bytes.as_ref()) {
            return Ok(Arc::clone(name));
        }
        let text = checked_utf8(bytes)?;
        if !topic::is_valid_name(text) {
            return Err(WireError {
                reason: Reason::TOPIC_NAME_INVALID,
                what: "a topic name that is empty or holds a wildcard",
            });
        }
        let name = Arc::<str>::from(text);
        if self.recent.len() < REMEMBERED_TOPICS {
            self.recent.push(Arc::clone(&name));
        } else if let Some(slot) = self.recent.get_mut(self.next) {
            *slot = Arc::clone(&name);
            self.next = (self.next + 1) % REMEMBERED_TOPICS;
        }
        Ok(name)
    }

    /// The slot of an alias that we agreed to.
    pub(super) fn alias(&mut self, alias: u16) -> Option<&mut Option<Arc<str>>> {
        let index = usize::from(alias).checked_sub(1)?;
        if index >= usize::from(TOPIC_ALIAS_MAXIMUM) {
            return None;
        }
        if index >= self.aliases.len() {
            self.aliases.resize(index + 1, None);
        }
        self.aliases.get_mut(index)
    }
}
