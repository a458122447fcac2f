use serde_json::{Value, json};

use super::*;

fn time(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

fn deployment(extra: Value) -> Deployment {
    let mut value = json!({
        "metadata": {"name": "web", "namespace": "default", "uid": "d", "generation": 2},
        "spec": {
            "replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "progressDeadlineSeconds": 600, "revisionHistoryLimit": 10,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 1}},
            "template": template("new"),
        },
    });
    merge(&mut value, extra);
    serde_json::from_value(value).expect("a deployment")
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

fn template(image: &str) -> Value {
    json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "a", "image": image}]}})
}

struct Set {
    image: &'static str,
    size: i32,
    available: i32,
    revision: i32,
    desired: i32,
    max: i32,
}

impl Set {
    fn new(image: &'static str, size: i32, available: i32, revision: i32) -> Set {
        Set {
            image,
            size,
            available,
            revision,
            desired: 3,
            max: 4,
        }
    }

    fn object(&self) -> ReplicaSet {
        serde_json::from_value(json!({
            "metadata": {
                "name": format!("web-{}", self.image), "namespace": "default", "uid": self.image, "resourceVersion": "1",
                "creationTimestamp": format!("2026-01-01T00:00:0{}Z", self.revision),
                "annotations": {
                    REVISION: self.revision.to_string(), DESIRED_REPLICAS: self.desired.to_string(), MAX_REPLICAS: self.max.to_string(),
                },
            },
            "spec": {"replicas": self.size, "selector": {}, "template": template(self.image)},
            "status": {"replicas": self.size, "readyReplicas": self.available, "availableReplicas": self.available},
        }))
        .expect("a set")
    }
}

fn planned(deployment: &Deployment, sets: &[Set]) -> Plan {
    plan(Observed {
        deployment,
        sets: sets.iter().map(Set::object).collect(),
        running: sets
            .iter()
            .filter(|set| set.size > 0)
            .map(|set| set.image.to_owned())
            .collect(),
        now: time("2026-01-01T00:01:00Z"),
    })
}

fn sizes(plan: &Plan) -> Vec<(String, i32)> {
    plan.update
        .iter()
        .map(|step| (name_of(&step.set).to_owned(), spec_replicas(&step.set)))
        .collect()
}

fn messages(plan: &Plan) -> Vec<String> {
    plan.create
        .iter()
        .chain(&plan.update)
        .filter_map(|step| Some(step.note.as_ref()?.message.clone()))
        .collect()
}

fn progressing(plan: &Plan) -> (String, String, String) {
    let condition = find(
        plan.status.conditions.as_deref().unwrap_or_default(),
        PROGRESSING,
    )
    .expect("Progressing");
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    (
        condition.status.clone(),
        text(&condition.reason),
        text(&condition.message),
    )
}

#[test]
fn a_first_rollout_makes_a_full_set() {
    let plan = planned(&deployment(json!({})), &[]);
    let set = &plan.create.as_ref().expect("a new set").set;
    let name = name_of(set).to_owned();
    assert_eq!(spec_replicas(set), 3);
    assert_eq!(
        messages(&plan),
        [format!("Scaled up replica set {name} from 0 to 3")]
    );
    assert_eq!(plan.revision.as_deref(), Some("1"));
    assert_eq!(annotation(set, DESIRED_REPLICAS), Some(3));
    assert_eq!(annotation(set, MAX_REPLICAS), Some(4));
    assert_eq!(plan.status.observed_generation, Some(2));
    assert_eq!(progressing(&plan).1, "NewReplicaSetCreated");
}

#[test]
fn a_rolling_update_step_by_step() {
    // (old size, old available, new size, new available) -> changed sizes
    type Row = ((i32, i32, i32, i32), &'static [(&'static str, i32)]);
    let table: [Row; 8] = [
        ((3, 3, 0, 0), &[("web-new", 1)]),
        ((3, 3, 1, 0), &[("web-old", 2)]),
        ((2, 2, 1, 0), &[("web-new", 2)]),
        ((2, 2, 2, 1), &[("web-old", 1)]),
        ((2, 0, 2, 1), &[("web-old", 1)]),
        ((1, 1, 2, 2), &[("web-new", 3)]),
        ((1, 1, 3, 2), &[("web-old", 0)]),
        ((0, 0, 3, 3), &[]),
    ];
    for ((old, old_available, new, new_available), wanted) in table {
        let sets = [
            Set::new("old", old, old_available, 1),
            Set::new("new", new, new_available, 2),
        ];
        let plan = planned(&deployment(json!({})), &sets);
        let wanted: Vec<(String, i32)> = wanted
            .iter()
            .map(|(name, size)| ((*name).to_owned(), *size))
            .collect();
        assert_eq!(
            sizes(&plan),
            wanted,
            "{old}/{old_available} {new}/{new_available}"
        );
    }
}

#[test]
fn a_rollback_gives_the_old_set_a_new_revision() {
    let sets = [Set::new("new", 0, 0, 1), Set::new("old", 3, 3, 2)];
    let plan = planned(&deployment(json!({})), &sets);
    assert_eq!(plan.revision.as_deref(), Some("3"));
    let set = &plan.update[0].set;
    let annotations = set.metadata.annotations.as_ref().expect("annotations");
    assert_eq!(
        (
            annotations[REVISION].as_str(),
            annotations["deployment.kubernetes.io/revision-history"].as_str()
        ),
        ("3", "1")
    );
    assert_eq!(spec_replicas(set), 1);
}

