//! Defaulting of pods and pod templates.

use serde_json::{Map, Value, json};

use super::whole;
use crate::value::ValueExt;

/// Mode of files in volumes: 0644.
const FILE_MODE: i64 = 420;

pub(crate) fn pod(pod: &mut Value) {
    pod.default_to("spec", json!({}));
    let Some(spec) = pod.get_mut("spec") else {
        return;
    };
    // Only pods themselves, not templates, get these.
    spec.default_to("enableServiceLinks", true);
    let host_network = spec.bool_at("/hostNetwork");
    for list in ["containers", "initContainers"] {
        for container in spec.list_mut(list) {
            requests_from_limits(container);
            if host_network {
                for port in container.list_mut("ports") {
                    if let Some(number) = port.get("containerPort").cloned() {
                        port.default_to("hostPort", number);
                    }
                }
            }
        }
    }
    whole::default(spec);
    pod_spec(spec);
    // Of templates a negative one stays as it is.
    if spec.i64_at("/terminationGracePeriodSeconds") < 0 {
        spec["terminationGracePeriodSeconds"] = 1.into();
    }
    if let Some(status) = pod.get_mut("status") {
        addresses(status, "podIP", "podIPs");
        addresses(status, "hostIP", "hostIPs");
    }
}

/// `podIP` is the first of `podIPs`; where the two differ, the single one was written later.
fn addresses(status: &mut Value, single: &str, list: &str) {
    let first = status.pointer(&format!("/{list}/0/ip")).cloned();
    match (status.get(single).cloned(), first) {
        (None, Some(first)) => status.default_to(single, first),
        (Some(only), first) if Some(&only) != first.as_ref() => {
            status[list] = json!([{"ip": only}])
        }
        _ => {}
    }
}

/// `spec.template` of a workload.
pub(crate) fn template(workload: &mut Value) {
    if let Some(template) = workload.pointer_mut("/spec/template") {
        template.default_to("spec", json!({}));
        if let Some(spec) = template.get_mut("spec") {
            pod_spec(spec);
        }
    }
}

fn pod_spec(spec: &mut Value) {
    spec.default_to("restartPolicy", "Always");
    spec.default_to("dnsPolicy", "ClusterFirst");
    spec.default_to("terminationGracePeriodSeconds", 30);
    spec.default_to("schedulerName", "default-scheduler");
    spec.default_to("securityContext", json!({}));
    // The old name of the field goes on being served; the new one wins.
    for (from, to) in [
        ("serviceAccountName", "serviceAccount"),
        ("serviceAccount", "serviceAccountName"),
    ] {
        let name = spec.str_at(&format!("/{from}"));
        if !name.is_empty() {
            spec[to] = name.into();
        }
    }
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for container in spec.list_mut(list) {
            self::container(container);
        }
    }
    for volume in spec.list_mut("volumes") {
        self::volume(volume);
    }
}

fn container(container: &mut Value) {
    let always = pulls_latest(container.str_at("/image"));
    container.default_to(
        "imagePullPolicy",
        if always { "Always" } else { "IfNotPresent" },
    );
    container.default_to("terminationMessagePath", "/dev/termination-log");
    container.default_to("terminationMessagePolicy", "File");
    container.default_to("resources", json!({}));
    for port in container.list_mut("ports") {
        port.default_to("protocol", "TCP");
    }
    for env in container.list_mut("env") {
        if let Some(field) = env.pointer_mut("/valueFrom/fieldRef") {
            field.default_to("apiVersion", "v1");
        }
        if let Some(file) = env.pointer_mut("/valueFrom/fileKeyRef") {
            file.default_to("optional", false);
        }
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = container.get_mut(probe) {
            probe.default_to("timeoutSeconds", 1);
            probe.default_to("periodSeconds", 10);
            probe.default_to("successThreshold", 1);
            probe.default_to("failureThreshold", 3);
            handler(probe);
            if let Some(grpc) = probe.get_mut("grpc") {
                grpc.default_to("service", "");
            }
        }
    }
    for hook in ["/lifecycle/postStart", "/lifecycle/preStop"] {
        if let Some(hook) = container.pointer_mut(hook) {
            handler(hook);
        }
    }
}

fn handler(holder: &mut Value) {
    if let Some(get) = holder.get_mut("httpGet") {
        get.default_to("path", "/");
        get.default_to("scheme", "HTTP");
    }
}

/// Whether the image names the tag `latest`, or nothing.
fn pulls_latest(image: &str) -> bool {
    if image.contains('@') {
        return false;
    }
    let last = image.rsplit('/').next().unwrap_or(image);
    last.split_once(':').is_none_or(|(_, tag)| tag == "latest")
}

fn requests_from_limits(container: &mut Value) {
    let Some(limits) = container
        .pointer("/resources/limits")
        .and_then(Value::as_object)
        .cloned()
    else {
        return;
    };
    if limits.is_empty() {
        return;
    }
    let Some(resources) = container.get_mut("resources") else {
        return;
    };
    resources.default_to("requests", Map::new());
    if let Some(requests) = resources.get_mut("requests") {
        for (name, limit) in limits {
            requests.default_to(&name, limit);
        }
    }
}

fn volume(volume: &mut Value) {
    // A volume that says nothing but its name is an empty directory.
    if volume
        .as_object()
        .is_some_and(|v| v.keys().all(|k| k == "name"))
    {
        volume.default_to("emptyDir", json!({}));
    }
    if let Some(host) = volume.get_mut("hostPath") {
        host.default_to("type", "");
    }
    for source in ["configMap", "secret", "downwardAPI", "projected"] {
        if let Some(source) = volume.get_mut(source) {
            source.default_to("defaultMode", FILE_MODE);
            downward_items(source);
        }
    }
    if let Some(projected) = volume.get_mut("projected") {
        for source in projected.list_mut("sources") {
            if let Some(token) = source.get_mut("serviceAccountToken") {
                token.default_to("expirationSeconds", 3600);
            }
            if let Some(downward) = source.get_mut("downwardAPI") {
                downward_items(downward);
            }
        }
    }
    if let Some(image) = volume.get_mut("image") {
        let always = pulls_latest(image.str_at("/reference"));
        image.default_to("pullPolicy", if always { "Always" } else { "IfNotPresent" });
    }
    if let Some(spec) = volume.pointer_mut("/ephemeral/volumeClaimTemplate/spec") {
        spec.default_to("volumeMode", "Filesystem");
    }
}

fn downward_items(source: &mut Value) {
    for item in source.list_mut("items") {
        if let Some(field) = item.get_mut("fieldRef") {
            field.default_to("apiVersion", "v1");
        }
    }
}
