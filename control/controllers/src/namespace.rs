//! Namespaces that are being deleted: their content goes, pods before what they need, then the
//! finalizer `kubernetes` that kept the namespace.

mod conditions;
mod content;

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;

use self::conditions::conditions;
use self::content::delete_all;
use crate::error::{Attempt as _, Error, Result, found};
use crate::informer::{Change, Informer};
use crate::informers::Informers;
use crate::key::{ObjectKey, ObjectKind, is_deleted, namespace_of};
use crate::pod;
use crate::queue::Queue;
use crate::worker::{Next, Reconcile};

/// Pods of an ending namespace that end within this time are one reason to look again.
const PODS_TOGETHER: Duration = Duration::from_millis(200);

const FINALIZER: &str = "kubernetes";
/// Requests that were admitted before the deletion end first: what they create must be seen. The
/// time of deletion has no fraction, so this is one second at least.
const SETTLE: SignedDuration = SignedDuration::from_secs(2);

pub struct NamespaceController {
    client: Client,
    pods: Arc<Informer<Pod>>,
}

impl NamespaceController {
    pub fn new(
        client: Client,
        informers: &Informers,
        queue: &Arc<Queue<ObjectKey>>,
    ) -> NamespaceController {
        let keys = queue.clone();
        informers
            .namespaces
            .listen(move |change: &Change<Namespace>| {
                if let Some(namespace) = change.new.as_ref().filter(|own| is_deleted(own.as_ref()))
                {
                    keys.add(ObjectKey::of(namespace.as_ref()));
                }
            });
        NamespaceController {
            client,
            pods: informers.pods.clone(),
        }
    }
}

/// Hears of objects that went away: the namespace may have waited for the last of them.
pub fn watch_removals(
    informers: &Informers,
    queue: &Arc<Queue<ObjectKey>>,
) -> impl Fn(&ObjectKind, &ObjectMeta, bool) + Clone + Send + Sync + 'static {
    let (queue, namespaces) = (queue.clone(), informers.namespaces.clone());
    let pod_kind = ObjectKind::of::<Pod>();
    move |kind: &ObjectKind, meta: &ObjectMeta, gone: bool| {
        let Some(namespace) = meta.namespace.as_deref().filter(|_| gone) else {
            return;
        };
        let key = ObjectKey::new("", namespace);
        let ends = namespaces
            .get(&key)
            .is_some_and(|own| is_deleted(own.as_ref()));
        // Pods end one by one, and a pass goes over all that are left. Which one is the last cannot be told here: the
        // caches of two watches show it at different times.
        match (ends, *kind == pod_kind) {
            (true, true) => queue.add_after(key, PODS_TOGETHER),
            (true, false) => queue.add(key),
            (false, _) => {}
        }
    }
}

fn finalizers(namespace: &Namespace) -> &[String] {
    let spec = namespace.spec.as_ref();
    spec.and_then(|spec| spec.finalizers.as_deref())
        .unwrap_or_default()
}

/// How long the slowest of the pods may still take, counted from the namespace's deletion.
fn grace_left(pods: &[Arc<Pod>], deleted: Timestamp, now: Timestamp) -> SignedDuration {
    let grace = pods.iter().filter(|pod| !pod::is_terminal(pod)).map(|pod| {
        let spec = pod.spec.as_ref();
        spec.and_then(|spec| spec.termination_grace_period_seconds)
            .unwrap_or(0)
    });
    let grace = SignedDuration::from_secs(grace.max().unwrap_or(0));
    match now.duration_since(deleted) >= grace {
        true => SignedDuration::ZERO,
        false => grace,
    }
}

impl Reconcile for NamespaceController {
    type Key = ObjectKey;

    const NAME: &'static str = "namespace";