#[test]
fn recreate_waits_for_the_old_pods() {
    let recreate = json!({"spec": {"strategy": {"type": "Recreate", "rollingUpdate": null}}});
    let plan = planned(&deployment(recreate.clone()), &[Set::new("old", 3, 3, 1)]);
    assert_eq!(sizes(&plan), [("web-old".to_owned(), 0)]);
    assert!(plan.create.is_none());

    let running = |running: &[&str]| {
        super::plan(Observed {
            deployment: &deployment(recreate.clone()),
            sets: vec![Set::new("old", 0, 0, 1).object()],
            running: running.iter().map(|uid| (*uid).to_owned()).collect(),
            now: time("2026-01-01T00:01:00Z"),
        })
    };
    assert!(running(&["old"]).create.is_none());
    assert_eq!(
        spec_replicas(&running(&[]).create.expect("a new set").set),
        3
    );
}

#[test]
fn a_paused_deployment_scales_but_does_not_roll() {
    let paused = deployment(json!({"spec": {"paused": true, "replicas": 5}}));
    let plan = planned(&paused, &[Set::new("old", 3, 3, 1)]);
    assert!(plan.create.is_none());
    assert_eq!(sizes(&plan), [("web-old".to_owned(), 5)]);
    assert_eq!(
        progressing(&plan),
        (
            "Unknown".into(),
            "DeploymentPaused".into(),
            "Deployment is paused".into()
        )
    );
}

#[test]
fn scaling_in_the_middle_of_a_rollout_is_proportional() {
    let set = |image, size, revision| Set {
        desired: 10,
        max: 13,
        ..Set::new(image, size, size, revision)
    };
    let scaled = deployment(
        json!({"spec": {"replicas": 15, "strategy": {"rollingUpdate": {"maxSurge": 3, "maxUnavailable": 2}}}}),
    );
    let plan = planned(&scaled, &[set("old", 8, 1), set("new", 5, 2)]);
    let mut found = sizes(&plan);
    found.sort();
    assert_eq!(
        found,
        [("web-new".to_owned(), 7), ("web-old".to_owned(), 11)]
    );
}

#[test]
fn a_scaled_deployment_without_rollout_scales_its_set() {
    let plan = planned(
        &deployment(json!({"spec": {"replicas": 1}})),
        &[Set::new("old", 0, 0, 1), Set::new("new", 3, 3, 2)],
    );
    assert_eq!(sizes(&plan), [("web-new".to_owned(), 1)]);
    assert_eq!(
        messages(&plan),
        ["Scaled down replica set web-new from 3 to 1"]
    );
}

#[test]
fn progress_is_judged() {
    let status = |updated: i32, available: i32, reason: &str, at: &str| {
        json!({"status": {
            "observedGeneration": 2, "replicas": 3, "updatedReplicas": updated, "availableReplicas": available, "readyReplicas": available,
            "conditions": [{"type": "Progressing", "status": "True", "reason": reason, "lastUpdateTime": at, "lastTransitionTime": at}],
        }})
    };
    let (recent, ancient) = ("2026-01-01T00:00:50Z", "2025-12-31T00:00:00Z");
    // (status before, new set's available) -> reason
    let table = [
        (
            status(3, 1, "ReplicaSetUpdated", recent),
            2,
            "ReplicaSetUpdated",
        ),
        (
            status(3, 2, "ReplicaSetUpdated", ancient),
            3,
            "NewReplicaSetAvailable",
        ),
        (
            status(3, 2, "ReplicaSetUpdated", ancient),
            2,
            "ProgressDeadlineExceeded",
        ),
        (
            status(3, 2, "ReplicaSetUpdated", recent),
            2,
            "ReplicaSetUpdated",
        ),
        (
            status(3, 3, "NewReplicaSetAvailable", ancient),
            2,
            "NewReplicaSetAvailable",
        ),
    ];
    for (before, available, reason) in table {
        let plan = planned(&deployment(before), &[Set::new("new", 3, available, 1)]);
        assert_eq!(progressing(&plan).1, reason, "{available}");
        assert_eq!(
            plan.again.is_some(),
            reason == "ReplicaSetUpdated",
            "{reason}"
        );
    }
    let done = planned(
        &deployment(status(3, 2, "ReplicaSetUpdated", recent)),
        &[Set::new("new", 3, 3, 1)],
    );
    assert_eq!(
        progressing(&done).2,
        "ReplicaSet \"web-new\" has successfully progressed."
    );
}

#[test]
fn old_revisions_over_the_limit_go() {
    let complete = deployment(json!({
        "spec": {"revisionHistoryLimit": 1},
        "status": {"observedGeneration": 2, "replicas": 3, "updatedReplicas": 3, "availableReplicas": 3},
    }));
    let sets = [
        Set::new("a", 0, 0, 1),
        Set::new("b", 0, 0, 2),
        Set::new("c", 0, 0, 3),
        Set::new("new", 3, 3, 4),
    ];
    let plan = planned(&complete, &sets);
    let gone: Vec<&str> = plan.delete.iter().map(name_of).collect();
    assert_eq!(gone, ["web-a", "web-b"]);
}
