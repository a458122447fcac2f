//! The objects of a run, as the API server is sent them. Pure.

use std::net::{Ipv4Addr, SocketAddrV4};

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};
use vetch_bench_rules as rules;

/// What Vetch is called where it leaves Services to another proxy.
pub const PROXY_NAME: &str = "vetch";
pub const PROXY_NAME_LABEL: &str = "service.kubernetes.io/service-proxy-name";

/// Of a pod, `"false"`: packets from it and to it go by plain routing. Elsewhere it means nothing.
pub const REDIRECT: &str = "vetch.dev/redirect";

/// Of every Service, TCP and UDP.
pub const PORT: u16 = 80;
/// The first port of a server; one more for each further endpoint in the pod, and for each further
/// service that is dialled.
pub const SERVER_PORT: u16 = 8080;
pub const CONTROL_PORT: u16 = 8000;
/// Of the service whose endpoint is changed.
pub const FLIPPED: &str = "flipped";

/// Addresses for devices under test (RFC 2544): no cluster gives them to anybody.
/// The lower half is the services' second addresses, the upper half that of endpoints nobody dials.
const TEST_NETWORK: u32 = u32::from_be_bytes([198, 18, 0, 0]);
const HALF: u32 = 1 << 16;

/// Where the servers answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backends {
    pub pods: Vec<Ipv4Addr>,
    /// How many of a pod's ports are endpoints.
    pub ports: u16,
}

impl Backends {
    /// As many as are asked for; `endpoints` is a multiple of the pods.
    pub fn new(pods: Vec<Ipv4Addr>, endpoints: u32) -> Backends {
        let ports = endpoints / u32::try_from(pods.len()).unwrap_or(u32::MAX).max(1);
        Backends {
            pods,
            ports: u16::try_from(ports).unwrap_or(u16::MAX),
        }
    }

    /// Each dialled service has ports of its own. A client may have one port of its own at several
    /// services' addresses, and where they shared an endpoint, a new connection would look to it as one
    /// that it still has in TIME_WAIT, but for its numbers: it is not taken then, and the client tries
    /// again after a second.
    fn numbers(&self, service: u16) -> std::ops::Range<u16> {
        let first = SERVER_PORT.saturating_add(service.saturating_mul(self.ports));
        first..first.saturating_add(self.ports)
    }

    /// A dialled service's. Port by port, so that the first ones are on different pods.
    pub fn of(&self, service: u16) -> Vec<SocketAddrV4> {
        self.numbers(service)
            .flat_map(|port| {
                self.pods
                    .iter()
                    .map(move |pod| SocketAddrV4::new(*pod, port))
            })
            .collect()
    }

    pub fn controls(&self) -> Vec<SocketAddrV4> {
        self.pods
            .iter()
            .map(|pod| SocketAddrV4::new(*pod, CONTROL_PORT))
            .collect()
    }
}

/// Whose Services they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Set {
    /// The cluster's own proxy serves them; `named` when it leaves the unlabelled to another.
    Cluster { named: bool },
    /// kube-proxy serves them.
    KubeProxy,
}

impl Set {
    pub fn prefix(self) -> &'static str {
        match self {
            Set::Cluster { .. } => "",
            Set::KubeProxy => "kube-proxy-",
        }
    }

    pub fn flipped(self) -> String {
        format!("{}{FLIPPED}", self.prefix())
    }

    fn labels(self) -> Value {
        match self {
            Set::Cluster { named: true } => json!({PROXY_NAME_LABEL: PROXY_NAME}),
            Set::Cluster { named: false } | Set::KubeProxy => json!({}),
        }
    }
}

pub fn dialled_name(number: u16) -> String {
    format!("dialled-{number}")
}

pub fn other_name(number: u32) -> String {
    format!("other-{number}")
}

