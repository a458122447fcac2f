//! From `report.json` to a page, verdicts and a comparison.
//!
//! All of it is made from the report alone: no clock, no file, no network. [`verdicts`] holds the
//! figures against the aims, [`page`] shows everything to people, [`compare`] holds two runs
//! against each other.

mod aims;
mod compare;
mod number;
mod page;
mod panels;
mod plot;
mod verdict;
mod words;

pub use compare::{Basis, Comparison, Finding, Pooled, Row, compare};
pub use page::page;
pub use verdict::{FigureRef, Outcome, Verdict, verdicts};
