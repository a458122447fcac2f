use serde_json::{Value, json};
use vetch_volumes::annotations::SELECTED_NODE;

use super::*;
use crate::events::Severity;

fn object<K: serde::de::DeserializeOwned>(object: Value) -> K {
    serde_json::from_value(object).expect("an object")
}

/// Available, 1 Gi, of no class; `fields` replace those of the spec.
fn volume(name: &str, fields: Value) -> Arc<Volume> {
    let mut spec = json!({"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}});
    merge(&mut spec, fields);
    Arc::new(object(
        json!({"metadata": {"name": name}, "spec": spec, "status": {"phase": "Available"}}),
    ))
}

fn class(name: &str, mode: &str, default: bool) -> Arc<StorageClass> {
    Arc::new(object(json!({
        "metadata": {"name": name, "annotations": {"storageclass.kubernetes.io/is-default-class": default.to_string()}},
        "provisioner": "example.com/p", "volumeBindingMode": mode,
    })))
}

/// `n/c`, uid `u`, 1 Gi; `fields` replace those of the spec.
fn claim(annotations: Value, fields: Value) -> Claim {
    let mut spec =
        json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
    merge(&mut spec, fields);
    object(json!({
        "metadata": {"name": "c", "namespace": "n", "uid": "u", "annotations": annotations},
        "spec": spec, "status": {"phase": "Pending"},
    }))
}

fn merge(into: &mut Value, fields: Value) {
    for (key, value) in fields.as_object().into_iter().flatten() {
        into[key] = value.clone();
    }
}

/// The step, in a word and what it is about.
fn told(step: ClaimStep) -> String {
    let note = |note: Note| {
        let severity = match note.severity {
            Severity::Normal => "",
            Severity::Warning => "! ",
        };
        format!("{severity}{}: {}", note.reason, note.message)
    };
    match step {
        ClaimStep::Bind(volume) => format!("bind {}", volume::name(&volume)),
        ClaimStep::Pending(None) => "pending".into(),
        ClaimStep::Pending(Some(why)) => format!("pending {}", note(why)),
        ClaimStep::Lost(why) => format!("lost {}", note(why)),
        ClaimStep::Class(name) => format!("class {name}"),
        ClaimStep::Provision(class) => {
            format!(
                "provision {}",
                class.metadata.name.clone().unwrap_or_default()
            )
        }
    }
}

fn decided(
    claim: &Claim,
    volumes: &[Arc<Volume>],
    classes: &[Arc<StorageClass>],
    waiting: &[&str],
) -> String {
    let known = Known {
        volumes,
        classes,
        waiting: waiting.iter().map(|pod| (*pod).to_owned()).collect(),
    };
    told(decide(claim, &known))
}

#[test]
fn a_claim_that_takes_any_volume() {
    let none = json!({});
    let of = |class: &str| claim(json!({}), json!({"storageClassName": class}));
    let selected = claim(
        json!({SELECTED_NODE: "a"}),
        json!({"storageClassName": "late"}),
    );
    let classes = [
        class("now", "Immediate", false),
        class("late", "WaitForFirstConsumer", false),
    ];
    let fitting = [volume("v", json!({"storageClassName": "late"}))];
    for (what, claim, volumes, waiting, wanted) in [
        (
            "a volume that does",
            claim(json!({}), none.clone()),
            &[volume("v", none.clone())][..],
            &[][..],
            "bind v",
        ),
        (
            "none, and no class",
            of(""),
            &[],
            &[],
            "pending FailedBinding: no persistent volumes available for this claim and no storage class is set",
        ),
        ("none, of a class", of("now"), &[], &[], "provision now"),
        (
            "a class that is not there",
            of("gone"),
            &[],
            &[],
            "pending ! ProvisioningFailed: storageclass.storage.k8s.io \"gone\" not found",
        ),
        (
            "a class that waits",
            of("late"),
            &fitting,
            &[],
            "pending WaitForFirstConsumer: waiting for first consumer to be created before binding",
        ),
        (
            "a pod that waits",
            of("late"),
            &fitting,
            &["p"],
            "pending WaitForPodScheduled: waiting for pod p to be scheduled",
        ),
        (
            "pods that wait",
            of("late"),
            &[],
            &["p", "q"],
            "pending WaitForPodScheduled: waiting for pods p,q to be scheduled",
        ),
        (
            "the pod has its node",
            selected,
            &[],
            &["p"],
            "provision late",
        ),
        (
            "the scheduler has chosen",
            of("late"),
            &[volume(
                "v",
                json!({"storageClassName": "late", "claimRef": {"name": "c", "namespace": "n", "uid": "u"}}),
            )],
            &["p"],
            "bind v",
        ),
    ] {
        assert_eq!(
            decided(&claim, volumes, &classes, waiting),
            wanted,
            "{what}"
        );
    }
}

#[test]
fn a_default_class_that_comes_late_is_given_where_none_is_named() {
    let classes = [class("std", "Immediate", true)];
    let nameless = claim(json!({}), json!({}));
    assert_eq!(decided(&nameless, &[], &classes, &[]), "class std");
    assert_eq!(
        decided(&nameless, &[volume("v", json!({}))], &classes, &[]),
        "bind v"
    );
    let none = claim(json!({}), json!({"storageClassName": ""}));
    assert!(decided(&none, &[], &classes, &[]).starts_with("pending FailedBinding"));
}

#[test]
fn a_claim_that_names_its_volume() {
    let named = |by_controller: bool| {
        let annotations = match by_controller {
            true => json!({BOUND_BY_CONTROLLER: "yes"}),
            false => json!({}),
        };
        claim(annotations, json!({"volumeName": "v"}))
    };
    let kept = |uid: &str| json!({"claimRef": {"name": "c", "namespace": "n", "uid": uid}});
    for (what, by_controller, volumes, wanted) in [
        ("not there", false, vec![], "pending"),
        ("free", false, vec![volume("v", json!({}))], "bind v"),
        (
            "kept for it by name",
            false,
            vec![volume("v", kept(""))],
            "bind v",
        ),
        ("kept for it", false, vec![volume("v", kept("u"))], "bind v"),
        (
            "another's",
            false,
            vec![volume("v", kept("x"))],
            "pending ! FailedBinding: volume \"v\" already bound to a different claim.",
        ),
        (
            "another's, chosen for it",
            true,
            vec![volume("v", kept("x"))],
            "pending",
        ),
        (
            "too small",
            false,
            vec![volume("v", json!({"capacity": {"storage": "1Mi"}}))],
            "pending ! VolumeMismatch: Cannot bind to requested volume \"v\": requested PV is too small",
        ),
        (
            "of a class",
            false,
            vec![volume("v", json!({"storageClassName": "fast"}))],
            "pending ! VolumeMismatch: Cannot bind to requested volume \"v\": storageClassName does not match",
        ),
        (
            "of blocks",
            false,
            vec![volume("v", json!({"volumeMode": "Block"}))],
            "pending ! VolumeMismatch: Cannot bind to requested volume \"v\": incompatible volumeMode",
        ),
        (
            "read by many",
            false,
            vec![volume("v", json!({"accessModes": ["ReadOnlyMany"]}))],
            "pending ! VolumeMismatch: Cannot bind to requested volume \"v\": incompatible accessMode",
        ),
    ] {
        assert_eq!(
            decided(&named(by_controller), &volumes, &[], &[]),
            wanted,
            "{what}"
        );
    }
}

#[test]
fn a_claim_that_was_bound() {
    let bound = |name: &str| claim(json!({BIND_COMPLETED: "yes"}), json!({"volumeName": name}));
    let kept = |uid: &str| json!({"claimRef": {"name": "c", "namespace": "n", "uid": uid}});
    for (what, claim, volumes, wanted) in [
        (
            "as it should be",
            bound("v"),
            vec![volume("v", kept("u"))],
            "bind v",
        ),
        (
            "the volume forgot",
            bound("v"),
            vec![volume("v", json!({}))],
            "bind v",
        ),
        (
            "no name",
            bound(""),
            vec![],
            "lost ! ClaimLost: Bound claim has lost reference to PersistentVolume. Data on the volume is lost!",
        ),
        (
            "no volume",
            bound("v"),
            vec![],
            "lost ! ClaimLost: Bound claim has lost its PersistentVolume. Data on the volume is lost!",
        ),
        (
            "another's",
            bound("v"),
            vec![volume("v", kept("x"))],
            "lost ! ClaimMisbound: Two claims are bound to the same volume, this one is bound incorrectly",
        ),
    ] {
        assert_eq!(decided(&claim, &volumes, &[], &[]), wanted, "{what}");
    }
}

#[test]
fn a_claim_that_goes_gets_nothing_new() {
    let mut going = claim(json!({}), json!({}));
    going.metadata.deletion_timestamp = object(json!("2026-01-01T00:00:00Z"));
    assert_eq!(
        decided(&going, &[volume("v", json!({}))], &[], &[]),
        "pending"
    );
}
