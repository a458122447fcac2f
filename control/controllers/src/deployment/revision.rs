//! Revisions: which ReplicaSet is the deployment's template, and what its annotations remember for
//! `kubectl rollout history` and `undo`.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use sha2::{Digest as _, Sha256};

use crate::key::{name_of, uid_of};
use crate::ownership::controller_reference;

pub const REVISION: &str = "deployment.kubernetes.io/revision";
pub const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
pub const DESIRED_REPLICAS: &str = "deployment.kubernetes.io/desired-replicas";
pub const MAX_REPLICAS: &str = "deployment.kubernetes.io/max-replicas";
pub const TEMPLATE_HASH: &str = "pod-template-hash";

/// Annotations of a deployment that say nothing about a revision of it.
const OWN: &[&str] = &[
    "kubectl.kubernetes.io/last-applied-configuration",
    "deprecated.deployment.rollback.to",
    REVISION,
    REVISION_HISTORY,
    DESIRED_REPLICAS,
    MAX_REPLICAS,
];

/// The annotation stops growing here.
const MAX_HISTORY: usize = 2000;

/// Consonants and digits that spell no words, as in all generated names.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

pub fn template_of(set: &ReplicaSet) -> PodTemplateSpec {
    set.spec
        .as_ref()
        .and_then(|spec| spec.template.clone())
        .unwrap_or_default()
}

/// Same template but for the label that tells the sets apart.
pub fn same_template(deployment: &Deployment, set: &ReplicaSet) -> bool {
    let bare = |mut template: PodTemplateSpec| {
        let meta = template.metadata.get_or_insert_default();
        if let Some(labels) = &mut meta.labels {
            labels.remove(TEMPLATE_HASH);
        }
        meta.labels = meta.labels.take().filter(|labels| !labels.is_empty());
        meta.creation_timestamp = None;
        template
    };
    let wanted = deployment
        .spec
        .as_ref()
        .map(|spec| spec.template.clone())
        .unwrap_or_default();
    bare(wanted) == bare(template_of(set))
}

/// Stable for one template; `collisions` makes another one of it.
pub fn template_hash(template: &PodTemplateSpec, collisions: i32) -> String {
    let mut hasher = Sha256::new();
    // Maps of this crate are sorted, so equal templates have equal text.
    hasher.update(serde_json::to_vec(template).unwrap_or_default());
    if collisions > 0 {
        hasher.update(collisions.to_be_bytes());
    }
    let digest = hasher.finalize();
    digest
        .iter()
        .take(10)
        .map(|byte| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()]))
        .collect()
}

pub fn revision(annotations: Option<&BTreeMap<String, String>>) -> i64 {
    annotations
        .and_then(|all| all.get(REVISION))
        .and_then(|text| text.parse().ok())
        .unwrap_or(0)
}

/// The deployment's own annotations, and the revision; what it was before goes to the history.
pub fn annotate(set: &mut ReplicaSet, deployment: &Deployment, wanted: i64) {
    let annotations = set.metadata.annotations.get_or_insert_default();
    for (key, value) in deployment.metadata.annotations.iter().flatten() {
        if !OWN.contains(&key.as_str()) {
            annotations.insert(key.clone(), value.clone());
        }
    }
    let before = annotations.get(REVISION).cloned().unwrap_or_default();
    if before.parse().unwrap_or(0) >= wanted {
        return;
    }
    annotations.insert(REVISION.into(), wanted.to_string());
    if before.is_empty() {
        return;
    }
    let history = annotations.entry(REVISION_HISTORY.into()).or_default();
    if history.is_empty() {
        *history = before;
    } else if history.len() + before.len() < MAX_HISTORY {
        history.push(',');
        history.push_str(&before);
    }
}

