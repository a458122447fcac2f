//! Volumes that are made for claims: directories of nodes, as with kube-controller-manager's
//! `--enable-hostpath-provisioner`, but each on one node, as its node affinity says.
//!
//! The directory is made by the node when the first pod comes, and removed by it when the volume is deleted:
//! until then the node holds the volume by a finalizer.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    Node, PersistentVolume as Volume, PersistentVolumeClaim as Claim,
};
use k8s_openapi::api::storage::v1::StorageClass;
use serde_json::json;
use vetch_volumes::annotations::{BOUND_BY_CONTROLLER, NODE, PROVISIONED_BY};
use vetch_volumes::class::HOST_PATH;
use vetch_volumes::{claim, in_topologies, volume};

use crate::key::{name_of, namespace_of, uid_of};
use crate::node::{self, Ready};

const HOSTNAME: &str = "kubernetes.io/hostname";

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    #[error("no volume plugin matched name: {0}")]
    NoPlugin(String),
    #[error(
        "Mount options are not supported by the provisioner but StorageClass {0:?} has mount options {1:?}"
    )]
    MountOptions(String, Vec<String>),
    #[error("{HOST_PATH} does not support block volume provisioning")]
    Block,
    #[error("claim.Spec.Selector is not supported for dynamic provisioning on {HOST_PATH}")]
    Selector,
    #[error("{HOST_PATH} does not make volumes from a data source")]
    DataSource,
    #[error("{HOST_PATH} has no parameters, but StorageClass {0:?} has {1:?}")]
    Parameters(String, Vec<String>),
    /// The scheduler has to choose again.
    #[error("failed to get target node: node {0:?} not found")]
    NodeGone(String),
    #[error("node {0:?} has no label {HOSTNAME}, by which its volumes are found")]
    NoHostname(String),
    #[error("no ready node is of the class's allowedTopologies")]
    NoNode,
}

/// Where the volume of a claim is to be: where its pod goes, or, where no pod is waited for, on the ready node
/// with the fewest of such volumes.
pub fn place<'a>(
    claim: &Claim,
    class: &StorageClass,
    nodes: &'a [Arc<Node>],
    volumes: &[Arc<Volume>],
) -> Result<&'a Node, Failure> {
    if let Some(name) = claim::selected_node(claim) {
        let found = nodes.iter().find(|node| name_of(node.as_ref()) == name);
        let found = found.ok_or_else(|| Failure::NodeGone(name.to_owned()))?;
        return Ok(found.as_ref());
    }
    let topologies = class.allowed_topologies.as_deref().unwrap_or_default();
    let none = BTreeMap::new();
    let allowed = nodes.iter().filter(|own| {
        let cordoned = own.spec.as_ref().and_then(|spec| spec.unschedulable);
        node::ready(own) == Ready::True
            && cordoned != Some(true)
            && in_topologies(topologies, own.metadata.labels.as_ref().unwrap_or(&none))
    });
    let load = |node: &Node| {
        let here = |own: &&Arc<Volume>| volume::annotation(own, NODE) == Some(name_of(node));
        volumes.iter().filter(here).count()
    };
    let best = allowed.min_by_key(|node| (load(node), name_of(node.as_ref()).to_owned()));
    best.map(AsRef::as_ref).ok_or(Failure::NoNode)
}

/// Whether this is a claim and a class that the provisioner serves.
pub fn check(claim: &Claim, class: &StorageClass) -> Result<(), Failure> {
    if class.provisioner != HOST_PATH {
        return Err(Failure::NoPlugin(class.provisioner.clone()));
    }
    let name = || name_of(class).to_owned();
    let options = class.mount_options.clone().unwrap_or_default();
    if !options.is_empty() {
        return Err(Failure::MountOptions(name(), options));
    }
    let parameters = class.parameters.iter().flatten();
    let parameters: Vec<String> = parameters.map(|(key, _)| key.clone()).collect();
    if !parameters.is_empty() {
        return Err(Failure::Parameters(name(), parameters));
    }
    let spec = claim::spec(claim);
    if claim::mode(claim) == "Block" {
        return Err(Failure::Block);
    }
    if spec.is_some_and(|spec| spec.selector.is_some()) {
        return Err(Failure::Selector);
    }
    match spec.is_some_and(|spec| spec.data_source_ref.is_some() || spec.data_source.is_some()) {
        true => Err(Failure::DataSource),
        false => Ok(()),
    }
}

/// The name a claim's volume gets: never used again.
pub fn volume_name(claim: &Claim) -> String {
    format!("pvc-{}", uid_of(claim))
}