    async fn reconcile(&self, key: &ObjectKey) -> Result<Next> {
        let api: Api<Namespace> = Api::all(self.client.clone());
        let namespace =
            found(api.get(&key.name).await).during(|| format!("read namespace {key}"))?;
        let Some(namespace) = namespace else {
            return Ok(Next::OnChange);
        };
        let Some(deleted) = namespace.metadata.deletion_timestamp.clone() else {
            return Ok(Next::OnChange);
        };
        if !finalizers(&namespace).iter().any(|own| own == FINALIZER) {
            return Ok(Next::OnChange);
        }
        let now = Timestamp::now();
        let age = now.duration_since(deleted.0);
        if age < SETTLE {
            return Ok(Next::After(pod::delay(SETTLE - age)));
        }
        let grace = grace_left(&self.pods.select(&key.name, |_| true), deleted.0, now);
        let outcome = delete_all(&self.client, &key.name, grace).await;
        let namespace = self.write_conditions(&api, namespace, &outcome).await?;
        if !outcome.failures.is_empty() {
            let failures = outcome.failures.join("; ");
            return Err(Error::Incomplete(format!("delete content: {failures}")));
        }
        if let Some(wait) = outcome.wait {
            return Ok(Next::After(wait / 2 + Duration::from_secs(1)));
        }
        self.finalize(&api, namespace).await?;
        Ok(Next::OnChange)
    }
}

impl NamespaceController {
    async fn write_conditions(
        &self,
        api: &Api<Namespace>,
        namespace: Namespace,
        outcome: &content::Outcome,
    ) -> Result<Namespace> {
        let old = namespace.status.clone().unwrap_or_default();
        let new = conditions(old.conditions.clone(), outcome, Timestamp::now());
        if old.conditions.as_deref() == Some(&new) && old.phase.as_deref() == Some("Terminating") {
            return Ok(namespace);
        }
        let name = namespace_name(&namespace);
        let patch = json!({
            "metadata": {"uid": namespace.metadata.uid, "resourceVersion": namespace.metadata.resource_version},
            "status": {"phase": "Terminating", "conditions": new},
        });
        let patched = api
            .patch_status(&name, &PatchParams::default(), &Patch::Merge(&patch))
            .await;
        patched.during(|| format!("write status of namespace {name}"))
    }

    async fn finalize(&self, api: &Api<Namespace>, mut namespace: Namespace) -> Result<()> {
        let name = namespace_name(&namespace);
        let spec = namespace.spec.get_or_insert_default();
        if let Some(finalizers) = &mut spec.finalizers {
            finalizers.retain(|own| own != FINALIZER);
        }
        let written = api
            .replace_subresource("finalize", &name, &PostParams::default(), &namespace)
            .await;
        found(written).during(|| format!("finalize namespace {name}"))?;
        Ok(())
    }
}

fn namespace_name(namespace: &Namespace) -> String {
    debug_assert!(namespace_of(namespace).is_empty(), "cluster-scoped");
    namespace.metadata.name.clone().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_are_waited_for_as_long_as_they_may_take() {
        let pod = |phase: &str, grace: i64| {
            let pod = json!({
                "metadata": {"name": "p"}, "status": {"phase": phase},
                "spec": {"containers": [], "terminationGracePeriodSeconds": grace},
            });
            Arc::new(serde_json::from_value::<Pod>(pod).expect("a pod"))
        };
        let pods = [pod("Running", 30), pod("Pending", 5), pod("Succeeded", 600)];
        let deleted = Timestamp::UNIX_EPOCH;
        let after = |seconds| deleted + SignedDuration::from_secs(seconds);
        for (pods, seconds, left) in [
            (&pods[..], 0, 30),
            (&pods[..], 29, 30),
            (&pods[..], 30, 0),
            (&pods[2..], 0, 0),
            (&[], 0, 0),
        ] {
            assert_eq!(
                grace_left(pods, deleted, after(seconds)),
                SignedDuration::from_secs(left),
                "{} pods after {seconds} s",
                pods.len()
            );
        }
    }
}