/// Without a selector: its slices are ours. A dialled one answers UDP as well.
pub fn service(
    set: Set,
    name: &str,
    dialled: bool,
    node_port: bool,
) -> Result<Service, serde_json::Error> {
    let mut ports =
        vec![json!({"name": "tcp", "port": PORT, "protocol": "TCP", "targetPort": SERVER_PORT})];
    if dialled {
        ports.push(
            json!({"name": "udp", "port": PORT, "protocol": "UDP", "targetPort": SERVER_PORT}),
        );
    }
    serde_json::from_value(json!({
        "metadata": {"name": format!("{}{name}", set.prefix()), "labels": set.labels()},
        "spec": {
            "type": if dialled && node_port { "NodePort" } else { "ClusterIP" },
            "ports": ports,
        },
    }))
}

/// One slice a port of the servers, since a slice's endpoints share their ports.
pub fn dialled_slices(
    set: Set,
    number: u16,
    backends: &Backends,
) -> Result<Vec<EndpointSlice>, serde_json::Error> {
    let name = dialled_name(number);
    backends
        .numbers(number)
        .map(|port| slice(set, &name, &format!("-{port}"), port, true, &backends.pods))
        .collect()
}

/// The one slice of a service that nobody dials.
pub fn other_slice(
    set: Set,
    name: &str,
    number: u32,
    endpoints: u32,
) -> Result<EndpointSlice, serde_json::Error> {
    slice(
        set,
        name,
        "",
        SERVER_PORT,
        false,
        &other_endpoints(number, endpoints),
    )
}

/// The slice of the service whose endpoint is changed: one write moves it to the other port.
pub fn flipped_slice(
    set: Set,
    pod: Ipv4Addr,
    port: u16,
) -> Result<EndpointSlice, serde_json::Error> {
    slice(set, FLIPPED, "", port, false, &[pod])
}

fn slice(
    set: Set,
    service: &str,
    suffix: &str,
    port: u16,
    udp: bool,
    addresses: &[Ipv4Addr],
) -> Result<EndpointSlice, serde_json::Error> {
    let service = format!("{}{service}", set.prefix());
    let mut labels = set.labels();
    labels["kubernetes.io/service-name"] = json!(service);
    labels["endpointslice.kubernetes.io/managed-by"] = json!("vetch-bench");
    let mut ports = vec![json!({"name": "tcp", "port": port, "protocol": "TCP"})];
    if udp {
        ports.push(json!({"name": "udp", "port": port, "protocol": "UDP"}));
    }
    let endpoints: Vec<Value> = addresses
        .iter()
        .map(|address| json!({"addresses": [address], "conditions": {"ready": true}}))
        .collect();
    serde_json::from_value(json!({
        "metadata": {"name": format!("{service}{suffix}"), "labels": labels},
        "addressType": "IPv4",
        "ports": ports,
        "endpoints": endpoints,
    }))
}

/// Addresses of their own for each service, as long as there are enough.
fn other_endpoints(number: u32, endpoints: u32) -> Vec<Ipv4Addr> {
    (0..endpoints)
        .map(|endpoint| {
            let place = number.wrapping_mul(endpoints).wrapping_add(endpoint) % (HALF - 2);
            Ipv4Addr::from(TEST_NETWORK + HALF + 1 + place)
        })
        .collect()
}

/// A service's address in the generated rules.
pub fn virtual_address(index: u32) -> Ipv4Addr {
    Ipv4Addr::from(TEST_NETWORK + 1 + index % (HALF - 2))
}

