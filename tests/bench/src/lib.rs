//! The benchmarks of Vetch: they drive a running cluster by its API and write a report.

pub mod run;
pub mod target;
