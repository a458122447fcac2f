//! Progress: one bar a benchmark, and a line for waits that have no length.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::run::Run;

const TICK: Duration = Duration::from_millis(200);

pub fn bar(run: &Run, length: usize) -> ProgressBar {
    let style =
        ProgressStyle::with_template("{bar:24} {pos}/{len} {elapsed} (about {eta} more) {msg}")
            .expect("the template is a constant and has only known keys");
    let bar = ProgressBar::new(length as u64).with_style(style);
    let bar = run.progress.add(bar);
    bar.enable_steady_tick(TICK);
    bar
}

pub fn spinner(run: &Run, message: &str) -> ProgressBar {
    let bar = run.progress.add(ProgressBar::new_spinner());
    bar.set_message(message.to_owned());
    bar.enable_steady_tick(TICK);
    bar
}