/// The services of one size as the generated rules have them: the same names, ports and endpoints,
/// under addresses that the cluster's proxy does not know. `dialled` are the places of the dialled.
/// A NodePort of the rules is none that the API server gives away.
pub fn rule_services(
    namespace: &str,
    services: u32,
    dialled: &[u32],
    endpoints: u32,
    backends: &Backends,
    node_port: bool,
) -> Vec<rules::Service> {
    let mut all = Vec::new();
    let mut others = 0..;
    for index in 0..services {
        let place = dialled.iter().position(|place| *place == index);
        let place = place.and_then(|place| u16::try_from(place).ok());
        let one = |name: String, protocol: rules::Protocol, endpoints: Vec<SocketAddrV4>| {
            rules::Service {
                namespace: namespace.to_owned(),
                name,
                port_name: match protocol {
                    rules::Protocol::Tcp => "tcp".into(),
                    rules::Protocol::Udp => "udp".into(),
                },
                protocol,
                cluster_ip: virtual_address(index),
                port: PORT,
                node_port: place.filter(|_| node_port).map(rule_node_port),
                endpoints,
            }
        };
        match place {
            Some(place) => {
                let (name, endpoints) = (dialled_name(place), backends.of(place));
                all.push(one(name.clone(), rules::Protocol::Tcp, endpoints.clone()));
                all.push(one(name, rules::Protocol::Udp, endpoints));
            }
            None => {
                let number = others.next().unwrap_or_default();
                let endpoints = other_endpoints(number, endpoints)
                    .into_iter()
                    .map(|address| SocketAddrV4::new(address, SERVER_PORT))
                    .collect();
                all.push(one(other_name(number), rules::Protocol::Tcp, endpoints));
            }
        }
    }
    all
}

/// Of the dialled service with this number: below the range that the API server gives NodePorts from,
/// so that the cluster's proxy knows nothing of it, and below that of clients' own ports.
pub fn rule_node_port(number: u16) -> u16 {
    20_000 + number
}

/// How a pod's packets go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Path {
    /// As the cluster has it: Vetch may redirect them past the host's stack.
    Usual,
    /// By plain routing, which is what netfilter's hooks are on.
    Routed,
}

impl Path {
    fn annotations(self) -> Value {
        match self {
            Path::Usual => json!({}),
            Path::Routed => json!({REDIRECT: "false"}),
        }
    }

    fn prefix(self) -> &'static str {
        match self {
            Path::Usual => "",
            Path::Routed => "routed-",
        }
    }
}

/// One that answers on `ports` ports from [`SERVER_PORT`] on.
pub fn server(
    path: Path,
    number: u32,
    node: &str,
    image: &str,
    ports: u16,
    threads: u32,
) -> Result<Pod, serde_json::Error> {
    let range = format!("{SERVER_PORT}-{}", SERVER_PORT + ports.max(2) - 1);
    let words = [
        "serve",
        "--tcp",
        &range,
        "--udp",
        &range,
        "--control",
        &CONTROL_PORT.to_string(),
        "--threads",
        &threads.to_string(),
    ]
    .map(str::to_owned);
    let name = format!("{}server-{number}", path.prefix());
    pod(path, &name, node, image, "Always", &words)
}

/// One that runs to its end.
pub fn client(
    path: Path,
    number: u32,
    node: &str,
    image: &str,
    words: &[String],
) -> Result<Pod, serde_json::Error> {
    let name = format!("{}client-{number}", path.prefix());
    pod(path, &name, node, image, "Never", words)
}

/// Bound to its node from the start: no scheduler has a say.
fn pod(
    path: Path,
    name: &str,
    node: &str,
    image: &str,
    restart: &str,
    words: &[String],
) -> Result<Pod, serde_json::Error> {
    serde_json::from_value(json!({
        "metadata": {
            "name": name,
            "labels": {"app.kubernetes.io/name": "vetch-bench"},
            "annotations": path.annotations(),
        },
        "spec": {
            "nodeName": node,
            "restartPolicy": restart,
            "automountServiceAccountToken": false,
            // Variables of 10,000 Services are more than a program can be started with.
            "enableServiceLinks": false,
            "terminationGracePeriodSeconds": 0,
            "containers": [{
                "name": "load", "image": image, "imagePullPolicy": "IfNotPresent", "args": words,
            }],
        },
    }))
}

#[cfg(test)]
mod tests;
