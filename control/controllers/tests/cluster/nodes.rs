use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt as _;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Event, Node, Pod};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::watcher;
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};
use vetch_controllers::ControllersConfig;

use crate::harness::{
    Cluster, NAMESPACE, check, cluster, config, create, deployment, eventually, eventually_gone,
    merge, server,
};

const LEASES: &str = "kube-node-lease";
const BEAT: Duration = Duration::from_millis(200);
const GRACE: Duration = Duration::from_secs(3);

/// Nodes that register, renew their leases, and do as if they ran pods; a scheduler, too.
pub struct Nodes {
    alive: Arc<Mutex<BTreeSet<String>>>,
    _stop: DropGuard,
}

impl Nodes {
    pub async fn start(cluster: &Cluster, names: &[&str]) -> Nodes {
        let stop = CancellationToken::new();
        let nodes = Nodes {
            alive: Arc::default(),
            _stop: stop.clone().drop_guard(),
        };
        for name in names {
            register(cluster, name).await;
            nodes.alive.lock().unwrap().insert((*name).to_owned());
        }
        let (client, alive) = (cluster.client.clone(), nodes.alive.clone());
        let beats = async move {
            let leases: Api<Lease> = Api::namespaced(client, LEASES);
            loop {
                let names = alive.lock().unwrap().clone();
                for name in names {
                    renew(&leases, &name).await;
                }
                tokio::time::sleep(BEAT).await;
            }
        };
        tokio::spawn(stop.clone().run_until_cancelled_owned(beats));
        let (client, alive) = (cluster.client.clone(), nodes.alive.clone());
        let runs = async move {
            let pods = Api::<Pod>::all(client.clone());
            let mut events = std::pin::pin!(watcher(pods, watcher::Config::default()));
            while let Some(event) = events.next().await {
                if let Ok(watcher::Event::Apply(pod) | watcher::Event::InitApply(pod)) = event {
                    let alive = alive.lock().unwrap().clone();
                    act(&client, &alive, &pod).await;
                }
            }
        };
        tokio::spawn(stop.run_until_cancelled_owned(runs));
        nodes
    }

    pub fn kill(&self, name: &str) {
        self.alive.lock().unwrap().remove(name);
    }

    /// Alive again: the lease, and the word that it is ready.
    pub async fn revive(&self, cluster: &Cluster, name: &str) {
        self.alive.lock().unwrap().insert(name.to_owned());
        say_status(cluster, name, "True").await;
    }

    pub fn is_ready(pod: &Pod) -> bool {
        condition(pod, "Ready").is_some_and(|own| own["status"] == "True")
    }

    pub async fn say_ready(cluster: &Cluster, pod: &Pod, ready: bool) {
        let api: Api<Pod> = cluster.api(&pod.namespace().unwrap());
        let status = if ready { "True" } else { "False" };
        let patch = json!({"status": {"conditions": [
            {"type": "Ready", "status": status, "lastTransitionTime": now()}]}});
        api.patch_status(
            &pod.name_any(),
            &PatchParams::default(),
            &Patch::Strategic(patch),
        )
        .await
        .unwrap();
    }
}

fn condition(pod: &Pod, kind: &str) -> Option<Value> {
    let status = serde_json::to_value(pod.status.as_ref()?).unwrap();
    let all = status["conditions"].as_array()?;
    all.iter().find(|own| own["type"] == kind).cloned()
}

fn now() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

