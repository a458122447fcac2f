//! /etc/hosts of a pod.

use std::fmt::Write as _;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{HostAlias, Pod};

use super::hostname::Hostname;
use crate::pods::spec;

/// `node_file` is the node's own /etc/hosts: the base for pods of its network.
pub fn content(pod: &Pod, ips: &[IpAddr], hostname: &Hostname, node_file: &str) -> String {
    let mut text = if spec::host_network(pod) {
        format!("# Kubernetes-managed hosts file (host network).\n{node_file}")
    } else {
        managed(ips, hostname)
    };
    aliases(
        &mut text,
        spec::spec(pod).host_aliases.as_deref().unwrap_or_default(),
    );
    text
}

fn managed(ips: &[IpAddr], hostname: &Hostname) -> String {
    let mut text = "# Kubernetes-managed hosts file.\n\
                    127.0.0.1\tlocalhost\n\
                    ::1\tlocalhost ip6-localhost ip6-loopback\n\
                    fe00::0\tip6-localnet\n\
                    fe00::0\tip6-mcastprefix\n\
                    fe00::1\tip6-allnodes\n\
                    fe00::2\tip6-allrouters\n"
        .to_owned();
    let name = &hostname.name;
    for ip in ips {
        let _ = match &hostname.domain {
            Some(domain) => writeln!(text, "{ip}\t{name}.{domain}\t{name}"),
            None => writeln!(text, "{ip}\t{name}"),
        };
    }
    text
}

fn aliases(text: &mut String, aliases: &[HostAlias]) {
    if aliases.is_empty() {
        return;
    }
    text.push_str("\n# Entries added by HostAliases.\n");
    for alias in aliases {
        let names = alias.hostnames.as_deref().unwrap_or_default();
        let _ = writeln!(text, "{}\t{}", alias.ip, names.join("\t"));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn own_names_and_aliases() {
        let pod: Pod = serde_json::from_value(json!({"spec": {"containers": [], "hostAliases": [
            {"ip": "1.2.3.4", "hostnames": ["a", "b"]},
        ]}}))
        .unwrap();
        let mut hostname = Hostname {
            name: "web".into(),
            domain: None,
            kernel: "web".into(),
        };
        let ips = ["10.244.0.7".parse().unwrap()];
        let text = content(&pod, &ips, &hostname, "");
        assert!(text.starts_with("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n"));
        assert!(text.ends_with(
            "fe00::2\tip6-allrouters\n10.244.0.7\tweb\n\n# Entries added by HostAliases.\n1.2.3.4\ta\tb\n"
        ));
        hostname.domain = Some("sub.shop.svc.cluster.local".into());
        let text = content(&pod, &ips, &hostname, "");
        assert!(text.contains("10.244.0.7\tweb.sub.shop.svc.cluster.local\tweb\n"));
        let both = ["10.244.0.7".parse().unwrap(), "fd00::7".parse().unwrap()];
        hostname.domain = None;
        let text = content(&pod, &both, &hostname, "");
        assert!(text.contains("\n10.244.0.7\tweb\nfd00::7\tweb\n"), "{text}");
    }

    #[test]
    fn the_nodes_own_on_its_network() {
        let pod: Pod =
            serde_json::from_value(json!({"spec": {"containers": [], "hostNetwork": true}}))
                .unwrap();
        let hostname = Hostname {
            name: "n".into(),
            domain: None,
            kernel: "n".into(),
        };
        assert_eq!(
            content(&pod, &[], &hostname, "127.0.0.1 localhost\n"),
            "# Kubernetes-managed hosts file (host network).\n127.0.0.1 localhost\n"
        );
    }
}
