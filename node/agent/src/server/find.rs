//! From a pod's name to what runs of it.

use http::StatusCode;
use tracing::debug;
use vetch_runtime::{ContainerId, ContainerState, SandboxState, SandboxStatus};
use vetch_streaming::Refused;

use super::Shared;
use crate::pods::static_pods::uid_on_node;

/// A pod as a path names it.
pub struct Named<'a> {
    pub namespace: &'a str,
    pub pod: &'a str,
    /// As the node calls it, where the API server could be asked.
    uid: Option<String>,
}

impl<'a> Named<'a> {
    /// `uid`: what it has to be, where the path says so.
    pub async fn find(
        shared: &Shared,
        namespace: &'a str,
        pod: &'a str,
        uid: Option<&str>,
    ) -> Result<Named<'a>, Refused> {
        let missing = |words: &str| Err((StatusCode::NOT_FOUND, words.to_owned()));
        let known = match shared.pods.find(namespace, pod).await {
            Ok(Some(found)) => uid_on_node(&found).map(str::to_owned),
            Ok(None) => return missing("pod does not exist"),
            // The runtime knows its pods' names too.
            Err(error) => {
                debug!(%error, namespace, pod, "a pod without its uid");
                None
            }
        };
        match (&known, uid) {
            (Some(known), Some(uid)) if known != uid => missing("pod not found"),
            _ => Ok(Named {
                namespace,
                pod,
                uid: known.or(uid.map(str::to_owned)),
            }),
        }
    }

    fn is(&self, sandbox: &SandboxStatus) -> bool {
        let spec = &sandbox.spec;
        let same = self.uid.as_ref().is_none_or(|uid| spec.pod_uid == *uid);
        same && spec.namespace == self.namespace && spec.name == self.pod
    }

    /// The container of this name that is running.
    pub fn container(&self, sandboxes: &[SandboxStatus], name: &str) -> Option<ContainerId> {
        let of_pod = sandboxes.iter().filter(|sandbox| self.is(sandbox));
        let found = of_pod
            .flat_map(|sandbox| &sandbox.containers)
            .find(|known| known.name == name && known.state == ContainerState::Running);
        found.map(|known| known.id.clone())
    }

    /// Its sandbox, where that is ready.
    pub fn sandbox(&self, sandboxes: &[SandboxStatus]) -> Result<SandboxStatus, Refused> {
        let found = sandboxes
            .iter()
            .find(|sandbox| self.is(sandbox) && sandbox.state == SandboxState::Ready);
        found.cloned().ok_or_else(|| {
            let words = format!("pod not found (\"{}_{}\")", self.pod, self.namespace);
            (StatusCode::INTERNAL_SERVER_ERROR, words)
        })
    }
}

#[cfg(test)]
mod tests {
    use vetch_runtime::ContainerStatus;

    use super::*;
    use crate::pods::testing;

    fn sandbox(uid: &str, sandbox: SandboxState, container: ContainerState) -> SandboxStatus {
        let app = ContainerStatus {
            id: ContainerId(format!("of-{uid}")),
            ..testing::container("app", 0, container)
        };
        let mut sandbox = testing::sandbox(0, sandbox, vec![app]);
        sandbox.spec.pod_uid = uid.to_owned();
        sandbox
    }

    #[test]
    fn only_what_runs_is_found() {
        let (ready, gone) = (SandboxState::Ready, SandboxState::NotReady);
        // The pod before of the same name, the one that is meant, one whose container ended, one that ended.
        let sandboxes = [
            sandbox("u0", ready, ContainerState::Running),
            sandbox("u1", ready, ContainerState::Running),
            sandbox("u2", ready, ContainerState::Exited),
            sandbox("u3", gone, ContainerState::Exited),
        ];
        for (pod, uid, name, container, sandbox) in [
            ("web", Some("u1"), "app", Some("of-u1"), Some("u1")),
            ("web", Some("u2"), "app", None, Some("u2")),
            ("web", Some("u3"), "app", None, None),
            ("web", Some("u1"), "other", None, Some("u1")),
            ("none", None, "app", None, None),
            ("web", None, "app", Some("of-u0"), Some("u0")),
        ] {
            let named = Named {
                namespace: "shop",
                pod,
                uid: uid.map(str::to_owned),
            };
            let found = named.container(&sandboxes, name);
            assert_eq!(found.map(|id| id.0).as_deref(), container, "{pod} {uid:?}");
            let found = named.sandbox(&sandboxes).ok();
            let found = found.map(|sandbox| sandbox.spec.pod_uid);
            assert_eq!(found.as_deref(), sandbox, "{pod} {uid:?}");
        }
    }
}
