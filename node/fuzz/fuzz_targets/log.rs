//! What a container wrote, and what is in a log.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| vetch_agent::server::fuzz_log(data));
