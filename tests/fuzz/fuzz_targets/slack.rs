//! See `revwatch_fuzz::slack`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| revwatch_fuzz::slack(data));
