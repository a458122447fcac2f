//! The pods that are started.

use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

/// For images that do not mind SIGTERM: pods of theirs are gone after so many seconds.
const GRACE_SECONDS: u64 = 5;

/// One container of `image`; on the node of this name, or where the scheduler puts it.
pub fn pod(name: &str, image: &str, node: Option<&str>) -> Pod {
    let mut object = json!({
        "metadata": {"name": name},
        "spec": {
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "terminationGracePeriodSeconds": GRACE_SECONDS,
            "containers": [{
                "name": "main",
                "image": image,
                "imagePullPolicy": "IfNotPresent",
                // The echo image goes on serving for this long after SIGTERM.
                "env": [{"name": "DRAIN_SECONDS", "value": "0"}],
            }],
        },
    });
    if let Some(node) = node {
        object["spec"]["nodeSelector"] = json!({"kubernetes.io/hostname": node});
    }
    serde_json::from_value(object).expect("the object above is a pod")
}
