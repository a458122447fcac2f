//! Validation of a pod's spec, whether its own or a template's.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{affinity, container, profile, sysctls, volume, whole};
use crate::field::Path;
use crate::names;
use crate::resource::FieldError;
use crate::value::ValueExt;

/// `template`: the spec of a workload's pod template.
pub(crate) fn validate(spec: &Value, path: &Path, template: bool) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let volumes = volume::validate(spec, &path.child("volumes"), template, &mut errors);
    container::validate_all(spec, path, &volumes, &mut errors);
    if let Some(resources) = spec.get("resources") {
        let at = path.child("resources");
        container::resources::validate_pod(resources, &at, &mut errors);
        whole::validate(spec, &at, &mut errors);
    }

    one_of(
        spec,
        path,
        "restartPolicy",
        &["Always", "OnFailure", "Never"],
        &mut errors,
    );
    one_of(
        spec,
        path,
        "dnsPolicy",
        &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"],
        &mut errors,
    );
    if spec.str_at("/dnsPolicy") == "None" && spec.list_at("/dnsConfig/nameservers").is_empty() {
        let at = path.child("dnsConfig").child("nameservers");
        errors
            .push(at.required("must provide at least one DNS nameserver when `dnsPolicy` is None"));
    }
    for (i, server) in spec.list_at("/dnsConfig/nameservers").iter().enumerate() {
        let at = path.child("dnsConfig").child("nameservers").index(i);
        let server = server.as_str().unwrap_or("");
        if server.parse::<std::net::IpAddr>().is_err() {
            errors.push(at.invalid(
                server,
                "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            ));
        }
    }
    if let Some(deadline) = spec.opt_i64("/activeDeadlineSeconds")
        && !(1..=i64::from(i32::MAX)).contains(&deadline)
    {
        errors.push(
            path.child("activeDeadlineSeconds")
                .invalid(deadline, "must be between 1 and 2147483647, inclusive"),
        );
    }
    for (key, value) in spec.map_at("/nodeSelector").into_iter().flatten() {
        let at = path.child("nodeSelector");
        errors.extend(
            names::qualified(key)
                .iter()
                .map(|m| at.invalid(key.as_str(), m)),
        );
        let value = value.as_str().unwrap_or("");
        errors.extend(
            names::label_value(value)
                .iter()
                .map(|m| at.invalid(value, m)),
        );
    }
    for (key, check) in [
        ("nodeName", names::subdomain as names::NameCheck),
        ("serviceAccountName", names::subdomain),
        ("hostname", names::label),
        ("subdomain", names::label),
        ("priorityClassName", names::subdomain),
        ("runtimeClassName", names::subdomain),
    ] {
        let value = spec.str_at(&format!("/{key}"));
        if !value.is_empty() {
            errors.extend(
                check(value)
                    .iter()
                    .map(|m| path.child(key).invalid(value, m)),
            );
        }
    }
    if template && !spec.list_at("/ephemeralContainers").is_empty() {
        errors.push(
            path.child("ephemeralContainers")
                .forbidden("ephemeral containers not allowed in pod template"),
        );
    }
    for (i, secret) in spec.list_at("/imagePullSecrets").iter().enumerate() {
        if secret.str_at("/name").is_empty() {
            errors.push(
                path.child("imagePullSecrets")
                    .index(i)
                    .child("name")
                    .required(""),
            );
        }
    }
    for (i, alias) in spec.list_at("/hostAliases").iter().enumerate() {
        let at = path.child("hostAliases").index(i);
        let ip = alias.str_at("/ip");
        if ip.parse::<std::net::IpAddr>().is_err() {
            errors.push(at.child("ip").invalid(
                ip,
                "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            ));
        }
        for host in alias.list_at("/hostnames").iter().filter_map(Value::as_str) {
            errors.extend(
                names::subdomain(host)
                    .iter()
                    .map(|m| at.child("hostnames").invalid(host, m)),
            );
        }
    }
    for (i, gate) in spec.list_at("/readinessGates").iter().enumerate() {
        let kind = gate.str_at("/conditionType");
        let at = path.child("readinessGates").index(i).child("conditionType");
        errors.extend(names::qualified(kind).iter().map(|m| at.invalid(kind, m)));
    }
    if let Some(context) = spec.get("securityContext") {
        profile::validate(context, &path.child("securityContext"), &mut errors);
    }
    sysctls::validate(spec, path, &mut errors);
    host_users(spec, path, &mut errors);
    unique_gates(spec, path, &mut errors);
    affinity::tolerations(spec, &path.child("tolerations"), &mut errors);
    affinity::affinity(spec, &path.child("affinity"), &mut errors);
    affinity::spread(spec, &path.child("topologySpreadConstraints"), &mut errors);
    errors
}

pub(super) const PULL_POLICIES: &[&str] = &["Always", "IfNotPresent", "Never"];

pub(super) fn one_of(
    holder: &Value,
    path: &Path,
    key: &str,
    supported: &[&str],
    errors: &mut Vec<FieldError>,
) {
    let value = holder.str_at(&format!("/{key}"));
    if value.is_empty() {
        errors.push(path.child(key).required(""));
    } else if !supported.contains(&value) {
        errors.push(path.child(key).not_supported(value, supported));
    }
}

/// A pod with users of its own has no other namespace of the host's, and no raw
/// block devices, whose owners no mount can map.
fn host_users(spec: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    if spec.pointer("/hostUsers") != Some(&Value::Bool(false)) {
        return;
    }
    let words = "when `hostUsers` is false";
    for key in ["hostNetwork", "hostPID", "hostIPC"] {
        if spec.bool_at(&format!("/{key}")) {
            errors.push(path.child(key).forbidden(words));
        }
    }
    for key in ["containers", "initContainers", "ephemeralContainers"] {
        for (i, container) in spec.list_at(&format!("/{key}")).iter().enumerate() {
            if !container.list_at("/volumeDevices").is_empty() {
                let at = path.child(key).index(i).child("volumeDevices");
                errors.push(at.forbidden(words));
            }
        }
    }
}

fn unique_gates(spec: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    let mut seen = BTreeSet::new();
    for (i, gate) in spec.list_at("/schedulingGates").iter().enumerate() {
        let name = gate.str_at("/name");
        let at = path.child("schedulingGates").index(i);
        errors.extend(names::qualified(name).iter().map(|m| at.invalid(name, m)));
        if !seen.insert(name) {
            errors.push(at.duplicate(name));
        }
    }
}
