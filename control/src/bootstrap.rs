//! What every cluster has from the start: the system namespaces, the ServiceCIDR it was started with, the
//! `kubernetes` Service that leads to the API server itself, `kube-dns`, which every node answers, and cluster-info, by
//! which who joins finds it. Written again whenever it is missing or wrong.

use std::net::{IpAddr, SocketAddr};
use std::sync::Once;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ipnet::IpNet;
use k8s_openapi::api::core::v1::{ConfigMap, Endpoints, Namespace, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tracing::warn;

const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];
const NAME: &str = "kubernetes";
const CLUSTER_INFO: &str = "cluster-info";
const DNS_NAMESPACE: &str = "kube-system";
const DNS_NAME: &str = "kube-dns";
/// Which address of a range is cluster DNS', as kubeadm counts.
const DNS_INDEX: u8 = 10;
/// How often it is looked at again; upstream's reconcilers do it every ten seconds.
const EVERY: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_secs(1);

/// Where the API server is found by pods, and Services get their addresses from.
#[derive(Clone, Debug)]
pub struct Advertised {
    pub service_cidrs: Vec<IpNet>,
    pub service_ip: IpAddr,
    pub address: IpAddr,
    pub port: u16,
    /// The authority that vouches for it.
    pub ca_pem: String,
}

/// Keeps it all there until shutdown.
pub async fn keep(client: Client, advertised: Advertised, shutdown: CancellationToken) {
    let mut pause = tokio::time::interval(EVERY);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = pause.tick() => {}
        }
        if let Err(error) = ensure(&client, &advertised).await {
            warn!(
                "the system namespaces and the kubernetes service are not all there yet: {error}"
            );
        }
    }
}

/// The first time: nothing else makes sense before.
pub async fn until_there(client: &Client, advertised: &Advertised, shutdown: &CancellationToken) {
    while let Err(error) = ensure(client, advertised).await {
        warn!("the system namespaces and the kubernetes service cannot be made yet: {error}");
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(RETRY) => {}
        }
    }
}

/// Makes what is missing and mends what is wrong.
pub async fn ensure(client: &Client, advertised: &Advertised) -> Result<(), kube::Error> {
    for name in NAMESPACES {
        let namespaces: Api<Namespace> = Api::all(client.clone());
        create_missing(&namespaces, name, json!({"metadata": {"name": name}})).await?;
    }
    service_cidr(client, &advertised.service_cidrs).await?;
    let services: Api<Service> = Api::namespaced(client.clone(), "default");
    create_missing(&services, NAME, service(advertised)).await?;
    let endpoints: Api<Endpoints> = Api::namespaced(client.clone(), "default");
    apply(&endpoints, NAME, self::endpoints(advertised)).await?;
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), "default");
    apply(&slices, NAME, slice(advertised)).await?;
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "kube-public");
    let server = format!(
        "https://{}",
        SocketAddr::new(advertised.address, advertised.port)
    );
    let info = cluster_info(&server, &advertised.ca_pem);
    // The signatures beside it are the bootstrapsigner's.
    let info = json!({"metadata": {"name": CLUSTER_INFO}, "data": {"kubeconfig": info}});
    apply(&maps, CLUSTER_INFO, info).await?;
    cluster_dns(client, &advertised.service_cidrs).await
}

/// A kubeconfig without a user, as kubeadm writes it; JSON, which is YAML too.
pub fn cluster_info(server: &str, ca_pem: &str) -> String {
    let authority = STANDARD.encode(ca_pem);
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "", "cluster": {"server": server, "certificate-authority-data": authority}}],
        "contexts": [],
        "current-context": "",
        "preferences": {},
        "users": [],
    });
    format!("{config:#}\n")
}

/// Only made, never mended: whoever has DNS servers of their own gives it a selector. Where its address is somebody
/// else's the cluster goes on without it.
async fn cluster_dns(client: &Client, networks: &[IpNet]) -> Result<(), kube::Error> {
    static TOLD: Once = Once::new();
    let Some(wanted) = dns_service(networks) else {
        return Ok(());
    };
    let services: Api<Service> = Api::namespaced(client.clone(), DNS_NAMESPACE);
    match create_missing(&services, DNS_NAME, wanted).await {
        Err(kube::Error::Api(status)) if status.reason == "Invalid" => {
            TOLD.call_once(|| {
                warn!(
                    "the Service {DNS_NAMESPACE}/{DNS_NAME} cannot be made, so that pods have no cluster DNS \
                     but that of vetch-node --cluster-dns: {}",
                    status.message
                );
            });
            Ok(())
        }
        result => result,
    }
}

/// Says what the API server was started with. A second family may be added to it; other networks stay what they were,
/// as there are Services with addresses of theirs.
async fn service_cidr(client: &Client, networks: &[IpNet]) -> Result<(), kube::Error> {
    let cidrs: Api<ServiceCIDR> = Api::all(client.clone());
    let wanted: Vec<String> = networks.iter().map(|own| own.trunc().to_string()).collect();
    let Some(found) = cidrs.get_opt(NAME).await? else {
        let made = json!({"metadata": {"name": NAME}, "spec": {"cidrs": wanted}});
        return create_missing(&cidrs, NAME, made).await;
    };
    let known = found.spec.and_then(|spec| spec.cidrs).unwrap_or_default();
    if known.len() < wanted.len() && wanted.starts_with(&known) {
        let more = json!({"spec": {"cidrs": wanted}});
        let written = cidrs
            .patch(NAME, &PatchParams::default(), &Patch::Merge(more))
            .await;
        return written.map(drop);
    }
    if known != wanted {
        warn!(
            "the ServiceCIDR {NAME} has {known:?}, and the API server was started with {wanted:?}"
        );
    }
    Ok(())
}

