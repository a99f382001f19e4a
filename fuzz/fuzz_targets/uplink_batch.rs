#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| loushan_ingest::fuzzing::uplink_batch(data));
