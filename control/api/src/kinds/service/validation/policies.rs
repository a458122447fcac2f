//! How traffic is spread, and what that needs.

use serde_json::Value;

use super::super::{externally_accessible, needs_health_check};
use super::ONLY_BALANCED;
use crate::field::Path;
use crate::names;
use crate::resource::FieldError;
use crate::value::ValueExt;

const POLICIES: &[&str] = &["Cluster", "Local"];
const AFFINITIES: &[&str] = &["ClientIP", "None"];
const DISTRIBUTIONS: &[&str] = &["PreferClose", "PreferSameZone", "PreferSameNode"];
const LONGEST_AFFINITY: i64 = 86_400;

pub(super) fn affinity(spec: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    let affinity = spec.str_at("/sessionAffinity");
    let at = path.child("sessionAffinity");
    if affinity.is_empty() {
        errors.push(at.required(""));
    } else if !AFFINITIES.contains(&affinity) {
        errors.push(at.not_supported(affinity, AFFINITIES));
    }
    let at = path.child("sessionAffinityConfig");
    match affinity {
        "ClientIP" => errors.extend(timeout(spec, &at)),
        "None" if spec.has("/sessionAffinityConfig") => {
            errors.push(at.forbidden("must not be set when session affinity is None"));
        }
        _ => {}
    }
}

fn timeout(spec: &Value, at: &Path) -> Option<FieldError> {
    const WHEN: &str = "when session affinity type is ClientIP";
    if !spec.has("/sessionAffinityConfig") {
        return Some(at.required(WHEN));
    }
    let at = at.child("clientIP");
    if !spec.has("/sessionAffinityConfig/clientIP") {
        return Some(at.required(WHEN));
    }
    let at = at.child("timeoutSeconds");
    let detail = format!("must be greater than 0 and less than {LONGEST_AFFINITY}");
    match spec.opt_i64("/sessionAffinityConfig/clientIP/timeoutSeconds") {
        None => Some(at.required(WHEN)),
        Some(seconds) if !(1..=LONGEST_AFFINITY).contains(&seconds) => {
            Some(at.invalid(seconds, &detail))
        }
        Some(_) => None,
    }
}

/// What only a load balancer has.
pub(super) fn balancing(spec: &Value, kind: &str, path: &Path, errors: &mut Vec<FieldError>) {
    match (kind, spec.has("/allocateLoadBalancerNodePorts")) {
        ("LoadBalancer", true) => {}
        // Kubernetes names this one without its spec.
        ("LoadBalancer", false) => {
            errors.push(Path::new("allocateLoadBalancerNodePorts").required(""));
        }
        (_, true) => {
            let at = path.child("allocateLoadBalancerNodePorts");
            errors.push(at.forbidden(ONLY_BALANCED));
        }
        (_, false) => {}
    }
    if spec.has("/loadBalancerClass") {
        let at = path.child("loadBalancerClass");
        let class = spec.str_at("/loadBalancerClass");
        match kind {
            "LoadBalancer" => {
                let wrong = names::qualified(class);
                errors.extend(wrong.iter().map(|m| at.invalid(class, m)));
            }
            _ => errors.push(at.forbidden(ONLY_BALANCED)),
        }
    }
}

pub(super) fn external_traffic(spec: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    let policy = spec.str_at("/externalTrafficPolicy");
    let at = path.child("externalTrafficPolicy");
    match (externally_accessible(spec), policy) {
        (true, "") => errors.push(at.required("")),
        (true, known) if POLICIES.contains(&known) => {}
        (true, other) => errors.push(at.not_supported(other, POLICIES)),
        (false, "") => {}
        (false, other) => {
            let detail = "may only be set for externally-accessible services";
            errors.push(at.invalid(other, detail));
        }
    }
    let port = spec.i64_at("/healthCheckNodePort");
    let at = path.child("healthCheckNodePort");
    match (needs_health_check(spec), port) {
        (true, 0) => errors.push(at.required("")),
        (true, port) => {
            let wrong = names::port_number(port);
            errors.extend(wrong.iter().map(|m| at.invalid(port, m)));
        }
        (false, 0) => {}
        (false, port) => {
            let detail = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
            errors.push(at.invalid(port, detail));
        }
    }
}

pub(super) fn internal_traffic(
    spec: &Value,
    kind: &str,
    path: &Path,
    errors: &mut Vec<FieldError>,
) {
    let policy = spec.str_at("/internalTrafficPolicy");
    let at = path.child("internalTrafficPolicy");
    match policy {
        "" if matches!(kind, "ClusterIP" | "NodePort" | "LoadBalancer") => {
            errors.push(at.required(""));
        }
        "" => {}
        known if POLICIES.contains(&known) => {}
        other => errors.push(at.not_supported(other, POLICIES)),
    }
    if spec.has("/trafficDistribution") {
        let wanted = spec.str_at("/trafficDistribution");
        if !DISTRIBUTIONS.contains(&wanted) {
            let at = path.child("trafficDistribution");
            errors.push(at.not_supported(wanted, DISTRIBUTIONS));
        }
    }
}
