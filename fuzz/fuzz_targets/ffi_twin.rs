#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| overlane_fuzz_bodies::ffi_twin(data));