async fn register(cluster: &Cluster, name: &str) {
    let node = json!({
        "metadata": {"name": name},
        "spec": {"taints": [{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]},
    });
    create(&cluster.all::<Node>(), node).await;
    say_status(cluster, name, "True").await;
}

async fn say_status(cluster: &Cluster, name: &str, ready: &str) {
    let api: Api<Node> = cluster.all();
    let patch = json!({"status": {"conditions": [
        {"type": "Ready", "status": ready, "lastHeartbeatTime": now(), "lastTransitionTime": now()}]}});
    api.patch_status(name, &PatchParams::default(), &Patch::Strategic(patch))
        .await
        .unwrap();
}

/// Fails where the API server is out of reach.
async fn renew(leases: &Api<Lease>, name: &str) {
    let at = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%6fZ");
    let spec = json!({"holderIdentity": name, "renewTime": at.to_string()});
    let patch = Patch::Merge(json!({"spec": spec}));
    let renewed = leases.patch(name, &PatchParams::default(), &patch).await;
    if renewed.is_err() {
        let lease = json!({"metadata": {"name": name}, "spec": spec});
        let lease = serde_json::from_value(lease).unwrap();
        let _ = leases.create(&PostParams::default(), &lease).await;
    }
}

/// What a scheduler and a node do with a pod, as far as others see it. A pod may be gone by then.
async fn act(client: &kube::Client, alive: &BTreeSet<String>, pod: &Pod) {
    let api: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap());
    let (name, spec) = (pod.name_any(), pod.spec.as_ref().unwrap());
    let Some(node) = &spec.node_name else {
        let Some(node) = alive.iter().nth(name.len() % alive.len().max(1)) else {
            return;
        };
        let binding = json!({"metadata": {"name": name}, "target": {"kind": "Node", "name": node}});
        let _: Result<Value, _> = api
            .create_subresource("binding", &name, &PostParams::default(), &binding)
            .await;
        return;
    };
    if !alive.contains(node) {
        return;
    }
    if pod.metadata.deletion_timestamp.is_some() {
        let _ = api
            .delete(&name, &DeleteParams::default().grace_period(0))
            .await;
    } else if condition(pod, "Ready").is_none() {
        let address = format!("10.244.0.{}", rand::random_range(1..255));
        let patch = json!({"status": {
            "phase": "Running", "podIP": address, "podIPs": [{"ip": address}],
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": now()}],
        }});
        let _ = api
            .patch_status(&name, &PatchParams::default(), &Patch::Strategic(patch))
            .await;
    }
}

/// Ready, and taints as `key:effect`.
async fn state(cluster: &Cluster, name: &str) -> (String, Vec<String>) {
    let node = cluster.all::<Node>().get(name).await.unwrap();
    let node = serde_json::to_value(node).unwrap();
    let conditions = node["status"]["conditions"].as_array().unwrap();
    let ready = conditions
        .iter()
        .find(|own| own["type"] == "Ready")
        .unwrap();
    let taints = node["spec"]["taints"].as_array().cloned();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let all = taints.unwrap_or_default();
    let taints = all
        .iter()
        .map(|own| format!("{}:{}", text(&own["key"]), text(&own["effect"])));
    (text(&ready["status"]), taints.collect())
}

async fn wait_for(cluster: &Cluster, name: &str, ready: &str, taints: &[&str]) {
    let what = format!("{name} is {ready} with {taints:?}");
    eventually(&what, async || {
        let seen = state(cluster, name).await;
        check(seen.0 == ready && seen.1 == taints, seen)
    })
    .await;
}

pub async fn event(cluster: &Cluster, reason: &str, about: &str) -> Event {
    let api: Api<Event> = cluster.api(NAMESPACE);
    let what = format!("an event {reason} about {about}");
    eventually(&what, async || {
        let all = api.list(&Default::default()).await.unwrap().items;
        let is = |own: &Event| {
            own.reason.as_deref() == Some(reason)
                && own.involved_object.name.as_deref() == Some(about)
        };
        all.into_iter().find(is).ok_or_else(String::new)
    })
    .await
}

