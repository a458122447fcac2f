use std::time::Duration;

use kube::runtime::watcher::Event as Watched;
use serde_json::{Value, json};

use super::*;
use crate::testing::{node_object, pod_object, requests, with};

struct Rig {
    scheduler: Scheduler,
    now: Instant,
    version: u64,
}

impl Rig {
    fn new(nodes: &[Value]) -> Rig {
        let mut rig = Rig {
            scheduler: Scheduler::new(0),
            now: Instant::now(),
            version: 1,
        };
        rig.observe(Input::Namespace(Watched::InitDone));
        rig.observe(Input::Service(Watched::InitDone));
        rig.observe(Input::Claim(Watched::InitDone));
        rig.observe(Input::Volume(Watched::InitDone));
        rig.observe(Input::Class(Watched::InitDone));
        rig.observe(Input::Pod(Watched::InitDone));
        for node in nodes {
            rig.observe(Input::Node(Watched::InitApply(read(node.clone()))));
        }
        rig.observe(Input::Node(Watched::InitDone));
        rig
    }

    fn observe(&mut self, input: Input) {
        self.scheduler.observe(input);
    }

    fn pod(&mut self, name: &str, extra: Value) {
        self.version += 1;
        let object = with(
            pod_object(name, extra),
            json!({"metadata": {"resourceVersion": self.version.to_string()}}),
        );
        self.observe(Input::Pod(Watched::Apply(read(object))));
    }

    fn delete(&mut self, name: &str) {
        self.observe(Input::Pod(Watched::Delete(read(pod_object(
            name,
            json!({}),
        )))));
    }

    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        self.scheduler.tick(self.now);
    }

    /// All decisions there are to make, in words.
    fn decisions(&mut self) -> Vec<String> {
        let mut told = Vec::new();
        while self.scheduler.is_ready() {
            let decided = self.scheduler.decide(self.now, Timestamp::UNIX_EPOCH);
            told.extend(decided.map(|effect| match effect {
                Effect::Bind { pod, node } => format!("{} on {node}", pod.name()),
                Effect::Claim { pod, node, plan } => {
                    format!(
                        "{} claims {} on {node}",
                        pod.name(),
                        plan.bind.len() + plan.provision.len()
                    )
                }
                Effect::Refuse {
                    pod,
                    message,
                    nominated,
                } => {
                    assert_eq!(nominated, None);
                    let why = message.split(". ").next().unwrap_or_default().to_owned();
                    format!("{}: {why}", pod.name())
                }
                Effect::Preempt {
                    pod, node, victims, ..
                } => {
                    format!("{} preempts {} on {node}", pod.name(), victims[0].name())
                }
            }));
        }
        told
    }
}

fn read<K: serde::de::DeserializeOwned>(object: Value) -> K {
    serde_json::from_value(object).expect("an object")
}

fn cpu(amount: &str) -> Value {
    requests(amount, "0")
}

fn on(node: &str) -> Value {
    json!({"spec": {"nodeName": node}})
}

const NO_ROOM: &str = "0/1 nodes are available: 1 Insufficient cpu";

#[test]
fn nothing_is_decided_before_all_is_known() {
    let mut scheduler = Scheduler::new(0);
    scheduler.observe(Input::Node(Watched::InitApply(read(node_object(
        "a",
        json!({}),
    )))));
    scheduler.observe(Input::Node(Watched::InitDone));
    scheduler.observe(Input::Namespace(Watched::InitDone));
    scheduler.observe(Input::Service(Watched::InitDone));
    scheduler.observe(Input::Claim(Watched::InitDone));
    scheduler.observe(Input::Volume(Watched::InitDone));
    scheduler.observe(Input::Class(Watched::InitDone));
    scheduler.observe(Input::Pod(Watched::InitApply(read(pod_object(
        "p",
        json!({}),
    )))));
    assert!(!scheduler.is_ready());
    scheduler.observe(Input::Pod(Watched::InitDone));
    assert!(scheduler.is_ready());
}

#[test]
fn room_is_given_once() {
    let mut rig = Rig::new(&[node_object("a", json!({}))]);
    for i in 0..3 {
        rig.pod(&format!("p{i}"), cpu("2"));
    }
    assert_eq!(
        rig.decisions(),
        [
            "p0 on a".to_owned(),
            "p1 on a".to_owned(),
            format!("p2: {NO_ROOM}")
        ]
    );
    // The API shows the binding; nothing is decided again.
    rig.pod("p0", with(cpu("2"), on("a")));
    rig.pass(20);
    assert!(rig.decisions().is_empty());
    rig.delete("p0");
    rig.pass(0);
    assert_eq!(rig.decisions(), ["p2 on a"]);
}

#[test]
fn a_binding_that_failed_gives_its_room_back() {
    let mut rig = Rig::new(&[node_object("a", json!({}))]);
    rig.pod("p", cpu("3"));
    rig.pod("q", cpu("3"));
    assert_eq!(
        rig.decisions(),
        ["p on a".to_owned(), format!("q: {NO_ROOM}")]
    );
    rig.scheduler
        .finish(Outcome::BindingFailed { uid: "p".into() }, rig.now);
    rig.pass(1);
    assert_eq!(
        rig.decisions().len(),
        2,
        "one of them gets it, the other waits"
    );
}

