//! A layer. Needs root.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| vetch_runtime::images::fuzz_unpack(data));
