//! `vetch-node programs`: what the kernel made of the eBPF programs, from the kernel itself.

use std::io::Write as _;

use anyhow::{Context as _, Result};
use vetch_proxy::LoadedProgram;

use crate::cli::{Output, ProgramsArgs};

pub fn main(args: &ProgramsArgs) -> Result<()> {
    let programs = vetch_proxy::loaded(&args.pin_dir).with_context(|| {
        format!(
            "no node has its programs at {}: on a node of `cargo xtask up` run this by \
             `cargo xtask exec --mounts`",
            args.pin_dir.display()
        )
    })?;
    let text = match args.output {
        Output::Json => serde_json::to_string_pretty(&programs)? + "\n",
        Output::Text => table(&programs),
    };
    std::io::stdout()
        .write_all(text.as_bytes())
        .context("write to standard output")
}

fn table(programs: &[LoadedProgram]) -> String {
    let number = |value: Option<u32>| value.map_or("-".into(), |value| value.to_string());
    let mut text = format!(
        "{:<14}{:>6}{:>10}{:>12}{:>8}\n",
        "HOOK", "ID", "VERIFIED", "TRANSLATED", "JITED"
    );
    for program in programs {
        text.push_str(&format!(
            "{:<14}{:>6}{:>10}{:>12}{:>8}\n",
            program.hook,
            program.id,
            number(program.verified_instructions),
            number(program.translated_bytes),
            program.jited_bytes
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_does_not_say_is_a_dash() {
        let text = table(&[LoadedProgram {
            hook: "connect4".into(),
            id: 7,
            verified_instructions: None,
            translated_bytes: Some(800),
            jited_bytes: 512,
        }]);
        let rows: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(rows[0], ["HOOK", "ID", "VERIFIED", "TRANSLATED", "JITED"]);
        assert_eq!(rows[1], ["connect4", "7", "-", "800", "512"]);
    }
}
