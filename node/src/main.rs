//! `vetch-node`: one process a node. Pods, maps and links outlive it.

mod cgroup;
mod check;
mod cleanup;
mod cli;
mod ct;
mod daemon;
mod drops;
mod ends;
mod filesystems;
mod flows;
mod image;
mod join;
mod logging;
mod maps;
mod mount_namespace;
mod mount_table;
mod names;
mod policy;
mod programs;
mod service;
mod single;
mod status;
mod table;
mod trace;
mod verify;

use std::process::ExitCode;

use clap::Parser as _;

use cli::{Cli, Command};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.command {
        None => daemon::main(cli.daemon),
        Some(Command::Image(command)) => image::main(command),
        Some(Command::Programs(args)) => programs::main(&args),
        Some(Command::Service(command)) => service::main(&command),
        Some(Command::Ct(command)) => ct::main(&command),
        Some(Command::Policy(command)) => policy::main(&command),
        Some(Command::Maps(args)) => maps::main(&args),
        Some(Command::Drops(args)) => drops::main(&args),
        Some(Command::Flows(args)) => flows::main(&args),
        Some(Command::Trace(args)) => trace::main(&args),
        Some(Command::Status(args)) => status::main(&args),
        Some(Command::Verify(args)) => verify::main(&args),
        Some(Command::Cri(args)) => daemon::cri(args),
        Some(Command::Join(args)) => join::main(&args),
        Some(Command::Cni(args)) => daemon::cni(args),
        Some(Command::Cleanup(args)) => cleanup::main(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vetch-node: {}", one_line(&error));
            ExitCode::FAILURE
        }
    }
}

/// With its causes, but for what an error repeats of its cause.
fn one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        let words = cause.to_string().replace('\n', " ");
        if line.ends_with(&words) {
            continue;
        }
        if !line.is_empty() {
            line.push_str(": ");
        }
        line.push_str(&words);
    }
    line
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    #[test]
    fn errors_are_one_line() {
        let error = anyhow!("no such file").context("open x: no such file");
        let error = error.context("read\nall");
        assert_eq!(super::one_line(&error), "read all: open x: no such file");
    }
}
