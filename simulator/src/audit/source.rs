//! What is audited, as the audit sees it: whoever can give out its rows is a store.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use loushan_schemas::ids::Imei;
use loushan_schemas::kind::Kind;
use loushan_schemas::pb;
use loushan_schemas::row::Row;
use prost::Message as _;
use serde_json::Value as Json;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use super::AuditError;

/// Milliseconds of a day.
pub(super) const DAY_MS: i64 = 24 * 3600 * 1000;

/// What can be audited.
pub trait Store {
    /// Waits until everything that was acknowledged is in it. Returns by how much its own books are
    /// off.
    ///
    /// # Errors
    /// When it does not get there.
    fn settle(&mut self) -> Result<i64, AuditError>;

    /// What it does not keep.
    ///
    /// # Errors
    /// When it cannot be asked.
    fn keeps(&mut self) -> Result<Keeps, AuditError>;

    /// What the audit cannot see in such a store, for people; empty if it sees everything.
    fn blind(&self) -> &'static [&'static str] {
        &[]
    }

    /// Gives every stored reading to `each`, in any order, in bounded memory.
    ///
    /// # Errors
    /// When not all of them can be given.
    fn rows(&mut self, each: &mut Each<'_, Stored>) -> Result<(), AuditError>;

    /// Gives every dead letter to `each`; `None` if it keeps none.
    ///
    /// # Errors
    /// When not all of them can be given.
    fn letters(&mut self, each: &mut Each<'_, Letter>) -> Result<Option<()>, AuditError>;

    /// The rows with these lsns and keys, in words, for the few that are explained.
    ///
    /// # Errors
    /// When it cannot be asked.
    fn tell(
        &mut self,
        wanted: &HashSet<(u64, u128)>,
    ) -> Result<HashMap<(u64, u128), String>, AuditError>;

    /// Whether it keeps one reading of a device and kind in a millisecond, whichever came last. Then
    /// its rows have the [`moment`] as key, and [`identity`] as digest.
    fn by_moment(&self) -> bool {
        false
    }

    /// Kinds, by number, of which it cannot be asked.
    fn unseen(&self) -> BTreeSet<u8> {
        BTreeSet::new()
    }
}

/// Rows in words, for [`Store::tell`], of a store that can give those behind an lsn: `rows` is called with
/// that and with what sees each row and says whether more are wanted.
///
/// # Errors
/// Those of `rows`.
pub fn tell_rows<E>(
    wanted: &HashSet<(u64, u128)>,
    rows: impl FnOnce(u64, &mut dyn FnMut(&Row) -> bool) -> Result<(), E>,
) -> Result<HashMap<(u64, u128), String>, E> {
    let mut told = HashMap::new();
    let after = wanted.iter().map(|(lsn, _)| lsn.saturating_sub(1)).min().unwrap_or(0);
    rows(after, &mut |row| {
        let named = (row.lsn, key_of(row));
        if wanted.contains(&named) {
            let mut line = String::new();
            row.write_json(&mut line);
            told.insert(named, line);
        }
        told.len() < wanted.len()
    })?;
    Ok(told)
}

/// Takes one thing at a time.
pub type Each<'a, T> = dyn FnMut(T) -> Result<(), AuditError> + 'a;

/// A stored reading, as far as it is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// See [`key`].
    pub key: u128,
    /// [`loushan_schemas::reading::Reading::digest`].
    pub digest: u64,
    /// Number of the kind.
    pub kind: u8,
    /// The time it is filed under, Unix ms.
    pub effective_ms: i64,
    /// The row's place in the log.
    pub lsn: u64,
}

impl Stored {
    /// A row of the embedded store.
    #[must_use]
    pub fn of(row: &Row) -> Self {
        let r = &row.reading;
        Self {
            key: key_of(row),
            digest: r.digest(),
            kind: r.kind().number(),
            effective_ms: r.times.effective.ms(),
            lsn: row.lsn,
        }
    }
}

/// How a reading is known again: a device's by its own counters, a station's by its session. The
/// measured time and the kind are left out, so that a row in which one of them was altered is still
/// recognised as that reading's.
#[must_use]
pub fn key(imei: u64, boot_epoch: u32, seq: u64, station: &str, session: u32) -> u128 {
    let mut bytes = [0_u8; 64];
    let mut length = 0;
    let mut put = |piece: &[u8]| {
        // Names of stations have at most 32 bytes: there is room for all.
        if let Some(place) = bytes.get_mut(length..length + piece.len()) {
            place.copy_from_slice(piece);
            length += piece.len();
        }
    };
    put(&imei.to_le_bytes());
    put(&boot_epoch.to_le_bytes());
    put(&seq.to_le_bytes());
    if imei == 0 {
        put(&session.to_le_bytes());
        put(station.as_bytes());
    }
    xxh3_128(bytes.get(..length).unwrap_or_default())
}

/// The key of a reading where one of a moment is kept.
#[must_use]
pub fn moment(imei: u64, kind: u8, ms: i64) -> u128 {
    let mut bytes = [kind; 17];
    let (device, rest) = bytes.split_at_mut(8);
    device.copy_from_slice(&imei.to_le_bytes());
    if let Some(time) = rest.first_chunk_mut() {
        *time = ms.to_le_bytes();
    }
    xxh3_128(&bytes)
}

