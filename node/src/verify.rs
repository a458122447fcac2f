//! `vetch-node verify`: what this kernel's verifier says of the programs of this build.

use std::io::Write as _;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use vetch_verifier::Verdict;

use crate::check;
use crate::cli::{Output, VerifyArgs};

pub fn main(args: &VerifyArgs) -> Result<()> {
    check::root()?;
    let object = vetch_ebpf_object::object()
        .context("built without eBPF programs: run cargo xtask build")?;
    let mut verdicts = vetch_verifier::verdicts(object)?;
    if let Some(name) = &args.program {
        verdicts.retain(|verdict| verdict.program == *name);
        ensure!(!verdicts.is_empty(), "there is no program {name}");
    }
    let text = match args.output {
        Output::Json => json(&verdicts)?,
        Output::Text if args.program.is_some() => verdicts[0].log.clone(),
        Output::Text => table(&verdicts),
    };
    std::io::stdout()
        .write_all(text.as_bytes())
        .context("write to standard output")?;
    let refused: Vec<String> = verdicts
        .iter()
        .filter_map(|verdict| {
            let error = verdict.refused.as_ref()?;
            Some(format!("{} ({error})", verdict.program))
        })
        .collect();
    ensure!(
        refused.is_empty(),
        "this kernel refuses {}",
        refused.join(", ")
    );
    Ok(())
}

fn json(verdicts: &[Verdict]) -> Result<String> {
    let all: Vec<_> = verdicts
        .iter()
        .map(|verdict| {
            json!({
                "program": verdict.program,
                "refused": verdict.refused.as_ref().map(ToString::to_string),
                "log": verdict.log,
            })
        })
        .collect();
    Ok(serde_json::to_string(&all)? + "\n")
}

/// The line with its counts: `processed 512 insns (limit 1000000) …`.
fn counts(log: &str) -> &str {
    let line = log
        .lines()
        .rev()
        .find(|line| line.starts_with("processed "));
    line.unwrap_or("no counts")
}

fn table(verdicts: &[Verdict]) -> String {
    verdicts
        .iter()
        .map(|verdict| {
            let word = verdict.refused.as_ref().map_or("", |_| "REFUSED: ");
            format!("{:<16}{word}{}\n", verdict.program, counts(&verdict.log))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counts_are_the_verifiers_last_words() {
        let log = "0: (b7) r0 = 1\n1: (95) exit\nverification time 10 usec\nstack depth 0\n\
                   processed 2 insns (limit 1000000) max_states_per_insn 0 total_states 0\n";
        let verdict = |refused: Option<i32>| Verdict {
            program: "connect4".into(),
            log: log.into(),
            refused: refused.map(std::io::Error::from_raw_os_error),
        };
        let text = table(&[verdict(None), verdict(Some(13))]);
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines[0].starts_with("connect4        processed 2 insns"),
            "{text}"
        );
        assert!(lines[1].contains("REFUSED: processed 2"), "{text}");
        assert_eq!(counts(""), "no counts");
    }
}
