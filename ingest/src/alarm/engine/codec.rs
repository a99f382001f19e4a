//! Devices and stations as bytes on disk. Little endian; texts with a length before them; what may be
//! absent behind a byte that is 0 or 1.
//!
//! ```text
//! device    version u8 = 1 · kind u8 · region · station · newest · alive · rhythm · look i64 · reverse i64? ·
//!           conditions
//! station   version u8 = 1 · region · alive · rhythm · session u32? · dead u8 · replayed i64 ·
//!           back i64 · conditions
//! newest    effective i64 · heard i64 · boot epoch u32 · seq u64
//! alive     at i64 · listened i64 · lsn u64 · effective i64
//! rhythm    since i64 · pauses u16 · longest i64 · before i64 · silences u8 · shortest silence i64
//! condition rule u8 · causes u8 · lsn u64 · effective i64 · heard i64 · late u8 · why · since i64 ·
//!           after i64 · due i64? · alarm u64? · last (lsn u64 · nth u32)? · ended lsn u64
//! text      length u16 · UTF-8                    conditions  count u16 · each
//! ```
//!
//! Whatever was not written here is refused: `None`.

use loushan_schemas::ids::{Region, StationId};
use loushan_schemas::kind::Kind;

use super::condition::{Condition, Origin};
use super::order::Place;
use super::rhythm::Rhythm;
use super::state::{Alive, Device, Station};
use crate::alarm::rule::Rule;

const VERSION: u8 = 1;

struct Writer(Vec<u8>);

impl Writer {
    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn u8(&mut self, v: u8) -> &mut Self {
        self.bytes(&[v])
    }

    fn u16(&mut self, v: u16) -> &mut Self {
        self.bytes(&v.to_le_bytes())
    }

    fn u32(&mut self, v: u32) -> &mut Self {
        self.bytes(&v.to_le_bytes())
    }

    fn u64(&mut self, v: u64) -> &mut Self {
        self.bytes(&v.to_le_bytes())
    }

    fn i64(&mut self, v: i64) -> &mut Self {
        self.bytes(&v.to_le_bytes())
    }

    /// Our texts are far shorter than the length can say.
    fn text(&mut self, text: &str) -> &mut Self {
        let mut end = text.len().min(usize::from(u16::MAX));
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let bytes = text.as_bytes().get(..end).unwrap_or_default();
        self.u16(u16::try_from(end).unwrap_or(u16::MAX)).bytes(bytes)
    }

    fn maybe<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) -> &mut Self {
        self.u8(u8::from(value.is_some()));
        if let Some(value) = value {
            write(self, value);
        }
        self
    }

    fn alive(&mut self, it: &Alive) -> &mut Self {
        self.i64(it.at_ms).i64(it.listened).u64(it.lsn).i64(it.effective_ms)
    }

    fn rhythm(&mut self, it: &Rhythm) -> &mut Self {
        self.i64(it.since).u16(it.pauses).i64(it.longest).i64(it.before);
        self.u8(it.silences).i64(it.shortest_silence)
    }

    fn conditions(&mut self, conditions: &[Condition]) -> &mut Self {
        // There are not more than rules.
        self.u16(u16::try_from(conditions.len()).unwrap_or(u16::MAX));
        for it in conditions {
            let origin = &it.origin;
            self.u8(it.rule.number()).u8(it.causes);
            self.u64(origin.lsn).i64(origin.effective_ms).i64(origin.heard_ms);
            self.u8(u8::from(origin.late)).text(&origin.why);
            self.i64(it.since).i64(it.after_ms);
            self.maybe(it.due, |w, due| {
                w.i64(due);
            });
            self.maybe(it.alarm, |w, alarm| {
                w.u64(alarm);
            });
            self.maybe(it.last, |w, (lsn, nth)| {
                w.u64(lsn).u32(nth);
            });
            self.u64(it.ended_lsn);
        }
        self
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[v]| v)
    }

    fn bool(&mut self) -> Option<bool> {
        match self.u8()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_le_bytes)
    }

    fn text(&mut self) -> Option<String> {
        let len = usize::from(self.u16()?);
        let (head, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        String::from_utf8(head.to_vec()).ok()
    }

    #[allow(clippy::option_option)] // damaged, or absent
    fn maybe<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        if self.bool()? { Some(Some(read(self)?)) } else { Some(None) }
    }

    fn alive(&mut self) -> Option<Alive> {
        Some(Alive {
            at_ms: self.i64()?,
            listened: self.i64()?,
            lsn: self.u64()?,
            effective_ms: self.i64()?,
        })
    }

    fn rhythm(&mut self) -> Option<Rhythm> {
        Some(Rhythm {
            since: self.i64()?,
            pauses: self.u16()?,
            longest: self.i64()?,
            before: self.i64()?,
            silences: self.u8()?,
            shortest_silence: self.i64()?,
        })
    }

    fn conditions(&mut self) -> Option<Vec<Condition>> {
        let count = usize::from(self.u16()?);
        if count > Rule::ALL.len() {
            return None;
        }
        (0..count).map(|_| self.condition()).collect()
    }

    fn condition(&mut self) -> Option<Condition> {
        Some(Condition {
            rule: Rule::from_number(self.u8()?)?,
            causes: self.u8()?,
            origin: Origin {
                lsn: self.u64()?,
                effective_ms: self.i64()?,
                heard_ms: self.i64()?,
                late: self.bool()?,
                why: self.text()?,
            },
            since: self.i64()?,
            after_ms: self.i64()?,
            due: self.maybe(Self::i64)?,
            alarm: self.maybe(Self::u64)?,
            last: self.maybe(|r| Some((r.u64()?, r.u32()?)))?,
            ended_lsn: self.u64()?,
        })
    }
}

