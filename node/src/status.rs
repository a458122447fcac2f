//! `vetch-node status`: by which ways packets of this node's pods go, from the kernel alone.

use std::{collections::BTreeMap, net::IpAddr};

use anyhow::{Context as _, Result};
use serde::Serialize;
use vetch_network::PeerWay;
use vetch_proxy::{
    PodTraffic,
    inspect::{self, LinkPath, PodPaths},
};

use crate::cli::MapsArgs;
use crate::table::{self, Table};

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    /// The machine's name.
    host: String,
    links: Vec<LinkPath>,
    pods: PodPaths,
    /// By the pods' addresses, at their own ends of their links.
    traffic: BTreeMap<IpAddr, PodTraffic>,
    /// Other nodes' pods.
    peers: Vec<PeerWay>,
}

pub fn main(args: &MapsArgs) -> Result<()> {
    let paths = inspect::paths(&args.pin_dir).with_context(|| args.no_node())?;
    let tokio = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the async runtime")?;
    let host = nix::unistd::gethostname().context("the machine's name")?;
    let status = Status {
        host: host.to_string_lossy().into_owned(),
        links: paths.links,
        pods: paths.pods,
        traffic: paths.traffic,
        peers: tokio
            .block_on(vetch_network::ways())
            .context("the routes to other nodes' pods")?,
    };
    table::print(args.output, &status, || text(&status))
}

fn text(status: &Status) -> String {
    let pods = &status.pods;
    let head = format!(
        "Host: {}\nPods' addresses: {} past the stack (bpf_redirect_peer), {} by the stack; programs held by {}\n",
        status.host,
        pods.redirect_peer,
        pods.stack,
        if pods.held_by.is_empty() {
            "none".to_owned()
        } else {
            pods.held_by.join(", ")
        },
    );
    let mut links = Table::new(["LINK", "ROLE", "MTU", "PROGRAMS"]);
    for link in &status.links {
        let programs = link.programs.iter();
        let programs: Vec<String> = programs
            .map(|program| format!("{} ({})", program.name, program.held_by))
            .collect();
        links.row([
            link.name.clone(),
            link.role.to_owned(),
            link.mtu.to_string(),
            programs.join(", "),
        ]);
    }
    let mut peers = Table::new(["PODS", "NODE", "WAY", "LINK", "MTU"]);
    for peer in &status.peers {
        peers.row([
            peer.pods.to_string(),
            peer.node.to_string(),
            peer.way.to_owned(),
            peer.link.clone().unwrap_or_else(|| "-".into()),
            peer.mtu.map_or("-".into(), |mtu| mtu.to_string()),
        ]);
    }
    let mut traffic = Table::new(["POD", "RECEIVED BYTES", "PACKETS", "SENT BYTES", "PACKETS"]);
    for (ip, counted) in &status.traffic {
        traffic.row([
            ip.to_string(),
            counted.received_bytes.to_string(),
            counted.received_packets.to_string(),
            counted.sent_bytes.to_string(),
            counted.sent_packets.to_string(),
        ]);
    }
    format!(
        "{head}\n{}\n{}\n{}",
        links.text(),
        peers.text(),
        traffic.text()
    )
}

#[cfg(test)]
mod tests {
    use vetch_proxy::inspect::LinkProgram;

    use super::*;

    #[test]
    fn links_and_peers_with_their_ways() {
        let status = Status {
            host: "node-1".into(),
            links: vec![LinkPath {
                name: "eth0".into(),
                mtu: 1500,
                role: "uplink",
                programs: vec![LinkProgram {
                    name: "from_net",
                    held_by: "tcx",
                }],
            }],
            pods: PodPaths {
                redirect_peer: 3,
                stack: 1,
                held_by: vec!["tcx"],
            },
            traffic: [(
                "10.244.1.2".parse().unwrap(),
                PodTraffic {
                    received_bytes: 100,
                    received_packets: 2,
                    sent_bytes: 50,
                    sent_packets: 1,
                },
            )]
            .into(),
            peers: vec![PeerWay {
                pods: "10.244.2.0/24".parse().unwrap(),
                node: "172.30.0.3".parse().unwrap(),
                way: "vxlan",
                link: Some("vetch.vxlan".into()),
                mtu: None,
            }],
        };
        let text = text(&status);
        let rows: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert!(text.starts_with("Host: node-1\n"), "{text}");
        assert_eq!(rows[3], ["LINK", "ROLE", "MTU", "PROGRAMS"]);
        assert_eq!(rows[4], ["eth0", "uplink", "1500", "from_net", "(tcx)"]);
        assert_eq!(rows[6], ["PODS", "NODE", "WAY", "LINK", "MTU"]);
        assert_eq!(
            rows[7],
            ["10.244.2.0/24", "172.30.0.3", "vxlan", "vetch.vxlan", "-"]
        );
        assert_eq!(rows[10], ["10.244.1.2", "100", "2", "50", "1"]);
    }
}
