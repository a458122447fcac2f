//! ipFamilies and ipFamilyPolicy: what a service gets of the families its cluster has.

use std::net::IpAddr;

use serde_json::{Value, json};
use vetch_api::field::Path;
use vetch_api::resource::FieldError;

use crate::admission::{list, text, texts};

const SINGLE: &str = "SingleStack";
const PREFER: &str = "PreferDualStack";
const REQUIRE: &str = "RequireDualStack";

/// Fills what the client left out, and refuses what the cluster's families (the main one first) cannot give.
/// A service changes between one and two addresses only where its policy says so.
pub fn settle(
    service: &mut Value,
    old: Option<&Value>,
    cluster: &[&str],
) -> Result<(), Vec<FieldError>> {
    if text(service, "/spec/type") == "ExternalName" || old.is_some_and(|old| rests(service, old)) {
        return Ok(());
    }
    let headless = text(service, "/spec/clusterIP") == "None";
    let selects = service
        .pointer("/spec/selector")
        .and_then(Value::as_object)
        .is_some_and(|selector| !selector.is_empty());
    // The endpoints of a headless service without a selector are the user's own, of whatever family.
    let open = headless && !selects;
    if text(service, "/spec/ipFamilyPolicy").is_empty() {
        let before = old.map(|old| text(old, "/spec/ipFamilyPolicy"));
        let policy = match before {
            Some(before) if !before.is_empty() => before,
            _ if open => REQUIRE,
            _ => SINGLE,
        };
        service["spec"]["ipFamilyPolicy"] = policy.into();
    }
    let errors = vetch_api::kinds::service::cluster_ips(service, old.unwrap_or(&Value::Null));
    if !errors.is_empty() {
        return Err(errors);
    }
    let mut errors = Vec::new();
    if let Some(old) = old {
        shrink(service, old, &mut errors);
    }
    if policy(service) == SINGLE {
        for (field, what) in [("clusterIPs", "cluster IPs"), ("ipFamilies", "IP families")] {
            if list(service, &format!("/spec/{field}")).len() == 2 {
                let detail = format!(
                    "must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified"
                );
                errors.push(policy_error(service, &detail));
            }
        }
    }
    infer(service, cluster, &mut errors);
    refuse(errors)?;

    if !open {
        refuse(unknown(service, cluster))?;
    }
    let mut families = texts(service, "/spec/ipFamilies");
    if families.is_empty() {
        families.extend(cluster.first().map(|family| (*family).to_owned()));
    }
    if policy(service) != SINGLE && families.len() == 1 && (open || cluster.len() == 2) {
        let other = if families[0] == "IPv4" {
            "IPv6"
        } else {
            "IPv4"
        };
        families.push(other.to_owned());
    }
    service["spec"]["ipFamilies"] = families.into();
    Ok(())
}

fn refuse(errors: Vec<FieldError>) -> Result<(), Vec<FieldError>> {
    match errors.is_empty() {
        true => Ok(()),
        false => Err(errors),
    }
}

fn policy(service: &Value) -> &str {
    text(service, "/spec/ipFamilyPolicy")
}

fn policy_error(service: &Value, detail: &str) -> FieldError {
    let at = Path::new("spec").child("ipFamilyPolicy");
    at.invalid(policy(service), detail)
}

/// A service that merely prefers two families stays as it is when the cluster wins or loses one.
fn rests(new: &Value, old: &Value) -> bool {
    let same = |pointer: &str| list(new, pointer) == list(old, pointer);
    text(new, "/spec/type") == text(old, "/spec/type")
        && policy(new) == PREFER
        && policy(old) == PREFER
        && same("/spec/clusterIPs")
        && same("/spec/ipFamilies")
}

/// SingleStack alone says that the second address and family go; only with it may the client take them out.
fn shrink(service: &mut Value, old: &Value, errors: &mut Vec<FieldError>) {
    for (field, what) in [("clusterIPs", "cluster IP"), ("ipFamilies", "IP family")] {
        let pointer = format!("/spec/{field}");
        let (now, before) = (list(service, &pointer).to_vec(), list(old, &pointer));
        if policy(service) == SINGLE {
            if now == before && now.len() > 1 {
                service["spec"][field] = json!(now[..1]);
            }
        } else if !now.is_empty() && now.len() < before.len() {
            let detail = format!("must be 'SingleStack' to release the secondary {what}");
            errors.push(policy_error(service, &detail));
        }
    }
}

/// Addresses the client named tell the families it did not name.
fn infer(service: &mut Value, cluster: &[&str], errors: &mut Vec<FieldError>) {
    let mut families = texts(service, "/spec/ipFamilies");
    for (index, ip) in texts(service, "/spec/clusterIPs").iter().enumerate() {
        let family = match ip.parse() {
            Ok(IpAddr::V4(_)) => "IPv4",
            Ok(IpAddr::V6(_)) => "IPv6",
            // None, and nothing after it.
            Err(_) => return,
        };
        if index < families.len() {
            continue;
        }
        if cluster.contains(&family) {
            families.push(family.to_owned());
        } else {
            let at = Path::new("spec").child("clusterIPs").index(index);
            let shown = service["spec"]["clusterIPs"].clone();
            let detail = format!("{family} is not configured on this cluster");
            errors.push(at.invalid(shown, &detail));
        }
    }
    if !families.is_empty() {
        service["spec"]["ipFamilies"] = families.into();
    }
}

fn unknown(service: &Value, cluster: &[&str]) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if policy(service) == REQUIRE && cluster.len() < 2 {
        let detail = "this cluster is not configured for dual-stack services";
        errors.push(policy_error(service, detail));
    }
    for (index, family) in texts(service, "/spec/ipFamilies").into_iter().enumerate() {
        if !cluster.contains(&family.as_str()) {
            let at = Path::new("spec").child("ipFamilies").index(index);
            errors.push(at.invalid(family, "not configured on this cluster"));
        }
    }
    errors
}

#[cfg(test)]
mod tests;
