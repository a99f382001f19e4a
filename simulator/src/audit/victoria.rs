//! A `VictoriaMetrics` that a sink fills, as the audit sees it.
//!
//! Of every reading there is a sample of each field, named `kind_field`, with the device as label and
//! the effective time in ms. Its identity is put together again from two of them, `seq` and
//! `boot_epoch`. They come far apart, series by series, so they meet in heaps on disk.

use std::collections::{BTreeSet, HashMap, HashSet};

use loushan_schemas::kind::Kind;
use serde::Deserialize;

use super::AuditError;
use super::gather::heap;
use super::http::{Http, Lines};
use super::service::Service;
use super::source::{Each, Keeps, Letter, Store, Stored, identity, moment};
use super::spill::{Packed, Spill};

/// A sample: key of device, kind and time; device; kind; which field; time; value.
const SAMPLE: usize = 42;
/// Heaps of samples. Two hundred million samples are eight megabytes in each.
const HEAPS: usize = 1024;
/// Buffers of all heaps together.
const BUFFER_BYTES: usize = 64 * 1024 * 1024;
/// Samples in a line of the export, so that a line is bounded.
const LINE_SAMPLES: usize = 10_000;
/// What so many samples take, with room.
const LINE_BYTES: u64 = 4 * 1024 * 1024;
const FIELDS: [&str; 2] = ["seq", "boot_epoch"];

const BLIND: [&str; 5] = [
    "values: a point does not carry all clocks that a reading's digest is made of; its time and its \
     identity are compared",
    "rows beyond the first: a point that is written twice is one",
    "readings of devices whose time cannot be believed: they lie under another",
    "station_status: its points do not carry the session",
    "dead letters",
];

/// The server, and the service that fills it.
#[derive(Debug)]
pub struct Victoria {
    http: Http,
    service: Service,
    sink: String,
}

#[derive(Debug, Deserialize)]
struct Line {
    metric: HashMap<String, String>,
    values: Vec<f64>,
    timestamps: Vec<i64>,
}

/// The samples of one device, kind and moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Sample {
    key: u128,
    imei: u64,
    kind: u8,
    field: u8,
    ms: i64,
    value: u64,
}

impl Victoria {
    /// The server at `http`, filled by the sink of that name of a service.
    #[must_use]
    pub fn new(http: Http, service: Service, sink: &str) -> Self {
        Self { http, service, sink: sink.to_owned() }
    }

    /// Gives every sample of the two fields to `each`.
    fn samples(
        &self,
        mut each: impl FnMut(Sample) -> Result<(), AuditError>,
    ) -> Result<(), AuditError> {
        let kinds: Vec<&str> = devices().map(Kind::as_str).collect();
        let names = format!("({})_({})", kinds.join("|"), FIELDS.join("|"));
        let path = "/api/v1/export";
        let parameters = [
            ("match[]", format!("{{__name__=~\"{names}\"}}")),
            ("max_rows_per_line", LINE_SAMPLES.to_string()),
            // Without them the export is of the last minutes only.
            ("start", "0".to_owned()),
            ("end", "4102444800".to_owned()),
        ];
        let parameters = parameters.each_ref().map(|(name, value)| (*name, value.as_str()));
        let mut lines = Lines::new(self.http.get(path, &parameters)?, LINE_BYTES);
        loop {
            let Some(line) = lines.next().map_err(|why| self.http.failed(path, why))? else {
                return Ok(());
            };
            let line: Line = serde_json::from_str(line).map_err(|e| self.http.failed(path, e))?;
            let Some((imei, kind, field)) = series(&line.metric) else { continue };
            for (value, ms) in line.values.iter().zip(line.timestamps) {
                // Both fields are whole numbers, and not negative.
                let value = *value as u64;
                each(Sample { key: moment(imei, kind, ms), imei, kind, field, ms, value })?;
            }
        }
    }
}

/// The kinds of which there are devices.
fn devices() -> impl Iterator<Item = Kind> {
    Kind::ALL.into_iter().filter(|kind| *kind != Kind::StationStatus)
}

/// Device, kind and field of a series; none of a series of somebody else's.
fn series(metric: &HashMap<String, String>) -> Option<(u64, u8, u8)> {
    let name = metric.get("__name__")?;
    let imei = metric.get("imei")?.parse().ok()?;
    devices().find_map(|kind| {
        let field = name.strip_prefix(kind.as_str())?.strip_prefix('_')?;
        let field = FIELDS.iter().position(|known| *known == field)?;
        Some((imei, kind.number(), u8::try_from(field).ok()?))
    })
}

impl Sample {
    fn pack(&self) -> [u8; SAMPLE] {
        Packed::new()
            .put(self.key.to_le_bytes())
            .put(self.imei.to_le_bytes())
            .put([self.kind, self.field])
            .put(self.ms.to_le_bytes())
            .put(self.value.to_le_bytes())
            .bytes
    }

