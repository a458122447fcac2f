//! clusterIPs with their families, externalIPs, and who may reach the load balancer.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde_json::Value;

use super::ONLY_BALANCED;
use crate::field::Path;
use crate::ip;
use crate::resource::FieldError;
use crate::value::ValueExt;

const FAMILIES: &[&str] = &["IPv4", "IPv6"];
const FAMILY_POLICIES: &[&str] = &["PreferDualStack", "RequireDualStack", "SingleStack"];
const SOURCE_RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";

pub(super) fn is_headless(spec: &Value) -> bool {
    match spec.list_at("/clusterIPs") {
        [] => spec.str_at("/clusterIP") == "None",
        [only] => only == "None",
        _ => false,
    }
}

fn texts<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a str> {
    value.list_at(pointer).iter().filter_map(Value::as_str)
}

/// What is wrong with clusterIP, clusterIPs, ipFamilies and ipFamilyPolicy, whatever families the cluster has.
/// Addresses that `old` has are not read again; it may be null.
pub fn cluster_ips(service: &Value, old: &Value) -> Vec<FieldError> {
    let null = Value::Null;
    let spec = service.get("spec").unwrap_or(&null);
    let mut errors = Vec::new();
    if spec.str_at("/type") == "ExternalName" {
        return errors;
    }
    let path = Path::new("spec");
    let at = path.child("clusterIPs");
    let ips: Vec<&str> = texts(spec, "/clusterIPs").collect();
    match (spec.str_at("/clusterIP"), ips.first()) {
        ("", None) => {}
        ("", Some(_)) => {
            errors.push(at.invalid(
                ips.clone(),
                "must be empty when `clusterIP` is not specified",
            ));
        }
        (_, None) => errors.push(at.required("")),
        (single, Some(first)) if single != *first => {
            errors.push(at.invalid(ips.clone(), "first value must match `clusterIP`"));
        }
        _ => {}
    }
    families(spec, &path, &mut errors);

    let mut unreadable = false;
    for (i, text) in ips.iter().enumerate() {
        if i == 0 && *text == "None" {
            if ips.len() > 1 {
                unreadable = true;
                let detail = "'None' must be the first and only value";
                errors.push(at.invalid(ips.clone(), detail));
            }
            continue;
        }
        if let Some(wrong) = ip::address(text, texts(old, "/spec/clusterIPs")) {
            unreadable = true;
            errors.push(at.index(i).invalid(*text, wrong));
        }
    }
    if ips.len() > 2 {
        errors.push(at.invalid(ips.clone(), "may only hold up to 2 values"));
    }
    if !unreadable && !is_headless(spec) {
        by_family(spec, &ips, &at, &mut errors);
    }
    errors
}

fn families(spec: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    let mut seen = BTreeSet::new();
    for (i, family) in texts(spec, "/ipFamilies").enumerate() {
        let at = path.child("ipFamilies").index(i);
        if !FAMILIES.contains(&family) {
            errors.push(at.not_supported(family, FAMILIES));
        }
        if !seen.insert(family) {
            errors.push(at.duplicate(family));
        }
    }
    if spec.has("/ipFamilyPolicy") {
        let policy = spec.str_at("/ipFamilyPolicy");
        if !FAMILY_POLICIES.contains(&policy) {
            let at = path.child("ipFamilyPolicy");
            errors.push(at.not_supported(policy, FAMILY_POLICIES));
        }
    }
}

/// One address a family, in the order of ipFamilies.
fn by_family(spec: &Value, ips: &[&str], at: &Path, errors: &mut Vec<FieldError>) {
    let own: Vec<&str> = ips.iter().filter_map(|ip| family_of(ip)).collect();
    let kinds: BTreeSet<&&str> = own.iter().collect();
    if own.len() > 1 && kinds.len() < 2 {
        let detail = "may specify no more than one IP for each IP family";
        errors.push(at.invalid(ips.to_vec(), detail));
    }
    for (i, (family, wanted)) in own.iter().zip(texts(spec, "/ipFamilies")).enumerate() {
        if *family != wanted && FAMILIES.contains(&wanted) {
            let detail = format!("expected an {wanted} value as indicated by `ipFamilies[{i}]`");
            errors.push(at.index(i).invalid(ips[i], &detail));
        }
    }
}

fn family_of(ip: &str) -> Option<&'static str> {
    match ip.parse().ok()? {
        IpAddr::V4(_) => Some("IPv4"),
        IpAddr::V6(_) => Some("IPv6"),
    }
}

pub(super) fn external(spec: &Value, old: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    for (i, text) in texts(spec, "/externalIPs").enumerate() {
        let at = path.child("externalIPs").index(i);
        match ip::address(text, texts(old, "/externalIPs")) {
            Some(wrong) => errors.push(at.invalid(text, wrong)),
            None => errors.extend(ip::special(text).iter().map(|m| at.invalid(text, m))),
        }
    }
}

/// loadBalancerSourceRanges, or the annotation that was there before them.
pub(super) fn source_ranges(service: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let balanced = service.str_at("/spec/type") == "LoadBalancer";
    let mut given = texts(service, "/spec/loadBalancerSourceRanges").peekable();
    if given.peek().is_some() {
        // Kubernetes spells this path so.
        let at = Path::new("spec").child("LoadBalancerSourceRanges");
        if !balanced {
            errors.push(at.forbidden(ONLY_BALANCED));
        }
        for (i, text) in given.enumerate() {
            let known = texts(old, "/spec/loadBalancerSourceRanges").map(str::trim);
            let text = text.trim();
            errors.extend(ip::network(text, known).map(|wrong| at.index(i).invalid(text, wrong)));
        }
        return;
    }
    let annotation = |service: &Value| -> Option<String> {
        let text = service
            .get("metadata")?
            .get("annotations")?
            .get(SOURCE_RANGES)?;
        Some(text.as_str()?.to_owned())
    };
    let Some(ranges) = annotation(service) else {
        return;
    };
    let at = Path::new("metadata")
        .child("annotations")
        .key(SOURCE_RANGES);
    if !balanced {
        errors.push(at.forbidden(ONLY_BALANCED));
    }
    if annotation(old).as_ref() == Some(&ranges) || ranges.trim().is_empty() {
        return;
    }
    for text in ranges.split(',').map(str::trim) {
        errors.extend(ip::network(text, [].into_iter()).map(|wrong| at.invalid(text, wrong)));
    }
}
