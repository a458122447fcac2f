//! What a class says of its volumes.

use k8s_openapi::api::storage::v1::StorageClass;

/// Makes directories of nodes; kube-controller-manager's name for it.
pub const HOST_PATH: &str = "kubernetes.io/host-path";
/// Makes nothing: volumes are there or they are not.
pub const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";

const IS_DEFAULT: [&str; 2] = [
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
];

/// Its claims wait for a pod, whose node decides.
pub fn is_delayed(class: &StorageClass) -> bool {
    class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer")
}

/// Of the classes that say they are the default, the newest; among equals the first by name.
pub fn default_of<'a>(classes: impl IntoIterator<Item = &'a StorageClass>) -> Option<&'a str> {
    let says_so = |class: &&StorageClass| {
        let annotations = class.metadata.annotations.as_ref();
        IS_DEFAULT.iter().any(|key| {
            annotations
                .and_then(|own| own.get(*key))
                .is_some_and(|value| value == "true")
        })
    };
    let made = |class: &StorageClass| class.metadata.creation_timestamp.as_ref().map(|at| at.0);
    let newest = classes.into_iter().filter(says_so).min_by(|one, other| {
        let by_age = made(other).cmp(&made(one));
        by_age.then_with(|| one.metadata.name.cmp(&other.metadata.name))
    });
    newest?.metadata.name.as_deref()
}