    fn unpack(bytes: &[u8; SAMPLE]) -> Self {
        let mut p = Packed::of(bytes);
        let (key, imei) = (u128::from_le_bytes(p.get()), u64::from_le_bytes(p.get()));
        let [kind, field] = p.get();
        let ms = i64::from_le_bytes(p.get());
        Self { key, imei, kind, field, ms, value: u64::from_le_bytes(p.get()) }
    }
}

/// The readings of one device, kind and moment; each sample may be there several times.
fn readings(samples: &[Sample]) -> Vec<Stored> {
    let of = |field: u8| -> BTreeSet<u64> {
        samples.iter().filter(|s| s.field == field).map(|s| s.value).collect()
    };
    let (seqs, boots) = (of(0), of(1));
    let Some(first) = samples.first() else { return Vec::new() };
    let stored = |seq: u64, boot: u64| Stored {
        key: moment(first.imei, first.kind, first.ms),
        digest: identity(u32::try_from(boot).unwrap_or(u32::MAX), seq),
        kind: first.kind,
        effective_ms: first.ms,
        lsn: 0,
    };
    // Where a server keeps several samples of a millisecond, those of one boot belong together; across
    // a boot they cannot be told apart, and all that may be are given.
    seqs.iter().flat_map(|seq| boots.iter().map(|boot| stored(*seq, *boot))).collect()
}

impl Store for Victoria {
    fn settle(&mut self) -> Result<i64, AuditError> {
        let residue = self.service.wait_until_stored(&self.sink)?;
        // What was taken a moment ago is not seen by questions before this.
        self.http.text("/internal/force_flush")?;
        Ok(residue)
    }

    fn keeps(&mut self) -> Result<Keeps, AuditError> {
        Ok(Keeps::default())
    }

    fn blind(&self) -> &'static [&'static str] {
        &BLIND
    }

    fn by_moment(&self) -> bool {
        true
    }

    fn unseen(&self) -> BTreeSet<u8> {
        [Kind::StationStatus.number()].into()
    }

    fn rows(&mut self, each: &mut Each<'_, Stored>) -> Result<(), AuditError> {
        let folder = tempfile::Builder::new().prefix("loushan-audit-").tempdir();
        let folder = folder
            .map_err(|source| AuditError::Temporary { path: std::env::temp_dir(), source })?;
        let mut spill = Spill::<SAMPLE>::new(folder.path(), "samples", BUFFER_BYTES);
        self.samples(|sample| spill.put(heap(sample.key, HEAPS), &sample.pack()))?;
        spill.write_all()?;
        for number in 0..HEAPS {
            let mut samples = Vec::new();
            spill.take(number, |bytes| {
                samples.push(Sample::unpack(bytes));
                Ok(())
            })?;
            samples.sort_unstable();
            for samples in samples.chunk_by(|a, b| a.key == b.key) {
                readings(samples).into_iter().try_for_each(&mut *each)?;
            }
        }
        Ok(())
    }

    fn letters(&mut self, _: &mut Each<'_, Letter>) -> Result<Option<()>, AuditError> {
        Ok(None)
    }

    fn tell(
        &mut self,
        _: &HashSet<(u64, u128)>,
    ) -> Result<HashMap<(u64, u128), String>, AuditError> {
        Ok(HashMap::new())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn sample(field: u8, value: u64) -> Sample {
        Sample { key: 1, imei: 86, kind: 5, field, ms: 1000, value }
    }

    #[test]
    fn a_series_is_known_by_its_name_and_device() {
        let metric = |name: &str| {
            HashMap::from([
                ("__name__".to_owned(), name.to_owned()),
                ("imei".to_owned(), "490154203237518".to_owned()),
            ])
        };
        let (light, water) = (Kind::StreetLight.number(), Kind::Water.number());
        assert_eq!(series(&metric("street_light_seq")), Some((490_154_203_237_518, light, 0)));
        assert_eq!(series(&metric("water_boot_epoch")), Some((490_154_203_237_518, water, 1)));
        for name in ["water_total_l", "water_interval_seq", "seq", "station_status_seq"] {
            assert_eq!(series(&metric(name)), None, "{name}");
        }
    }

    #[test]
    fn samples_of_one_moment_make_a_reading_however_often_they_come() {
        let samples = [sample(0, 7), sample(0, 7), sample(1, 3)];
        let found = readings(&samples);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].key, found[0].digest), (moment(86, 5, 1000), identity(3, 7)));
        assert_eq!(readings(&samples[..2]), [], "half of one");
        assert_eq!(Sample::unpack(&samples[2].pack()), samples[2]);
    }
}
