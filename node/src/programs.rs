//! `vetch-node programs`: what the kernel made of the eBPF programs, from the kernel itself.

use anyhow::{Context as _, Result};
use vetch_proxy::LoadedProgram;

use crate::cli::MapsArgs;
use crate::table::{self, Table};

pub fn main(args: &MapsArgs) -> Result<()> {
    let programs = vetch_proxy::loaded(&args.pin_dir).with_context(|| args.no_node())?;
    table::print(args.output, &programs, || text(&programs))
}

fn text(programs: &[LoadedProgram]) -> String {
    let number = |value: Option<u32>| value.map_or("-".into(), |value| value.to_string());
    let mut table = Table::new(["HOOK", "ID", "VERIFIED", "TRANSLATED", "JITED"]);
    for program in programs {
        table.row([
            program.hook.clone(),
            program.id.to_string(),
            number(program.verified_instructions),
            number(program.translated_bytes),
            program.jited_bytes.to_string(),
        ]);
    }
    table.text()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_does_not_say_is_a_dash() {
        let text = text(&[LoadedProgram {
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
