//! Every bound on what a sender may say, each with its reason.

/// Bytes of a region's name: sixteen regions of a city have short names, and topics stay short.
pub const REGION_NAME_BYTES: usize = 16;
/// Bytes of a station's name, which is also its client id (MQTT 3.1.1 promises 23, all brokers take more).
pub const STATION_NAME_BYTES: usize = 32;
/// Readings of one batch: a station flushes far earlier, and a thousand bounds what one packet can cost.
pub const READINGS_PER_BATCH: usize = 1_000;
/// Bytes of a payload as received, and again after decompression.
pub const PAYLOAD_BYTES: usize = 1024 * 1024;
/// Bytes of one reading's message: the largest honest one (24 hourly deltas, all fields) has under 400.
pub const READING_BYTES: usize = 4096;
/// Bytes of a `raw` body: a device's own JSON; NB-IoT messages end at about 1,600 bytes.
pub const RAW_BODY_BYTES: usize = 2048;
/// Deltas in one water history: 96 quarter hours of a day.
pub const HISTORY_DELTAS: usize = 96;
/// Entries of a list of faults or alarms: the longest enum has 17 values.
pub const LIST_ENTRIES: usize = 32;
/// Bytes of a text a person wrote (a firmware's name, a command's detail): a line.
pub const TEXT_BYTES: usize = 256;
/// The schema generation this build speaks.
pub const SCHEMA_MAJOR: u32 = 1;
/// How far ahead of the receive clock a device's or station's time may lie.
pub const FUTURE_MS: i64 = 5 * 60 * 1000;
/// How far behind, for readings sent as they are made.
pub const PAST_MS: i64 = 7 * 24 * 3600 * 1000;
/// How far behind, for water meters (daily reports, months in a cellar) and replays.
pub const PAST_LONG_MS: i64 = 90 * 24 * 3600 * 1000;
/// A water meter's counter turns over at 1,000,000 m³ (CJ/T 188), here in litres.
pub const WATER_MODULUS_L: i64 = 1_000_000_000;
/// A household water meter's overload flow Q4, 1.25 times its permanent flow Q3 of 2.5 m³/h
/// (GB/T 778.1): no more can have passed in an hour.
pub const WATER_Q4_L_H: i64 = 3125;
