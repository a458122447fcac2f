//! Cluster DNS as a part of the daemon: it hears what the service proxy watches,
//! and the proxy leads its Service to it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::watcher::Event;
use vetch_dns::{Bind, Dns, DnsConfig, IsClient, RESOLV_CONF};
use vetch_network::Network;
use vetch_proxy::{ObjectName, OwnService, Tap};

use super::sockets::Sockets;
use crate::cli::{DnsArgs, DnsMode};

/// As kubeadm calls it, and everybody looks for it.
const SERVICE: (&str, &str) = ("kube-system", "kube-dns");
const PORT: u16 = 53;
/// Pods' resolvers ask again after 5 s (resolv.conf(5)).
const PATIENCE: Duration = Duration::from_secs(3);

/// What there is to serve, unless it is off.
pub fn open(args: &DnsArgs, domain: &str, node_ips: &[IpAddr]) -> Result<Option<Part>> {
    if args.mode == DnsMode::Off {
        return Ok(None);
    }
    let listen = addresses(args, node_ips);
    let dns = Dns::new(DnsConfig {
        domain: domain.to_owned(),
        service: (SERVICE.0.to_owned(), SERVICE.1.to_owned()),
        listen: listen.clone(),
        upstreams: args.dns_upstream.clone(),
        domain_upstreams: args.domain_upstreams(),
        resolv_conf: RESOLV_CONF.into(),
        patience: PATIENCE,
    });
    let own = OwnService {
        name: ObjectName::new(SERVICE.0, SERVICE.1),
        port: PORT,
        backends: listen,
        always: args.mode == DnsMode::Always,
    };
    Ok(Some(Part {
        dns: dns.context("cluster DNS")?,
        own,
    }))
}

/// At an address of the node's own: pods reach that by routes that are there,
/// and no link has to be made. Others who come there are not answered.
pub fn addresses(args: &DnsArgs, node_ips: &[IpAddr]) -> Vec<SocketAddr> {
    let of = |ip: &IpAddr| SocketAddr::new(*ip, args.dns_port);
    match args.mode {
        DnsMode::Off => Vec::new(),
        _ => node_ips.iter().map(of).collect(),
    }
}

pub struct Part {
    pub dns: Dns,
    pub own: OwnService,
}

impl Part {
    pub fn tap(&self) -> Arc<dyn Tap> {
        Arc::new(Hears(self.dns.clone()))
    }
}

/// Also for who asks while the daemon is started anew.
pub fn bind(sockets: Arc<Sockets>) -> Bind {
    Arc::new(move |address| Ok((sockets.udp(address)?, sockets.tcp(address)?)))
}

/// Ends when the node knows its pods.
pub async fn clients_known(network: Network) {
    // Never, where nobody will tell: then the daemon ends.
    let _ = network.pods().wait_for(Option::is_some).await;
}

/// The pods of this node.
pub fn clients(network: &Network) -> IsClient {
    let pods = network.pods();
    Arc::new(move |ip| {
        let pods = pods.borrow();
        pods.as_ref().is_some_and(|pods| pods.contains_key(&ip))
    })
}

struct Hears(Dns);

impl Tap for Hears {
    fn service(&self, event: &Event<Service>) {
        self.0.service(event);
    }

    fn slice(&self, event: &Event<EndpointSlice>) {
        self.0.slice(event);
    }

    fn register(&self, registry: &mut vetch_proxy::Registry) {
        self.0.register(registry);
    }
}

impl fmt::Debug for Hears {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hears")
    }
}