fn patient(seconds: i64) -> Value {
    let toleration = |key: &str| json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds});
    json!({"tolerations": [
        toleration("node.kubernetes.io/not-ready"), toleration("node.kubernetes.io/unreachable")]})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_node_is_marked_evicted_and_healed() {
    let cluster = cluster(ControllersConfig {
        node_monitor_grace_period: GRACE,
        ..config()
    })
    .await;
    let nodes = Nodes::start(&cluster, &["n1", "n2", "n3"]).await;
    for name in ["n1", "n2", "n3"] {
        wait_for(&cluster, name, "True", &[]).await;
        event(&cluster, "RegisteredNode", name).await;
    }
    cluster.serve("web").await;
    cluster.deploy("web", 1, patient(1)).await;
    cluster.deploy("patient", 1, patient(3600)).await;
    let running = async |app: &str| {
        let what = format!("{app} runs");
        eventually(&what, async || {
            let pods = cluster.pods(NAMESPACE, app).await;
            let found = pods.iter().find(|pod| Nodes::is_ready(pod)).cloned();
            found.ok_or_else(|| format!("{pods:?}"))
        })
        .await
    };
    let web = running("web").await;
    running("patient").await;
    let lost = web.spec.as_ref().unwrap().node_name.clone().unwrap();

    nodes.kill(&lost);
    let (unreachable, execute) = ("node.kubernetes.io/unreachable", "NoExecute");
    let taints = [
        format!("{unreachable}:NoSchedule"),
        format!("{unreachable}:{execute}"),
    ];
    let taints: Vec<&str> = taints.iter().map(String::as_str).collect();
    wait_for(&cluster, &lost, "Unknown", &taints).await;
    event(&cluster, "NodeNotReady", &lost).await;
    event(&cluster, "NodeNotReady", &web.name_any()).await;
    let told = event(&cluster, "TaintManagerEviction", &web.name_any()).await;
    let message = format!("Marking for deletion Pod default/{}", web.name_any());
    assert_eq!(told.message, Some(message));

    let moved = running("web").await;
    assert_ne!(moved.spec.unwrap().node_name, Some(lost.clone()));
    let api: Api<Pod> = cluster.api(NAMESPACE);
    let left = api.get(&web.name_any()).await.unwrap();
    assert!(left.metadata.deletion_timestamp.is_some(), "nobody ends it");
    assert_eq!(condition(&left, "Ready").unwrap()["reason"], "NodeNotReady");
    let target = condition(&left, "DisruptionTarget").unwrap();
    assert_eq!(target["reason"], "DeletionByTaintManager");
    for pod in cluster.pods(NAMESPACE, "patient").await {
        assert!(
            pod.metadata.deletion_timestamp.is_none(),
            "tolerates it for an hour"
        );
    }
    eventually("the endpoints follow", async || {
        let slices =
            Api::<k8s_openapi::api::discovery::v1::EndpointSlice>::all(cluster.client.clone());
        let slices = slices.list(&Default::default()).await.unwrap().items;
        let ready: Vec<_> = slices
            .iter()
            .flat_map(|slice| slice.endpoints.iter().flatten())
            .filter(|own| own.conditions.as_ref().and_then(|own| own.ready) == Some(true))
            .filter_map(|own| own.node_name.clone())
            .collect();
        check(ready.len() == 1 && ready[0] != lost, ready)
    })
    .await;

    // People who know that the node is off say so: what ended there is removed.
    let off = json!({"key": "node.kubernetes.io/out-of-service", "effect": "NoSchedule"});
    let node = cluster.all::<Node>();
    let spec = serde_json::to_value(node.get(&lost).await.unwrap().spec).unwrap();
    let mut with = spec["taints"].as_array().unwrap().clone();
    with.push(off);
    merge(&node, &lost, json!({"spec": {"taints": with}})).await;
    eventually_gone(&api, &web.name_any()).await;

    nodes.revive(&cluster, &lost).await;
    wait_for(
        &cluster,
        &lost,
        "True",
        &["node.kubernetes.io/out-of-service:NoSchedule"],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn taints_set_by_hand_evict_those_who_do_not_bear_them() {
    let cluster = cluster(config()).await;
    let _nodes = Nodes::start(&cluster, &["n1", "n2"]).await;
    let tolerant = json!({"tolerations": [{"key": "mine", "operator": "Exists"}]});
    cluster.deploy("web", 2, Value::Null).await;
    cluster.deploy("tolerant", 2, tolerant).await;
    let all = async || {
        let mut pods = cluster.pods(NAMESPACE, "web").await;
        pods.extend(cluster.pods(NAMESPACE, "tolerant").await);
        pods
    };
    eventually("all run", async || {
        let pods = all().await;
        check(pods.len() == 4 && pods.iter().all(Nodes::is_ready), pods)
    })
    .await;
    let before: Vec<String> = cluster
        .pods(NAMESPACE, "tolerant")
        .await
        .iter()
        .map(|pod| pod.name_any())
        .collect();
    let old: Vec<String> = cluster
        .pods(NAMESPACE, "web")
        .await
        .iter()
        .map(|pod| pod.name_any())
        .collect();
    for name in ["n1", "n2"] {
        let taint = json!({"spec": {"taints": [{"key": "mine", "effect": "NoExecute"}]}});
        merge(&cluster.all::<Node>(), name, taint).await;
    }
    eventually("the old pods go", async || {
        let left = cluster.pods(NAMESPACE, "web").await;
        check(!left.iter().any(|pod| old.contains(&pod.name_any())), left)
    })
    .await;
    let after: Vec<String> = cluster
        .pods(NAMESPACE, "tolerant")
        .await
        .iter()
        .map(|pod| pod.name_any())
        .collect();
    assert_eq!(before, after);
}

/// The control plane was away for long: nothing written then may count against a node.
#[tokio::test(flavor = "multi_thread")]
async fn healthy_nodes_stay_ready_when_the_controllers_come_back() {
    let cluster = server().await;
    let old = "2020-01-01T00:00:00Z";
    let node = json!({
        "metadata": {"name": "n1"},
        "status": {"conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": old, "lastTransitionTime": old}]},
    });
    let nodes: Api<Node> = cluster.all();
    create(&nodes, node.clone()).await;
    say_status(&cluster, "n1", "True").await;
    let patch = Patch::Strategic(json!({"status": node["status"]}));
    nodes
        .patch_status("n1", &PatchParams::default(), &patch)
        .await
        .unwrap();
    let lease = json!({"metadata": {"name": "n1"}, "spec": {"holderIdentity": "n1", "renewTime": "2020-01-01T00:00:00.000000Z"}});
    let leases: Api<Lease> = cluster.api(LEASES);
    create(&leases, lease).await;

    let mut seen = std::pin::pin!(watcher(nodes.clone(), watcher::Config::default()));
    cluster.start_controllers(ControllersConfig {
        node_monitor_grace_period: GRACE,
        ..config()
    });
    // The controllers work: the node has its range.
    eventually("the controllers have started", async || {
        let node = nodes.get("n1").await.unwrap();
        let range = node.spec.as_ref().and_then(|spec| spec.pod_cidr.clone());
        range.ok_or_else(|| format!("{node:?}"))
    })
    .await;
    // The node comes back well within its grace, and then falls silent for good.
    tokio::time::sleep(GRACE / 2).await;
    renew(&leases, "n1").await;
    let renewed = tokio::time::Instant::now();
    tokio::time::timeout(GRACE * 5, turns_unknown(seen.as_mut()))
        .await
        .expect("a silent node is lost in the end");
    let after = renewed.elapsed();
    assert!(after >= GRACE, "lost {after:?} after a sign of life");
    // It is the only one: nobody is evicted for that.
    wait_for(
        &cluster,
        "n1",
        "Unknown",
        &["node.kubernetes.io/unreachable:NoSchedule"],
    )
    .await;
}

