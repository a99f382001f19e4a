//! Other names for what a trace speaks of, so that a store has not seen it yet.
//!
//! The same number gives the same names, and two that were different stay so. Payloads are not decoded and
//! encoded again: only the bytes of names change, and what this build does not know, or what is broken on
//! purpose, stays as it was.

use loushan_schemas::ids::{Imei, StationId};
use loushan_schemas::topic::Channel;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::code::put;
use crate::seed::mix;

/// Serial numbers: the twelve digits of an IMEI behind its first two, which say who gave it out.
const SERIALS: u64 = 1_000_000_000_000;

/// A way to give other names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Renaming(pub(crate) u64);

impl Renaming {
    /// Another station: the name and the number, or a digest where that were too long.
    pub(super) fn station(self, name: &StationId) -> StationId {
        let long = format!("{name}-{}", self.0);
        StationId::new(&long).unwrap_or_else(|_| {
            let short = format!("s-{:016x}", xxh3_64_with_seed(name.as_str().as_bytes(), self.0));
            StationId::new(&short).unwrap_or_else(|_| name.clone())
        })
    }

    fn session(self, session: u32) -> u32 {
        session ^ (mix(&[self.0]) >> 32) as u32
    }

    /// Another device: a permutation of the serial numbers. What is no IMEI stays as it is.
    pub(super) fn imei(self, imei: u64) -> u64 {
        if Imei::new(imei).is_err() {
            return imei;
        }
        let (issuer, serial) = (imei / 10 / SERIALS, imei / 10 % SERIALS);
        // Without a common factor with the modulus, so that it can be turned back.
        let factor = mix(&[self.0, 1]) % (SERIALS / 10) * 10 + 3;
        let moved = u128::from(serial) * u128::from(factor) + u128::from(mix(&[self.0, 2]));
        // The rest of a division by a number of 64 bits.
        let serial = (moved % u128::from(SERIALS)) as u64;
        Imei::from_body(issuer * SERIALS + serial).get()
    }

    /// A payload with other names in it; `None` if it cannot be read that far.
    pub(super) fn payload(
        self,
        channel: Channel,
        station: &StationId,
        bytes: &[u8],
    ) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(bytes.len() + 32);
        let session = |bytes: [u8; 4]| self.session(u32::from_le_bytes(bytes)).to_le_bytes();
        match channel {
            Channel::Telemetry | Channel::Alarm | Channel::Replay => {
                let new = self.station(station);
                each_field(bytes, &mut out, |field, value, out| match (field, value) {
                    (2, Value::Bytes(name)) if name == station.as_str().as_bytes() => {
                        bytes_field(2, new.as_str().as_bytes(), out);
                        Some(true)
                    }
                    (3, Value::Fixed32(was)) => Some(fixed32_field(3, session(was), out)),
                    (7, Value::Bytes(reading)) => {
                        let mut inner = Vec::with_capacity(reading.len());
                        each_field(reading, &mut inner, |field, value, out| {
                            match (field, value) {
                                (1, Value::Fixed64(was)) => Some(self.imei_field(1, was, out)),
                                _ => Some(false),
                            }
                        })?;
                        bytes_field(7, &inner, out);
                        Some(true)
                    }
                    _ => Some(false),
                })?;
            }
            Channel::Status | Channel::State => {
                each_field(bytes, &mut out, |field, value, out| match (field, value) {
                    (1, Value::Fixed32(was)) => Some(fixed32_field(1, session(was), out)),
                    _ => Some(false),
                })?;
            }
            Channel::CommandResult => {
                each_field(bytes, &mut out, |field, value, out| match (field, value) {
                    (2, Value::Fixed64(was)) => Some(self.imei_field(2, was, out)),
                    (6, Value::Fixed32(was)) => Some(fixed32_field(6, session(was), out)),
                    _ => Some(false),
                })?;
            }
            Channel::Command => out.extend_from_slice(bytes),
        }
        Some(out)
    }

    fn imei_field(self, field: u64, was: [u8; 8], out: &mut Vec<u8>) -> bool {
        put(out, field << 3 | 1);
        out.extend_from_slice(&self.imei(u64::from_le_bytes(was)).to_le_bytes());
        true
    }
}

