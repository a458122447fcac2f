//! What a service may say, in the order Kubernetes says it.

pub(super) mod addresses;
mod changes;
mod policies;
mod ports;
mod status;

use serde_json::Value;

pub(super) use self::status::status;
use crate::field::Path;
use crate::resource::FieldError;
use crate::value::ValueExt;
use crate::{meta, names};

const TYPES: &[&str] = &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
const ONLY_BALANCED: &str = "may only be used when `type` is 'LoadBalancer'";

pub(super) fn create(service: &Value) -> Vec<FieldError> {
    // Relaxed in 1.36: any RFC 1123 label, digits first as well, is a name of a service.
    let mut errors = meta::validate(service, true, names::label);
    validate(service, &Value::Null, &mut errors);
    errors
}

pub(super) fn update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = meta::validate_update(new, old);
    changes::changes(new, old, &mut errors);
    validate(new, old, &mut errors);
    errors
}

/// `old` is null where there is none.
fn validate(service: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let path = Path::new("spec");
    let null = Value::Null;
    let spec = service.get("spec").unwrap_or(&null);
    let old_spec = old.get("spec").unwrap_or(&null);
    let kind = spec.str_at("/type");
    let headless = addresses::is_headless(spec);

    if spec.list_at("/ports").is_empty() && !headless && kind != "ExternalName" {
        errors.push(path.child("ports").required(""));
    }
    match kind {
        "LoadBalancer" | "NodePort" if headless => {
            let detail = format!("may not be set to 'None' for {kind} services");
            errors.push(path.child("clusterIPs").index(0).invalid("None", &detail));
        }
        "ExternalName" => external_name(spec, &path, errors),
        _ => {}
    }
    ports::ports(spec, &path.child("ports"), errors);
    selector(spec, &path, errors);
    policies::affinity(spec, &path, errors);
    errors.extend(addresses::cluster_ips(service, old));
    addresses::external(spec, old_spec, &path, errors);
    if kind.is_empty() {
        errors.push(path.child("type").required(""));
    } else if !TYPES.contains(&kind) {
        errors.push(path.child("type").not_supported(kind, TYPES));
    }
    ports::node_ports(spec, kind, &path.child("ports"), errors);
    addresses::source_ranges(service, old, errors);
    policies::balancing(spec, kind, &path, errors);
    policies::external_traffic(spec, &path, errors);
    policies::internal_traffic(spec, kind, &path, errors);
}

fn external_name(spec: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    const NOT: &str = "may not be set for ExternalName services";
    if !spec.list_at("/clusterIPs").is_empty() || !spec.str_at("/clusterIP").is_empty() {
        errors.push(path.child("clusterIPs").forbidden(NOT));
    }
    if !spec.list_at("/ipFamilies").is_empty() {
        errors.push(path.child("ipFamilies").forbidden(NOT));
    }
    if spec.has("/ipFamilyPolicy") {
        errors.push(path.child("ipFamilyPolicy").forbidden(NOT));
    }
    // A trailing dot marks it as fully qualified.
    let name = spec.str_at("/externalName");
    let name = name.strip_suffix('.').unwrap_or(name);
    let at = path.child("externalName");
    match name.is_empty() {
        true => errors.push(at.required("")),
        false => errors.extend(names::subdomain(name).iter().map(|m| at.invalid(name, m))),
    }
}

fn selector(spec: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    let at = path.child("selector");
    for (key, value) in spec.map_at("/selector").into_iter().flatten() {
        let wrong = names::qualified(key);
        errors.extend(wrong.iter().map(|m| at.invalid(key.as_str(), m)));
        let value = value.as_str().unwrap_or("");
        let wrong = names::label_value(value);
        errors.extend(wrong.iter().map(|m| at.invalid(value, m)));
    }
}
