//! `vetch-load`: the load generator and the server of the benchmark, one static program run in pods.
//!
//! [`serve`] answers as cheaply as it can and always at the same cost; [`run`] asks, in a closed
//! loop or to a schedule, and prints one line of JSON; [`follow`] tells when a new connection first
//! reaches another server.

mod answer;
mod args;
mod clock;
mod follow;
mod net;
mod run;
mod serve;
mod signals;

use std::process::ExitCode;

use clap::Parser as _;

use crate::args::Command;

fn main() -> ExitCode {
    let command = Command::parse();
    // A server that is told to end has done its work; a measurement has not.
    let ended = match command {
        Command::Serve(_) => 0,
        Command::Run(_) | Command::Follow(_) => 143,
    };
    let done = signals::end_with(ended).and_then(|()| match &command {
        Command::Serve(options) => serve::run(options),
        Command::Run(options) => run::run(options),
        Command::Follow(options) => follow::run(options),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vetch-load: {error:#}");
            ExitCode::FAILURE
        }
    }
}
