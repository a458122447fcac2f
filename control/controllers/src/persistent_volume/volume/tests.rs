use serde_json::{Value, json};

use super::*;

fn own(phase: &str, policy: &str, claim_ref: Value, made_by: Value) -> Volume {
    let volume = json!({
        "metadata": {"name": "v", "annotations": {PROVISIONED_BY: made_by}},
        "spec": {"claimRef": claim_ref, "persistentVolumeReclaimPolicy": policy},
        "status": {"phase": phase},
    });
    let mut volume: Volume =
        serde_json::from_value(match volume["metadata"]["annotations"][PROVISIONED_BY] {
            Value::Null => {
                let mut bare = volume;
                bare["metadata"]["annotations"] = json!({});
                bare
            }
            _ => volume,
        })
        .expect("a volume");
    volume.metadata.namespace = None;
    volume
}

fn claim(volume: &str, mode: &str) -> Claim {
    serde_json::from_value(json!({
        "metadata": {"name": "c", "namespace": "n", "uid": "u"},
        "spec": {"volumeName": volume, "volumeMode": mode},
    }))
    .expect("a claim")
}

fn kept() -> Value {
    json!({"name": "c", "namespace": "n", "uid": "u"})
}

#[test]
fn a_volume_and_its_claim() {
    let by_name = json!({"name": "c", "namespace": "n"});
    let here = claim("v", "Filesystem");
    let coming = claim("", "Filesystem");
    let elsewhere = claim("w", "Filesystem");
    let none = Value::Null;
    for (what, volume, claim, wanted) in [
        (
            "free",
            own("Pending", "Retain", none.clone(), none.clone()),
            None,
            VolumeStep::Phase("Available"),
        ),
        (
            "free, said",
            own("Available", "Retain", none.clone(), none.clone()),
            None,
            VolumeStep::Nothing,
        ),
        (
            "kept by name",
            own("Pending", "Retain", by_name, none.clone()),
            None,
            VolumeStep::Phase("Available"),
        ),
        (
            "bound",
            own("Available", "Retain", kept(), none.clone()),
            Some(&here),
            VolumeStep::Phase("Bound"),
        ),
        (
            "bound, said",
            own("Bound", "Retain", kept(), none.clone()),
            Some(&here),
            VolumeStep::Nothing,
        ),
        (
            "the claim comes",
            own("Available", "Retain", kept(), none.clone()),
            Some(&coming),
            VolumeStep::Nothing,
        ),
        (
            "the claim went elsewhere",
            own("Bound", "Retain", kept(), none.clone()),
            Some(&elsewhere),
            VolumeStep::Unbind,
        ),
        (
            "made for a claim that went elsewhere",
            own("Available", "Delete", kept(), HOST_PATH.into()),
            Some(&elsewhere),
            VolumeStep::Delete,
        ),
    ] {
        assert_eq!(decide(&volume, claim), wanted, "{what}");
    }
    let blocks = claim("", "Block");
    let step = decide(&own("Available", "Retain", kept(), none), Some(&blocks));
    assert!(matches!(step, VolumeStep::Refuse(_)), "{step:?}");
}

#[test]
fn what_is_released_is_reclaimed_as_it_says() {
    let reason = |step: VolumeStep| match step {
        VolumeStep::Fail(note) => note.reason.to_owned(),
        step => format!("{step:?}"),
    };
    for (phase, policy, made_by, wanted) in [
        ("Bound", "Retain", Value::Null, "Phase(\"Released\")"),
        ("Released", "Retain", Value::Null, "Nothing"),
        ("Failed", "Retain", Value::Null, "Nothing"),
        ("Bound", "Recycle", Value::Null, "VolumeFailedRecycle"),
        ("Bound", "Delete", Value::Null, "VolumeFailedDelete"),
        (
            "Bound",
            "Delete",
            "kubernetes.io/gce-pd".into(),
            "VolumeFailedDelete",
        ),
        (
            "Bound",
            "Delete",
            "example.com/p".into(),
            "Phase(\"Released\")",
        ),
        ("Bound", "Delete", HOST_PATH.into(), "Delete"),
        ("Bound", "Retain", HOST_PATH.into(), "Phase(\"Released\")"),
    ] {
        let volume = own(phase, policy, kept(), made_by.clone());
        assert_eq!(
            reason(decide(&volume, None)),
            wanted,
            "{phase} {policy} {made_by}"
        );
    }
}

#[test]
fn a_volume_does_not_wait_for_a_node_that_is_gone() {
    let volume = |deleted: Value, finalizers: Value| -> Volume {
        serde_json::from_value(json!({"metadata": {
            "name": "v", "annotations": {NODE: "a"}, "deletionTimestamp": deleted, "finalizers": finalizers,
        }}))
        .expect("a volume")
    };
    let now = json!("2026-01-01T00:00:00Z");
    for (volume, node, wanted) in [
        (volume(now.clone(), json!([FINALIZER])), false, true),
        (volume(now.clone(), json!([FINALIZER])), true, false),
        (volume(now, json!(["a/b"])), false, false),
        (volume(Value::Null, json!([FINALIZER])), false, false),
    ] {
        assert_eq!(is_orphan(&volume, |_| node), wanted);
    }
}
