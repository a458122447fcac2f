//! What events say of a resize: a few words and the resources, as the kubelet's do.

use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use serde::Serialize;

use crate::pods::spec;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    init_containers: Vec<Own<'a>>,
    containers: Vec<Own<'a>>,
    generation: i64,
    #[serde(skip_serializing_if = "str::is_empty")]
    error: &'a str,
}

#[derive(Serialize)]
struct Own<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    resources: Option<&'a ResourceRequirements>,
}

fn own(container: &Container) -> Own<'_> {
    Own {
        name: &container.name,
        resources: container.resources.as_ref(),
    }
}

/// `Pod resize started: {"containers":[…],"generation":2}`
pub fn message(what: &str, pod: &Pod, error: &str) -> String {
    let summary = Summary {
        init_containers: spec::init_containers(pod).iter().map(own).collect(),
        containers: spec::containers(pod).iter().map(own).collect(),
        generation: pod.metadata.generation.unwrap_or(0),
        error,
    };
    // Names and quantities always have a JSON form.
    let text = serde_json::to_string(&summary).unwrap_or_default();
    format!("Pod resize {what}: {text}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::pods::testing::pod;

    #[test]
    fn they_read_as_the_kubelets() {
        let size = json!({"requests": {"cpu": "100m"}, "limits": {"cpu": "200m"}});
        let one = pod(json!({"containers": [{"name": "c", "resources": size}]}));
        let summary =
            r#"{"name":"c","resources":{"limits":{"cpu":"200m"},"requests":{"cpu":"100m"}}}"#;
        assert_eq!(
            message("started", &one, ""),
            format!("Pod resize started: {{\"containers\":[{summary}],\"generation\":1}}")
        );
        let two = pod(
            json!({"initContainers": [{"name": "i"}], "containers": [{"name": "c", "resources": size}]}),
        );
        assert_eq!(
            message("error", &two, "words"),
            format!(
                "Pod resize error: {{\"initContainers\":[{{\"name\":\"i\"}}],\"containers\":[{summary}],\"generation\":1,\"error\":\"words\"}}"
            )
        );
    }
}
