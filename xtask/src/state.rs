//! What `up` chose for a cluster, remembered so that the next `up` chooses the same.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use anyhow::{Context as _, Result};
use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::plan::IpFamily;
use crate::segments::Segments;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    pub nodes: u32,
    #[serde(default)]
    pub ip_family: IpFamily,
    /// The machine's end of the cable to the nodes' bridge.
    pub link: String,
    pub subnet: Ipv4Net,
    /// How many links the nodes are on.
    #[serde(default = "one")]
    pub subnets: u32,
    pub pod_cidr: Ipv4Net,
    pub service_cidr: Ipv4Net,
    pub api_port: u16,
    pub etcd_client_port: u16,
    pub etcd_peer_port: u16,
    #[serde(default)]
    pub insecure_registries: Vec<String>,
    #[serde(default)]
    pub max_pods: Option<u32>,
    /// Whose Services the nodes serve; None: those that name nobody.
    #[serde(default)]
    pub service_proxy_name: Option<String>,
    /// What vetch-node is told besides.
    #[serde(default)]
    pub node_args: Vec<String>,
    /// What nodes have instead of the addresses that they began with, by their names.
    #[serde(default)]
    pub moved: BTreeMap<String, Vec<IpAddr>>,
}

fn one() -> u32 {
    1
}

impl State {
    /// None where no `up` has been, or `--fresh` made one forget.
    pub fn load(path: &Path) -> Result<Option<State>> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
        };
        let state = serde_json::from_str(&text)
            .with_context(|| format!("read {}: start over with --fresh", path.display()))?;
        Ok(Some(state))
    }

    pub fn save(&self, path: &Path) -> Result<()> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        // Whole or not at all, also when killed in between.
        let draft = path.with_extension("tmp");
        fs::write(&draft, serde_json::to_string_pretty(self)?)?;
        fs::rename(&draft, path).with_context(|| format!("write {}", path.display()))
    }

    pub fn node_names(&self) -> Vec<String> {
        (1..=self.nodes)
            .map(|number| format!("node-{number}"))
            .collect()
    }

    /// By which the API server and the other nodes are reached from it; `number` starts at 1.
    pub fn node_address(&self, number: u32) -> Ipv4Addr {
        let moved = self.moved.get(&format!("node-{number}"));
        let v4 = |ip: &IpAddr| match ip {
            IpAddr::V4(ip) => Some(*ip),
            IpAddr::V6(_) => None,
        };
        let moved = moved.and_then(|ips| ips.iter().find_map(v4));
        moved.unwrap_or_else(|| self.segments().node_address(number))
    }

    pub fn segments(&self) -> Segments {
        Segments::new(self.subnet, self.subnets)
    }

    pub fn etcd_endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.etcd_client_port)
    }

    /// The API server as the nodes and their pods reach it.
    pub fn api_for_nodes(&self) -> String {
        format!(
            "https://{}:{}",
            self.segments().machine_address(),
            self.api_port
        )
    }

    pub fn api_for_machine(&self) -> String {
        format!("https://127.0.0.1:{}", self.api_port)
    }
}
