//! What comes on a supervisor's socket.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| vetch_shim::fuzz::fuzz_wire(data));
