use super::*;

/// A local volume; `fields` replace those of the spec, null takes them away.
fn volume(fields: Value) -> Value {
    let mut spec = json!({
        "accessModes": ["ReadWriteOnce"],
        "capacity": {"storage": "1Gi"},
        "local": {"path": "/srv/data"},
        "nodeAffinity": {"required": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["a"]}]},
        ]}},
    });
    for (key, value) in fields.as_object().into_iter().flatten() {
        match value {
            Value::Null => {
                spec.remove_key(key);
            }
            value => spec[key] = value.clone(),
        }
    }
    let mut volume = json!({"metadata": {"name": "v"}, "spec": spec});
    default(&mut volume);
    volume
}

fn words(errors: &[FieldError]) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn volumes_are_checked_in_kubernetes_words() {
    let one_type = "spec.local: Forbidden: may not specify more than 1 volume type";
    for (fields, wrong) in [
        (json!({}), vec![]),
        (
            json!({"accessModes": []}),
            vec!["spec.accessModes: Required value"],
        ),
        (
            json!({"accessModes": ["ReadOften"]}),
            vec![
                "spec.accessModes: Unsupported value: \"ReadOften\": supported values: \
                 \"ReadOnlyMany\", \"ReadWriteMany\", \"ReadWriteOnce\", \"ReadWriteOncePod\"",
            ],
        ),
        (
            json!({"accessModes": ["ReadWriteOncePod", "ReadOnlyMany"]}),
            vec![
                "spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes",
            ],
        ),
        (
            json!({"capacity": {"storage": "0"}}),
            vec!["spec.capacity[storage]: Invalid value: \"0\": must be greater than zero"],
        ),
        (
            json!({"capacity": {"cpu": "1"}}),
            vec![
                "spec.capacity: Unsupported value: {\"cpu\":\"1\"}: supported values: \"storage\"",
            ],
        ),
        (
            json!({"persistentVolumeReclaimPolicy": "Keep"}),
            vec![
                "spec.persistentVolumeReclaimPolicy: Unsupported value: \"Keep\": supported values: \"Delete\", \"Recycle\", \"Retain\"",
            ],
        ),
        (
            json!({"nodeAffinity": null}),
            vec!["spec.nodeAffinity: Required value: Local volume requires node affinity"],
        ),
        (
            json!({"nodeAffinity": {"required": {"nodeSelectorTerms": []}}}),
            vec![
                "spec.nodeAffinity.required.nodeSelectorTerms: Required value: must have at least one node selector term",
            ],
        ),
        (
            json!({"local": {"path": "/srv/../etc"}}),
            vec!["spec.local.path: Invalid value: \"/srv/../etc\": must not contain '..'"],
        ),
        (json!({"hostPath": {"path": "/srv"}}), vec![one_type]),
        (
            json!({"local": null, "nodeAffinity": null}),
            vec!["spec: Required value: must specify a volume type"],
        ),
        (
            json!({"local": null, "hostPath": {"path": "/"}, "persistentVolumeReclaimPolicy": "Recycle"}),
            vec![
                "spec.persistentVolumeReclaimPolicy: Forbidden: may not be 'recycle' for a hostPath mount of '/'",
            ],
        ),
        (
            json!({"local": null, "nfs": {"server": "s"}}),
            vec!["spec.nfs.path: Required value"],
        ),
        (
            json!({"volumeMode": "Tape"}),
            vec![
                "spec.volumeMode: Unsupported value: \"Tape\": supported values: \"Block\", \"Filesystem\"",
            ],
        ),
        (
            json!({"volumeAttributesClassName": "gold"}),
            vec![
                "spec.csi: Required value: has to be specified when using volumeAttributesClassName",
            ],
        ),
    ] {
        let errors = (ROW.validate_create)(&volume(fields.clone()));
        assert_eq!(words(&errors), wrong, "{fields}");
    }
}

#[test]
fn what_a_volume_is_made_of_stays() {
    let source = "spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation";
    let old = volume(json!({}));
    for (fields, wrong) in [
        (json!({"capacity": {"storage": "2Gi"}}), vec![]),
        (json!({"persistentVolumeReclaimPolicy": "Delete"}), vec![]),
        (json!({"claimRef": {"namespace": "n", "name": "c"}}), vec![]),
        (json!({"local": {"path": "/other"}}), vec![source]),
        (
            json!({"volumeMode": "Block"}),
            vec!["volumeMode: Invalid value: \"Block\": field is immutable"],
        ),
    ] {
        let errors = (ROW.validate_update)(&volume(fields.clone()), &old);
        assert_eq!(words(&errors), wrong, "{fields}");
    }
    let host = |affinity: Value| {
        volume(json!({"local": null, "hostPath": {"path": "/d"}, "nodeAffinity": affinity}))
    };
    let (free, bound) = (host(Value::Null), host(old["spec"]["nodeAffinity"].clone()));
    assert!((ROW.validate_update)(&bound, &free).is_empty());
    let errors = (ROW.validate_update)(&free, &bound);
    assert_eq!(
        words(&errors),
        ["nodeAffinity: Invalid value: null: field is immutable"]
    );
}

#[test]
fn a_new_volume_is_pending_since_it_is_there() {
    let mut made = volume(json!({}));
    made["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z".into();
    made["status"] = json!({"phase": "Bound"});
    (ROW.prepare_create)(&mut made);
    assert_eq!(
        made["status"],
        json!({"phase": "Pending", "lastPhaseTransitionTime": "2026-01-01T00:00:00Z"})
    );
    assert_eq!(made["spec"]["persistentVolumeReclaimPolicy"], "Retain");
    assert_eq!(made["spec"]["volumeMode"], "Filesystem");
}

#[test]
fn volumes_read_as_in_kubectl() {
    let mut volume = volume(json!({
        "accessModes": ["ReadWriteMany", "ReadWriteOnce"],
        "claimRef": {"namespace": "shop", "name": "data"},
        "storageClassName": "fast",
    }));
    volume["status"] = json!({"phase": "Bound"});
    let cells = (ROW.cells)(&volume, jiff::Timestamp::UNIX_EPOCH);
    assert_eq!(
        cells[..9],
        [
            "v",
            "1Gi",
            "RWO,RWX",
            "Retain",
            "Bound",
            "shop/data",
            "fast",
            "<unset>",
            ""
        ]
    );
    assert_eq!(cells[10], "Filesystem");
    volume["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    let cells = (ROW.cells)(&volume, jiff::Timestamp::UNIX_EPOCH);
    assert_eq!(cells[4], "Terminating");
}
