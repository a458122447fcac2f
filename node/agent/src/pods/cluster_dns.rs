//! Which name servers pods get that use the cluster's DNS.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::Pod;

use super::context::{Context, READ_LIMIT};
use super::etc::resolv;
use super::services::ByNamespace;

/// As kubeadm calls it.
const SERVICE: (&str, &str) = ("kube-system", "kube-dns");

/// The given ones, else the Service that is the cluster's DNS, if there is one. It is in the list of
/// all Services; without that list nothing can be said, for what a pod gets it has for its life.
pub async fn servers(context: &Context, pod: &Pod) -> Option<Vec<IpAddr>> {
    let given = &context.config.cluster_dns;
    if !given.is_empty() || !resolv::asks_cluster(pod) {
        return Some(given.clone());
    }
    context.services.read(READ_LIMIT, of_service).await
}

/// Its main address alone, which pods of every family can reach that the cluster has from its start.
fn of_service(services: &ByNamespace) -> Vec<IpAddr> {
    let service = services.get(SERVICE.0, SERVICE.1);
    let ip = service.and_then(|service| service.cluster_ip.parse().ok());
    ip.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Service;
    use serde_json::json;

    use super::*;

    fn service(namespace: &str, ip: &str) -> Service {
        let object = json!({
            "metadata": {"namespace": namespace, "name": "kube-dns"},
            "spec": {"clusterIP": ip, "ports": [{"port": 53, "protocol": "UDP"}]},
        });
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn the_service_of_the_cluster_is_asked() {
        for (namespace, ip, expected) in [
            ("kube-system", "10.96.0.10", Some("10.96.0.10")),
            ("kube-system", "fd96::a", Some("fd96::a")),
            ("kube-system", "None", None),
            ("default", "10.96.0.10", None),
        ] {
            let services: ByNamespace = [&service(namespace, ip)].into_iter().collect();
            let expected: Vec<IpAddr> =
                expected.map(|ip| ip.parse().unwrap()).into_iter().collect();
            assert_eq!(of_service(&services), expected, "{namespace} {ip}");
        }
    }
}
