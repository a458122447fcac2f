//! Progress: a spinner a step on a terminal, plain lines elsewhere. All on standard error.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};

#[derive(Debug)]
pub struct Steps {
    terminal: bool,
}

/// The step that is under way.
#[derive(Debug)]
pub struct Step {
    bar: Option<ProgressBar>,
}

impl Steps {
    pub fn new() -> Steps {
        Steps {
            terminal: std::io::stderr().is_terminal(),
        }
    }

    pub fn run<T>(&self, what: &str, job: impl FnOnce(&Step) -> Result<T>) -> Result<T> {
        let start = Instant::now();
        let step = Step::start(what, self.terminal);
        let result = job(&step);
        let took = duration(start.elapsed());
        match (&step.bar, &result) {
            (Some(bar), Ok(_)) => {
                bar.finish_and_clear();
                eprintln!("✓ {what}{took}");
            }
            (Some(bar), Err(_)) => {
                bar.finish_and_clear();
                eprintln!("✗ {what}{took}");
            }
            (None, _) if took.is_empty() => {}
            (None, _) => eprintln!(
                "    {}{took}",
                if result.is_ok() { "done" } else { "failed" }
            ),
        }
        result
    }
}

impl Step {
    fn start(what: &str, terminal: bool) -> Step {
        if !terminal {
            eprintln!("==> {what}");
            return Step { bar: None };
        }
        let bar = ProgressBar::new_spinner();
        if let Ok(style) =
            ProgressStyle::with_template("{spinner} {prefix} {elapsed} {wide_msg:.dim}")
        {
            bar.set_style(style);
        }
        bar.set_prefix(what.to_owned());
        bar.enable_steady_tick(Duration::from_millis(120));
        Step { bar: Some(bar) }
    }

    /// What a program says on its way: beside the spinner, or as a line.
    pub fn note(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(line.trim().to_owned()),
            None => eprintln!("{line}"),
        }
    }

    /// How far it is: only where it can be overwritten.
    pub fn progress(&self, line: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(line.trim().to_owned());
        }
    }

    /// A line that stays.
    pub fn tell(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("  {line}")),
            None => eprintln!("    {line}"),
        }
    }
}

/// Nothing for what one does not notice.
fn duration(took: Duration) -> String {
    match took.as_secs() {
        0 => String::new(),
        seconds @ 1..60 => format!(" ({seconds} s)"),
        seconds => format!(" ({} min {} s)", seconds / 60, seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_one_waits_for_is_timed() {
        for (millis, words) in [
            (999, ""),
            (1500, " (1 s)"),
            (59_900, " (59 s)"),
            (125_000, " (2 min 5 s)"),
        ] {
            assert_eq!(duration(Duration::from_millis(millis)), words);
        }
    }

    #[test]
    fn a_step_hands_on_what_its_job_says() {
        let steps = Steps { terminal: false };
        assert_eq!(steps.run("a", |_| Ok(7)).unwrap(), 7);
        assert!(
            steps
                .run("b", |_| -> Result<()> { anyhow::bail!("no") })
                .is_err()
        );
    }
}
