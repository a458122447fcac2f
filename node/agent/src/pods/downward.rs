//! The downward API: what a container is told about its own pod.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceFieldSelector};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::quantity::{self, ResourceList};
use super::spec;
use super::text::go_quote;

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum DownwardError {
    #[error("unsupported fieldPath: {0}")]
    Field(String),
    #[error("container {0} not found")]
    Container(String),
    #[error("unsupported container resource : {0}")]
    Resource(String),
}

/// What is not in the pod's own object.
#[derive(Clone, Debug)]
pub struct Surroundings<'a> {
    pub pod_ips: &'a [IpAddr],
    pub node_ips: &'a [IpAddr],
    /// Stands for limits that are not set.
    pub allocatable: &'a ResourceList,
}

pub fn field(pod: &Pod, path: &str, around: &Surroundings<'_>) -> Result<String, DownwardError> {
    let own = |field: &Option<String>| field.clone().unwrap_or_default();
    let meta = &pod.metadata;
    if let Some(key) = subscript(path, "metadata.annotations") {
        return Ok(lookup(meta.annotations.as_ref(), key));
    }
    if let Some(key) = subscript(path, "metadata.labels") {
        return Ok(lookup(meta.labels.as_ref(), key));
    }
    let first = |ips: &[IpAddr]| ips.first().map(IpAddr::to_string).unwrap_or_default();
    let listed = |ips: &[IpAddr]| {
        let texts: Vec<String> = ips.iter().map(IpAddr::to_string).collect();
        texts.join(",")
    };
    Ok(match path {
        "metadata.name" => own(&meta.name),
        "metadata.namespace" => own(&meta.namespace),
        "metadata.uid" => own(&meta.uid),
        "metadata.labels" => lines(meta.labels.as_ref()),
        "metadata.annotations" => lines(meta.annotations.as_ref()),
        "spec.nodeName" => own(&spec::spec(pod).node_name),
        "spec.serviceAccountName" => own(&spec::spec(pod).service_account_name),
        "status.hostIP" => first(around.node_ips),
        "status.hostIPs" => listed(around.node_ips),
        "status.podIP" => first(around.pod_ips),
        "status.podIPs" => listed(around.pod_ips),
        other => return Err(DownwardError::Field(other.to_owned())),
    })
}

/// The key in `base['key']`.
fn subscript<'a>(path: &'a str, base: &str) -> Option<&'a str> {
    path.strip_prefix(base)?
        .strip_prefix("['")?
        .strip_suffix("']")
}

fn lookup(map: Option<&BTreeMap<String, String>>, key: &str) -> String {
    map.and_then(|map| map.get(key))
        .cloned()
        .unwrap_or_default()
}

/// One `key="value"` a line, in the order of the keys.
fn lines(map: Option<&BTreeMap<String, String>>) -> String {
    let lines: Vec<String> = map
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", go_quote(value)))
        .collect();
    lines.join("\n")
}

