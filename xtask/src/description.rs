//! `cluster.json`: where everything of a cluster is, for tests, benchmarks and people's scripts.

use std::fs::{self, File};
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use ipnet::{IpNet, Ipv4Net};
use serde::Serialize;

use crate::cluster::Cluster;
use crate::plan::{IpFamily, families};
use crate::service::Part;
use crate::state::State;

const KUBELET_PORT: u16 = 10250;

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Description {
    pub name: String,
    /// With the administrator's certificate.
    pub kubeconfig: PathBuf,
    /// The API server as this machine reaches it.
    pub server: String,
    /// The API server as nodes and pods reach it.
    pub node_server: String,
    /// etcd's client endpoint.
    pub etcd: String,
    pub ip_family: IpFamily,
    pub subnet: Ipv4Net,
    /// The first of `podCIDRs`.
    #[serde(rename = "podCIDR")]
    pub pod_cidr: IpNet,
    #[serde(rename = "podCIDRs")]
    pub pod_cidrs: Vec<IpNet>,
    /// The first of `serviceCIDRs`.
    #[serde(rename = "serviceCIDR")]
    pub service_cidr: IpNet,
    #[serde(rename = "serviceCIDRs")]
    pub service_cidrs: Vec<IpNet>,
    pub machine: Machine,
    pub hub: Hub,
    pub cgroup: PathBuf,
    pub daemons: Daemons,
    pub nodes: Vec<Node>,
}

/// The machine's end of the cable to the nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Machine {
    pub link: String,
    pub address: Ipv4Addr,
    /// As which pods see it, of each family.
    pub addresses: Vec<IpAddr>,
}

/// Where all cables end: in bridges (`br0`, …), with a port of each node's name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Hub {
    /// A path that `nsenter` takes.
    pub netns: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Daemons {
    pub etcd: Daemon,
    pub control: Daemon,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Daemon {
    /// Empty while it does not run.
    pub pids: Vec<i32>,
    pub cgroup: PathBuf,
    pub log: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Node {
    pub name: String,
    pub address: Ipv4Addr,
    /// Its Node's, of each family.
    pub addresses: Vec<IpAddr>,
    /// Namespaces, as paths that `nsenter` takes.
    pub netns: PathBuf,
    pub utsns: PathBuf,
    pub cgroupns: PathBuf,
    pub mountns: PathBuf,
    /// Holds the daemon and every pod.
    pub cgroup: PathBuf,
    /// Of the daemon; pods have their own.
    pub pids: Vec<i32>,
    pub log: PathBuf,
    pub pod_logs: PathBuf,
    pub root_dir: PathBuf,
    /// Where manifests of static pods go.
    pub manifests: PathBuf,
    pub run_dir: PathBuf,
    pub sockets: Sockets,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sockets {
    /// The kubelet API, reachable from this machine.
    pub kubelet: String,
    /// Where clients of the Container Runtime Interface connect, on this machine too.
    pub cri: PathBuf,
}

pub fn of(cluster: &Cluster, state: &State) -> Description {
    let daemon = |part: &Part| {
        let leaf = cluster.leaf(part);
        Daemon {
            pids: leaf.pids(),
            cgroup: leaf.path().to_owned(),
            log: cluster.log(part),
        }
    };
    let node = |(number, name): (u32, String)| {
        let paths = cluster.paths.node(&name);
        let address = state.node_address(number);
        let part = Part::Node(name.clone());
        Node {
            address,
            addresses: families::node_ips(state, number),
            netns: paths.namespace("net"),
            utsns: paths.namespace("uts"),
            cgroupns: paths.namespace("cgroup"),
            mountns: paths.mount_namespace,
            cgroup: paths.cgroup,
            pids: cluster.leaf(&part).pids(),
            log: cluster.log(&part),
            pod_logs: paths.pod_logs,
            manifests: paths.manifests,
            root_dir: paths.root,
            run_dir: paths.run.clone(),
            sockets: Sockets {
                kubelet: format!("https://{address}:{KUBELET_PORT}"),
                cri: paths.run.join("cri.sock"),
            },
            name,
        }
    };
    let pod_cidrs = families::pod_cidrs(state);
    let service_cidrs = families::service_cidrs(state);
    Description {
        name: cluster.name.to_string(),
        kubeconfig: cluster.paths.admin_kubeconfig(),
        server: state.api_for_machine(),
        node_server: state.api_for_nodes(),
        etcd: state.etcd_endpoint(),
        ip_family: state.ip_family,
        subnet: state.subnet,
        pod_cidr: pod_cidrs[0],
        pod_cidrs,
        service_cidr: service_cidrs[0],
        service_cidrs,
        machine: Machine {
            link: state.link.clone(),
            address: state.segments().machine_address(),
            addresses: families::machine_ips(state),
        },
        hub: Hub {
            netns: cluster.paths.hub_netns(),
        },
        cgroup: cluster.cgroup.path().to_owned(),
        daemons: Daemons {
            etcd: daemon(&Part::Etcd),
            control: daemon(&Part::Control),
        },
        nodes: (1..).zip(state.node_names()).map(node).collect(),
    }
}

/// Writes into the file that is there: scenarios hold locks on it.
pub fn write(path: &Path, description: &Description) -> Result<()> {
    let text = serde_json::to_string_pretty(description)? + "\n";
    if fs::read_to_string(path).is_ok_and(|before| before == text) {
        return Ok(());
    }
    let mut file = File::options()
        .create(true)
        .write(true)
        .truncate(true)
        .open(path)
        .with_context(|| format!("open {}", path.display()))?;
    file.write_all(text.as_bytes())
        .with_context(|| format!("write {}", path.display()))
}
