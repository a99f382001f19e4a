#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| loushan_simulator::testing::trace(data));
