//! `cluster.json` of a cluster of machines, beside the one of namespaces: scenarios read either.

use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::cluster::Machines;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Description {
    name: String,
    kubeconfig: PathBuf,
    kernel: String,
    /// How many times slower than this host everything may be.
    patience: u32,
    nodes: Vec<Node>,
}

#[derive(Serialize)]
struct Node {
    name: String,
    address: Ipv4Addr,
    /// For `ssh -F`: the node is a host of this configuration.
    ssh: PathBuf,
    log: PathBuf,
    console: PathBuf,
}

/// Under emulation a limit that is generous elsewhere is met at times.
const PATIENCE: [u32; 2] = [1, 3];

pub fn write(machines: &Machines) -> Result<()> {
    let emulated = machines.accelerator() == super::qemu::Accelerator::Tcg;
    let description = Description {
        name: machines.name.to_string(),
        kubeconfig: machines.kubeconfig(),
        kernel: machines.kernel_release().to_owned(),
        patience: PATIENCE[usize::from(emulated)],
        nodes: machines
            .all()
            .into_iter()
            .map(|machine| {
                let files = machines.files(&machine);
                Node {
                    address: machine.address,
                    ssh: machines.ssh().config().to_owned(),
                    log: files.journal(),
                    console: files.console(),
                    name: machine.name,
                }
            })
            .collect(),
    };
    let path = machines.description();
    fs::write(&path, serde_json::to_string_pretty(&description)?)
        .with_context(|| format!("write {}", path.display()))
}
