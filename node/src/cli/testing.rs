//! What the tests of every group of flags need.

use clap::Parser;

use super::Cli;

pub const NEEDED: [&str; 7] = [
    "vetch-node",
    "--kubeconfig",
    "k",
    "--node-name",
    "n",
    "--node-ip",
    "10.0.0.1",
];

pub fn parse(args: &[&str]) -> Result<Cli, String> {
    Cli::try_parse_from(args).map_err(|error| error.to_string())
}