/// The volume, kept for the claim.
pub fn volume(
    claim: &Claim,
    class: &StorageClass,
    node: &Node,
    directory: &Path,
) -> Result<Volume, Failure> {
    let labels = node.metadata.labels.as_ref();
    let hostname = labels.and_then(|labels| labels.get(HOSTNAME));
    let hostname = hostname.ok_or_else(|| Failure::NoHostname(name_of(node).to_owned()))?;
    let name = volume_name(claim);
    let requests = claim::spec(claim).and_then(|spec| spec.resources.as_ref()?.requests.as_ref());
    let object = json!({
        "metadata": {
            "name": name,
            "annotations": {
                PROVISIONED_BY: HOST_PATH,
                BOUND_BY_CONTROLLER: "yes",
                NODE: name_of(node),
            },
        },
        "spec": {
            "accessModes": claim::access_modes(claim),
            "capacity": {"storage": requests.and_then(|own| own.get("storage"))},
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "namespace": namespace_of(claim),
                "name": name_of(claim),
                "uid": uid_of(claim),
            },
            "hostPath": {"path": directory.join(&name), "type": "DirectoryOrCreate"},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                {"key": HOSTNAME, "operator": "In", "values": [hostname]},
            ]}]}},
            "persistentVolumeReclaimPolicy": class.reclaim_policy.as_deref().unwrap_or("Delete"),
            "storageClassName": name_of(class),
            "volumeMode": claim::mode(claim),
        },
    });
    // Made of strings and of what was parsed before.
    Ok(serde_json::from_value(object).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn node(name: &str, extra: Value) -> Arc<Node> {
        let mut node = json!({
            "metadata": {"name": name, "labels": {HOSTNAME: name, "zone": "z1"}},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        });
        for (key, value) in extra.as_object().into_iter().flatten() {
            node[key] = value.clone();
        }
        Arc::new(serde_json::from_value(node).expect("a node"))
    }

    fn class(extra: Value) -> StorageClass {
        let mut class = json!({"metadata": {"name": "standard"}, "provisioner": HOST_PATH});
        for (key, value) in extra.as_object().into_iter().flatten() {
            class[key] = value.clone();
        }
        serde_json::from_value(class).expect("a class")
    }

    fn claim(annotations: Value, extra: Value) -> Claim {
        let mut spec = json!({
            "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}},
        });
        for (key, value) in extra.as_object().into_iter().flatten() {
            spec[key] = value.clone();
        }
        let claim = json!({
            "metadata": {"name": "data", "namespace": "shop", "uid": "u-1", "annotations": annotations},
            "spec": spec,
        });
        serde_json::from_value(claim).expect("a claim")
    }

    #[test]
    fn what_the_provisioner_does_not_serve_it_says() {
        for (class_extra, claim_extra, wanted) in [
            (json!({}), json!({}), None),
            (
                json!({"provisioner": "kubernetes.io/no-provisioner"}),
                json!({}),
                Some("no volume plugin matched name: kubernetes.io/no-provisioner"),
            ),
            (
                json!({"mountOptions": ["ro"]}),
                json!({}),
                Some(
                    "Mount options are not supported by the provisioner but StorageClass \"standard\" has mount options [\"ro\"]",
                ),
            ),
            (
                json!({"parameters": {"path": "/etc"}}),
                json!({}),
                Some(
                    "kubernetes.io/host-path has no parameters, but StorageClass \"standard\" has [\"path\"]",
                ),
            ),
            (
                json!({}),
                json!({"volumeMode": "Block"}),
                Some("kubernetes.io/host-path does not support block volume provisioning"),
            ),
            (
                json!({}),
                json!({"selector": {}}),
                Some(
                    "claim.Spec.Selector is not supported for dynamic provisioning on kubernetes.io/host-path",
                ),
            ),
            (
                json!({}),
                json!({"dataSource": {"kind": "PersistentVolumeClaim", "name": "x"}}),
                Some("kubernetes.io/host-path does not make volumes from a data source"),
            ),
        ] {
            let checked = check(&claim(Value::Null, claim_extra), &class(class_extra));
            let words = checked.err().map(|failure| failure.to_string());
            assert_eq!(words.as_deref(), wanted);
        }
    }

    #[test]
    fn a_volume_is_made_where_its_pod_goes_or_where_the_fewest_are() {
        let nodes = [
            node("a", json!({"spec": {"unschedulable": true}})),
            node("b", json!({})),
            node("c", json!({})),
            node("d", json!({"status": {}})),
        ];
        let on = |node: &str| {
            let made: Volume =
                serde_json::from_value(json!({"metadata": {"annotations": {NODE: node}}}))
                    .expect("a volume");
            Arc::new(made)
        };
        let selected = |name: &str| {
            claim(
                json!({"volume.kubernetes.io/selected-node": name}),
                json!({}),
            )
        };
        let anywhere = claim(Value::Null, json!({}));
        let zone = json!({"allowedTopologies": [{"matchLabelExpressions": [{"key": "zone", "values": ["z9"]}]}]});
        for (claim, class, volumes, wanted) in [
            (selected("d"), class(json!({})), vec![], Ok("d")),
            (
                selected("e"),
                class(json!({})),
                vec![],
                Err(Failure::NodeGone("e".into())),
            ),
            (anywhere.clone(), class(json!({})), vec![], Ok("b")),
            (anywhere.clone(), class(json!({})), vec![on("b")], Ok("c")),
            (
                anywhere.clone(),
                class(json!({})),
                vec![on("b"), on("c")],
                Ok("b"),
            ),
            (anywhere, class(zone), vec![], Err(Failure::NoNode)),
        ] {
            let placed =
                place(&claim, &class, &nodes, &volumes).map(|node| name_of(node).to_owned());
            assert_eq!(placed, wanted.map(str::to_owned));
        }
    }

    #[test]
    fn a_volume_of_a_node() {
        let claim = claim(Value::Null, json!({}));
        let node = node("b", json!({}));
        let made = volume(&claim, &class(json!({})), &node, Path::new("/srv")).expect("a volume");
        assert!(vetch_volumes::volume::is_for(&made, &claim));
        assert!(vetch_volumes::reaches(
            &made,
            node.metadata.labels.as_ref().expect("labels")
        ));
        let spec = made.spec.expect("a spec");
        let host = spec.host_path.expect("a path");
        assert_eq!(
            (host.path.as_str(), host.type_.as_deref()),
            ("/srv/pvc-u-1", Some("DirectoryOrCreate"))
        );
        assert_eq!(
            spec.persistent_volume_reclaim_policy.as_deref(),
            Some("Delete")
        );
        assert_eq!(spec.storage_class_name.as_deref(), Some("standard"));
        let nameless = super::tests::node("n", json!({"metadata": {"name": "n"}}));
        let failed = volume(&claim, &class(json!({})), &nameless, Path::new("/srv"));
        assert_eq!(failed, Err(Failure::NoHostname("n".into())));
    }
}
