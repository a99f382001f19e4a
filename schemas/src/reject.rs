//! Why a publish or a reading was not accepted.

use crate::quality::closed_list;

closed_list! {
    /// The sender's fault, kept in the dead letter with the raw bytes. The same word is the metric
    /// label, the v5 user property `reason` and the console's text.
    RejectReason {
        /// The bytes are not the message the topic calls for.
        Undecodable = 1 "undecodable",
        /// Larger than [`crate::limits::PAYLOAD_BYTES`], as received or decompressed.
        PayloadTooLarge = 2 "payload_too_large",
        /// Compressed, and the compression is broken.
        BadCompression = 3 "bad_compression",
        /// No payload at all.
        Empty = 4 "empty",
        /// A batch without a reading.
        NoReadings = 5 "no_readings",
        /// More than [`crate::limits::READINGS_PER_BATCH`].
        TooManyReadings = 6 "too_many_readings",
        /// A nested message, list or body over its limit.
        NestedTooLarge = 7 "nested_too_large",
        /// `schema_major` is not [`crate::limits::SCHEMA_MAJOR`].
        SchemaMajor = 8 "schema_major",
        /// A reading without a known body but with fields this build does not know.
        NewerSchema = 9 "newer_schema",
        /// Known body, unknown fields beside it: accepted, and kept here so that they can be read later.
        UnknownFields = 10 "unknown_fields",
        /// The payload names another station than the topic.
        WrongStation = 11 "wrong_station",
        /// The station's name in the payload is no station name.
        BadStation = 12 "bad_station",
        /// A topic below `nb1/` that the grammar does not know.
        MalformedTopic = 13 "malformed_topic",
        /// Not 15 digits with Luhn's check digit.
        BadImei = 14 "bad_imei",
        /// A reading without a body.
        NoBody = 15 "no_body",
        /// A raw body of a `model_id` for which there is no mapping.
        UnknownModel = 16 "unknown_model",
        /// A raw body that the model's mapping cannot read.
        BadRawBody = 17 "bad_raw_body",
    }
}