async fn create_missing<K>(api: &Api<K>, name: &str, object: Value) -> Result<(), kube::Error>
where
    K: Resource + Clone + std::fmt::Debug + Serialize + DeserializeOwned,
{
    if api.get_opt(name).await?.is_some() {
        return Ok(());
    }
    let object = serde_json::from_value(object).map_err(kube::Error::SerdeError)?;
    match api.create(&PostParams::default(), &object).await {
        // Another control plane was first.
        Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => Ok(()),
        result => result.map(drop),
    }
}

/// Creates the object, or merges what differs into it: an unchanged one is not written.
async fn apply<K>(api: &Api<K>, name: &str, wanted: Value) -> Result<(), kube::Error>
where
    K: Resource + Clone + std::fmt::Debug + Serialize + DeserializeOwned,
{
    match api.get_opt(name).await? {
        None => create_missing(api, name, wanted).await,
        Some(_) => api
            .patch(name, &PatchParams::default(), &Patch::Merge(wanted))
            .await
            .map(drop),
    }
}

fn labels() -> Value {
    json!({"component": "apiserver", "provider": "kubernetes"})
}

fn service(advertised: &Advertised) -> Value {
    json!({
        "metadata": {"name": NAME, "labels": labels()},
        "spec": {
            "clusterIP": advertised.service_ip.to_string(),
            "ports": [{"name": "https", "protocol": "TCP", "port": 443, "targetPort": advertised.port}],
            "sessionAffinity": "None",
            "type": "ClusterIP",
        },
    })
}

/// Without a selector: every node answers it itself. `None` where a range has too few addresses.
fn dns_service(networks: &[IpNet]) -> Option<Value> {
    let ips: Option<Vec<IpAddr>> = networks.iter().map(dns_ip).collect();
    let ips = ips.filter(|ips| !ips.is_empty())?;
    let policy = if ips.len() > 1 {
        "PreferDualStack"
    } else {
        "SingleStack"
    };
    let port =
        |name, protocol| json!({"name": name, "protocol": protocol, "port": 53, "targetPort": 53});
    Some(json!({
        "metadata": {
            "name": DNS_NAME,
            // As they are looked for.
            "labels": {"k8s-app": "kube-dns", "kubernetes.io/cluster-service": "true"},
        },
        "spec": {
            "clusterIP": ips.first(),
            "clusterIPs": ips,
            "ipFamilyPolicy": policy,
            "ports": [port("dns", "UDP"), port("dns-tcp", "TCP")],
            "sessionAffinity": "None",
            "type": "ClusterIP",
        },
    }))
}

fn dns_ip(network: &IpNet) -> Option<IpAddr> {
    let ip = match network {
        IpNet::V4(network) => {
            let first = u32::from(network.network());
            IpAddr::V4(first.checked_add(DNS_INDEX.into())?.into())
        }
        IpNet::V6(network) => {
            let first = u128::from(network.network());
            IpAddr::V6(first.checked_add(DNS_INDEX.into())?.into())
        }
    };
    // The last one of an IPv4 network is its broadcast address.
    (network.contains(&ip) && ip != network.broadcast()).then_some(ip)
}

fn endpoints(advertised: &Advertised) -> Value {
    json!({
        // The slice below is written by us, so that nobody need mirror this one.
        "metadata": {"name": NAME, "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
        "subsets": [{
            "addresses": [{"ip": advertised.address.to_string()}],
            "ports": [{"name": "https", "port": advertised.port, "protocol": "TCP"}],
        }],
    })
}

fn slice(advertised: &Advertised) -> Value {
    json!({
        "metadata": {"name": NAME, "labels": {"kubernetes.io/service-name": NAME}},
        "addressType": if advertised.address.is_ipv4() { "IPv4" } else { "IPv6" },
        "endpoints": [{"addresses": [advertised.address.to_string()], "conditions": {"ready": true}}],
        "ports": [{"name": "https", "port": advertised.port, "protocol": "TCP"}],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cluster_dns_has_the_tenth_address_of_each_range() {
        for (networks, expected) in [
            (&["10.96.0.0/12"][..], Some(&["10.96.0.10"][..])),
            (
                &["10.96.0.0/24", "fd96::/108"],
                Some(&["10.96.0.10", "fd96::a"]),
            ),
            (
                &["fd96::/108", "10.96.0.0/24"],
                Some(&["fd96::a", "10.96.0.10"]),
            ),
            (&["10.96.0.16/28"], Some(&["10.96.0.26"])),
            (&["10.96.0.0/29"], None),
            (&["255.255.255.248/29"], None),
            (&["10.96.0.0/24", "fd96::/126"], None),
            (&[], None),
        ] {
            let networks: Vec<IpNet> = networks.iter().map(|text| text.parse().unwrap()).collect();
            let made = dns_service(&networks);
            let found = made
                .as_ref()
                .map(|service| service["spec"]["clusterIPs"].clone());
            assert_eq!(found, expected.map(|ips| json!(ips)), "{networks:?}");
            if let (Some(made), Some(expected)) = (&made, expected) {
                assert_eq!(made["spec"]["clusterIP"], expected[0]);
            }
        }
    }
}
