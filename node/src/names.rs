//! What the API server calls things that the kernel has numbers for.

use std::{collections::BTreeSet, net::IpAddr, path::Path};

use anyhow::{Context as _, Result, bail};
use k8s_openapi::api::core::v1::{Pod, Service, ServiceSpec};
use kube::{
    Api, Client, Config,
    api::ListParams,
    config::{KubeConfigOptions, Kubeconfig},
};
use tokio::runtime::Runtime;
use vetch_proxy::{Frontend, Protocol};

/// At the Service's cluster addresses: its other frontends lead to the same
/// service-ports.
pub fn frontends(
    kubeconfig: &Path,
    namespace: &str,
    name: &str,
    port: Option<&str>,
) -> Result<Vec<Frontend>> {
    let service = Asker::open(kubeconfig)?.service(namespace, name)?;
    let frontends = of(&service, port);
    if frontends.is_empty() {
        match port {
            Some(port) => bail!("the Service {namespace}/{name} has no address with a port {port}"),
            None => bail!("the Service {namespace}/{name} has no address of the cluster's"),
        }
    }
    Ok(frontends)
}

/// Asks an API server for objects, one by one.
pub struct Asker {
    tokio: Runtime,
    client: Client,
}

impl Asker {
    pub fn open(kubeconfig: &Path) -> Result<Asker> {
        let read = Kubeconfig::read_from(kubeconfig)
            .with_context(|| format!("read the kubeconfig {}", kubeconfig.display()))?;
        // A second call changes nothing.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let tokio = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("start the async runtime")?;
        let client = tokio.block_on(async {
            let config =
                Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await?;
            anyhow::Ok(Client::try_from(config)?)
        });
        let client = client.context("use the kubeconfig")?;
        Ok(Asker { tokio, client })
    }

    pub fn service(&self, namespace: &str, name: &str) -> Result<Service> {
        let services: Api<Service> = Api::namespaced(self.client.clone(), namespace);
        let found = self.tokio.block_on(services.get_opt(name));
        found
            .with_context(|| format!("ask the API server for the Service {namespace}/{name}"))?
            .with_context(|| format!("there is no Service {namespace}/{name}"))
    }

    /// A node may get its own pods alone; where there are NetworkPolicies it may list all.
    pub fn pod(&self, namespace: &str, name: &str) -> Result<Pod> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let is_refusal =
            |error: &kube::Error| matches!(error, kube::Error::Api(it) if it.code == 403);
        let found = match self.tokio.block_on(pods.get_opt(name)) {
            Err(error) if is_refusal(&error) => {
                let only = ListParams::default().fields(&format!("metadata.name={name}"));
                match self.tokio.block_on(pods.list(&only)) {
                    Ok(list) => Ok(list.items.into_iter().next()),
                    Err(error) if is_refusal(&error) => bail!(
                        "this kubeconfig may not read the pod {namespace}/{name}, as a node's may not those of \
                         other nodes: give its address, or --kubeconfig of somebody who may"
                    ),
                    Err(error) => Err(error),
                }
            }
            found => found,
        };
        found
            .with_context(|| format!("ask the API server for the pod {namespace}/{name}"))?
            .with_context(|| format!("there is no pod {namespace}/{name}"))
    }
}

/// By its ports' names or numbers; pure.
fn of(service: &Service, port: Option<&str>) -> Vec<Frontend> {
    let Some(spec) = &service.spec else {
        return Vec::new();
    };
    let addresses = BTreeSet::from_iter(addresses(spec));
    let is_asked_for = |name: Option<&str>, number: i32| {
        port.is_none_or(|port| name == Some(port) || number.to_string() == port)
    };
    let ports = spec.ports.iter().flatten();
    ports
        .filter(|one| is_asked_for(one.name.as_deref(), one.port))
        .filter_map(|one| {
            let protocol = Protocol::named(one.protocol.as_deref())?;
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

/// The cluster's, its own family first.
pub fn addresses(service: &ServiceSpec) -> Vec<IpAddr> {
    let many = service.cluster_ips.iter().flatten();
    let texts = many.chain(&service.cluster_ip);
    texts.filter_map(|ip| ip.parse().ok()).collect()
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
