//! `xtask status`: which parts run, and the nodes as the API server sees them.

use std::io::Write as _;

use anyhow::Result;

use crate::cluster::Cluster;
use crate::service::{Part, parts};

pub fn print(cluster: &Cluster) -> Result<()> {
    let state = cluster.state()?;
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "cluster {}: KUBECONFIG={}",
        cluster.name,
        cluster.paths.admin_kubeconfig().display()
    )?;
    let conditions = cluster.node_conditions();
    let mut number = 0;
    for part in parts(&state) {
        let pids = cluster.leaf(&part).pids();
        let life = match pids.as_slice() {
            [] => "stopped".to_owned(),
            pids => format!(
                "pid {}",
                pids.iter()
                    .map(i32::to_string)
                    .collect::<Vec<_>>()
                    .join(", ")
            ),
        };
        let more = match &part {
            Part::Etcd => state.etcd_endpoint(),
            Part::Control => state.api_for_machine(),
            Part::Node(name) => {
                number += 1;
                let known = conditions.iter().flatten().find(|node| node.name == *name);
                let words = match known {
                    Some(node) if node.ready => "Ready".to_owned(),
                    Some(node) => format!("NotReady: {}", node.message),
                    None => "unknown to the API server".to_owned(),
                };
                format!("{} {words}", state.segments().node_address(number))
            }
        };
        writeln!(out, "{part:10} {life:16} {more}")?;
    }
    if let Err(error) = conditions {
        writeln!(out, "the API server does not answer: {error:#}")?;
    }
    Ok(())
}
