//! `vetch-bench`: measures a running cluster and writes a report.

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

mod cli;
mod commands;
mod signals;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    if let Err(words) = cli.check() {
        cli::Cli::command()
            .error(clap::error::ErrorKind::ValueValidation, words)
            .exit();
    }
    match commands::run(cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("vetch-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
