//! Lines for people, on standard error; RUST_LOG says which.

use std::io::IsTerminal as _;
use std::process;

use tracing::error;
use tracing_subscriber::EnvFilter;

/// Where RUST_LOG does not say. Libraries repeat what we say in our own words.
const DEFAULT: &str = "info,kube=warn,kube_client=warn,kube_runtime=error,hyper=warn,rustls=warn";

pub fn start() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    end_with_the_first_panic();
}

/// Half a node is worse than none: pods go on without the daemon, and whoever
/// watches over it starts it again.
fn end_with_the_first_panic() {
    std::panic::set_hook(Box::new(|panic| {
        error!("{panic}");
        process::exit(101);
    }));
}
