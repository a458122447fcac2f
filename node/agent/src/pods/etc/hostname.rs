//! What a pod calls itself.

use k8s_openapi::api::core::v1::Pod;

use crate::pods::spec;

/// The kernel takes 64 bytes with the NUL.
const MAX: usize = 63;
const MAX_FQDN: usize = 64;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hostname {
    /// Short name, as in /etc/hosts.
    pub name: String,
    /// `subdomain.namespace.svc.cluster-domain`, where the pod has a subdomain.
    pub domain: Option<String>,
    /// What the UTS namespace is given.
    pub kernel: String,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostnameError {
    #[error(
        "Failed to construct FQDN from Pod hostname and cluster domain, FQDN {fqdn} is too long ({MAX_FQDN} characters is the max, {length} characters requested)"
    )]
    TooLong { fqdn: String, length: usize },
}

/// `node` is the node's own name, which pods of its network share.
pub fn hostname(pod: &Pod, cluster_domain: &str, node: &str) -> Result<Hostname, HostnameError> {
    let own = spec::spec(pod);
    let set = |field: &Option<String>| field.clone().filter(|text| !text.is_empty());
    if spec::host_network(pod) {
        return Ok(Hostname {
            name: node.to_owned(),
            domain: None,
            kernel: node.to_owned(),
        });
    }
    if let Some(name) = set(&own.hostname_override) {
        let name = truncated(name);
        return Ok(Hostname {
            kernel: name.clone(),
            name,
            domain: None,
        });
    }
    let name = truncated(set(&own.hostname).unwrap_or_else(|| spec::name(pod).to_owned()));
    let domain = set(&own.subdomain)
        .map(|subdomain| format!("{subdomain}.{}.svc.{cluster_domain}", spec::namespace(pod)));
    let kernel = match &domain {
        Some(domain) if own.set_hostname_as_fqdn == Some(true) => {
            let fqdn = format!("{name}.{domain}");
            if fqdn.len() > MAX_FQDN {
                let length = fqdn.len();
                return Err(HostnameError::TooLong { fqdn, length });
            }
            fqdn
        }
        _ => name.clone(),
    };
    Ok(Hostname {
        name,
        domain,
        kernel,
    })
}

/// Names of pods may be longer than the kernel allows a host's.
fn truncated(mut name: String) -> String {
    if name.len() > MAX {
        name.truncate(MAX);
        name.truncate(name.trim_end_matches(['-', '.']).len());
    }
    name
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn of(name: &str, spec: Value) -> Result<Hostname, HostnameError> {
        let pod: Pod = serde_json::from_value(
            json!({"metadata": {"name": name, "namespace": "shop"}, "spec": spec}),
        )
        .unwrap();
        hostname(&pod, "cluster.local", "node-1")
    }

    #[test]
    fn names_and_domains() {
        let long = format!("{}-{}", "a".repeat(62), "b");
        for (name, spec, want) in [
            ("web", json!({}), ("web", None, "web")),
            ("web", json!({"hostname": "box"}), ("box", None, "box")),
            (
                "web",
                json!({"subdomain": "sub"}),
                ("web", Some("sub.shop.svc.cluster.local"), "web"),
            ),
            (
                "web",
                json!({"subdomain": "sub", "setHostnameAsFQDN": true}),
                (
                    "web",
                    Some("sub.shop.svc.cluster.local"),
                    "web.sub.shop.svc.cluster.local",
                ),
            ),
            (
                "web",
                json!({"hostNetwork": true, "hostname": "box"}),
                ("node-1", None, "node-1"),
            ),
            (
                "web",
                json!({"hostnameOverride": "a.b", "subdomain": "sub"}),
                ("a.b", None, "a.b"),
            ),
            (
                long.as_str(),
                json!({}),
                (&"a".repeat(62), None, &"a".repeat(62)),
            ),
        ] {
            let want = Hostname {
                name: want.0.to_owned(),
                domain: want.1.map(str::to_owned),
                kernel: want.2.to_owned(),
            };
            assert_eq!(of(name, spec.clone()), Ok(want), "{name} {spec}");
        }
        let too_long = of(
            &"a".repeat(60),
            json!({"subdomain": "sub", "setHostnameAsFQDN": true}),
        );
        assert!(too_long.is_err());
    }
}
