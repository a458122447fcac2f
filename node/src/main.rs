//! `vetch-node`: one process a node. Pods, maps and links outlive it.

mod cgroup;
mod check;
mod cleanup;
mod cli;
mod daemon;
mod filesystems;
mod image;
mod logging;
mod mount_namespace;
mod mount_table;

use std::process::ExitCode;

use clap::Parser as _;

use cli::{Cli, Command};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.command {
        None => daemon::main(cli.daemon),
        Some(Command::Image(command)) => image::main(command),
        Some(Command::Cleanup(args)) => cleanup::main(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vetch-node: {error:#}");
            ExitCode::FAILURE
        }
    }
}
