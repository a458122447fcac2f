//! /etc/resolv.conf of a pod, by its dnsPolicy.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Pod, PodDNSConfig};

use crate::pods::spec;
use crate::pods::text::{go_quote, pod_text};

const MAX_NAMESERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;
const MAX_SEARCH_CHARS: usize = 2048;
const MAX_DOMAIN: usize = 253;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolver {
    pub servers: Vec<String>,
    pub searches: Vec<String>,
    pub options: Vec<String>,
}

/// What people are told about the result: event reasons and messages.
pub type Warning = (&'static str, String);

/// `node_file` is the node's own resolv.conf.
pub fn resolver(
    pod: &Pod,
    cluster_dns: &[IpAddr],
    cluster_domain: &str,
    node_file: &str,
) -> (Resolver, Vec<Warning>) {
    let mut warnings = Vec::new();
    let node = parse(node_file);
    let policy = policy(pod);
    let cluster = asks_cluster(pod);
    let mut resolver = if policy == "None" {
        Resolver::default()
    } else if cluster && !cluster_dns.is_empty() {
        Resolver {
            servers: cluster_dns.iter().map(IpAddr::to_string).collect(),
            searches: cluster_searches(spec::namespace(pod), cluster_domain, node.searches),
            options: vec!["ndots:5".to_owned()],
        }
    } else {
        if cluster {
            warnings.push(("MissingClusterDNS", missing_cluster_dns(pod)));
        }
        node
    };
    if let Some(config) = &spec::spec(pod).dns_config {
        add(&mut resolver, config);
    }
    limit(&mut resolver, &mut warnings);
    (resolver, warnings)
}

fn policy(pod: &Pod) -> &str {
    let policy = spec::spec(pod).dns_policy.as_deref();
    policy.unwrap_or("ClusterFirst")
}

/// Whether the pod is to have the cluster's name servers.
pub fn asks_cluster(pod: &Pod) -> bool {
    match policy(pod) {
        "ClusterFirst" => !spec::host_network(pod),
        "ClusterFirstWithHostNet" => true,
        _ => false,
    }
}

fn missing_cluster_dns(pod: &Pod) -> String {
    format!(
        "pod: {}. kubelet does not have ClusterDNS IP configured and cannot create Pod using \"ClusterFirst\" policy. Falling back to \"Default\" policy.",
        go_quote(&pod_text(pod))
    )
}

impl Resolver {
    pub fn text(&self) -> String {
        let mut text = String::new();
        if !self.searches.is_empty() {
            text.push_str(&format!("search {}\n", self.searches.join(" ")));
        }
        for server in &self.servers {
            text.push_str(&format!("nameserver {server}\n"));
        }
        if !self.options.is_empty() {
            text.push_str(&format!("options {}\n", self.options.join(" ")));
        }
        text
    }
}

fn parse(text: &str) -> Resolver {
    let mut resolver = Resolver::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => resolver.servers.extend(words.next().map(str::to_owned)),
            Some("search") => {
                resolver.searches = words
                    .map(|word| word.strip_suffix('.').unwrap_or(word).to_owned())
                    .collect();
            }
            Some("options") => resolver.options = words.map(str::to_owned).collect(),
            _ => {}
        }
    }
    resolver
}

fn cluster_searches(namespace: &str, domain: &str, node: Vec<String>) -> Vec<String> {
    if domain.is_empty() {
        return node;
    }
    let mut searches = vec![
        format!("{namespace}.svc.{domain}"),
        format!("svc.{domain}"),
        domain.to_owned(),
    ];
    extend_new(&mut searches, node);
    searches
}

fn extend_new(list: &mut Vec<String>, more: impl IntoIterator<Item = String>) {
    for item in more {
        if !list.contains(&item) {
            list.push(item);
        }
    }
}

