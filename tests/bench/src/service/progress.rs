//! How far the run is: a bar on a terminal, plain lines elsewhere.

use std::io::IsTerminal as _;

use indicatif::ProgressBar;

use super::options::Options;
use super::plan::{Kind, Measure};
use crate::pods::steps;
use crate::run::Run;

/// Pod and rules around the load of one sample, in seconds, roughly.
const AROUND: f64 = 1.0;

pub struct Progress {
    pub bar: ProgressBar,
    terminal: bool,
}

impl Progress {
    pub fn start(run: &Run, options: &Options, subjects: usize, placements: usize) -> Progress {
        let kinds: Vec<Kind> = options
            .measures
            .iter()
            .filter_map(|measure| Kind::of(*measure))
            .collect();
        let with_latency = kinds.iter().filter(|kind| kind.has_latency()).count();
        let loads = kinds.len()
            + if options.has(Measure::Latency) {
                with_latency
            } else {
                0
            };
        let samples = loads
            * subjects
            * placements
            * options.frontends.len()
            * options.rounds as usize
            * options.services().len()
            * options.endpoints.len();
        let services: usize = options.services().last().map_or(0, |last| *last as usize);
        let progress = Progress {
            bar: steps::bar(run, samples + services * options.endpoints.len()),
            terminal: std::io::stderr().is_terminal(),
        };
        let each = options.seconds + options.warmup + AROUND;
        let minutes = samples as f64 * each / 60.0;
        progress.say(&format!(
            "{samples} samples of load, about {minutes:.0} min"
        ));
        progress
    }

    /// What is being done now.
    pub fn say(&self, what: &str) {
        if self.terminal {
            self.bar.set_message(what.to_owned());
        } else {
            eprintln!("{what}");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