/// `own` is the container that asks; the selector may name another.
pub fn resource(
    pod: &Pod,
    own: Option<&Container>,
    selector: &ResourceFieldSelector,
    around: &Surroundings<'_>,
) -> Result<String, DownwardError> {
    let named = selector
        .container_name
        .as_deref()
        .filter(|name| !name.is_empty());
    let container = match named {
        Some(name) => spec::container(pod, name),
        None => own,
    }
    .ok_or_else(|| DownwardError::Container(named.unwrap_or_default().to_owned()))?;
    let unsupported = || DownwardError::Resource(selector.resource.clone());
    let (kind, name) = selector.resource.split_once('.').ok_or_else(unsupported)?;
    let known =
        matches!(name, "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-");
    if !known {
        return Err(unsupported());
    }
    let resources = container.resources.as_ref();
    let quantity = match kind {
        "limits" => {
            let limits = resources.and_then(|r| r.limits.as_ref());
            let set = limits
                .and_then(|limits| limits.get(name))
                .filter(|limit| quantity::nanos(limit) != Some(0));
            set.or_else(|| around.allocatable.get(name))
        }
        "requests" => resources
            .and_then(|r| r.requests.as_ref())
            .and_then(|requests| requests.get(name)),
        _ => return Err(unsupported()),
    };
    let one = Quantity("1".to_owned());
    let divisor = selector.divisor.as_ref().unwrap_or(&one);
    let amount = quantity.map_or(0, |quantity| quantity::divided(quantity, divisor));
    Ok(amount.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod() -> Pod {
        serde_json::from_value(json!({
            "metadata": {
                "name": "web", "namespace": "shop", "uid": "u1",
                "labels": {"b": "2", "a": "1"}, "annotations": {"note": "say \"hi\"\n"},
            },
            "spec": {"nodeName": "n1", "serviceAccountName": "sa", "containers": [
                {"name": "app", "resources": {"limits": {"cpu": "1500m", "memory": "64Mi"}, "requests": {"cpu": "100m"}}},
                {"name": "bare"},
            ]},
        }))
        .unwrap()
    }

    #[test]
    fn fields() {
        let ips = ["10.244.0.7".parse().unwrap(), "fd00::7".parse().unwrap()];
        let allocatable = ResourceList::new();
        let node = ["172.30.0.2".parse().unwrap(), "fc00::2".parse().unwrap()];
        let around = Surroundings {
            pod_ips: &ips,
            node_ips: &node,
            allocatable: &allocatable,
        };
        for (path, want) in [
            ("metadata.name", "web"),
            ("metadata.namespace", "shop"),
            ("metadata.uid", "u1"),
            ("metadata.labels", "a=\"1\"\nb=\"2\""),
            ("metadata.labels['a']", "1"),
            ("metadata.labels['none']", ""),
            ("metadata.annotations", "note=\"say \\\"hi\\\"\\n\""),
            ("metadata.annotations['note']", "say \"hi\"\n"),
            ("spec.nodeName", "n1"),
            ("spec.serviceAccountName", "sa"),
            ("status.hostIP", "172.30.0.2"),
            ("status.hostIPs", "172.30.0.2,fc00::2"),
            ("status.podIP", "10.244.0.7"),
            ("status.podIPs", "10.244.0.7,fd00::7"),
        ] {
            assert_eq!(field(&pod(), path, &around).as_deref(), Ok(want), "{path}");
        }
        assert!(field(&pod(), "spec.containers", &around).is_err());
    }

    #[test]
    fn resources() {
        let allocatable: ResourceList = [
            ("cpu".into(), Quantity("4".into())),
            ("memory".into(), Quantity("1Gi".into())),
        ]
        .into();
        let around = Surroundings {
            pod_ips: &[],
            node_ips: &["172.30.0.2".parse().unwrap()],
            allocatable: &allocatable,
        };
        let pod = pod();
        for (own, selector, want) in [
            ("app", json!({"resource": "limits.cpu"}), Ok("2")),
            (
                "app",
                json!({"resource": "limits.cpu", "divisor": "1m"}),
                Ok("1500"),
            ),
            (
                "app",
                json!({"resource": "limits.memory", "divisor": "1Mi"}),
                Ok("64"),
            ),
            (
                "app",
                json!({"resource": "requests.cpu", "divisor": "1m"}),
                Ok("100"),
            ),
            ("app", json!({"resource": "requests.memory"}), Ok("0")),
            ("bare", json!({"resource": "limits.cpu"}), Ok("4")),
            (
                "bare",
                json!({"resource": "limits.cpu", "containerName": "app"}),
                Ok("2"),
            ),
            (
                "bare",
                json!({"resource": "limits.gpu"}),
                Err(DownwardError::Resource("limits.gpu".into())),
            ),
            (
                "bare",
                json!({"resource": "limits.cpu", "containerName": "no"}),
                Err(DownwardError::Container("no".into())),
            ),
        ] {
            let own = spec::container(&pod, own);
            let parsed: ResourceFieldSelector =
                serde_json::from_value(Value::clone(&selector)).unwrap();
            let got = resource(&pod, own, &parsed, &around);
            assert_eq!(got, want.map(str::to_owned), "{selector}");
        }
    }
}
