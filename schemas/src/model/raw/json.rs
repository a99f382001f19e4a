//! Reading and writing a device's JSON.

use bytes::Bytes;
use chrono::NaiveDateTime;
use serde_json::{Map, Value};

use crate::reject::RejectReason;
use crate::time::DeviceTime;

/// What devices write where they have no value, in any case of letters; beside JSON's own null.
const PLACEHOLDERS: [&str; 6] = ["", "-", "n/a", "nan", "null", "undefined"];
/// Greater numbers are cut to this: far outside of every range, and far from where sums and
/// products of floats could become infinite.
const GREATEST: f64 = 1e15;
/// China's time, in which vendors send times without a zone.
const UTC_PLUS_8_MS: i64 = 8 * 3600 * 1000;

/// A device's JSON object.
pub(super) struct Reader {
    object: Map<String, Value>,
}

impl Reader {
    /// # Errors
    /// What is not a JSON object.
    pub(super) fn new(body: &[u8]) -> Result<Self, RejectReason> {
        let object = serde_json::from_slice(body).map_err(|_| RejectReason::BadRawBody)?;
        Ok(Self { object })
    }

    /// The value under a key; placeholders are absent.
    fn value(&self, key: &str) -> Option<&Value> {
        self.object.get(key).filter(|value| match value {
            Value::Null => false,
            Value::String(text) => {
                !PLACEHOLDERS.iter().any(|p| text.trim().eq_ignore_ascii_case(p))
            }
            _ => true,
        })
    }

    /// A number, or the text of one.
    pub(super) fn float(&self, key: &str) -> Result<Option<f64>, RejectReason> {
        let number = match self.value(key) {
            None => return Ok(None),
            Some(Value::Number(number)) => number.as_f64(),
            Some(Value::String(text)) => text.trim().parse().ok(),
            Some(_) => None,
        };
        let number = number.filter(|n: &f64| !n.is_nan()).ok_or(RejectReason::BadRawBody)?;
        // Adding zero turns a negative zero into zero.
        Ok(Some(number.clamp(-GREATEST, GREATEST) + 0.0))
    }

    /// A number in the given unit, of which there are `per_unit` to the canonical one, to the
    /// nearest `1 / steps`: 0.55 of one becomes 55.0 %, not 55.00000000000001 %.
    pub(super) fn scaled(
        &self,
        key: &str,
        per_unit: f64,
        steps: f64,
    ) -> Result<Option<f64>, RejectReason> {
        Ok(self.float(key)?.map(|v| (v * steps / per_unit).round() / steps + 0.0))
    }

    /// A whole number; a fraction is rounded.
    #[allow(clippy::cast_possible_truncation)] // cut to 10^15 before
    pub(super) fn int(&self, key: &str) -> Result<Option<i64>, RejectReason> {
        Ok(self.float(key)?.map(|v| v.round() as i64))
    }

    /// A whole number where −1 stands for nothing.
    pub(super) fn count(&self, key: &str) -> Result<Option<i64>, RejectReason> {
        Ok(self.int(key)?.filter(|v| *v != -1))
    }

    /// A canonical enum's number, of which the device counts from zero.
    pub(super) fn code(&self, key: &str) -> Result<Option<i32>, RejectReason> {
        let Some(code) = self.int(key)? else { return Ok(None) };
        match i32::try_from(code + 1) {
            // UNSPECIFIED is absence; the device meant something by −1 or it would not be here.
            Ok(0) => Ok(None),
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(RejectReason::BadRawBody),
        }
    }

    /// Yes or no, or 1 or 0.
    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>, RejectReason> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(_) => Ok(self.float(key)?.map(|v| v != 0.0)),
        }
    }

    /// A list of whole numbers.
    pub(super) fn list(&self, key: &str, limit: usize) -> Result<Vec<i32>, RejectReason> {
        let Some(value) = self.value(key) else { return Ok(Vec::new()) };
        let list = value.as_array().ok_or(RejectReason::BadRawBody)?;
        if list.len() > limit {
            return Err(RejectReason::NestedTooLarge);
        }
        let number = |v: &Value| v.as_i64().and_then(|v| i32::try_from(v).ok());
        list.iter().map(|v| number(v).ok_or(RejectReason::BadRawBody)).collect()
    }

    /// AT+CSQ's number as received signal strength (3GPP TS 27.007 clause 8.5): 0..31 is −113 dBm
    /// and up in steps of 2; 99 is not known.
    pub(super) fn csq(&self, key: &str) -> Result<Option<f64>, RejectReason> {
        Ok(self.float(key)?.filter(|csq| *csq != 99.0).map(|csq| csq.mul_add(2.0, -113.0)))
    }

    /// Whether there is anything under the key but a placeholder.
    pub(super) fn has(&self, key: &str) -> bool {
        self.value(key).is_some()
    }

    /// Seconds since an epoch that lies at so many Unix seconds.
    pub(super) fn seconds_since(
        &self,
        key: &str,
        epoch_s: i64,
    ) -> Result<Option<DeviceTime>, RejectReason> {
        let seconds = self.count(key)?;
        Ok(seconds.and_then(|s| DeviceTime::from_ms((s + epoch_s).checked_mul(1000)?)))
    }

    /// A local time without a zone, which is China's, in one of chrono's formats.
    pub(super) fn local_time(&self, key: &str, format: &str) -> Option<DeviceTime> {
        let text = self.value(key)?.as_str()?;
        let time = NaiveDateTime::parse_from_str(text.trim(), format).ok()?;
        DeviceTime::from_ms(time.and_utc().timestamp_millis() - UTC_PLUS_8_MS)
    }
}

/// A device's JSON object in the making. Keys come out sorted.
#[derive(Default)]
pub(super) struct Writer {
    object: Map<String, Value>,
}

impl Writer {
    pub(super) fn put(&mut self, key: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.object.insert(key.to_owned(), value.into());
        }
    }

    /// To the nearest whole number.
    #[allow(clippy::cast_possible_truncation)] // a float's cast ends at the type's ends
    pub(super) fn whole(&mut self, key: &str, value: Option<f64>) {
        self.put(key, value.map(|v| v.round() as i64));
    }

    /// A canonical enum's number, counted from zero.
    pub(super) fn code(&mut self, key: &str, number: Option<i32>) {
        self.put(key, number.map(|n| i64::from(n) - 1));
    }

    pub(super) fn list(&mut self, key: &str, list: &[i32]) {
        self.put(key, (!list.is_empty()).then(|| list.to_vec()));
    }

    pub(super) fn csq(&mut self, key: &str, rssi_dbm: Option<f64>) {
        self.whole(key, Some(rssi_dbm.map_or(99.0, |dbm| (dbm + 113.0) / 2.0)));
    }

    /// In whole seconds.
    pub(super) fn seconds_since(&mut self, key: &str, time: Option<DeviceTime>, epoch_s: i64) {
        self.put(key, time.map(|t| t.ms().div_euclid(1000) - epoch_s));
    }

    /// In whole seconds, China's time, without a zone.
    pub(super) fn local_time(&mut self, key: &str, time: Option<DeviceTime>, format: &str) {
        let local = |t: DeviceTime| chrono::DateTime::from_timestamp_millis(t.ms() + UTC_PLUS_8_MS);
        self.put(key, time.and_then(local).map(|t| t.format(format).to_string()));
    }

    pub(super) fn into_bytes(self) -> Bytes {
        Bytes::from(Value::Object(self.object).to_string())
    }
}
