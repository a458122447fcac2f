//! What people are told of a Service that is valid and yet not what they may think (Kubernetes'
//! pkg/api/service/warnings.go; of external addresses since 1.36: KEP-5707).

use serde_json::Value;

use crate::field::Path;
use crate::ip::warnings::{address, network};
use crate::value::ValueExt;

const HINTS: &str = "service.kubernetes.io/topology-aware-hints";
const MODE: &str = "service.kubernetes.io/topology-mode";

pub(super) fn of(service: &Value) -> Vec<String> {
    let null = Value::Null;
    let spec = service.get("spec").unwrap_or(&null);
    let mut told = Vec::new();
    let annotations = service.pointer("/metadata/annotations");
    if annotations.and_then(|own| own.get(HINTS)).is_some() {
        told.push(format!(
            "annotation {HINTS} is deprecated, please use {MODE} instead"
        ));
    }
    if !matches!(spec.str_at("/clusterIP"), "" | "None") {
        told.extend(addresses(spec, "clusterIPs"));
    }
    told.extend(ignored(spec));
    if !spec.list_at("/externalIPs").is_empty() {
        told.push("spec.externalIPs is deprecated".to_owned());
    }
    told.extend(addresses(spec, "externalIPs"));
    let path = Path::new("spec");
    told.extend(address(
        &path.child("loadBalancerIP"),
        spec.str_at("/loadBalancerIP"),
    ));
    let ranges = spec.list_at("/loadBalancerSourceRanges").iter();
    for (i, range) in ranges.enumerate() {
        let at = path.child("loadBalancerSourceRanges").index(i);
        told.extend(network(&at, range.as_str().unwrap_or_default()));
    }
    if spec.str_at("/trafficDistribution") == "PreferClose" {
        told.push(
            "spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\""
                .to_owned(),
        );
    }
    told
}

/// Fields that a service of this type has for nothing.
fn ignored(spec: &Value) -> Vec<String> {
    let kind = spec.str_at("/type");
    let headless = kind == "ClusterIP" && spec.str_at("/clusterIP") == "None";
    let external = kind == "ExternalName";
    let (has_ips, has_name) = (
        !spec.list_at("/externalIPs").is_empty(),
        !spec.str_at("/externalName").is_empty(),
    );
    [
        (
            headless && !spec.str_at("/loadBalancerIP").is_empty(),
            "spec.loadBalancerIP is ignored for headless services",
        ),
        (
            headless && has_ips,
            "spec.externalIPs is ignored for headless services",
        ),
        (
            headless && spec.str_at("/sessionAffinity") != "None",
            "spec.SessionAffinity is ignored for headless services",
        ),
        (
            external && has_ips,
            "spec.externalIPs is ignored when spec.type is \"ExternalName\"",
        ),
        (
            !external && has_name,
            "spec.externalName is ignored when spec.type is not \"ExternalName\"",
        ),
    ]
    .into_iter()
    .filter_map(|(is, words)| is.then(|| words.to_owned()))
    .collect()
}

fn addresses(spec: &Value, field: &str) -> Vec<String> {
    let at = Path::new("spec").child(field);
    let list = spec.get(field).and_then(Value::as_array);
    let texts = list.into_iter().flatten().enumerate();
    texts
        .filter_map(|(i, text)| address(&at.index(i), text.as_str()?))
        .collect()
}

pub(super) fn of_status(service: &Value) -> Vec<String> {
    let at = Path::new("status").child("loadBalancer").child("ingress");
    let ingress = service.list_at("/status/loadBalancer/ingress").iter();
    ingress
        .enumerate()
        .filter_map(|(i, own)| address(&at.index(i), own.str_at("/ip")))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn services_that_are_not_what_they_seem() {
        let headless = |field: &str, value: Value| json!({"type": "ClusterIP", "clusterIP": "None", "clusterIPs": ["None"], "sessionAffinity": "None", field: value});
        let deprecated = "spec.externalIPs is deprecated";
        for (spec, wanted) in [
            (
                json!({"type": "ClusterIP", "clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1"]}),
                vec![],
            ),
            (
                json!({"type": "ClusterIP", "clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1", "FD00::1"]}),
                vec![
                    "spec.clusterIPs[1]: IPv6 address \"FD00::1\" should be in RFC 5952 canonical format (\"fd00::1\")",
                ],
            ),
            (
                json!({"type": "NodePort", "externalIPs": ["192.0.2.1", "192.0.02.1"]}),
                vec![
                    deprecated,
                    "spec.externalIPs[1]: non-standard IP address \"192.0.02.1\" will be considered invalid in a future Kubernetes release: use \"192.0.2.1\"",
                ],
            ),
            (
                json!({"type": "LoadBalancer", "loadBalancerIP": "2001:db8:0::1"}),
                vec![
                    "spec.loadBalancerIP: IPv6 address \"2001:db8:0::1\" should be in RFC 5952 canonical format (\"2001:db8::1\")",
                ],
            ),
            (
                json!({"type": "LoadBalancer", "loadBalancerSourceRanges": ["192.0.2.0/24", "192.0.2.1/24"]}),
                vec![
                    "spec.loadBalancerSourceRanges[1]: CIDR value \"192.0.2.1/24\" is ambiguous in this context (should be \"192.0.2.0/24\" or \"192.0.2.1/32\"?)",
                ],
            ),
            (
                headless("loadBalancerIP", json!("192.0.2.1")),
                vec!["spec.loadBalancerIP is ignored for headless services"],
            ),
            (
                headless("externalIPs", json!(["192.0.2.1"])),
                vec![
                    "spec.externalIPs is ignored for headless services",
                    deprecated,
                ],
            ),
            (
                headless("sessionAffinity", json!("ClientIP")),
                vec!["spec.SessionAffinity is ignored for headless services"],
            ),
            (headless("ports", json!([])), vec![]),
            (
                json!({"type": "ExternalName", "externalName": "a.example", "externalIPs": ["192.0.2.1"]}),
                vec![
                    "spec.externalIPs is ignored when spec.type is \"ExternalName\"",
                    deprecated,
                ],
            ),
            (
                json!({"type": "ClusterIP", "externalName": "a.example"}),
                vec!["spec.externalName is ignored when spec.type is not \"ExternalName\""],
            ),
            (
                json!({"type": "ClusterIP", "trafficDistribution": "PreferClose"}),
                vec![
                    "spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"",
                ],
            ),
            (
                json!({"type": "ClusterIP", "trafficDistribution": "PreferSameNode"}),
                vec![],
            ),
        ] {
            assert_eq!(of(&json!({"spec": spec})), wanted, "{spec}");
        }
        let annotated = |name: &str| json!({"metadata": {"annotations": {name: "Auto"}}});
        assert_eq!(of(&annotated(MODE)), [""; 0]);
        let words = "annotation service.kubernetes.io/topology-aware-hints is deprecated, please use service.kubernetes.io/topology-mode instead";
        assert_eq!(of(&annotated(HINTS)), [words]);
    }

    #[test]
    fn addresses_of_a_balancer() {
        let status = json!({"status": {"loadBalancer": {"ingress": [
            {"hostname": "a.example"}, {"ip": "192.0.2.1"}, {"ip": "::FFFF:192.0.2.1"}]}}});
        assert_eq!(
            of_status(&status),
            [
                "status.loadBalancer.ingress[2]: non-standard IP address \"::FFFF:192.0.2.1\" will be considered invalid in a future Kubernetes release: use \"192.0.2.1\"",
            ]
        );
    }
}
