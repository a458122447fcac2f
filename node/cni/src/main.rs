//! `vetch-cni`: the CNI plugin of Vetch's pod network, for any runtime.
//!
//! ```text
//! environment ─┐                        ┌─ daemon: gRPC at RUN_DIR/cni.sock
//! stdin ───────┴─> environment, config ─┤
//!                       (pure)          └─ DEL without a daemon: the link, and a mark
//!                                            │
//! stdout <── result, failure: JSON of the version that was asked for
//! ```
//!
//! The specification: <https://github.com/containernetworking/cni>, versions 0.3.0 to 1.1.0. It runs
//! twice a pod, so it is small and has one thread.

mod command;
mod config;
mod daemon;
mod environment;
mod failure;
mod result;
mod version;

use std::io::{Read as _, Write as _};
use std::process::ExitCode;

use command::Answer;

fn main() -> ExitCode {
    let mut input = Vec::new();
    let read = std::io::stdin().read_to_end(&mut input);
    let variable = |name: &str| std::env::var_os(name)?.into_string().ok();
    let Answer { output, ok } = command::answer(read.map(|_| input), variable);
    // Without an answer a runtime sees the code alone.
    let written = std::io::stdout().write_all(output.as_bytes());
    match ok && written.is_ok() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}
