//! The load generator and the server of the benchmark.

fn main() {}
