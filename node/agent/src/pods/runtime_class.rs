//! RuntimeClasses name a runtime handler of the node. This one has a single runtime, by two names.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::node::v1::RuntimeClass;
use kube::{Api, Client};

use super::spec;
use super::text::{api_words, go_quote};
use crate::node::limited;

/// The first is that of pods without a class.
pub const HANDLERS: [&str; 2] = ["", "vetch"];

/// Whether the pod's class can be had here; the kubelet's words where it cannot.
pub async fn check(client: &Client, pod: &Pod) -> Result<(), String> {
    let name = spec::spec(pod).runtime_class_name.as_deref();
    let Some(name) = name.filter(|name| !name.is_empty()) else {
        return Ok(());
    };
    let classes: Api<RuntimeClass> = Api::all(client.clone());
    let class = limited(classes.get(name))
        .await
        .map_err(|error| match &error {
            kube::Error::Api(status) if status.code == 404 => api_words(&error),
            _ => format!(
                "failed to lookup RuntimeClass {name}: {}",
                api_words(&error)
            ),
        })?;
    supported(&class.handler)
}

fn supported(handler: &str) -> Result<(), String> {
    match HANDLERS.contains(&handler) {
        true => Ok(()),
        false => Err(format!(
            "no runtime for {} is configured",
            go_quote(handler)
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::api;

    #[tokio::test]
    async fn which_classes_a_pod_may_have() {
        let client = api(|request, _| match request.uri.path().rsplit('/').next() {
            Some("own") => (
                200,
                json!({"metadata": {"name": "own"}, "handler": "vetch"}),
            ),
            Some("other") => (
                200,
                json!({"metadata": {"name": "other"}, "handler": "runsc"}),
            ),
            _ => (
                404,
                json!({"kind": "Status", "status": "Failure", "code": 404, "reason": "NotFound",
                    "message": "runtimeclasses.node.k8s.io \"none\" not found"}),
            ),
        });
        for (class, want) in [
            (json!(null), Ok(())),
            (json!(""), Ok(())),
            (json!("own"), Ok(())),
            (
                json!("other"),
                Err("no runtime for \"runsc\" is configured"),
            ),
            (
                json!("none"),
                Err("runtimeclasses.node.k8s.io \"none\" not found"),
            ),
        ] {
            let spec = json!({"containers": [], "runtimeClassName": class});
            let pod = crate::pods::testing::pod(spec);
            let got = check(&client, &pod).await;
            match want {
                Ok(()) => assert_eq!(got, Ok(()), "{class}"),
                Err(words) => assert!(got.clone().is_err_and(|got| got.contains(words)), "{got:?}"),
            }
        }
    }
}
