//! See `revwatch_fuzz::events`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| revwatch_fuzz::events(data));
