//! What a cluster has on this machine: a line each, the same lines as long as nothing changes.
//!
//! Of what the machine shares, links and routes, all is listed but what other clusters have. Of BPF
//! objects, those of this cluster and those that nobody answers for.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::Result;

use crate::bpf::Objects;
use crate::cluster::Cluster;
use crate::mounts::Mount;
use crate::netlink::{self, Netlink, block_on};
use crate::{network, process};

mod holders;

pub use holders::own_objects;

/// Programs whose arguments say whose they are.
const PROGRAMS: [&str; 4] = ["vetch-node", "vetch-shim", "vetch-control", "etcd"];

pub fn lines(cluster: &Cluster) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    if cluster.paths.run.exists() {
        lines.push(format!("directory {}", cluster.paths.run.display()));
    }
    lines.extend(mounts(cluster));
    lines.extend(links_and_routes(cluster)?);
    let cgroups = cluster.cgroup.subtree();
    lines.extend(
        cgroups
            .iter()
            .map(|cgroup| format!("cgroup {}", cgroup.path().display())),
    );
    let pids = cgroups
        .iter()
        .flat_map(|cgroup| cgroup.pids())
        .chain(strays(cluster));
    for pid in pids {
        lines.push(format!(
            "process {pid} {}",
            process::program_name(pid).unwrap_or_default()
        ));
    }
    let Objects(objects) = holders::own_and_orphaned(cluster)?;
    for (id, object) in objects {
        lines.push(format!(
            "bpf {} {} {}",
            id.kind.word(),
            id.number,
            object.name
        ));
    }
    Ok(lines)
}

/// Processes of the cluster that are not in its cgroup.
pub fn strays(cluster: &Cluster) -> Vec<i32> {
    let inside: BTreeSet<i32> = cluster
        .cgroup
        .subtree()
        .iter()
        .flat_map(|cgroup| cgroup.pids())
        .collect();
    let places =
        [&cluster.paths.run, &cluster.paths.data].map(|path| format!("{}/", path.display()));
    process::all()
        .into_iter()
        .filter(|pid| !inside.contains(pid))
        .filter(|pid| {
            process::program_name(*pid).is_some_and(|name| PROGRAMS.contains(&name.as_str()))
        })
        .filter(|pid| is_of(&process::arguments(*pid), &places))
        .filter(|pid| !process::is_zombie(*pid))
        .collect()
}

fn is_of(arguments: &[String], places: &[String]) -> bool {
    // With the slash after it a directory itself is meant as well.
    arguments.iter().any(|argument| {
        places
            .iter()
            .any(|place| format!("{argument}/").contains(place.as_str()))
    })
}

/// Mounts of the cluster in every mount namespace that a process is in: what is a mount namespace's
/// own copy keeps namespaces alive as well.
fn mounts(cluster: &Cluster) -> BTreeSet<String> {
    let mut seen = BTreeMap::new();
    for pid in process::all() {
        if let Ok(namespace) = fs::read_link(format!("/proc/{pid}/ns/mnt")) {
            seen.entry(namespace).or_insert(pid);
        }
    }
    let own = fs::read_link("/proc/self/ns/mnt").unwrap_or_default();
    let mut lines = BTreeSet::new();
    for (namespace, pid) in seen {
        // The process may have ended meanwhile.
        for mount in Mount::all(&pid.to_string()).unwrap_or_default() {
            if mount.point.starts_with(&cluster.paths.run) {
                let place = if namespace == own {
                    String::new()
                } else {
                    format!(" in {}", namespace.display())
                };
                lines.insert(format!(
                    "mount {} {}{place}",
                    mount.kind,
                    mount.point.display()
                ));
            }
        }
    }
    lines
}

fn links_and_routes(cluster: &Cluster) -> Result<Vec<String>> {
    let (links, routes) = block_on(async {
        let machine = Netlink::machine()?;
        Ok((machine.links().await?, machine.routes().await?))
    })?;
    let names = netlink::names(&links);
    let others: BTreeSet<u32> = links
        .iter()
        .filter(|link| network::owner(link).is_some_and(|owner| owner != cluster.name.as_str()))
        .map(|link| link.index)
        .collect();
    let mut lines = Vec::new();
    for link in links.iter().filter(|link| !others.contains(&link.index)) {
        lines.push(
            format!("link {} {}", link.name, link.kind)
                .trim_end()
                .to_owned(),
        );
    }
    for route in routes {
        if route.link.is_some_and(|link| others.contains(&link)) {
            continue;
        }
        let to = route
            .destination
            .map_or("default".into(), |to| to.to_string());
        let via = route
            .gateway
            .map(|via| format!(" via {via}"))
            .unwrap_or_default();
        let link = route
            .link
            .and_then(|link| names.get(&link))
            .copied()
            .unwrap_or("-");
        lines.push(format!("route {to}{via} dev {link} table {}", route.table));
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_of_the_cluster_whose_directories_it_was_given() {
        let places = ["/run/vetch/a/".to_owned(), "/src/target/vetch/".to_owned()];
        let of = |line: &str| {
            is_of(
                &line.split(' ').map(str::to_owned).collect::<Vec<_>>(),
                &places,
            )
        };
        assert!(of("vetch-shim /run/vetch/a/node-1/run/sandboxes/x"));
        assert!(of(
            "vetch-control --data-dir /src/target/vetch --listen 127.0.0.1:1"
        ));
        assert!(of("etcd --data-dir=/src/target/vetch/etcd"));
        // Another cluster, a name that starts the same, another program's word.
        for line in [
            "vetch-shim /run/vetch/b/node-1",
            "vetch-shim /run/vetch/ab",
            "vetch-control --data-dir /src/target/vetch-b",
        ] {
            assert!(!of(line), "{line}");
        }
    }
}
