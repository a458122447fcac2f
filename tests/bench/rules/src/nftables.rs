//! Nftables mode: one lookup in a map finds the chain of a Service.

use std::{
    collections::BTreeSet,
    fmt::{Arguments, Write},
    net::Ipv4Addr,
};

use ipnet::Ipv4Net;

use crate::{MASQUERADE, Node, Service, names};

#[cfg(test)]
mod tests;

pub const TABLE: &str = "kube-proxy";

const SETS: [(&str, &str, &str); 3] = [
    ("cluster-ips", "ipv4_addr", "Active ClusterIPs"),
    (
        "hairpin-connections",
        "ipv4_addr . ipv4_addr . inet_proto . inet_service",
        "service hairpin connections",
    ),
    (
        "nodeport-ips",
        "ipv4_addr",
        "IPs that accept NodePort traffic",
    ),
];

/// Keys of an address, a protocol and a port.
const ADDRESS_MAPS: [(&str, &str); 3] = [
    (
        "firewall-ips",
        "destinations that are subject to LoadBalancerSourceRanges",
    ),
    (
        "no-endpoint-services",
        "vmap to drop or reject packets to services with no endpoints",
    ),
    (
        "service-ips",
        "ClusterIP, ExternalIP and LoadBalancer IP traffic",
    ),
];

/// Keys of a protocol and a port.
const PORT_MAPS: [(&str, &str); 2] = [
    (
        "no-endpoint-nodeports",
        "vmap to drop or reject packets to service nodeports with no endpoints",
    ),
    ("service-nodeports", "NodePort traffic"),
];

/// Name, type, hook and priority. What looks at a destination before it is
/// translated comes before `dstnat` (-100), what looks at it afterwards at 0.
const BASE_CHAINS: [(&str, &str, &str, i32); 8] = [
    ("filter-prerouting-pre-dnat", "filter", "prerouting", -110),
    ("filter-output-pre-dnat", "filter", "output", -110),
    ("filter-input", "filter", "input", 0),
    ("filter-forward", "filter", "forward", 0),
    ("filter-output", "filter", "output", 0),
    ("nat-prerouting", "nat", "prerouting", -100),
    ("nat-output", "nat", "output", -100),
    ("nat-postrouting", "nat", "postrouting", 100),
];

const CHAINS: [&str; 7] = [
    "cluster-ips-check",
    "firewall-check",
    "masquerading",
    "nodeport-endpoints-check",
    "reject-chain",
    "service-endpoints-check",
    "services",
];

/// From a base chain; each in the order in which its rules stand.
const JUMPS: [(&str, &str); 12] = [
    ("filter-input", "ct state new jump nodeport-endpoints-check"),
    ("filter-input", "ct state new jump service-endpoints-check"),
    (
        "filter-forward",
        "ct state new jump service-endpoints-check",
    ),
    ("filter-output", "ct state new jump service-endpoints-check"),
    (
        "filter-prerouting-pre-dnat",
        "ct state new jump firewall-check",
    ),
    ("filter-output-pre-dnat", "ct state new jump firewall-check"),
    ("nat-output", "jump services"),
    ("nat-prerouting", "jump services"),
    ("nat-postrouting", "jump masquerading"),
    ("filter-forward", "ct state new jump cluster-ips-check"),
    ("filter-output", "ct state new jump cluster-ips-check"),
    ("reject-chain", "reject"),
];

/// The input of `nft -f -`, where the table is not there yet.
pub fn script(services: &[Service], node: &Node) -> String {
    let mut script = Script::default();
    layout(&mut script);
    checks(&mut script, services, node);
    masquerading(&mut script);
    for address in &node.addresses {
        script.element("nodeport-ips", format_args!("{address}"));
    }
    let addresses: BTreeSet<_> = services.iter().map(|service| service.cluster_ip).collect();
    for address in addresses {
        script.element("cluster-ips", format_args!("{address}"));
    }
    for service in services {
        if service.endpoints.is_empty() {
            refusal(&mut script, service);
        } else {
            dispatch(&mut script, service);
            balance(&mut script, service);
            hairpins(&mut script, service, &node.pod_cidr);
        }
    }
    script.0
}

/// The input of `nft -f -` that removes the table of `family`, be it there or not.
pub fn removal(family: &str) -> String {
    format!("add table {family} {TABLE}\ndelete table {family} {TABLE}\n")
}

