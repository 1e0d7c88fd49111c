//! See `revwatch_fuzz::settings`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| revwatch_fuzz::settings(data));
