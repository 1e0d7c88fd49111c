//! See `revwatch_fuzz::signature`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| revwatch_fuzz::signature(data));