fn bytes_field(field: u64, bytes: &[u8], out: &mut Vec<u8>) {
    put(out, field << 3 | 2);
    put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn fixed32_field(field: u64, bytes: [u8; 4], out: &mut Vec<u8>) -> bool {
    put(out, field << 3 | 5);
    out.extend_from_slice(&bytes);
    true
}

/// A field's value on the wire, as far as it matters here.
#[derive(Debug, Clone, Copy)]
enum Value<'a> {
    Number,
    Fixed64([u8; 8]),
    Bytes(&'a [u8]),
    Fixed32([u8; 4]),
}

/// Copies a message field by field; `replace` says whether it wrote another one in place of it. `None` where
/// the bytes are no message.
fn each_field(
    bytes: &[u8],
    out: &mut Vec<u8>,
    mut replace: impl FnMut(u64, Value<'_>, &mut Vec<u8>) -> Option<bool>,
) -> Option<()> {
    let mut rest = crate::code::Bytes(bytes);
    while !rest.0.is_empty() {
        let before = rest.0;
        let key = rest.number()?;
        let value = match key & 7 {
            0 => {
                rest.number()?;
                Value::Number
            }
            1 => Value::Fixed64(rest.array()?),
            2 => {
                let length = usize::try_from(rest.number()?).ok()?;
                Value::Bytes(rest.take(length)?)
            }
            5 => Value::Fixed32(rest.array()?),
            // Groups are no longer written by anybody.
            _ => return None,
        };
        if !replace(key >> 3, value, out)? {
            out.extend_from_slice(before.get(..before.len() - rest.0.len())?);
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use loushan_schemas::pb;
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;

    proptest! {
        #[test]
        fn devices_keep_apart_and_stay_devices(
            one in 0_u64..100_000_000_000_000, other in 0_u64..100_000_000_000_000, n in any::<u64>(),
        ) {
            let imei = |body| Imei::from_body(86_000_000_000_000 + body % SERIALS);
            let (one, other) = (imei(one), imei(other));
            let new = Renaming(n).imei(one.get());
            prop_assert!(Imei::new(new).is_ok() && new / 10_000_000_000_000 == 86);
            prop_assert_eq!(new == Renaming(n).imei(other.get()), one == other);
        }

        /// A batch with any fields, known or not, becomes the same with other names.
        #[test]
        fn only_names_change(
            session in any::<u32>(), serials in proptest::collection::vec(0_u64..1000, 0..4), beside in any::<u64>(),
        ) {
            let old = StationId::new("bs0001").unwrap();
            let reading = |serial: &u64| pb::Reading {
                imei: Imei::from_body(86_000_000_000_000 + serial).get(),
                seq: 7,
                ..pb::Reading::default()
            };
            let mut batch = pb::UplinkBatch {
                schema_major: 1,
                station: old.as_str().to_owned(),
                session,
                seq: beside,
                readings: serials.iter().map(reading).collect(),
                ..pb::UplinkBatch::default()
            };
            let mut bytes = batch.encode_to_vec();
            // A field of a later schema.
            bytes.extend_from_slice(&[(15 << 3) | 2, 2, 9, 9]);
            let renaming = Renaming(beside);
            let mut new = renaming.payload(Channel::Telemetry, &old, &bytes).unwrap();
            prop_assert_eq!(&new[new.len() - 4..], &bytes[bytes.len() - 4..]);
            new.truncate(new.len() - 4);
            batch.station = renaming.station(&old).as_str().to_owned();
            batch.session = renaming.session(session);
            batch.readings.iter_mut().for_each(|r| r.imei = renaming.imei(r.imei));
            prop_assert_eq!(pb::UplinkBatch::decode(new.as_slice()).unwrap(), batch);
        }

        #[test]
        fn any_bytes_are_renamed_or_left(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let station = StationId::new("bs0001").unwrap();
            for channel in Channel::ALL {
                if let Some(new) = Renaming(1).payload(channel, &station, &bytes) {
                    prop_assert!(new.len() < bytes.len() * 20 + 64);
                }
            }
        }
    }

    #[test]
    fn a_stations_name_that_would_be_too_long_becomes_a_digest() {
        let name = |text: &str| StationId::new(text).unwrap();
        assert_eq!(Renaming(3).station(&name("bs0001")).as_str(), "bs0001-3");
        let long = Renaming(3).station(&name("a-station-with-quite-a-long-name"));
        assert!(long.as_str().starts_with("s-"), "{long}");
    }
}