/// The ReplicaSet of the deployment's present template, without replicas yet.
pub fn new_replica_set(deployment: &Deployment, revision: i64) -> ReplicaSet {
    let spec = deployment.spec.clone().unwrap_or_default();
    let collisions = deployment
        .status
        .as_ref()
        .and_then(|status| status.collision_count)
        .unwrap_or(0);
    let hash = template_hash(&spec.template, collisions);
    let mut template = spec.template;
    let labels = template
        .metadata
        .get_or_insert_default()
        .labels
        .get_or_insert_default();
    labels.insert(TEMPLATE_HASH.into(), hash.clone());
    let labels = labels.clone();
    let mut selector = spec.selector;
    selector
        .match_labels
        .get_or_insert_default()
        .insert(TEMPLATE_HASH.into(), hash.clone());
    let mut set = ReplicaSet {
        metadata: ObjectMeta {
            name: Some(format!("{}-{hash}", name_of(deployment))),
            namespace: deployment.metadata.namespace.clone(),
            labels: Some(labels),
            owner_references: Some(vec![controller_reference(deployment)]),
            ..ObjectMeta::default()
        },
        spec: Some(ReplicaSetSpec {
            replicas: Some(0),
            min_ready_seconds: spec.min_ready_seconds,
            selector,
            template: Some(template),
        }),
        status: None,
    };
    annotate(&mut set, deployment, revision);
    set
}

/// Is the set that has the new one's name really it, made by a decision the cache did not show yet?
pub fn is_made_by(deployment: &Deployment, set: &ReplicaSet) -> bool {
    let owners = set.metadata.owner_references.as_deref().unwrap_or_default();
    let mut controllers = owners.iter().filter(|owner| owner.controller == Some(true));
    controllers.any(|owner| owner.uid == uid_of(deployment)) && same_template(deployment, set)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn deployment(image: &str) -> Deployment {
        serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "default", "uid": "d", "annotations": {
                "kubernetes.io/change-cause": "because", REVISION: "7",
                "kubectl.kubernetes.io/last-applied-configuration": "{}",
            }},
            "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": {
                "metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "a", "image": image}]}}},
        }))
        .expect("a deployment")
    }

    #[test]
    fn the_new_set_is_recognised_by_its_template() {
        let set = new_replica_set(&deployment("one"), 3);
        assert!(same_template(&deployment("one"), &set));
        assert!(!same_template(&deployment("two"), &set));
        let hash = &set.metadata.labels.as_ref().expect("labels")[TEMPLATE_HASH];
        assert_eq!(set.metadata.name, Some(format!("web-{hash}")));
        assert!(hash.bytes().all(|byte| ALPHABET.contains(&byte)), "{hash}");
        let selector = set
            .spec
            .expect("a spec")
            .selector
            .match_labels
            .expect("labels");
        assert_eq!(&selector[TEMPLATE_HASH], hash);
        assert_eq!(selector["app"], "web");
    }

    #[test]
    fn a_collision_changes_the_hash() {
        let template = deployment("one").spec.expect("a spec").template;
        assert_eq!(template_hash(&template, 0), template_hash(&template, 0));
        assert_ne!(template_hash(&template, 0), template_hash(&template, 1));
    }

    #[test]
    fn annotations_remember_revisions() {
        let mut set = new_replica_set(&deployment("one"), 1);
        let annotation = |set: &ReplicaSet, key: &str| {
            set.metadata
                .annotations
                .as_ref()
                .and_then(|all| all.get(key).cloned())
        };
        assert_eq!(
            annotation(&set, "kubernetes.io/change-cause").as_deref(),
            Some("because")
        );
        assert_eq!(
            annotation(&set, "kubectl.kubernetes.io/last-applied-configuration"),
            None
        );
        assert_eq!(annotation(&set, REVISION).as_deref(), Some("1"));
        annotate(&mut set, &deployment("one"), 3);
        annotate(&mut set, &deployment("one"), 5);
        annotate(&mut set, &deployment("one"), 4);
        assert_eq!(annotation(&set, REVISION).as_deref(), Some("5"));
        assert_eq!(annotation(&set, REVISION_HISTORY).as_deref(), Some("1,3"));
    }
}
