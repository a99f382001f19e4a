//! A cursor over one packet that cannot read past it.

use std::sync::Arc;

use bytes::Bytes;

use super::WireError;
use crate::handler::QoS;

const SHORT: WireError = WireError::malformed("the packet ends inside a field");

/// What is left of a packet.
#[derive(Debug, Clone)]
pub(super) struct Reader {
    bytes: Bytes,
}

impl Reader {
    pub(super) fn new(bytes: Bytes) -> Self {
        Self { bytes }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(super) fn remaining(&self) -> usize {
        self.bytes.len()
    }

    /// The rest, whatever it is.
    pub(super) fn rest(self) -> Bytes {
        self.bytes
    }

    /// Everything must have been read.
    pub(super) fn finish(self) -> Result<(), WireError> {
        if self.bytes.is_empty() {
            Ok(())
        } else {
            Err(WireError::malformed("bytes are left over behind the packet's last field"))
        }
    }

    pub(super) fn take(&mut self, len: usize) -> Result<Bytes, WireError> {
        if len > self.bytes.len() {
            return Err(SHORT);
        }
        Ok(self.bytes.split_to(len))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let array = *self.bytes.first_chunk::<N>().ok_or(SHORT)?;
        bytes::Buf::advance(&mut self.bytes, N);
        Ok(array)
    }

    pub(super) fn u8(&mut self) -> Result<u8, WireError> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Result<u16, WireError> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, WireError> {
        self.array().map(u32::from_be_bytes)
    }

    /// A packet id: never 0 [MQTT-2.2.1-3].
    pub(super) fn packet_id(&mut self) -> Result<u16, WireError> {
        match self.u16()? {
            0 => Err(WireError::malformed("packet id 0")),
            id => Ok(id),
        }
    }

    /// A variable byte integer: at most four bytes, in its shortest form.
    pub(super) fn varint(&mut self) -> Result<u32, WireError> {
        let mut value = 0u32;
        for shift in [0, 7, 14, 21] {
            let byte = self.u8()?;
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                if byte == 0 && shift > 0 {
                    return Err(WireError::malformed("a variable byte integer is not shortest"));
                }
                return Ok(value);
            }
        }
        Err(WireError::malformed("a variable byte integer of more than four bytes"))
    }

    pub(super) fn binary(&mut self) -> Result<Bytes, WireError> {
        let len = usize::from(self.u16()?);
        self.take(len)
    }

    /// The bytes of a UTF-8 string that is one, without U+0000 [MQTT-1.5.4-1, MQTT-1.5.4-2].
    pub(super) fn utf8(&mut self) -> Result<Bytes, WireError> {
        let bytes = self.binary()?;
        checked_utf8(&bytes)?;
        Ok(bytes)
    }

    pub(super) fn string(&mut self) -> Result<String, WireError> {
        let bytes = self.binary()?;
        checked_utf8(&bytes).map(str::to_owned)
    }

    pub(super) fn shared_string(&mut self) -> Result<Arc<str>, WireError> {
        let bytes = self.binary()?;
        checked_utf8(&bytes).map(Arc::from)
    }
}

/// `bytes` as the text it must be.
pub(super) fn checked_utf8(bytes: &[u8]) -> Result<&str, WireError> {
    let text =
        std::str::from_utf8(bytes).map_err(|_| WireError::malformed("a string is not UTF-8"))?;
    if text.contains('\0') {
        return Err(WireError::malformed("a string holds U+0000"));
    }
    Ok(text)
}

/// Two bits as a quality of service; 3 is malformed [MQTT-3.3.1-4].
pub(super) fn qos(bits: u8) -> Result<QoS, WireError> {
    match bits {
        0 => Ok(QoS::AtMostOnce),
        1 => Ok(QoS::AtLeastOnce),
        2 => Ok(QoS::ExactlyOnce),
        _ => Err(WireError::malformed("quality of service 3")),
    }
}
