//! What the API server calls things that the kernel has numbers for.

use std::{collections::BTreeSet, net::IpAddr, path::Path};

use anyhow::{Context as _, Result, bail};
use k8s_openapi::api::core::v1::Service;
use kube::{
    Api, Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use vetch_proxy::{Frontend, Protocol};

/// At the Service's cluster addresses: its other frontends lead to the same
/// service-ports.
pub fn frontends(
    kubeconfig: &Path,
    namespace: &str,
    name: &str,
    port: Option<&str>,
) -> Result<Vec<Frontend>> {
    let service = fetch(kubeconfig, namespace, name)
        .with_context(|| format!("ask the API server for the Service {namespace}/{name}"))?;
    let Some(service) = service else {
        bail!("there is no Service {namespace}/{name}");
    };
    let frontends = of(&service, port);
    if frontends.is_empty() {
        match port {
            Some(port) => bail!("the Service {namespace}/{name} has no address with a port {port}"),
            None => bail!("the Service {namespace}/{name} has no address of the cluster's"),
        }
    }
    Ok(frontends)
}

fn fetch(kubeconfig: &Path, namespace: &str, name: &str) -> Result<Option<Service>> {
    let read = Kubeconfig::read_from(kubeconfig)
        .with_context(|| format!("read the kubeconfig {}", kubeconfig.display()))?;
    // A second call changes nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let tokio = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the async runtime")?;
    tokio.block_on(async {
        let config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await?;
        let services: Api<Service> = Api::namespaced(Client::try_from(config)?, namespace);
        Ok(services.get_opt(name).await?)
    })
}

/// By its ports' names or numbers; pure.
fn of(service: &Service, port: Option<&str>) -> Vec<Frontend> {
    let Some(spec) = &service.spec else {
        return Vec::new();
    };
    let many = spec.cluster_ips.iter().flatten();
    let addresses: BTreeSet<IpAddr> = many
        .chain(&spec.cluster_ip)
        .filter_map(|ip| ip.parse().ok())
        .collect();
    let is_asked_for = |name: Option<&str>, number: i32| {
        port.is_none_or(|port| name == Some(port) || number.to_string() == port)
    };
    let ports = spec.ports.iter().flatten();
    ports
        .filter(|one| is_asked_for(one.name.as_deref(), one.port))
        .filter_map(|one| {
            let protocol = match one.protocol.as_deref() {
                None | Some("TCP") => Protocol::Tcp,
                Some("UDP") => Protocol::Udp,
                Some("SCTP") => Protocol::Sctp,
                Some(_) => return None,
            };
            Some((u16::try_from(one.port).ok()?, protocol))
        })
        .flat_map(|(port, protocol)| {
            addresses.iter().map(move |addr| Frontend {
                addr: *addr,
                port,
                protocol,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_services_ports_by_name_and_number() {
        let service: Service = serde_json::from_value(json!({
            "spec": {
                "clusterIP": "10.96.0.9",
                "clusterIPs": ["10.96.0.9", "fd96::9"],
                "ports": [
                    {"name": "dns", "port": 53, "protocol": "UDP"},
                    {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
                    {"name": "http", "port": 80},
                ],
            }
        }))
        .unwrap();
        for (port, expected) in [
            (
                Some("53"),
                vec![
                    "10.96.0.9:53/UDP",
                    "[fd96::9]:53/UDP",
                    "10.96.0.9:53/TCP",
                    "[fd96::9]:53/TCP",
                ],
            ),
            (Some("dns"), vec!["10.96.0.9:53/UDP", "[fd96::9]:53/UDP"]),
            (Some("http"), vec!["10.96.0.9:80/TCP", "[fd96::9]:80/TCP"]),
            (Some("8080"), vec![]),
        ] {
            let found: Vec<String> = of(&service, port).iter().map(ToString::to_string).collect();
            assert_eq!(found, expected, "{port:?}");
        }
        assert_eq!(of(&service, None).len(), 6);
        let headless: Service = serde_json::from_value(json!({
            "spec": {"clusterIP": "None", "clusterIPs": ["None"], "ports": [{"port": 80}]}
        }))
        .unwrap();
        assert_eq!(of(&headless, None), []);
    }
}