/// All but the rules that have something of this node in them.
fn layout(script: &mut Script) {
    script.line(format_args!(
        r#"add table ip {TABLE} {{ comment "rules for kube-proxy" ; }}"#
    ));
    for (name, kind, comment) in SETS {
        script.line(format_args!(
            r#"add set ip {TABLE} {name} {{ type {kind} ; comment "{comment}" ; }}"#
        ));
    }
    for (name, comment) in ADDRESS_MAPS {
        script.line(format_args!(r#"add map ip {TABLE} {name} {{ type ipv4_addr . inet_proto . inet_service : verdict ; comment "{comment}" ; }}"#));
    }
    for (name, comment) in PORT_MAPS {
        script.line(format_args!(r#"add map ip {TABLE} {name} {{ type inet_proto . inet_service : verdict ; comment "{comment}" ; }}"#));
    }
    for (name, kind, hook, priority) in BASE_CHAINS {
        script.line(format_args!(
            "add chain ip {TABLE} {name} {{ type {kind} hook {hook} priority {priority} ; }}"
        ));
    }
    for name in CHAINS {
        script.chain(name);
    }
    for (chain, rule) in JUMPS {
        script.rule(chain, format_args!("{rule}"));
    }
}

/// What looks up each new connection.
fn checks(script: &mut Script, services: &[Service], node: &Node) {
    let address = "ip daddr . meta l4proto . th dport";
    let port = "ip daddr @nodeport-ips meta l4proto . th dport";
    script.rule(
        "firewall-check",
        format_args!("{address} vmap @firewall-ips"),
    );
    script.rule(
        "service-endpoints-check",
        format_args!("{address} vmap @no-endpoint-services"),
    );
    script.rule(
        "nodeport-endpoints-check",
        format_args!("{port} vmap @no-endpoint-nodeports"),
    );
    script.rule("cluster-ips-check", format_args!(r#"ip daddr @cluster-ips reject comment "Reject traffic to invalid ports of ClusterIPs""#));
    if let Some(cidrs) = service_cidrs(services, node) {
        script.rule(
            "cluster-ips-check",
            format_args!(
                r#"ip daddr {{ {cidrs} }} drop comment "Drop traffic to unallocated ClusterIPs""#
            ),
        );
    }
    script.rule("services", format_args!(r#"ip daddr @cluster-ips ip saddr != {} mark set mark or {MASQUERADE} comment "masquerade clusterIP traffic from outside cluster""#, node.pod_cidr));
    script.rule("services", format_args!("{address} vmap @service-ips"));
    script.rule("services", format_args!("{port} vmap @service-nodeports"));
}

/// Stands for the ServiceCIDR objects that kube-proxy watches: the /16
/// networks of the ClusterIPs (a network of Services is rarely another size),
/// without those that hold pods or the node.
fn service_cidrs(services: &[Service], node: &Node) -> Option<String> {
    let network = |address: Ipv4Addr| Ipv4Net::new_assert(address, 16).trunc();
    let taken = |cidr: &Ipv4Net| {
        let pods = &node.pod_cidr;
        cidr.contains(pods)
            || pods.contains(cidr)
            || node.addresses.iter().any(|ip| cidr.contains(ip))
    };
    let cidrs: BTreeSet<_> = (services.iter().map(|service| network(service.cluster_ip)))
        .filter(|cidr| !taken(cidr))
        .collect();
    let cidrs: Vec<_> = cidrs.iter().map(ToString::to_string).collect();
    (!cidrs.is_empty()).then(|| cidrs.join(", "))
}

fn masquerading(script: &mut Script) {
    script.rule(
        "masquerading",
        format_args!(
            "mark and {MASQUERADE} != 0 mark set mark xor {MASQUERADE} masquerade fully-random"
        ),
    );
    script.rule("masquerading", format_args!("ct status dnat ip saddr . ip daddr . meta l4proto . th dport @hairpin-connections masquerade fully-random"));
}

/// A Service without endpoints: connections are refused.
fn refusal(script: &mut Script, service: &Service) {
    let (name, protocol) = (service.full_name(), service.protocol.as_str());
    script.element(
        "no-endpoint-services",
        format_args!(
            r#"{} . {protocol} . {} comment "{name}" : goto reject-chain"#,
            service.cluster_ip, service.port
        ),
    );
    if let Some(port) = service.node_port {
        script.element(
            "no-endpoint-nodeports",
            format_args!(r#"{protocol} . {port} comment "{name}" : goto reject-chain"#),
        );
    }
}

fn dispatch(script: &mut Script, service: &Service) {
    let (name, protocol) = (names::nftables_service(service), service.protocol.as_str());
    script.chain(&format!("service-{name}"));
    script.element(
        "service-ips",
        format_args!(
            "{} . {protocol} . {} : goto service-{name}",
            service.cluster_ip, service.port
        ),
    );
    if let Some(port) = service.node_port {
        let chain = format!("external-{name}");
        script.chain(&chain);
        script.rule(&chain, format_args!("mark set mark or {MASQUERADE}"));
        script.rule(&chain, format_args!("goto service-{name}"));
        script.element(
            "service-nodeports",
            format_args!("{protocol} . {port} : goto {chain}"),
        );
    }
}

/// One of the endpoints, each as likely as the others.
fn balance(script: &mut Script, service: &Service) {
    let endpoints = service.sorted_endpoints();
    let choices: Vec<_> = (endpoints.iter().enumerate())
        .map(|(index, endpoint)| format!("{index} : {} . {}", endpoint.ip(), endpoint.port()))
        .collect();
    script.rule(
        &format!("service-{}", names::nftables_service(service)),
        format_args!(
            "meta l4proto {} dnat ip addr . port to numgen random mod {} map {{ {} }}",
            service.protocol.as_str(),
            endpoints.len(),
            choices.join(", ")
        ),
    );
}

/// Pods that reach themselves are masqueraded. kube-proxy names the endpoints
/// of its node; we do not know which these are, so it is those within
/// `pod_cidr` (the same when that is the node's).
fn hairpins(script: &mut Script, service: &Service, pod_cidr: &Ipv4Net) {
    let protocol = service.protocol.as_str();
    for endpoint in service.sorted_endpoints() {
        let (ip, port) = (endpoint.ip(), endpoint.port());
        if pod_cidr.contains(ip) {
            script.element(
                "hairpin-connections",
                format_args!("{ip} . {ip} . {protocol} . {port}"),
            );
        }
    }
}

#[derive(Default)]
struct Script(String);

impl Script {
    fn chain(&mut self, name: &str) {
        self.line(format_args!("add chain ip {TABLE} {name}"));
    }

    fn rule(&mut self, chain: &str, rule: Arguments<'_>) {
        self.line(format_args!("add rule ip {TABLE} {chain} {rule}"));
    }

    /// One a line, as kube-proxy's library writes them.
    fn element(&mut self, of: &str, element: Arguments<'_>) {
        self.line(format_args!("add element ip {TABLE} {of} {{ {element} }}"));
    }

    fn line(&mut self, line: Arguments<'_>) {
        writeln!(self.0, "{line}").expect("writing to a String cannot fail");
    }
}