/// A reading among those of its device.
#[must_use]
pub fn identity(boot_epoch: u32, seq: u64) -> u64 {
    let mut bytes = [0; 12];
    let (boot, rest) = bytes.split_at_mut(4);
    boot.copy_from_slice(&boot_epoch.to_le_bytes());
    rest.copy_from_slice(&seq.to_le_bytes());
    xxh3_64(&bytes)
}

/// The key of a row.
#[must_use]
pub fn key_of(row: &Row) -> u128 {
    let r = &row.reading;
    key(r.imei.map_or(0, Imei::get), r.boot_epoch, r.seq, row.station.as_str(), row.session)
}

/// One dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// The reason's word.
    pub reason: String,
    /// What it is about.
    pub about: About,
}

/// What a dead letter is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    /// A whole publish, by the digest of its payload.
    Publish(u128),
    /// One reading, by its key. A station's own figures are a publish, never a reading of one.
    Reading(u128),
    /// A reading whose bytes cannot be read.
    Unknown,
}

impl Letter {
    /// A line of the export.
    ///
    /// # Errors
    /// When it is none.
    pub fn from_json(line: &str) -> Result<Self, String> {
        let json: Json = serde_json::from_str(line).map_err(|e| e.to_string())?;
        let text = |key: &str| json.get(key).and_then(Json::as_str);
        let missing = |key: &str| format!("key {key:?} is missing or not of its type");
        let reason = text("reason").ok_or_else(|| missing("reason"))?.to_owned();
        if json.get("reading").is_none_or(Json::is_null) {
            let digest = text("payload_digest").ok_or_else(|| missing("payload_digest"))?;
            let digest = u128::from_str_radix(digest, 16).map_err(|_| missing("payload_digest"))?;
            return Ok(Self { reason, about: About::Publish(digest) });
        }
        // A letter about one reading holds that reading's bytes.
        let bytes = text("payload").and_then(unhex);
        let about = bytes.and_then(|bytes| pb::Reading::decode(bytes.as_slice()).ok()).map_or(
            About::Unknown,
            |reading| {
                About::Reading(key(reading.imei, reading.boot_epoch, reading.seq.into(), "", 0))
            },
        );
        Ok(Self { reason, about })
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    text.as_bytes()
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => u8::try_from(digit(*high)? * 16 + digit(*low)?).ok(),
            _ => None,
        })
        .collect()
}

/// What a store lets go, so that what went is not called missing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keeps {
    /// The time ages are counted to, Unix ms.
    pub now_ms: i64,
    /// How long kinds are kept, in ms, by the kind's number.
    pub ages: BTreeMap<u8, i64>,
    /// Kinds of which only so many bytes are kept.
    pub bounded: Vec<u8>,
    /// Whether only so many bytes are kept of all.
    pub all_bounded: bool,
}

/// The days of which there is anything, by kind.
pub(super) type Days = BTreeMap<u8, BTreeMap<i64, u64>>;

impl Keeps {
    /// Whether a kind's day is one that was let go: whole days go or none, so nothing of it is there;
    /// and it was over, and either too old or older than everything that is there of a kind whose
    /// bytes are bounded.
    pub(super) fn explains(&self, kind: u8, day: i64, days: &Days) -> bool {
        let mine = days.get(&kind);
        let end = (day + 1).saturating_mul(DAY_MS);
        if mine.is_some_and(|days| days.contains_key(&day)) || end > self.now_ms {
            return false;
        }
        let aged = self.ages.get(&kind).is_some_and(|age| end.saturating_add(*age) <= self.now_ms);
        let bounded = self.all_bounded || self.bounded.contains(&kind);
        let oldest = mine.and_then(|days| days.keys().next());
        aged || (bounded && oldest.is_none_or(|oldest| day < *oldest))
    }

    /// By the answer of `GET /api/v1/retention`.
    pub(super) fn from_json(text: &str, now_ms: i64) -> Result<Self, String> {
        let json: Json = serde_json::from_str(text).map_err(|e| e.to_string())?;
        let keeps = json.get("keeps").ok_or("key \"keeps\" is missing")?;
        let there = |of: &Json, key: &str| of.get(key).is_some_and(|value| !value.is_null());
        let mut found = Self { now_ms, all_bounded: there(keeps, "bytes"), ..Self::default() };
        let kinds = keeps.get("kinds").and_then(Json::as_object);
        for (kind, limits) in kinds.into_iter().flatten() {
            let Some(kind) = Kind::from_text(kind).map(Kind::number) else { continue };
            if there(limits, "bytes") {
                found.bounded.push(kind);
            }
            if let Some(age) = limits.get("age").and_then(Json::as_str) {
                let age = duration_ms(age).ok_or_else(|| format!("{age:?} is no age"))?;
                found.ages.insert(kind, age);
            }
        }
        Ok(found)
    }
}

/// A duration as the service writes it: `30d`, `90m`, `1h 30m`.
fn duration_ms(text: &str) -> Option<i64> {
    let mut sum = 0_i64;
    for part in text.split_whitespace() {
        let unit = part.find(|c: char| !c.is_ascii_digit())?;
        let (count, unit) = part.split_at_checked(unit)?;
        let ms = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" | "day" | "days" => DAY_MS,
            // Of 30.44 days, and of 365.25, as the service reckons.
            "month" | "months" => 2_630_016_000,
            "year" | "years" => 31_557_600_000,
            _ => return None,
        };
        sum = sum.checked_add(count.parse::<i64>().ok()?.checked_mul(ms)?)?;
    }
    Some(sum)
}
