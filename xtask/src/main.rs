//! The door for people: `cargo xtask up`, `down`, `test` and what lies between.
//!
//! Needs nothing but Rust to build; everything else it finds out and installs itself.

use std::process::ExitCode;

use clap::Parser as _;

mod apt;
mod bench;
mod bpf;
mod build;
mod cache;
mod cgroup;
mod child;
mod cli;
mod cluster;
mod debian;
mod description;
mod down;
mod e2e;
mod enter;
mod foreground;
mod hold;
mod image;
mod inventory;
mod kubectl;
mod logs;
mod machine;
mod mounts;
mod namespaces;
mod netlink;
mod network;
mod package;
mod paths;
mod plan;
mod ports;
mod process;
mod segments;
mod service;
mod signals;
mod state;
mod status;
mod steps;
mod test;
mod tools;
mod up;
mod vm;

fn main() -> ExitCode {
    match cli::Cli::parse().run() {
        Ok(code) => code,
        // The reader has seen enough.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let cause = error.root_cause().downcast_ref::<std::io::Error>();
    cause.is_some_and(|cause| cause.kind() == std::io::ErrorKind::BrokenPipe)
}
