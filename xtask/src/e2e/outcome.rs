//! What one run of the scenarios came to, in nextest's own summary.

use std::fmt;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::thread::JoinHandle;

use crate::vm::Choice;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    kernel: String,
    code: Option<i32>,
    /// `19 tests run: 19 passed, 790 skipped`, or nothing when it came to none.
    counts: String,
    pub interrupted: bool,
}

/// Hands on what nextest says, and keeps its summary.
pub fn relay(stream: impl Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut summary = String::new();
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            let _ = writeln!(std::io::stderr(), "{line}");
            if let Some(counts) = counts(&line) {
                summary = counts;
            }
        }
        summary
    })
}

/// From the line `     Summary [  12.3s] 19 tests run: 19 passed, 790 skipped`.
fn counts(line: &str) -> Option<String> {
    let rest = line.trim_start().strip_prefix("Summary [")?;
    Some(rest.split_once(']')?.1.trim().to_owned())
}

impl Outcome {
    pub fn new(code: Option<i32>, counts: &str, interrupted: bool) -> Outcome {
        Outcome {
            kernel: String::new(),
            code,
            counts: counts.to_owned(),
            interrupted,
        }
    }

    pub fn of(mut self, choice: &Choice, release: &str) -> Outcome {
        self.kernel = format!("{choice} ({release})");
        self
    }

    pub fn passed(&self) -> bool {
        self.code == Some(0) && !self.interrupted
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match (self.interrupted, self.passed()) {
            (true, _) => "interrupted",
            (false, true) => "passed",
            (false, false) => "FAILED",
        };
        write!(formatter, "kernel {}: {word}", self.kernel)?;
        if self.counts.is_empty() {
            return formatter.write_str(": no scenario was run");
        }
        // nextest counts every test of the workspace that is not for machines as skipped.
        write!(
            formatter,
            ": {} (skipped: not for whole machines, or not asked for)",
            self.counts
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_is_nextests() {
        let line = "     Summary [  12.345s] 19 tests run: 18 passed, 1 failed, 790 skipped";
        let found = counts(line).unwrap();
        assert_eq!(found, "19 tests run: 18 passed, 1 failed, 790 skipped");
        assert_eq!(counts("        PASS [ 0.1s] something"), None);
        let choice = "6.1".parse().unwrap();
        let outcome = Outcome::new(Some(100), &found, false).of(&choice, "6.1.0-56");
        assert!(!outcome.passed());
        assert!(
            outcome
                .to_string()
                .starts_with("kernel 6.1 (6.1.0-56): FAILED: 19 tests")
        );
        assert!(!Outcome::new(Some(0), "", true).passed());
    }
}