fn add(resolver: &mut Resolver, config: &PodDNSConfig) {
    extend_new(
        &mut resolver.servers,
        config.nameservers.clone().unwrap_or_default(),
    );
    extend_new(
        &mut resolver.searches,
        config.searches.clone().unwrap_or_default(),
    );
    for option in config.options.iter().flatten() {
        let Some(name) = option.name.as_deref() else {
            continue;
        };
        let text = match option.value.as_deref() {
            Some(value) if !value.is_empty() => format!("{name}:{value}"),
            _ => name.to_owned(),
        };
        let same = |known: &String| known.split(':').next() == Some(name);
        match resolver.options.iter_mut().find(|known| same(known)) {
            Some(known) => *known = text,
            None => resolver.options.push(text),
        }
    }
}

/// What resolvers take; the rest is left out and said.
fn limit(resolver: &mut Resolver, warnings: &mut Vec<Warning>) {
    if resolver.servers.len() > MAX_NAMESERVERS {
        resolver.servers.truncate(MAX_NAMESERVERS);
        warnings.push((
            "DNSConfigForming",
            format!(
                "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: {}",
                resolver.servers.join(" ")
            ),
        ));
    }
    let before = resolver.searches.len();
    resolver.searches.truncate(MAX_SEARCHES);
    resolver
        .searches
        .retain(|domain| domain.len() <= MAX_DOMAIN);
    while resolver.searches.join(" ").len() > MAX_SEARCH_CHARS {
        resolver.searches.pop();
    }
    if resolver.searches.len() < before {
        warnings.push((
            "DNSConfigForming",
            format!(
                "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: {}",
                resolver.searches.join(" ")
            ),
        ));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const NODE: &str = "# comment\nnameserver 192.0.2.1\nsearch example.org. lan\noptions rotate\n";

    fn make(spec: Value, dns: &[IpAddr]) -> (String, Vec<&'static str>) {
        let pod: Pod = serde_json::from_value(
            json!({"metadata": {"name": "web", "namespace": "shop", "uid": "u"}, "spec": spec}),
        )
        .unwrap();
        let (resolver, warnings) = resolver(&pod, dns, "cluster.local", NODE);
        let reasons = warnings.into_iter().map(|(reason, _)| reason).collect();
        (resolver.text(), reasons)
    }

    #[test]
    fn policies() {
        let dns: [IpAddr; 1] = ["10.96.0.10".parse().unwrap()];
        let cluster = "search shop.svc.cluster.local svc.cluster.local cluster.local example.org lan\nnameserver 10.96.0.10\noptions ndots:5\n";
        let node = "search example.org lan\nnameserver 192.0.2.1\noptions rotate\n";
        for (spec, dns, want, warned) in [
            (json!({}), &dns[..], cluster, &[][..]),
            (json!({}), &[], node, &["MissingClusterDNS"]),
            (json!({"hostNetwork": true}), &dns, node, &[]),
            (
                json!({"hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet"}),
                &dns,
                cluster,
                &[],
            ),
            (json!({"dnsPolicy": "Default"}), &dns, node, &[]),
            (
                json!({"dnsPolicy": "None", "dnsConfig": {"nameservers": ["1.1.1.1"]}}),
                &dns,
                "nameserver 1.1.1.1\n",
                &[],
            ),
            (
                json!({"dnsConfig": {"searches": ["x", "lan"], "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}]}}),
                &dns,
                "search shop.svc.cluster.local svc.cluster.local cluster.local example.org lan x\nnameserver 10.96.0.10\noptions ndots:2 edns0\n",
                &[],
            ),
        ] {
            let (text, reasons) = make(spec.clone(), dns);
            assert_eq!(text, want, "{spec}");
            assert_eq!(reasons, warned, "{spec}");
        }
    }

    #[test]
    fn what_is_too_much_is_left_out_and_said() {
        let servers = ["1.1.1.1", "1.1.1.2", "1.1.1.3", "1.1.1.4"];
        let searches: Vec<String> = (0..40).map(|n| format!("d{n}")).collect();
        let (text, reasons) = make(
            json!({"dnsPolicy": "None", "dnsConfig": {"nameservers": servers, "searches": searches}}),
            &[],
        );
        assert_eq!(text.matches("nameserver").count(), 3);
        assert!(text.contains("d31\n") && !text.contains("d32"));
        assert_eq!(reasons, ["DNSConfigForming", "DNSConfigForming"]);
    }
}
