#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| loushan_broker::fuzzing::mqtt_v5(data));
