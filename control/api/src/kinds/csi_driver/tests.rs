use super::*;

fn driver(fields: Value) -> Value {
    let mut driver = json!({"metadata": {"name": "csi.example.com"}, "spec": fields});
    (ROW.default)(&mut driver);
    driver
}

fn words(errors: &[FieldError]) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn what_is_left_out_is_said() {
    let usual = json!({
        "attachRequired": true,
        "podInfoOnMount": false,
        "storageCapacity": false,
        "fsGroupPolicy": "ReadWriteOnceWithFSType",
        "volumeLifecycleModes": ["Persistent"],
        "requiresRepublish": false,
        "seLinuxMount": false,
    });
    for empty in [Value::Null, json!({}), json!({"volumeLifecycleModes": []})] {
        assert_eq!(driver(empty.clone())["spec"], usual, "{empty}");
    }
    let said = json!({
        "attachRequired": false,
        "podInfoOnMount": true,
        "storageCapacity": true,
        "fsGroupPolicy": "None",
        "volumeLifecycleModes": ["Ephemeral"],
        "requiresRepublish": true,
        "seLinuxMount": true,
    });
    assert_eq!(driver(said.clone())["spec"], said);
}

#[test]
fn drivers_are_checked_in_kubernetes_words() {
    let tokens = |tokens: Value| json!({"tokenRequests": tokens});
    for (fields, wrong) in [
        (json!({}), vec![]),
        (
            json!({"fsGroupPolicy": "Always"}),
            vec![
                "spec.fsGroupPolicy: Unsupported value: \"Always\": supported values: \
                 \"File\", \"None\", \"ReadWriteOnceWithFSType\"",
            ],
        ),
        (
            json!({"volumeLifecycleModes": ["Ephemeral", "Brief"]}),
            vec![
                "spec.volumeLifecycleModes: Unsupported value: \"Brief\": supported values: \
                 \"Persistent\", \"Ephemeral\"",
            ],
        ),
        (
            json!({"volumeLifecycleModes": ["Persistent", "Ephemeral"], "fsGroupPolicy": "File"}),
            vec![],
        ),
        (
            tokens(json!([
                {"audience": ""},
                {"audience": "a", "expirationSeconds": 600},
                {"audience": "b", "expirationSeconds": 1_i64 << 32},
            ])),
            vec![],
        ),
        (
            tokens(json!([{"audience": ""}, {"audience": ""}])),
            vec!["spec.tokenRequests[1].audience: Duplicate value: \"\""],
        ),
        (
            tokens(json!([{"audience": "a", "expirationSeconds": 599}])),
            vec![
                "spec.tokenRequests[0].expirationSeconds: Invalid value: 599: \
                 may not specify a duration less than 10 minutes",
            ],
        ),
        (
            tokens(json!([{"audience": "a", "expirationSeconds": (1_i64 << 32) + 1}])),
            vec![
                "spec.tokenRequests[0].expirationSeconds: Invalid value: 4294967297: \
                 may not specify a duration larger than 2^32 seconds",
            ],
        ),
        (json!({"nodeAllocatableUpdatePeriodSeconds": 10}), vec![]),
        (
            json!({"nodeAllocatableUpdatePeriodSeconds": 9}),
            vec![
                "spec.nodeAllocatableUpdatePeriodSeconds: Invalid value: 9: \
                 must be greater than or equal to 10 seconds",
            ],
        ),
        (
            json!({"serviceAccountTokenInSecrets": true, "tokenRequests": [{"audience": "a"}]}),
            vec![],
        ),
        (
            json!({"serviceAccountTokenInSecrets": false}),
            vec![
                "spec.serviceAccountTokenInSecrets: Invalid value: false: \
                 serviceAccountTokenInSecrets is set but no tokenRequests are specified",
            ],
        ),
    ] {
        let made = driver(fields.clone());
        assert_eq!(words(&(ROW.validate_create)(&made)), wrong, "{fields}");
        // A change to it is checked alike; only some of it could not change to this.
        let changed = (ROW.validate_update)(&made, &made);
        assert_eq!(words(&changed), wrong, "{fields}");
    }
    let mut misnamed = driver(json!({}));
    misnamed["metadata"]["name"] = "*foo#".into();
    let refused = (ROW.validate_create)(&misnamed);
    assert_eq!(refused[0].field, "metadata.name", "{refused:?}");
}

