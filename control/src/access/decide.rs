//! The rules, in the order of who asks.

use vetch_identity::User;
use vetch_server::guard::Action;

use super::facts::Facts;
use super::{AUTHENTICATED, bootstrap, node};

const ADMINISTRATORS: &str = "system:masters";

/// They run in this process. A client outside can carry these names only in a certificate of the cluster's CA,
/// which signs them for nobody but an administrator; so without RBAC there is nothing to tell apart here.
const CONTROL_PLANE: &[&str] = &["system:kube-scheduler", "system:kube-controller-manager"];

/// Kubernetes' `system:discovery`; a path ending in `/` stands for all below it.
pub(super) const DISCOVERY: &[&str] = &[
    "/api",
    "/api/",
    "/apis",
    "/apis/",
    "/healthz",
    "/livez",
    "/openapi",
    "/openapi/",
    "/readyz",
    "/version",
    "/version/",
];

/// Kubernetes' `system:basic-user`.
pub(super) const ABOUT_ONESELF: &[(&str, &str)] = &[
    ("authentication.k8s.io", "selfsubjectreviews"),
    ("authorization.k8s.io", "selfsubjectaccessreviews"),
    ("authorization.k8s.io", "selfsubjectrulesreviews"),
];

/// Whether `user` may do `action`, as far as `facts` go. `Err` is the reason behind Kubernetes' own sentence of
/// refusal; it is empty where simply no rule allows the action.
pub fn decide(user: &User, action: &Action<'_>, facts: &dyn Facts) -> Result<(), String> {
    if is_unlimited(user) {
        return Ok(());
    }
    if user.is_in(AUTHENTICATED) && for_everybody(action) {
        return Ok(());
    }
    if bootstrap::is_public(action) || bootstrap::may(user, action) {
        return Ok(());
    }
    match node::name(user) {
        Some(node) => node::decide(node, action, facts),
        None => Err(String::new()),
    }
}

/// Administrators and the control plane's own parts.
pub(super) fn is_unlimited(user: &User) -> bool {
    user.is_in(ADMINISTRATORS) || CONTROL_PLANE.contains(&user.name.as_str())
}

fn for_everybody(action: &Action<'_>) -> bool {
    if action.resource.is_empty() {
        let covered = |open: &str| match open.ends_with('/') {
            true => action.path.starts_with(open),
            false => action.path == open,
        };
        return action.verb == "get" && DISCOVERY.iter().any(|open| covered(open));
    }
    action.verb == "create"
        && action.subresource.is_empty()
        && ABOUT_ONESELF.contains(&(action.group, action.resource))
}

#[cfg(test)]
mod tests;
