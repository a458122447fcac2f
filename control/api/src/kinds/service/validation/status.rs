//! The status subresource.

use serde_json::Value;

use crate::field::Path;
use crate::resource::FieldError;
use crate::value::ValueExt;
use crate::{ip, meta, names};

const IP_MODES: &[&str] = &["Proxy", "VIP"];

pub(in super::super) fn status(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = meta::validate_update(new, old);
    let path = Path::new("status").child("loadBalancer").child("ingress");
    let ingress = new.list_at("/status/loadBalancer/ingress");
    if ingress.is_empty() {
        return errors;
    }
    if new.str_at("/spec/type") != "LoadBalancer" {
        let detail = "may only be used when `spec.type` is 'LoadBalancer'";
        errors.push(path.forbidden(detail));
        return errors;
    }
    for (i, entry) in ingress.iter().enumerate() {
        let at = path.index(i);
        let text = entry.str_at("/ip");
        if !text.is_empty() {
            let known = old.list_at("/status/loadBalancer/ingress").iter();
            let wrong = ip::address(text, known.map(|own| own.str_at("/ip")));
            errors.extend(wrong.map(|wrong| at.child("ip").invalid(text, wrong)));
        }
        errors.extend(mode(entry, &at.child("ipMode")));
        hostname(entry, &at.child("hostname"), &mut errors);
    }
    errors
}

fn mode(entry: &Value, at: &Path) -> Option<FieldError> {
    let (has_ip, mode) = (!entry.str_at("/ip").is_empty(), entry.str_at("/ipMode"));
    match (has_ip, entry.has("/ipMode")) {
        (true, false) => Some(at.required("must be specified when `ip` is set")),
        (false, true) => Some(at.forbidden("may not be specified when `ip` is not set")),
        (true, true) if !IP_MODES.contains(&mode) => Some(at.not_supported(mode, IP_MODES)),
        _ => None,
    }
}

fn hostname(entry: &Value, at: &Path, errors: &mut Vec<FieldError>) {
    let name = entry.str_at("/hostname");
    if name.is_empty() {
        return;
    }
    let wrong = names::subdomain(name);
    errors.extend(wrong.iter().map(|m| at.invalid(name, m)));
    if name.parse::<std::net::IpAddr>().is_ok() {
        errors.push(at.invalid(name, "must be a DNS name, not an IP address"));
    }
}
