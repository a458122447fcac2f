//! The node's Lease: a sign of life that is cheaper than its status.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::retry::{Trouble, limited};

const NAMESPACE: &str = "kube-node-lease";
/// The kubelet's nodeLeaseDurationSeconds.
pub const DURATION_SECONDS: i32 = 40;
/// A quarter of it.
const RENEW_EVERY: Duration = Duration::from_secs(10);

fn lease(node: &str, uid: &str, now: Timestamp) -> Lease {
    Lease {
        metadata: ObjectMeta {
            name: Some(node.into()),
            namespace: Some(NAMESPACE.into()),
            owner_references: Some(vec![OwnerReference {
                api_version: "v1".into(),
                kind: "Node".into(),
                name: node.into(),
                uid: uid.into(),
                ..OwnerReference::default()
            }]),
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: Some(node.into()),
            lease_duration_seconds: Some(DURATION_SECONDS),
            renew_time: Some(MicroTime(now)),
            ..LeaseSpec::default()
        }),
    }
}

/// Renews for ever; `uid` is the Node's.
pub async fn keep(client: Client, node: &str, uid: &str) {
    let leases: Api<Lease> = Api::namespaced(client, NAMESPACE);
    let mut trouble = Trouble::with("renew the lease of this node");
    let mut tick = interval(RENEW_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        while let Err(error) = renew(&leases, node, uid, Timestamp::now()).await {
            sleep(trouble.met(&error)).await;
        }
        trouble.over();
    }
}

/// One patch, which needs to know nothing of what is there; made when it is not.
async fn renew(
    leases: &Api<Lease>,
    node: &str,
    uid: &str,
    now: Timestamp,
) -> Result<(), kube::Error> {
    let wanted = lease(node, uid, now);
    let patch = Patch::Merge(json!({
        "metadata": {"ownerReferences": wanted.metadata.owner_references},
        "spec": wanted.spec,
    }));
    match limited(leases.patch(node, &PatchParams::default(), &patch)).await {
        Err(kube::Error::Api(refusal)) if refusal.reason == "NotFound" => {
            limited(leases.create(&PostParams::default(), &wanted))
                .await
                .map(drop)
        }
        result => result.map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_node_holds_and_owns_it() {
        let now = Timestamp::from_microsecond(1_000_001).unwrap();
        assert_eq!(
            json!(lease("n1", "u1", now)),
            json!({
                "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                "metadata": {
                    "name": "n1", "namespace": "kube-node-lease",
                    "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "u1"}],
                },
                "spec": {
                    "holderIdentity": "n1", "leaseDurationSeconds": 40,
                    "renewTime": "1970-01-01T00:00:01.000001Z",
                },
            })
        );
    }
}