#[test]
fn how_it_attaches_and_lives_stays() {
    let old = driver(json!({}));
    for (fields, wrong) in [
        (
            json!({
                "podInfoOnMount": true, "storageCapacity": true, "fsGroupPolicy": "File",
                "requiresRepublish": true, "seLinuxMount": true, "nodeAllocatableUpdatePeriodSeconds": 60,
                "tokenRequests": [{"audience": "a"}], "serviceAccountTokenInSecrets": true,
            }),
            vec![],
        ),
        (
            json!({"attachRequired": false}),
            vec!["spec.attachedRequired: Invalid value: false: field is immutable"],
        ),
        (
            json!({"volumeLifecycleModes": ["Persistent", "Ephemeral"]}),
            vec![
                "spec.volumeLifecycleModes: Invalid value: [\"Persistent\",\"Ephemeral\"]: field is immutable",
            ],
        ),
    ] {
        let errors = (ROW.validate_update)(&driver(fields.clone()), &old);
        assert_eq!(words(&errors), wrong, "{fields}");
    }
}

#[test]
fn changes_are_counted() {
    let mut made = driver(json!({}));
    (ROW.prepare_create)(&mut made);
    assert!(!made.has("/metadata/generation"), "{made}");
    let mut labelled = made.clone();
    labelled["metadata"]["labels"] = json!({"a": "b"});
    (ROW.prepare_update)(&mut labelled, &made);
    assert!(!labelled.has("/metadata/generation"), "{labelled}");
    let mut changed = driver(json!({"requiresRepublish": true}));
    (ROW.prepare_update)(&mut changed, &made);
    assert_eq!(changed["metadata"]["generation"], 1);
    let mut again = driver(json!({"requiresRepublish": false}));
    (ROW.prepare_update)(&mut again, &changed);
    assert_eq!(again["metadata"]["generation"], 2);
}

/// Off by default in 1.36: kept only where it is already.
#[test]
fn no_pod_waits_for_a_driver() {
    let asked = || driver(json!({PREVENT: true}));
    let mut made = asked();
    (ROW.prepare_create)(&mut made);
    assert_eq!(made, driver(json!({})));
    let mut changed = asked();
    (ROW.prepare_update)(&mut changed, &made);
    assert_eq!(changed, made);
    let mut kept = asked();
    (ROW.prepare_update)(&mut kept, &asked());
    assert_eq!(kept, asked());
}

#[test]
fn tokens_beside_the_secrets_are_warned_of() {
    let warn = ROW.warn.unwrap();
    let tokens = json!([{"audience": "a"}]);
    for (fields, warned) in [
        (json!({}), false),
        (json!({"tokenRequests": tokens}), true),
        (
            json!({"tokenRequests": tokens, "serviceAccountTokenInSecrets": false}),
            false,
        ),
        (
            json!({"tokenRequests": tokens, "serviceAccountTokenInSecrets": true}),
            false,
        ),
    ] {
        let told = (warn.create)(&driver(fields.clone()));
        assert_eq!(!told.is_empty(), warned, "{fields}");
    }
}

#[test]
fn drivers_read_as_in_kubectl() {
    let names: Vec<&str> = ROW.columns.iter().map(|column| column.name).collect();
    assert_eq!(
        names,
        [
            "Name",
            "AttachRequired",
            "PodInfoOnMount",
            "StorageCapacity",
            "TokenRequests",
            "RequiresRepublish",
            "Modes",
            "Age"
        ]
    );
    for (fields, shown) in [
        (
            json!({}),
            json!([true, false, false, "<unset>", false, "Persistent"]),
        ),
        (
            json!({
                "attachRequired": false, "podInfoOnMount": true, "storageCapacity": true, "requiresRepublish": true,
                "tokenRequests": [{"audience": "a"}, {"audience": "b"}],
                "volumeLifecycleModes": ["Persistent", "Ephemeral"],
            }),
            json!([false, true, true, "a,b", true, "Persistent,Ephemeral"]),
        ),
    ] {
        let cells = (ROW.cells)(&driver(fields), jiff::Timestamp::UNIX_EPOCH);
        assert_eq!(cells[0], "csi.example.com");
        assert_eq!(Value::from(cells[1..7].to_vec()), shown);
    }
    let bare = json!({"metadata": {"name": "a"}});
    let cells = (ROW.cells)(&bare, jiff::Timestamp::UNIX_EPOCH);
    assert_eq!((&cells[1], &cells[6]), (&json!(true), &json!("<none>")));
}
