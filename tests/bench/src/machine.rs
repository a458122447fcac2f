//! The machine and the cluster, in the words of the report.

use std::fs;

use anyhow::Result;
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::ListParams;
use vetch_bench_record::Machine;

use crate::target::Target;

/// Of this machine, and of the cluster as its API tells.
pub async fn describe(target: &Target) -> Result<Machine> {
    let nodes = Api::<Node>::all(target.client.clone())
        .list(&ListParams::default())
        .await?
        .items;
    let version = target.client.apiserver_version().await?.git_version;
    let kernel = nix::sys::utsname::uname()?;
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    Ok(Machine {
        kernel: kernel.release().to_string_lossy().into_owned(),
        distribution: field(&read("/etc/os-release"), "PRETTY_NAME", '=')
            .unwrap_or_else(|| "unknown".into()),
        processor: field(&read("/proc/cpuinfo"), "model name", ':')
            .unwrap_or_else(|| std::env::consts::ARCH.into()),
        processors: u32::try_from(processors)?,
        memory_bytes: memory(&read("/proc/meminfo")),
        cluster: words(target.local.is_some(), &nodes, &version),
    })
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The first value of this key, without quotes.
fn field(text: &str, key: &str, separator: char) -> Option<String> {
    text.lines()
        .filter_map(|line| line.split_once(separator))
        .find(|(name, _)| name.trim() == key)
        .map(|(_, value)| value.trim().trim_matches('"').to_owned())
}

/// Of `MemTotal`, which is in kiB: proc(5).
fn memory(meminfo: &str) -> u64 {
    let total = field(meminfo, "MemTotal", ':').unwrap_or_default();
    let kib = total
        .split(' ')
        .next()
        .and_then(|number| number.parse().ok());
    kib.unwrap_or(0_u64) * 1024
}

fn words(local: bool, nodes: &[Node], version: &str) -> String {
    let count = match nodes.len() {
        1 => "1 node".to_owned(),
        count => format!("{count} nodes"),
    };
    if local {
        return format!("{count} in namespaces of this machine, API server {version}");
    }
    let infos = || {
        nodes
            .iter()
            .filter_map(|node| node.status.as_ref()?.node_info.as_ref())
    };
    let mut kinds: Vec<String> = infos()
        .map(|info| {
            format!(
                "{}, kernel {}, {}",
                info.os_image, info.kernel_version, info.container_runtime_version
            )
        })
        .collect();
    kinds.sort();
    kinds.dedup();
    format!(
        "{count} ({}), API server {version}; measured from the machine above",
        kinds.join("; ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_by_their_key() {
        let release = "ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n";
        let name = field(release, "PRETTY_NAME", '=');
        assert_eq!(name.as_deref(), Some("Debian GNU/Linux 12 (bookworm)"));
        let cpu = "processor\t: 0\nmodel name\t: A: B\nmodel name\t: C\n";
        assert_eq!(field(cpu, "model name", ':').as_deref(), Some("A: B"));
        assert_eq!(memory("MemTotal:       1024 kB\nMemFree: 1 kB\n"), 1 << 20);
        assert_eq!(memory(""), 0);
    }

    #[test]
    fn a_cluster_is_told_in_a_few_words() {
        let node: Node = serde_json::from_value(serde_json::json!({"status": {"nodeInfo": {
            "architecture": "amd64", "bootID": "", "containerRuntimeVersion": "containerd://2.1",
            "kernelVersion": "6.1.0", "kubeProxyVersion": "", "kubeletVersion": "v1.36.0",
            "machineID": "", "operatingSystem": "linux", "osImage": "Debian", "systemUUID": "",
        }}}))
        .unwrap();
        assert_eq!(
            words(true, std::slice::from_ref(&node), "v1.36.0"),
            "1 node in namespaces of this machine, API server v1.36.0"
        );
        let two = words(false, &[node.clone(), node], "v1.36.0");
        assert!(
            two.starts_with("2 nodes (Debian, kernel 6.1.0, containerd://2.1), "),
            "{two}"
        );
    }
}
