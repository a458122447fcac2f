//! What the API server would refuse, as far as a node depends on it: it runs what a file says before
//! any server saw it. The rest is told when the mirror is refused.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, Pod};

use crate::pods::spec;

/// RFC 1123: https://kubernetes.io/docs/concepts/overview/working-with-objects/names/.
const LABEL: usize = 63;
const SUBDOMAIN: usize = 253;

/// `path: what is wrong`; empty for a pod that can run.
pub fn problems(pod: &Pod) -> Vec<String> {
    let mut found = Vec::new();
    let mut check = |is_fine: bool, words: String| {
        if !is_fine {
            found.push(words);
        }
    };
    let own = spec::spec(pod);
    let (name, namespace) = (spec::name(pod), spec::namespace(pod));
    check(
        is_subdomain(name),
        format!("metadata.name: Invalid value: {name:?}: a lowercase RFC 1123 subdomain is needed"),
    );
    check(
        is_label(namespace),
        format!(
            "metadata.namespace: Invalid value: {namespace:?}: a lowercase RFC 1123 label is needed"
        ),
    );
    let uid = spec::uid(pod);
    check(
        // It names directories and cgroups here.
        !uid.is_empty()
            && uid.len() <= LABEL
            && uid.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'),
        format!("metadata.uid: Invalid value: {uid:?}: letters, digits and '-' are needed"),
    );
    let policy = spec::restart_policy(pod);
    check(
        matches!(policy, "Always" | "OnFailure" | "Never"),
        format!("spec.restartPolicy: Unsupported value: {policy:?}"),
    );
    check(
        !own.containers.is_empty(),
        "spec.containers: Required value".to_owned(),
    );
    check(
        own.ephemeral_containers.iter().flatten().count() == 0,
        "spec.ephemeralContainers: Forbidden: they are added to pods that run".to_owned(),
    );
    let mut volumes = BTreeSet::new();
    for volume in own.volumes.iter().flatten() {
        let name = volume.name.as_str();
        check(
            is_label(name),
            format!("spec.volumes: Invalid value: {name:?}"),
        );
        check(
            volumes.insert(name),
            format!("spec.volumes: Duplicate value: {name:?}"),
        );
    }
    let mut names = BTreeSet::new();
    for container in spec::all_containers(pod) {
        let name = container.name.as_str();
        check(
            is_label(name),
            format!("spec.containers: Invalid value: {name:?}"),
        );
        check(
            names.insert(name),
            format!("spec.containers: Duplicate value: {name:?}"),
        );
        check(
            container
                .image
                .as_deref()
                .is_some_and(|image| !image.trim().is_empty()),
            format!("spec.containers[{name}].image: Required value"),
        );
        for mount in missing_volumes(container, &volumes) {
            check(
                false,
                format!("spec.containers[{name}].volumeMounts: Not found: {mount:?}"),
            );
        }
    }
    found
}

fn missing_volumes<'a>(
    container: &'a Container,
    volumes: &BTreeSet<&str>,
) -> impl Iterator<Item = &'a str> {
    let mounts = container.volume_mounts.iter().flatten();
    mounts
        .map(|mount| mount.name.as_str())
        .filter(|name| !volumes.contains(name))
}

fn is_label(text: &str) -> bool {
    text.len() <= LABEL && is_part(text)
}

/// Its parts may be longer than labels.
fn is_subdomain(text: &str) -> bool {
    text.len() <= SUBDOMAIN && text.split('.').all(is_part)
}

fn is_part(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let ends = text.starts_with('-') || text.ends_with('-');
    !text.is_empty() && !ends && text.chars().all(inner)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn check(name: &str, spec: Value) -> Vec<String> {
        let pod = json!({"metadata": {"name": name, "uid": "u1"}, "spec": spec});
        problems(&serde_json::from_value(pod).unwrap())
    }

    #[test]
    fn what_a_node_cannot_run() {
        let container = json!({"name": "c", "image": "i"});
        let with = |fields: Value| {
            let mut spec = json!({"containers": [container]});
            spec.as_object_mut()
                .unwrap()
                .extend(fields.as_object().unwrap().clone());
            spec
        };
        for (name, spec, want) in [
            ("web.a", with(json!({})), None),
            ("Web", with(json!({})), Some("metadata.name: Invalid value")),
            (
                "../x",
                with(json!({})),
                Some("metadata.name: Invalid value"),
            ),
            (
                "a",
                json!({"containers": []}),
                Some("spec.containers: Required value"),
            ),
            (
                "a",
                json!({"containers": [container, container]}),
                Some("spec.containers: Duplicate value: \"c\""),
            ),
            (
                "a",
                json!({"containers": [{"name": "../c", "image": "i"}]}),
                Some("spec.containers: Invalid value: \"../c\""),
            ),
            (
                "a",
                json!({"containers": [{"name": "c"}]}),
                Some("spec.containers[c].image: Required value"),
            ),
            (
                "a",
                json!({"containers": [{"name": "c", "image": "i", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}]}),
                Some("spec.containers[c].volumeMounts: Not found: \"v\""),
            ),
            (
                "a",
                with(json!({"volumes": [{"name": "../v"}]})),
                Some("spec.volumes: Invalid value"),
            ),
            (
                "a",
                with(json!({"restartPolicy": "Sometimes"})),
                Some("spec.restartPolicy: Unsupported"),
            ),
            (
                "a",
                with(json!({"ephemeralContainers": [{"name": "e", "image": "i"}]})),
                Some("spec.ephemeralContainers: Forbidden"),
            ),
        ] {
            let got = check(name, spec.clone());
            match want {
                None => assert_eq!(got, [""; 0], "{spec}"),
                Some(words) => assert!(
                    got.len() == 1 && got[0].starts_with(words),
                    "{got:?}, not {words}"
                ),
            }
        }
    }
}