#[test]
fn only_our_pods_and_only_while_they_wait() {
    let mut rig = Rig::new(&[node_object("a", json!({}))]);
    rig.pod("other", json!({"spec": {"schedulerName": "mine"}}));
    rig.pod("bound", on("a"));
    rig.pod(
        "going",
        json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}),
    );
    rig.pod("ended", json!({"status": {"phase": "Failed"}}));
    rig.pod(
        "gated",
        json!({"spec": {"schedulingGates": [{"name": "x"}]}}),
    );
    assert!(rig.decisions().is_empty());
    rig.pod("gated", json!({}));
    assert_eq!(rig.decisions(), ["gated on a"]);
}

#[test]
fn nodes_that_change_help() {
    let mut rig = Rig::new(&[]);
    rig.pod("p", json!({}));
    assert_eq!(rig.decisions(), ["p: no nodes available to schedule pods"]);
    let cordoned = with(
        node_object("a", json!({})),
        json!({"spec": {"unschedulable": true}}),
    );
    rig.observe(Input::Node(Watched::Apply(read(cordoned))));
    rig.pass(1);
    assert_eq!(
        rig.decisions(),
        ["p: 0/1 nodes are available: 1 node(s) were unschedulable"]
    );
    let ready = with(
        node_object("a", json!({})),
        json!({"metadata": {"resourceVersion": "2"}}),
    );
    rig.observe(Input::Node(Watched::Apply(read(ready))));
    rig.pass(2);
    assert_eq!(rig.decisions(), ["p on a"]);
}

#[test]
fn an_important_pod_makes_room() {
    let mut rig = Rig::new(&[node_object("a", json!({}))]);
    rig.pod("low", with(cpu("4"), on("a")));
    rig.pod("vip", with(cpu("4"), json!({"spec": {"priority": 10}})));
    assert_eq!(rig.decisions(), ["vip preempts low on a"]);
    // Another of the same importance may not take the room meanwhile.
    rig.delete("low");
    rig.pod("second", with(cpu("4"), json!({"spec": {"priority": 10}})));
    assert_eq!(rig.decisions(), [format!("second: {NO_ROOM}")]);
    rig.scheduler
        .finish(Outcome::Preempted { uid: "vip".into() }, rig.now);
    rig.pass(1);
    assert_eq!(rig.decisions(), ["vip on a"]);
}

#[test]
fn a_nomination_survives_a_restart() {
    let mut rig = Rig::new(&[node_object("a", json!({}))]);
    let nominated = json!({"spec": {"priority": 5}, "status": {"nominatedNodeName": "a"}});
    rig.pod(
        "vip",
        with(
            cpu("4"),
            with(
                nominated,
                json!({"spec": {"schedulingGates": [{"name": "x"}]}}),
            ),
        ),
    );
    rig.pod("p", with(cpu("1"), json!({"spec": {"priority": 5}})));
    assert_eq!(rig.decisions(), [format!("p: {NO_ROOM}")]);
    rig.delete("vip");
    rig.pass(1);
    assert_eq!(rig.decisions(), ["p on a"]);
}

#[test]
fn a_pod_is_bound_when_its_claims_are() {
    let mut rig = Rig::new(&[node_object("a", json!({}))]);
    let class = json!({
        "metadata": {"name": "late", "resourceVersion": "1"},
        "provisioner": "example.com/p", "volumeBindingMode": "WaitForFirstConsumer",
    });
    let claim = |version: &str, annotations: Value, volume: &str, phase: &str| -> Input {
        let claim = json!({
            "metadata": {
                "name": "data", "namespace": "default", "uid": "c", "resourceVersion": version,
                "annotations": annotations,
            },
            "spec": {
                "storageClassName": "late", "volumeName": volume, "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "1Gi"}},
            },
            "status": {"phase": phase},
        });
        Input::Claim(Watched::Apply(read(claim)))
    };
    let volumes = json!({"spec": {"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]}});
    rig.pod("p", volumes);
    let missing = "p: 0/1 nodes are available: persistentvolumeclaim \"data\" not found";
    assert_eq!(rig.decisions(), [missing]);

    rig.observe(Input::Class(Watched::Apply(read(class))));
    rig.observe(claim("2", json!({}), "", "Pending"));
    rig.pass(10);
    assert_eq!(rig.decisions(), ["p claims 1 on a"]);
    let uid = "p".to_owned();
    rig.scheduler.finish(Outcome::Claimed { uid }, rig.now);
    assert_eq!(rig.decisions(), [""; 0], "it waits");

    let selected = json!({"volume.kubernetes.io/selected-node": "a"});
    rig.observe(claim("3", selected, "", "Pending"));
    assert_eq!(rig.decisions(), ["p claims 1 on a"]);
    let uid = "p".to_owned();
    rig.scheduler.finish(Outcome::Claimed { uid }, rig.now);

    let volume = json!({"metadata": {"name": "made", "resourceVersion": "4"}});
    rig.observe(Input::Volume(Watched::Apply(read(volume))));
    let bound = json!({"pv.kubernetes.io/bind-completed": "yes"});
    rig.observe(claim("5", bound, "made", "Bound"));
    assert_eq!(rig.decisions(), ["p on a"], "at once");
}
