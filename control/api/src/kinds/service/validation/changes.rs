//! What an update may not change.

use serde_json::Value;

use super::super::needs_health_check;
use super::addresses::is_headless;
use crate::field::Path;
use crate::resource::FieldError;
use crate::value::ValueExt;

const FIXED: &str = "may not change once set";

pub(super) fn changes(new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let null = Value::Null;
    let (new, old) = (
        new.get("spec").unwrap_or(&null),
        old.get("spec").unwrap_or(&null),
    );
    let has_address = |spec: &Value| spec.str_at("/type") != "ExternalName";
    if has_address(new) && has_address(old) {
        if !(is_headless(new) && is_headless(old)) {
            cluster_ips(new, old, errors);
        }
        if !is_headless(new) && !is_headless(old) {
            families(new, old, errors);
        }
    }
    let path = Path::new("spec");
    let balanced = |spec: &Value| spec.str_at("/type") == "LoadBalancer";
    let class = |spec: &Value| spec.get("loadBalancerClass").cloned().unwrap_or_default();
    if balanced(new) && balanced(old) && class(new) != class(old) {
        errors.push(path.child("loadBalancerClass").invalid(class(new), FIXED));
    }
    let port = |spec: &Value| spec.i64_at("/healthCheckNodePort");
    if needs_health_check(new) && needs_health_check(old) && port(new) != port(old) {
        let at = path.child("healthCheckNodePort");
        errors.push(at.forbidden("field is immutable"));
    }
}

/// The first stays; a second may come, and go when the client says SingleStack.
fn cluster_ips(new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let (now, before) = (new.list_at("/clusterIPs"), old.list_at("/clusterIPs"));
    let path = Path::new("spec");
    let at = path.child("clusterIPs");
    let both = now.iter().zip(before).enumerate();
    for (i, _) in both.filter(|(_, (now, before))| now != before) {
        // Only where none comes or goes is the second one looked at.
        if i == 0 || now.len() == before.len() {
            errors.push(at.index(i).invalid(now.to_vec(), FIXED));
        }
    }
    if now.len() >= before.len() {
        return;
    }
    if now.is_empty() {
        let detail = "primary clusterIP can not be unset";
        errors.push(at.index(0).invalid(now.to_vec(), detail));
    }
    if now.len() == 1 {
        errors.extend(release(new, &path, "clusterIP"));
    }
}

fn families(new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let (now, before) = (new.list_at("/ipFamilies"), old.list_at("/ipFamilies"));
    let path = Path::new("spec");
    let at = path.child("ipFamilies").index(0);
    let both = now.iter().zip(before).enumerate();
    for (i, _) in both.filter(|(_, (now, before))| now != before) {
        if i == 0 || now.len() == before.len() {
            errors.push(at.invalid(now.to_vec(), FIXED));
        }
    }
    if now.len() >= before.len() {
        return;
    }
    if now.is_empty() {
        let detail = "primary ipFamily can not be unset";
        errors.push(at.invalid(now.to_vec(), detail));
    }
    if now.len() == 1 {
        errors.extend(release(new, &path, "ipFamily"));
    }
}

fn release(spec: &Value, path: &Path, what: &str) -> Option<FieldError> {
    let policy = spec.get("ipFamilyPolicy").cloned().unwrap_or_default();
    let detail = format!("must be set to 'SingleStack' when releasing the secondary {what}");
    let at = path.child("ipFamilyPolicy");
    (policy != "SingleStack").then(|| at.invalid(policy, &detail))
}
