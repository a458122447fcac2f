use super::*;

/// `fields` replace those of the spec, null takes them away.
fn claim(fields: Value) -> Value {
    let mut spec = json!({
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}},
    });
    for (key, value) in fields.as_object().into_iter().flatten() {
        match value {
            Value::Null => {
                spec.remove_key(key);
            }
            value => spec[key] = value.clone(),
        }
    }
    let mut claim = json!({"metadata": {"name": "c", "namespace": "n"}, "spec": spec});
    (ROW.default)(&mut claim);
    claim
}

fn with_status(fields: Value, status: Value) -> Value {
    let mut claim = claim(fields);
    claim["status"] = status;
    claim
}

fn words(errors: &[FieldError]) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn claims_are_checked_in_kubernetes_words() {
    let snapshot =
        json!({"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": "s"});
    for (fields, wrong) in [
        (json!({}), vec![]),
        (
            json!({"accessModes": null}),
            vec!["spec.accessModes: Required value: at least 1 access mode is required"],
        ),
        (
            json!({"accessModes": ["ReadWriteOncePod", "ReadWriteOnce"]}),
            vec![
                "spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes",
            ],
        ),
        (
            json!({"resources": {}}),
            vec!["spec.resources[storage]: Required value"],
        ),
        (
            json!({"resources": {"requests": {"storage": "-1"}}}),
            vec!["spec.resources[storage]: Invalid value: \"-1\": must be greater than zero"],
        ),
        (json!({"storageClassName": ""}), vec![]),
        (
            json!({"volumeMode": "Tape"}),
            vec![
                "spec.volumeMode: Unsupported value: \"Tape\": supported values: \"Block\", \"Filesystem\"",
            ],
        ),
        (json!({"dataSource": snapshot}), vec![]),
        (
            json!({"dataSource": {"kind": "Pod", "name": "p"}}),
            vec![
                "spec.dataSource: Invalid value: \"Pod\": must be 'PersistentVolumeClaim' when referencing the default apiGroup",
                "spec.dataSourceRef: Invalid value: \"Pod\": must be 'PersistentVolumeClaim' when referencing the default apiGroup",
            ],
        ),
    ] {
        let errors = (ROW.validate_create)(&claim(fields.clone()));
        assert_eq!(words(&errors), wrong, "{fields}");
    }
}

#[test]
fn a_claim_stays_what_it_is() {
    const IMMUTABLE: &str = "spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
    const SMALLER: &str =
        "spec.resources.requests.storage: Forbidden: field can not be less than status.capacity";
    let size = |size: &str| json!({"resources": {"requests": {"storage": size}}});
    let pending = json!({"phase": "Pending"});
    let bound = json!({"phase": "Bound", "capacity": {"storage": "1Gi"}});
    let class = |name: &str| json!({"storageClassName": name});
    for (what, old, new, status, wrong) in [
        ("nothing", json!({}), json!({}), &pending, vec![]),
        (
            "bound once",
            json!({}),
            json!({"volumeName": "v"}),
            &pending,
            vec![],
        ),
        (
            "bound again",
            json!({"volumeName": "v"}),
            json!({"volumeName": "w"}),
            &bound,
            vec![IMMUTABLE],
        ),
        ("a class comes", json!({}), class("fast"), &pending, vec![]),
        (
            "a class changes",
            class("fast"),
            class("slow"),
            &pending,
            vec![IMMUTABLE],
        ),
        (
            "no class becomes one",
            class(""),
            class("slow"),
            &pending,
            vec![IMMUTABLE],
        ),
        (
            "more while pending",
            json!({}),
            size("2Gi"),
            &pending,
            vec![IMMUTABLE],
        ),
        ("more", json!({}), size("2Gi"), &bound, vec![]),
        ("less", json!({}), size("512Mi"), &bound, vec![SMALLER]),
        (
            "another mode",
            json!({}),
            json!({"volumeMode": "Block"}),
            &pending,
            vec![
                IMMUTABLE,
                "volumeMode: Invalid value: \"Block\": field is immutable",
            ],
        ),
    ] {
        let (old, new) = (
            with_status(old, status.clone()),
            with_status(new, status.clone()),
        );
        let errors = (ROW.validate_update)(&new, &old);
        assert_eq!(words(&errors), wrong, "{what}");
    }
}

#[test]
fn both_fields_for_a_source_say_the_same() {
    let source = json!({"apiGroup": "a.b", "kind": "K", "name": "s"});
    let made = claim(json!({"dataSource": source}));
    assert_eq!(made["spec"]["dataSourceRef"], source);
    let made = claim(json!({"dataSourceRef": source}));
    assert_eq!(made["spec"]["dataSource"], source);
    let mut far = source.clone();
    far["namespace"] = "other".into();
    assert!(!claim(json!({"dataSourceRef": far})).has("/spec/dataSource"));
}

#[test]
fn claims_read_as_in_kubectl() {
    let status =
        json!({"phase": "Bound", "capacity": {"storage": "2Gi"}, "accessModes": ["ReadWriteOnce"]});
    let bound = with_status(
        json!({"volumeName": "v", "storageClassName": "fast"}),
        status.clone(),
    );
    let cells = (ROW.cells)(&bound, jiff::Timestamp::UNIX_EPOCH);
    assert_eq!(
        cells[..7],
        ["c", "Bound", "v", "2Gi", "RWO", "fast", "<unset>"]
    );
    let pending = with_status(json!({}), json!({"phase": "Pending"}));
    let cells = (ROW.cells)(&pending, jiff::Timestamp::UNIX_EPOCH);
    assert_eq!(cells[..7], ["c", "Pending", "", "", "", "", "<unset>"]);
    assert_eq!(cells[8], "Filesystem");
}