async fn turns_unknown(
    mut nodes: std::pin::Pin<
        &mut impl futures::Stream<Item = Result<watcher::Event<Node>, watcher::Error>>,
    >,
) {
    while let Some(event) = nodes.next().await {
        if let Ok(watcher::Event::Apply(node) | watcher::Event::InitApply(node)) = event {
            let status = serde_json::to_value(node.status).unwrap();
            let conditions = status["conditions"].as_array().unwrap();
            let ready = conditions.iter().find(|own| own["type"] == "Ready");
            if ready.is_some_and(|own| own["status"] == "Unknown") {
                return;
            }
        }
    }
}

/// Nobody can renew a lease while etcd is down, for longer than the grace.
#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_out_of_reach_loses_no_node() {
    let mut cluster = cluster(ControllersConfig {
        node_monitor_grace_period: GRACE,
        ..config()
    })
    .await;
    let nodes = Nodes::start(&cluster, &["n1", "n2"]).await;
    for name in ["n1", "n2"] {
        wait_for(&cluster, name, "True", &[]).await;
    }
    let api: Api<Node> = cluster.all();
    let mut seen = std::pin::pin!(watcher(api, watcher::Config::default()));
    cluster.etcd.kill();
    for name in ["n1", "n2"] {
        nodes.kill(name);
    }
    tokio::time::sleep(GRACE * 2).await;
    cluster.etcd.restart().await;
    // A node that backs off is later than the controllers, and has its grace all the same.
    tokio::time::sleep(GRACE / 2).await;
    for name in ["n1", "n2"] {
        nodes.alive.lock().unwrap().insert(name.to_owned());
    }
    let lost = tokio::time::timeout(GRACE * 2, turns_unknown(seen.as_mut())).await;
    assert!(lost.is_err(), "a node was marked lost");
    for name in ["n1", "n2"] {
        wait_for(&cluster, name, "True", &[]).await;
    }
}

#[test]
fn the_deployment_fixture_takes_pod_fields() {
    let made = deployment("a", 1, patient(1));
    let spec = &made["spec"]["template"]["spec"];
    assert_eq!(spec["tolerations"].as_array().map(Vec::len), Some(2));
}
