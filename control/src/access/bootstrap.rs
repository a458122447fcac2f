//! What who is not yet a node may do: kubeadm's roles for bootstrap tokens, and the one thing that is open to all.
//!
//! | kubeadm's name | here |
//! |---|---|
//! | kubeadm:kubelet-bootstrap (`system:node-bootstrapper`) | requests for certificates: create, get, list, watch |
//! | kubeadm:node-autoapprove-bootstrap | a first certificate of a node's is approved without anybody looking |
//! | kubeadm:get-nodes | whether a node of that name is there |
//! | kubeadm:bootstrap-signer-clusterinfo | the ConfigMap cluster-info, for everybody |

use vetch_identity::User;
use vetch_server::guard::Action;

/// The group kubeadm's tokens are in, and those of `vetch-control token create`.
pub(super) const GROUP: &str = "system:bootstrappers:kubeadm:default-node-token";
pub(super) const CERTIFICATES: &str = "certificates.k8s.io";
pub(super) const REQUESTS: &str = "certificatesigningrequests";

/// Of the group above.
pub(super) fn may(user: &User, action: &Action<'_>) -> bool {
    if !user.is_in(GROUP) {
        return false;
    }
    match (action.group, action.resource, action.subresource) {
        (CERTIFICATES, REQUESTS, "") => {
            matches!(action.verb, "create" | "get" | "list" | "watch")
        }
        (CERTIFICATES, REQUESTS, "nodeclient") => action.verb == "create",
        ("", "nodes", "") => action.verb == "get",
        _ => false,
    }
}

/// Of anybody, also nobody: what the cluster is called, and by which certificate it is known.
pub(super) fn is_public(action: &Action<'_>) -> bool {
    (action.group, action.resource, action.subresource) == ("", "configmaps", "")
        && (action.namespace, action.name) == ("kube-public", "cluster-info")
        && action.verb == "get"
}
