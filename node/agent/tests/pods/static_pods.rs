//! Pods of manifests, and their mirrors.

use std::fs;
use std::time::{Duration, Instant};

use kube::api::DeleteParams;
use serde_json::{Value, json};
use vetch_runtime::SandboxStatus;

use crate::agent::{Agent, app, on_a_node};
use crate::cluster::{Cluster, NODE};
use crate::lab::Lab;

const LIMIT: Duration = Duration::from_secs(30);
const MIRROR: &str = "kubernetes.io/config.mirror";
const SLEEP: &str = "trap 'exit 0' TERM; while :; do sleep 1000 & wait; done";

/// As an editor does it.
fn write(lab: &Lab, name: &str, mut spec: Value) {
    spec["terminationGracePeriodSeconds"] = json!(1);
    let manifest =
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec});
    let dir = lab.path("manifests");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join(format!(".{name}")), manifest.to_string()).unwrap();
    fs::rename(dir.join(format!(".{name}")), dir.join(name)).unwrap();
}

fn remove(lab: &Lab, name: &str) {
    fs::remove_file(lab.path("manifests").join(name)).unwrap();
}

/// The node's sandboxes, once `done` holds for them.
async fn sandboxes(
    agent: &Agent,
    what: &str,
    done: impl Fn(&[SandboxStatus]) -> bool,
) -> Vec<SandboxStatus> {
    let deadline = Instant::now() + LIMIT;
    loop {
        let all = agent.runtime.list().await;
        if done(&all) {
            return all;
        }
        assert!(
            Instant::now() < deadline,
            "waited {LIMIT:?} for {what}: {all:#?}"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn pids(all: &[SandboxStatus]) -> Vec<u32> {
    let containers = all.iter().flat_map(|sandbox| &sandbox.containers);
    containers.filter_map(|container| container.pid).collect()
}

#[test]
fn a_manifest_runs_and_its_mirror_tells() {
    on_a_node(async |lab, cluster, agent| {
        write(lab, "web", app(SLEEP));
        let mirror = cluster.ready("web-node-1").await;
        let meta = &mirror["metadata"];
        let hash = meta["annotations"][MIRROR].as_str().unwrap().to_owned();
        assert_eq!(meta["annotations"]["kubernetes.io/config.source"], "file");
        assert_ne!(meta["uid"], hash, "the server's own");
        let owner = &meta["ownerReferences"][0];
        assert_eq!(
            (&owner["kind"], &owner["name"]),
            (&json!("Node"), &json!(NODE))
        );
        assert_eq!(mirror["spec"]["nodeName"], NODE);
        let running = agent.runtime.list().await;
        assert_eq!(running[0].spec.pod_uid, hash);
        let before = pids(&running);

        // Somebody deletes the mirror: another one comes, and the pod does not notice.
        cluster
            .pods()
            .delete("web-node-1", &DeleteParams::default())
            .await
            .unwrap();
        let uid = meta["uid"].clone();
        let again = cluster
            .wait("web-node-1", "another mirror with its status", |pod| {
                pod["metadata"]["uid"] != uid && pod["status"]["phase"] == "Running"
            })
            .await;
        assert_eq!(again["metadata"]["annotations"][MIRROR], hash);
        assert_eq!(again["status"]["podIP"], mirror["status"]["podIP"]);
        assert_eq!(pids(&agent.runtime.list().await), before);

        // Another file: the old pod ends before the new one begins.
        write(lab, "web", app(&format!("echo second; {SLEEP}")));
        let second = cluster
            .wait("web-node-1", "the second", |pod| {
                pod["metadata"]["annotations"][MIRROR] != hash.as_str()
                    && pod["status"]["phase"] == "Running"
            })
            .await;
        let uid = second["metadata"]["annotations"][MIRROR].as_str().unwrap();
        let left = sandboxes(agent, "only the second", |all| all.len() == 1).await;
        assert_eq!(left[0].spec.pod_uid, uid);

        remove(lab, "web");
        cluster.gone("web-node-1").await;
        lab.assert_nothing_left().await;
    });
}

#[test]
fn a_daemon_needs_no_server_for_them() {
    let lab = Lab::enter();
    write(&lab, "web", app(SLEEP));
    lab.block_on(async {
        let cluster = Cluster::start().await;
        let away = Cluster::away();
        let agent = Agent::start(&lab, &away).await;
        let runs = |all: &[SandboxStatus]| !pids(all).is_empty();
        let before = pids(&sandboxes(&agent, "it to run", runs).await);
        agent.stop().await;

        // The next daemon finds it, and what another file said meanwhile.
        write(&lab, "other", app(SLEEP));
        let agent = Agent::start(&lab, &away).await;
        let both = |all: &[SandboxStatus]| pids(all).len() == 2;
        let after = pids(&sandboxes(&agent, "both to run", both).await);
        assert!(after.contains(&before[0]), "{before:?} {after:?}");
        agent.stop().await;

        // A server at last; a file went while no daemon was here.
        remove(&lab, "other");
        let agent = Agent::start(&lab, &cluster).await;
        cluster.ready("web-node-1").await;
        let left = sandboxes(&agent, "the other to end", |all| all.len() == 1).await;
        assert_eq!(pids(&left), before);
        assert!(cluster.get("other-node-1").await.is_none());
        remove(&lab, "web");
        cluster.gone("web-node-1").await;
        lab.assert_nothing_left().await;
        agent.stop().await;
    });
}

#[test]
fn a_mirror_of_nothing_goes() {
    on_a_node(async |lab, cluster, agent| {
        // What an earlier file left.
        let stray = json!({"name": "stray", "annotations": {MIRROR: "h"}});
        cluster.create_with(stray, app(SLEEP)).await;
        cluster.gone("stray").await;
        assert!(
            agent.runtime.list().await.is_empty(),
            "nobody runs a mirror"
        );

        // Words alone make no static pod.
        let claim =
            json!({"name": "claim", "annotations": {"kubernetes.io/config.source": "file"}});
        cluster.create_with(claim, app(SLEEP)).await;
        cluster.ready("claim").await;
        cluster.delete("claim").await;
        cluster.gone("claim").await;
        lab.assert_nothing_left().await;
    });
}

#[test]
fn a_static_pod_makes_room_for_itself() {
    on_a_node(async |lab, cluster, _| {
        let asks = |cpu: &str| {
            let mut spec = app(SLEEP);
            spec["containers"][0]["resources"] = json!({"requests": {"cpu": cpu}});
            spec
        };
        // Of four.
        cluster.create("large", asks("3")).await;
        cluster.create("small", asks("500m")).await;
        cluster.ready("large").await;
        cluster.ready("small").await;
        write(lab, "own", asks("800m"));
        cluster.ready("own-node-1").await;
        let small = cluster.phase("small", "Failed").await;
        assert_eq!(small["status"]["reason"], "Preempting");
        cluster
            .told(
                "small",
                "Preempting: Preempted in order to admit critical pod",
            )
            .await;
        assert_eq!(
            cluster.get("large").await.unwrap()["status"]["phase"],
            "Running"
        );
        remove(lab, "own");
        cluster.gone("own-node-1").await;
        for name in ["large", "small"] {
            cluster.delete(name).await;
            cluster.gone(name).await;
        }
        lab.assert_nothing_left().await;
    });
}
