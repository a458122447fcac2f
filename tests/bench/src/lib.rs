//! The benchmarks of Vetch: they drive a running cluster by its API and write a report.

pub mod api;
pub mod dns;
pub mod image;
pub mod machine;
pub mod output;
pub mod pods;
pub mod run;
pub mod service;
pub mod target;
