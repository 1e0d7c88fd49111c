//! See `revwatch_fuzz::rules`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| revwatch_fuzz::rules(data));