impl Device {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut w = Writer(Vec::with_capacity(192));
        w.u8(VERSION).u8(self.kind.number());
        w.text(self.region.as_str()).text(self.station.as_str());
        let newest = &self.newest;
        w.i64(newest.effective).i64(newest.heard).u32(newest.boot_epoch).u64(newest.seq);
        w.alive(&self.alive).rhythm(&self.rhythm).i64(self.look);
        w.maybe(self.reverse_l, |w, litres| {
            w.i64(litres);
        });
        w.conditions(&self.conditions);
        w.0
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut r = Reader(bytes);
        if r.u8()? != VERSION {
            return None;
        }
        let kind = Kind::from_number(r.u8()?)?;
        let device = Self {
            kind,
            region: Region::new(&r.text()?).ok()?,
            station: StationId::new(&r.text()?).ok()?,
            newest: Place {
                effective: r.i64()?,
                heard: r.i64()?,
                boot_epoch: r.u32()?,
                seq: r.u64()?,
            },
            alive: r.alive()?,
            rhythm: r.rhythm()?,
            look: r.i64()?,
            reverse_l: r.maybe(Reader::i64)?,
            conditions: r.conditions()?,
        };
        r.0.is_empty().then_some(device)
    }
}

impl Station {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut w = Writer(Vec::with_capacity(128));
        w.u8(VERSION).text(self.region.as_str());
        w.alive(&self.alive).rhythm(&self.rhythm);
        w.maybe(self.session, |w, session| {
            w.u32(session);
        });
        w.u8(u8::from(self.dead)).i64(self.replayed).i64(self.back);
        w.conditions(&self.conditions);
        w.0
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut r = Reader(bytes);
        if r.u8()? != VERSION {
            return None;
        }
        let station = Self {
            region: Region::new(&r.text()?).ok()?,
            alive: r.alive()?,
            rhythm: r.rhythm()?,
            session: r.maybe(Reader::u32)?,
            dead: r.bool()?,
            replayed: r.i64()?,
            back: r.i64()?,
            conditions: r.conditions()?,
        };
        r.0.is_empty().then_some(station)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition() -> Condition {
        Condition {
            rule: Rule::Smoke,
            causes: 1,
            origin: Origin {
                lsn: 7,
                effective_ms: 1000,
                heard_ms: 1001,
                late: true,
                why: "state ALARM".to_owned(),
            },
            since: 3,
            after_ms: 4,
            due: Some(5),
            alarm: Some(6),
            last: Some((7, 1)),
            ended_lsn: 8,
        }
    }

    fn alive() -> Alive {
        Alive { at_ms: 10, listened: 11, lsn: 12, effective_ms: 13 }
    }

    fn device() -> Device {
        Device {
            region: Region::new("xinpu").unwrap(),
            station: StationId::new("bs1").unwrap(),
            kind: Kind::Smoke,
            newest: Place { effective: 20, heard: 21, boot_epoch: 22, seq: 23 },
            alive: alive(),
            rhythm: Rhythm::new(30),
            look: 35,
            reverse_l: Some(40),
            conditions: vec![condition()],
        }
    }

    fn station() -> Station {
        Station {
            region: Region::new("xinpu").unwrap(),
            alive: alive(),
            rhythm: Rhythm::new(30),
            session: Some(50),
            dead: true,
            replayed: 60,
            back: 70,
            conditions: vec![],
        }
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn the_bytes_on_disk_of_devices_and_stations_are_these() {
        let golden = "0103050078696e7075030062733114000000000000001500000000000000160000001700000000000000\
            0a000000000000000b000000000000000c000000000000000d00000000000000\
            1e0000000000000000000000000000000000000000000000000000ffffffffffffff7f\
            2300000000000000\
            0128000000000000000100\
            01010700000000000000e803000000000000e903000000000000010b00737461746520414c41524d\
            03000000000000000400000000000000010500000000000000010600000000000000\
            010700000000000000010000000800000000000000";
        assert_eq!(hex(&device().encode()), golden);
        let golden = "01050078696e7075\
            0a000000000000000b000000000000000c000000000000000d00000000000000\
            1e0000000000000000000000000000000000000000000000000000ffffffffffffff7f\
            01320000000 13c0000000000000046000000000000000000";
        assert_eq!(hex(&station().encode()), golden.replace(' ', ""));
    }

    #[test]
    fn what_was_written_is_read_and_nothing_else() {
        let (device, station) = (device(), station());
        let (bytes, other) = (device.encode(), station.encode());
        assert_eq!(Device::decode(&bytes).as_ref(), Some(&device));
        assert_eq!(Station::decode(&other).as_ref(), Some(&station));
        for len in 0..bytes.len() {
            assert_eq!(Device::decode(&bytes[..len]), None, "{len} bytes");
        }
        let longer: Vec<u8> = bytes.iter().copied().chain([0]).collect();
        assert_eq!(Device::decode(&longer), None);
        let newer: Vec<u8> = [2].into_iter().chain(bytes[1..].iter().copied()).collect();
        assert_eq!(Device::decode(&newer), None);
    }
}
