//! Probes and lifecycle hooks.

use serde_json::Value;

use crate::field::Path;
use crate::names;
use crate::resource::FieldError;
use crate::value::ValueExt;

pub(super) fn validate(container: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let Some(probe) = container.get(name) else {
            continue;
        };
        let at = path.child(name);
        handler(probe, &at, errors);
        for key in [
            "initialDelaySeconds",
            "timeoutSeconds",
            "periodSeconds",
            "successThreshold",
            "failureThreshold",
        ] {
            let value = probe.i64_at(&format!("/{key}"));
            if value < 0 {
                errors.push(
                    at.child(key)
                        .invalid(value, "must be greater than or equal to 0"),
                );
            }
        }
        let successes = probe.i64_at("/successThreshold");
        if name != "readinessProbe" && successes != 1 {
            errors.push(at.child("successThreshold").invalid(successes, "must be 1"));
        }
        if let Some(grace) = probe.opt_i64("/terminationGracePeriodSeconds") {
            if name == "readinessProbe" {
                errors.push(
                    at.child("terminationGracePeriodSeconds")
                        .invalid(grace, "must not be set for readinessProbes"),
                );
            } else if grace <= 0 {
                errors.push(
                    at.child("terminationGracePeriodSeconds")
                        .invalid(grace, "must be greater than 0"),
                );
            }
        }
    }
    for name in ["postStart", "preStop"] {
        if let Some(hook) = container.pointer(&format!("/lifecycle/{name}")) {
            handler(hook, &path.child("lifecycle").child(name), errors);
        }
    }
}

fn handler(holder: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    let mut handlers = 0;
    for kind in ["exec", "httpGet", "tcpSocket", "grpc", "sleep"] {
        let Some(action) = holder.get(kind) else {
            continue;
        };
        let at = path.child(kind);
        handlers += 1;
        if handlers > 1 {
            errors.push(at.forbidden("may not specify more than 1 handler type"));
            continue;
        }
        match kind {
            "exec" if action.list_at("/command").is_empty() => {
                errors.push(at.child("command").required(""))
            }
            "httpGet" => {
                if action.str_at("/path").is_empty() {
                    errors.push(at.child("path").required(""));
                }
                port(action.get("port"), &at.child("port"), errors);
                let scheme = action.str_at("/scheme");
                if !matches!(scheme, "HTTP" | "HTTPS") {
                    errors.push(at.child("scheme").not_supported(scheme, &["HTTP", "HTTPS"]));
                }
            }
            "tcpSocket" => port(action.get("port"), &at.child("port"), errors),
            "grpc" => {
                let number = action.i64_at("/port");
                errors.extend(
                    names::port_number(number)
                        .iter()
                        .map(|m| at.child("port").invalid(number, m)),
                );
            }
            _ => {}
        }
    }
    if handlers == 0 {
        errors.push(path.required("must specify a handler type"));
    }
}

fn port(port: Option<&Value>, path: &Path, errors: &mut Vec<FieldError>) {
    match port {
        Some(Value::String(name)) => {
            errors.extend(
                names::port_name(name)
                    .iter()
                    .map(|m| path.invalid(name.as_str(), m)),
            );
        }
        other => {
            let number = other.and_then(Value::as_i64).unwrap_or(0);
            errors.extend(
                names::port_number(number)
                    .iter()
                    .map(|m| path.invalid(number, m)),
            );
        }
    }
}
