//! What a pod names, so that its node must be able to read it.

use serde_json::Value;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Secret,
    ConfigMap,
    ServiceAccount,
    Claim,
}

pub(super) fn is_bound_to(pod: &Value, node: &str) -> bool {
    pod["spec"]["nodeName"] == node
}

/// Whether the pod refers to the object of its own namespace.
pub(super) fn refers_to(pod: &Value, kind: Kind, name: &str) -> bool {
    let spec = &pod["spec"];
    match kind {
        Kind::Claim => items(&spec["volumes"]).any(|volume| {
            // One that is made for the pod is named after both.
            let made = || match (pod["metadata"]["name"].as_str(), volume["name"].as_str()) {
                (Some(pod), Some(volume)) => name == format!("{pod}-{volume}"),
                _ => false,
            };
            volume["persistentVolumeClaim"]["claimName"] == name
                || (!volume["ephemeral"].is_null() && made())
        }),
        Kind::ServiceAccount => spec["serviceAccountName"] == name,
        Kind::Secret => {
            items(&spec["imagePullSecrets"]).any(|secret| secret["name"] == name)
                || in_volumes(spec, "secret", "secretName", name)
                || in_containers(spec, "secretKeyRef", "secretRef", name)
        }
        Kind::ConfigMap => {
            in_volumes(spec, "configMap", "name", name)
                || in_containers(spec, "configMapKeyRef", "configMapRef", name)
        }
    }
}

/// Whether the volume is a directory of this node's, made for a claim by the provisioner of such.
pub(crate) fn is_made_on(volume: &Value, node: &str) -> bool {
    let annotations = &volume["metadata"]["annotations"];
    annotations["pv.kubernetes.io/provisioned-by"] == "kubernetes.io/host-path"
        && annotations["vetch.dev/node"] == node
        && !volume["spec"]["hostPath"].is_null()
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

/// A projected source is called like the volume source, but names its object `name` in both cases.
fn in_volumes(spec: &Value, source: &str, field: &str, name: &str) -> bool {
    items(&spec["volumes"]).any(|volume| {
        volume[source][field] == name
            || items(&volume["projected"]["sources"]).any(|part| part[source]["name"] == name)
    })
}

fn in_containers(spec: &Value, key: &str, whole: &str, name: &str) -> bool {
    ["initContainers", "containers", "ephemeralContainers"]
        .iter()
        .flat_map(|containers| items(&spec[*containers]))
        .any(|container| {
            items(&container["env"]).any(|env| env["valueFrom"][key]["name"] == name)
                || items(&container["envFrom"]).any(|from| from[whole]["name"] == name)
        })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_place_that_names_an_object_counts() {
        let container = |inner: Value| json!({"containers": [inner]});
        let table = [
            (json!({"imagePullSecrets": [{"name": "x"}]}), Kind::Secret),
            (
                json!({"volumes": [{"name": "v", "secret": {"secretName": "x"}}]}),
                Kind::Secret,
            ),
            (
                json!({"volumes": [{"name": "v", "projected": {"sources": [{"secret": {"name": "x"}}]}}]}),
                Kind::Secret,
            ),
            (
                container(
                    json!({"env": [{"name": "E", "valueFrom": {"secretKeyRef": {"name": "x", "key": "k"}}}]}),
                ),
                Kind::Secret,
            ),
            (
                container(json!({"envFrom": [{"secretRef": {"name": "x"}}]})),
                Kind::Secret,
            ),
            (
                json!({"initContainers": [{"envFrom": [{"secretRef": {"name": "x"}}]}]}),
                Kind::Secret,
            ),
            (
                json!({"volumes": [{"name": "v", "configMap": {"name": "x"}}]}),
                Kind::ConfigMap,
            ),
            (
                json!({"volumes": [{"name": "v", "projected": {"sources": [{"configMap": {"name": "x"}}]}}]}),
                Kind::ConfigMap,
            ),
            (
                container(
                    json!({"env": [{"name": "E", "valueFrom": {"configMapKeyRef": {"name": "x", "key": "k"}}}]}),
                ),
                Kind::ConfigMap,
            ),
            (
                json!({"ephemeralContainers": [{"envFrom": [{"configMapRef": {"name": "x"}}]}]}),
                Kind::ConfigMap,
            ),
            (json!({"serviceAccountName": "x"}), Kind::ServiceAccount),
            (
                json!({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "x"}}]}),
                Kind::Claim,
            ),
        ];
        for (spec, kind) in table {
            let pod = json!({"spec": spec});
            for asked in [
                Kind::Secret,
                Kind::ConfigMap,
                Kind::ServiceAccount,
                Kind::Claim,
            ] {
                assert_eq!(
                    refers_to(&pod, asked, "x"),
                    asked == kind,
                    "{asked:?} {pod}"
                );
                assert!(!refers_to(&pod, asked, "y"), "{asked:?} {pod}");
            }
        }
        let made = |source: &str| json!({"metadata": {"name": "p"}, "spec": {"volumes": [{"name": "x", source: {}}]}});
        assert!(refers_to(&made("ephemeral"), Kind::Claim, "p-x"));
        assert!(!refers_to(&made("ephemeral"), Kind::Claim, "x"));
        assert!(!refers_to(&made("emptyDir"), Kind::Claim, "p-x"));
        // A volume's own name is nobody else's.
        let pod = json!({"spec": {"volumes": [{"name": "x", "secret": {"secretName": "s"}}]}});
        assert!(!refers_to(&pod, Kind::Secret, "x"));
    }
}
