//! Iptables mode: a rule a ClusterIP in one long chain, a chain a Service, a
//! chain an endpoint.

use std::{collections::BTreeSet, fmt::Write};

use ipnet::Ipv4Net;

use crate::{Features, MASQUERADE, Service, accounting, names};

mod removal;
#[cfg(test)]
mod tests;

pub use removal::{is_ours, removal};

/// Above so many endpoints kube-proxy leaves comments out of the rules that
/// there is one of per endpoint.
const LARGE_CLUSTER: usize = 1000;

/// Chain of the table it is in, chain jumped to, comment, and whether only the
/// first packet of a connection goes there. Each is put before those that are
/// there, so the last of a chain comes first.
type Jump = (&'static str, &'static str, &'static str, bool);

const FILTER_JUMPS: [Jump; 11] = [
    (
        "INPUT",
        "KUBE-EXTERNAL-SERVICES",
        "kubernetes externally-visible service portals",
        true,
    ),
    (
        "FORWARD",
        "KUBE-EXTERNAL-SERVICES",
        "kubernetes externally-visible service portals",
        true,
    ),
    (
        "INPUT",
        "KUBE-NODEPORTS",
        "kubernetes health check service ports",
        false,
    ),
    (
        "FORWARD",
        "KUBE-SERVICES",
        "kubernetes service portals",
        true,
    ),
    (
        "OUTPUT",
        "KUBE-SERVICES",
        "kubernetes service portals",
        true,
    ),
    (
        "FORWARD",
        "KUBE-FORWARD",
        "kubernetes forwarding rules",
        false,
    ),
    (
        "INPUT",
        "KUBE-PROXY-FIREWALL",
        "kubernetes load balancer firewall",
        true,
    ),
    (
        "OUTPUT",
        "KUBE-PROXY-FIREWALL",
        "kubernetes load balancer firewall",
        true,
    ),
    (
        "FORWARD",
        "KUBE-PROXY-FIREWALL",
        "kubernetes load balancer firewall",
        true,
    ),
    ("INPUT", "KUBE-FIREWALL", "", false),
    ("OUTPUT", "KUBE-FIREWALL", "", false),
];

const NAT_JUMPS: [Jump; 3] = [
    (
        "OUTPUT",
        "KUBE-SERVICES",
        "kubernetes service portals",
        false,
    ),
    (
        "PREROUTING",
        "KUBE-SERVICES",
        "kubernetes service portals",
        false,
    ),
    (
        "POSTROUTING",
        "KUBE-POSTROUTING",
        "kubernetes postrouting rules",
        false,
    ),
];

/// Its absence tells kube-proxy that somebody flushed the table.
const CANARY: &str = "KUBE-PROXY-CANARY";

/// The input of `iptables-restore --noflush`.
pub fn script(services: &[Service], pod_cidr: &Ipv4Net, features: Features) -> String {
    let mut filter = Table::new("filter", &FILTER_JUMPS);
    let mut nat = Table::new("nat", &NAT_JUMPS);
    for chain in ["KUBE-NODEPORTS", "KUBE-MARK-MASQ"] {
        nat.chain(chain);
    }
    filter.rule("KUBE-FIREWALL", r#"-m comment --comment "block incoming localnet connections" -d 127.0.0.0/8 ! -s 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP"#);
    masquerading(&mut nat);

    let endpoints: usize = services.iter().map(|service| service.endpoints.len()).sum();
    let comments = endpoints <= LARGE_CLUSTER;
    for service in services {
        if service.endpoints.is_empty() {
            refusal(&mut filter, service);
        } else {
            dispatch(&mut nat, service, features);
            internal(&mut nat, service, pod_cidr);
            external(&mut nat, service);
            balance(&mut nat, service, comments);
        }
    }

    nat.rule("KUBE-SERVICES", r#"-m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS"#);
    forwarding(&mut filter, features);
    let mangle = Table::new("mangle", &[]);
    [filter, nat, mangle].map(Table::finish).concat()
}

fn masquerading(nat: &mut Table) {
    let chain = "KUBE-POSTROUTING";
    nat.rule(
        chain,
        &format!("-m mark ! --mark {MASQUERADE}/{MASQUERADE} -j RETURN"),
    );
    // A packet that goes through the stack once more is not to be masqueraded twice.
    nat.rule(chain, &format!("-j MARK --xor-mark {MASQUERADE}"));
    nat.rule(chain, r#"-m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully"#);
    nat.rule("KUBE-MARK-MASQ", &format!("-j MARK --or-mark {MASQUERADE}"));
}

/// A Service without endpoints: connections are refused.
fn refusal(filter: &mut Table, service: &Service) {
    let (name, protocol) = (service.full_name(), service.protocol.as_str());
    let comment = format!(r#"-m comment --comment "{name} has no endpoints""#);
    filter.rule(
        "KUBE-SERVICES",
        &format!(
            "{comment} -m {protocol} -p {protocol} -d {} --dport {} -j REJECT",
            service.cluster_ip, service.port
        ),
    );
    if let Some(port) = service.node_port {
        filter.rule(
            "KUBE-EXTERNAL-SERVICES",
            &format!("{comment} -m addrtype --dst-type LOCAL -m {protocol} -p {protocol} --dport {port} -j REJECT"),
        );
    }
}

/// From the chains that all packets pass to the Service's own.
fn dispatch(nat: &mut Table, service: &Service, features: Features) {
    let hash = names::iptables_service(service);
    nat.rule(
        "KUBE-SERVICES",
        &format!("{} -j KUBE-SVC-{hash}", cluster_ip(service)),
    );
    let Some(port) = service.node_port else {
        return;
    };
    let (name, protocol) = (service.full_name(), service.protocol.as_str());
    let matched = format!(r#"-m comment --comment "{name}" -m {protocol} -p {protocol}"#);
    if features.accounting {
        let counter = accounting::LOCALHOST_NODE_PORTS;
        nat.rule("KUBE-NODEPORTS", &format!("{matched} -d 127.0.0.0/8 --dport {port} -m nfacct --nfacct-name {counter} -j KUBE-EXT-{hash}"));
    }
    nat.rule(
        "KUBE-NODEPORTS",
        &format!("{matched} --dport {port} -j KUBE-EXT-{hash}"),
    );
}

/// Who comes to a ClusterIP from outside the pods is masqueraded, since the
/// endpoint may be on another node and its answer has to come back here.
fn internal(nat: &mut Table, service: &Service, pod_cidr: &Ipv4Net) {
    let chain = format!("KUBE-SVC-{}", names::iptables_service(service));
    nat.chain(&chain);
    nat.rule(
        &chain,
        &format!("{} ! -s {pod_cidr} -j KUBE-MARK-MASQ", cluster_ip(service)),
    );
}

/// The match of a ClusterIP and its port.
fn cluster_ip(service: &Service) -> String {
    let (name, protocol) = (service.full_name(), service.protocol.as_str());
    format!(
        r#"-m comment --comment "{name} cluster IP" -m {protocol} -p {protocol} -d {} --dport {}"#,
        service.cluster_ip, service.port
    )
}

fn external(nat: &mut Table, service: &Service) {
    if service.node_port.is_none() {
        return;
    }
    let (name, hash) = (service.full_name(), names::iptables_service(service));
    let chain = format!("KUBE-EXT-{hash}");
    nat.chain(&chain);
    nat.rule(&chain, &format!(r#"-m comment --comment "masquerade traffic for {name} external destinations" -j KUBE-MARK-MASQ"#));
    nat.rule(&chain, &format!("-j KUBE-SVC-{hash}"));
}

/// One of the endpoints, each as likely as the others.
fn balance(nat: &mut Table, service: &Service, comments: bool) {
    let (name, protocol) = (service.full_name(), service.protocol.as_str());
    let service_chain = format!("KUBE-SVC-{}", names::iptables_service(service));
    let endpoints = service.sorted_endpoints();
    for (index, endpoint) in endpoints.iter().enumerate() {
        let chain = format!("KUBE-SEP-{}", names::iptables_endpoint(service, *endpoint));
        let left = endpoints.len() - index;
        let mut rule = String::new();
        if comments {
            write(
                &mut rule,
                format_args!(r#"-m comment --comment "{name} -> {endpoint}" "#),
            );
        }
        if left > 1 {
            let probability = 1.0 / left as f64;
            write(
                &mut rule,
                format_args!("-m statistic --mode random --probability {probability:.10} "),
            );
        }
        nat.rule(&service_chain, &format!("{rule}-j {chain}"));

        let comment = if comments {
            format!(r#"-m comment --comment "{name}" "#)
        } else {
            String::new()
        };
        nat.chain(&chain);
        // A pod that reaches itself: without a new source it would answer to itself.
        nat.rule(
            &chain,
            &format!("{comment}-s {} -j KUBE-MARK-MASQ", endpoint.ip()),
        );
        nat.rule(
            &chain,
            &format!("{comment}-m {protocol} -p {protocol} -j DNAT --to-destination {endpoint}"),
        );
    }
}

fn forwarding(filter: &mut Table, features: Features) {
    let chain = "KUBE-FORWARD";
    if !features.tcp_be_liberal {
        let count = if features.accounting {
            format!("-m nfacct --nfacct-name {} ", accounting::INVALID_DROPPED)
        } else {
            String::new()
        };
        filter.rule(
            chain,
            &format!("-m conntrack --ctstate INVALID {count}-j DROP"),
        );
    }
    filter.rule(chain, &format!(r#"-m comment --comment "kubernetes forwarding rules" -m mark --mark {MASQUERADE}/{MASQUERADE} -j ACCEPT"#));
    filter.rule(chain, r#"-m comment --comment "kubernetes forwarding conntrack rule" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"#);
}

/// The part of the script that is about one table.
struct Table {
    chains: String,
    rules: String,
}

impl Table {
    /// With the chains that `jumps` lead to, the jumps, and the canary.
    fn new(name: &str, jumps: &[Jump]) -> Self {
        let mut table = Self {
            chains: format!("*{name}\n"),
            rules: String::new(),
        };
        table.chain(CANARY);
        let targets: BTreeSet<_> = jumps.iter().map(|(_, target, _, _)| *target).collect();
        for target in targets {
            table.chain(target);
        }
        for (chain, target, comment, new_only) in jumps {
            let state = if *new_only {
                "-m conntrack --ctstate NEW "
            } else {
                ""
            };
            let comment = match *comment {
                "" => String::new(),
                comment => format!(r#"-m comment --comment "{comment}" "#),
            };
            write(
                &mut table.rules,
                format_args!("-I {chain} {state}{comment}-j {target}\n"),
            );
        }
        table
    }

    fn chain(&mut self, name: &str) {
        write(&mut self.chains, format_args!(":{name} - [0:0]\n"));
    }

    fn rule(&mut self, chain: &str, rule: &str) {
        write(&mut self.rules, format_args!("-A {chain} {rule}\n"));
    }

    fn finish(self) -> String {
        self.chains + &self.rules + "COMMIT\n"
    }
}

fn write(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments)
        .expect("writing to a String cannot fail");
}
