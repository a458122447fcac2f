//! `report.json`: what a run of `vetch-bench` writes down.
//!
//! The raw samples are all here; pages and comparisons are made from this file alone.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

mod stats;

pub use stats::{Summary, median, quantile, ratio};

/// Of this file's shape; a reader refuses what it does not know.
pub const SCHEMA: u32 = 1;

/// One run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    pub schema: u32,
    /// `service`, `pods`, `api` or `dns`.
    pub bench: String,
    /// What made it: program, version and the commit it was built of.
    pub tool: String,
    /// What repeats it, word by word.
    pub command: Vec<String>,
    pub started: Timestamp,
    pub finished: Timestamp,
    /// False when somebody ended it early: then it holds what was done so far.
    pub complete: bool,
    pub machine: Machine,
    /// Seconds a sample, rounds, connections: all that the figures depend on.
    pub settings: BTreeMap<String, Value>,
    pub figures: Vec<Figure>,
    /// What was asked for and not measured.
    pub skipped: Vec<Skipped>,
}

/// Where it ran.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Machine {
    /// As `uname -r` says.
    pub kernel: String,
    /// `PRETTY_NAME` of os-release.
    pub distribution: String,
    pub processor: String,
    pub processors: u32,
    pub memory_bytes: u64,
    /// The cluster in a few words: how many nodes, of which kind.
    pub cluster: String,
}

/// One measure of one subject under one set of conditions, sampled once a round.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Figure {
    /// What is measured, `keepalive` say: the same word for every subject.
    pub measure: String,
    /// Whose it is: `direct`, `vetch`, `iptables`, `nftables`, `kube-proxy-iptables`, …
    pub subject: String,
    /// The conditions, e.g. placement=same-node, frontend=ClusterIP, services=1000, endpoints=2.
    pub conditions: BTreeMap<String, Value>,
    /// `requests/s`, `ms`, `MiB`, …
    pub unit: String,
    pub better: Better,
    /// In the order of the rounds: samples of one index were taken in one round, side by side.
    /// A round without one (it failed, or was cut off) holds null.
    pub samples: Vec<Option<f64>>,
    pub summary: Option<Summary>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Better {
    Higher,
    Lower,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Skipped {
    pub what: String,
    pub why: String,
}

impl Report {
    /// Adds a sample of this round; the figure is made when it is the first of its kind.
    pub fn add(&mut self, key: Figure, round: usize, sample: Option<f64>) {
        let place = self.figures.iter().position(|figure| figure.is_like(&key));
        let index = place.unwrap_or_else(|| {
            self.figures.push(key);
            self.figures.len() - 1
        });
        let figure = &mut self.figures[index];
        if figure.samples.len() <= round {
            figure.samples.resize(round + 1, None);
        }
        figure.samples[round] = sample;
        figure.summary = Summary::of(&figure.present());
    }
}

impl Figure {
    pub fn new(measure: &str, subject: &str, unit: &str, better: Better) -> Figure {
        Figure {
            measure: measure.into(),
            subject: subject.into(),
            conditions: BTreeMap::new(),
            unit: unit.into(),
            better,
            samples: Vec::new(),
            summary: None,
        }
    }

    pub fn with(mut self, condition: &str, value: impl Into<Value>) -> Figure {
        self.conditions.insert(condition.into(), value.into());
        self
    }

    /// Another sample set of the same thing.
    pub fn is_like(&self, other: &Figure) -> bool {
        self.subject == other.subject && self.is_beside(other)
    }

    /// The same measure under the same conditions, of whichever subject.
    pub fn is_beside(&self, other: &Figure) -> bool {
        self.measure == other.measure && self.conditions == other.conditions
    }

    pub fn present(&self) -> Vec<f64> {
        self.samples.iter().flatten().copied().collect()
    }
}

#[cfg(test)]
mod tests;
