//! See `revwatch_fuzz::application`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| revwatch_fuzz::application(data));
